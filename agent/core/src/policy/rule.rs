//! Rules: what a case must be like, and what then is to happen. What a rule asks for is bounded by the hard limits of
//! [`super::Policy`], which no rule can lift.

use crate::addr::{Addr, Prefix};
use crate::decision::Action;
use crate::event::{Anomaly, Mode, Severity};
use crate::evidence::Thresholds;
use crate::question::Unanswered;
use crate::rate::RateLimit;
use crate::record::TimeUs;
use crate::role::Role;

use super::time::Hours;

/// Most rules of a policy.
pub const MAX_RULES: usize = 256;
/// A detector says that an observation is anomalous up to this p-value.
pub const DETECTOR_P: f32 = 0.01;
/// Within this span, unless a rule says otherwise, earlier decisions about a target make it a repeat offender, µs: 7 days.
pub const REPEAT_WITHIN_US: u64 = 7 * 86_400_000_000;

/// The first whose conditions hold decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: String,
    pub when: When,
    pub then: Then,
}

/// A level of evidence: nats, or so many times a threshold of the bundle that serves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    Nats(f64),
    Alert(f64),
    Drop(f64),
}

impl Measure {
    pub fn nats(self, t: &Thresholds) -> f64 {
        match self {
            Measure::Nats(n) => n,
            Measure::Alert(times) => times * t.alert,
            Measure::Drop(times) => times * t.drop,
        }
    }

    /// Whether what reaches `other` reaches this, whatever the thresholds (of which drop is never the lower one).
    fn implied_by(self, other: Measure) -> bool {
        match (self, other) {
            (Measure::Nats(a), Measure::Nats(b))
            | (Measure::Alert(a), Measure::Alert(b) | Measure::Drop(b))
            | (Measure::Drop(a), Measure::Drop(b)) => a <= b,
            // Who is judged at all has reached it.
            (Measure::Alert(a), Measure::Nats(_)) => a <= 1.0,
            _ => false,
        }
    }
}

/// Which detectors must find the worst observation anomalous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detectors {
    Autoencoder,
    IsolationForest,
    Both,
}

/// Which way the anomalous flows went, seen from home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A remote host opened them towards home.
    In,
    /// A home host opened them, or they were not aimed at home.
    Out,
}

/// Conditions, all of which must hold; what is empty always does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct When {
    /// Evidence over all flows, at least.
    pub evidence: Option<Measure>,
    /// Evidence over proven flows alone, at least.
    pub proven_evidence: Option<Measure>,
    /// At least.
    pub severity: Option<Severity>,
    /// Whether proven flows alone reach the drop threshold.
    pub proven: Option<bool>,
    pub detectors: Option<Detectors>,
    /// The worst observation's role, or a wider one.
    pub roles: Vec<Role>,
    pub direction: Option<Way>,
    pub sources: Vec<Prefix>,
    /// Server ports that the source went for, from and to.
    pub ports: Vec<(u16, u16)>,
    pub hours: Option<Hours>,
    pub interfaces: Vec<String>,
}

/// What an outcome does about the target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    /// Nothing at all, not even an alert.
    None,
    Alert,
    Shadow,
    Limit(RateLimit),
    Drop,
}

impl Act {
    pub fn action(self) -> Option<Action> {
        match self {
            Act::None | Act::Alert => None,
            Act::Shadow => Some(Action::Shadow),
            Act::Limit(_) => Some(Action::Limit),
            Act::Drop => Some(Action::Drop),
        }
    }
    /// Packets may be stopped.
    pub fn stops(self) -> bool {
        matches!(self, Act::Limit(_) | Act::Drop)
    }
}

/// How wide the target is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Width {
    /// The host; of IPv6 the /64 where several of its addresses offend.
    #[default]
    Auto,
    /// The one flow that was most anomalous.
    Flow,
    /// The server port that the source went for most.
    Port,
    Host,
    /// The network around it where several of its addresses offend, else the host.
    Net {
        v4: u8,
        v6: u8,
    },
}

/// Lengths of a network where none are given.
pub const NET_LENS: (u8, u8) = (24, 64);

/// How long what is decided holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lasts {
    /// The first time, the second, and so on; the last of them from then on. Not empty.
    pub steps_us: Vec<u64>,
    /// Earlier decisions within this span count.
    pub within_us: u64,
}

impl Lasts {
    pub fn once(us: u64) -> Self {
        Self { steps_us: vec![us], within_us: REPEAT_WITHIN_US }
    }
    pub(super) fn at(&self, earlier: usize) -> u64 {
        self.steps_us.get(earlier).or(self.steps_us.last()).copied().unwrap_or(1)
    }
}

/// A person is asked before anything stops packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    pub ttl_us: u64,
    pub unanswered: Unanswered,
}

/// Whether people are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Notify {
    /// Once about a source, until it gets worse or an hour has passed.
    #[default]
    Once,
    /// Whenever something new is decided as well.
    Always,
    Never,
}

/// What is to happen.
#[derive(Clone, Debug, PartialEq)]
pub struct Then {
    pub act: Act,
    pub width: Width,
    /// `None`: as the policy's lifetimes say.
    pub lasts: Option<Lasts>,
    pub ask: Option<Ask>,
    pub notify: Notify,
    /// No stronger than this, nor than the agent's mode.
    pub mode: Option<Mode>,
}

impl Then {
    pub fn new(act: Act) -> Self {
        Self { act, width: Width::Auto, lasts: None, ask: None, notify: Notify::Once, mode: None }
    }
}

/// What holds where no rules are written.
pub fn default_rules() -> Vec<Rule> {
    let rule = |name: &str, when, act| Rule { name: name.to_owned(), when, then: Then::new(act) };
    vec![
        rule("proven", When { proven: Some(true), ..When::default() }, Act::Drop),
        rule("everything else", When::default(), Act::Shadow),
    ]
}

/// What rules look at.
pub(super) struct Facts<'a> {
    pub now: TimeUs,
    pub source: Addr,
    pub way: Way,
    pub all: f64,
    pub proven_level: f64,
    pub proven: bool,
    pub severity: Severity,
    pub worst: Option<&'a Anomaly>,
    pub ports: &'a [u16],
    pub proto: Option<u8>,
    pub interface: Option<&'a str>,
    pub thresholds: &'a Thresholds,
}

impl When {
    pub(super) fn holds(&self, f: &Facts<'_>) -> bool {
        let reached = |m: Option<Measure>, level: f64| m.is_none_or(|m| level >= m.nats(f.thresholds));
        let says = |p: fn(&Anomaly) -> f32| f.worst.is_some_and(|a| p(a) <= DETECTOR_P);
        let ae = |a: &Anomaly| a.autoencoder;
        let forest = |a: &Anomaly| a.isolation_forest;
        reached(self.evidence, f.all)
            && reached(self.proven_evidence, f.proven_level)
            && self.severity.is_none_or(|s| f.severity >= s)
            && self.proven.is_none_or(|p| p == f.proven)
            && self.direction.is_none_or(|w| w == f.way)
            && match self.detectors {
                None => true,
                Some(Detectors::Autoencoder) => says(ae),
                Some(Detectors::IsolationForest) => says(forest),
                Some(Detectors::Both) => says(ae) && says(forest),
            }
            && any(&self.roles, |r| f.worst.is_some_and(|a| a.role.ancestry().any(|up| up == *r)))
            && any(&self.sources, |p| p.contains(f.source))
            && any(&self.ports, |(from, to)| f.ports.iter().any(|p| (from..=to).contains(&p)))
            && any(&self.interfaces, |i| f.interface == Some(i))
            && self.hours.as_ref().is_none_or(|h| h.holds(f.now))
    }

    /// Whether these hold wherever `other` does: behind a rule with these conditions, one with those can never match.
    pub fn covers(&self, other: &When) -> bool {
        let measure = |a: Option<Measure>, b: Option<Measure>| match (a, b) {
            (None, _) | (Some(Measure::Alert(..=1.0)), None) => true,
            (Some(a), Some(b)) => a.implied_by(b),
            (Some(_), None) => false,
        };
        // Proven flows are among all flows, but the two sums have allowances of their own: nothing follows across them.
        measure(self.evidence, other.evidence)
            && measure(self.proven_evidence, other.proven_evidence)
            && self.severity.is_none_or(|s| other.least_severity() >= s)
            && self.proven.is_none_or(|p| other.is_proven() == Some(p))
            && self.detectors.is_none_or(|d| other.detectors == Some(d) || other.detectors == Some(Detectors::Both))
            && within(&self.roles, &other.roles, |a, b| b.ancestry().any(|up| up == *a))
            && self.direction.is_none_or(|w| other.direction == Some(w))
            && within(&self.sources, &other.sources, |a, b| a.overlaps(*b) && a.len() <= b.len())
            && within(&self.ports, &other.ports, |a, b| a.0 <= b.0 && b.1 <= a.1)
            && within(&self.interfaces, &other.interfaces, |a, b| a == b)
            && self.hours.as_ref().is_none_or(|h| match &other.hours {
                Some(o) => h.covers(o),
                None => h.span.is_none() && h.days == super::time::ALL_DAYS,
            })
    }

    /// Severity is high exactly where proven flows alone reach the drop threshold.
    fn is_proven(&self) -> Option<bool> {
        self.proven.or((self.severity == Some(Severity::High)).then_some(true))
    }

    fn least_severity(&self) -> Severity {
        if self.proven == Some(true) { Severity::High } else { self.severity.unwrap_or(Severity::Low) }
    }

    /// Why no case can ever be like this.
    pub fn impossible(&self) -> Option<&'static str> {
        if self.proven == Some(false) && self.severity == Some(Severity::High) {
            return Some("severity is high only where proven flows alone reach the drop threshold");
        }
        self.hours.as_ref().is_some_and(Hours::never).then_some("it names no day of the week")
    }
}

fn any<T>(list: &[T], holds: impl FnMut(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(holds)
}

fn within<T>(wide: &[T], narrow: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
    wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(|n| wide.iter().any(|w| covers(w, n))))
}
