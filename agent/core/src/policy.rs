//! From evidence to an alert and a decision. Pure: what it remembers is whom it has alerted about and what it decided.
//!
//! Ordered rules say what is to happen ([`rule`]), the built-in ones where none are written. Above any rule:
//!
//! - One flow or window never leads to a drop: [`crate::evidence::MIN_DROP`] is more than one window can give.
//! - A drop takes proven evidence, a remote offender and a bundle that a person promoted; it is never automatic for a
//!   source that carries a good part of what is normal here.
//! - Unproven evidence can be forged in anyone's name: a limit or a shadow entry of at most 10 minutes, or an alert.
//! - Who carries a good part of what is normal, who was as strange while normal was learned, and a wide network: a person
//!   is asked. A network is the target where several of its addresses offend, and nobody at home lies in it.
//! - Home hosts are alerted about, never stopped.
//! - Too many decisions within an hour trip a breaker: shadow entries only, and then none. Unproven evidence has an hour of its
//!   own, for decisions and for alerts: a flood in made-up names switches no drop off and buries nobody in alerts.
//!
//! Memory: [`MAX_ALERTED`] sources alerted about, [`MAX_REPEATERS`] targets decided about, and the times of the decisions
//! of one hour.

mod config;
mod hour;
mod memory;
pub mod rule;
mod ruling;
mod sentence;
mod target;
pub mod time;
mod weigh;
mod words;

use std::sync::Arc;

use crate::addr::{Addr, Prefix};
use crate::busy::Busy;
use crate::decision::{Action, Decision, Origin, Target};
use crate::decisions::{Decisions, NewDecision};
use crate::drift::Place;
use crate::event::{Alert, Severity};
use crate::evidence::{Level, NET6_LEN, Thresholds};
use crate::question::NewQuestion;
use crate::record::TimeUs;
use hour::Hour;
use memory::{Alerted, AlertedSources, Repeaters};
use rule::{Act, Facts, Notify, Rule, Then, Way, Width};
use target::Aim;
use weigh::{ask, severity, within};

pub use config::PolicyConfig;
pub use memory::{MAX_ALERTED, MAX_REPEATERS};
pub use sentence::{Remark, remarks};
pub use target::{WIDE_LENS, is_wide};
pub use words::duration_words;

/// The longest that unproven evidence may lead to anything, µs: 10 minutes.
pub const MAX_UNPROVEN_TTL_US: u64 = 600_000_000;
/// The longest that anything is decided for automatically, µs: a year.
pub const MAX_TTL_US: u64 = 365 * 86_400_000_000;
/// Addresses of a network that must offend before the whole of it is the target.
pub const NET_OFFENDERS: usize = 2;

/// How a bundle that came with the program is called wherever something came of it.
pub const DEFAULT_BUNDLE: &str = "the default bundle, not learned here";

const HOUR_US: u64 = 3_600_000_000;

/// A source whose evidence has grown.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub source: Addr,
    pub level: &'a Level,
    /// The level of the /64 it lies in, for IPv6.
    pub net: Option<&'a Level>,
    /// Its share of what is normal: [`Busy::share`].
    pub busy_share: f64,
    /// Who else carries them, for targets that are wider than the source.
    pub busy: Option<&'a Busy>,
    /// Where it was seen, where several interfaces are watched; `None`: see [`PolicyConfig::interface`].
    pub interface: Option<&'a str>,
}

/// What follows. `decision` is to be given to [`Decisions::add`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    pub alert: Option<Alert>,
    pub decision: Option<NewDecision>,
    /// A person is to be asked, whatever else is done meanwhile.
    pub question: Option<NewQuestion>,
    /// In words, what is done and why no more than that; empty where nothing is to be done.
    pub note: String,
    /// The breaker tripped with this very decision.
    pub tripped: bool,
    /// The hour's alerts about unproven sources are used up with this one: from now on they are only counted.
    pub flooded: bool,
    /// Which of [`PolicyConfig::rules_in_force`] matched; `None` where the source was not judged, or by none.
    pub rule: Option<usize>,
}

/// See the module.
pub struct Policy {
    config: PolicyConfig,
    rules: Arc<[Rule]>,
    next_alert_id: u64,
    alerted: AlertedSources,
    repeaters: Repeaters,
    /// Decisions that rest on proof: what the breaker counts.
    recent: Hour,
    /// Decisions and alerts that do not. They have an hour of their own, or a flood in made-up names would trip the breaker.
    unproven: Hour,
    unproven_alerts: Hour,
    unalerted: u64,
    tripped: bool,
    suspended: Vec<Place>,
    refused: u64,
}

/// What is to be done about a source.
#[derive(Default)]
struct Ruling {
    decision: Option<NewDecision>,
    question: Option<NewQuestion>,
    note: String,
    tripped: bool,
}

impl Ruling {
    fn none(note: impl Into<String>) -> Self {
        Self { note: note.into(), ..Self::default() }
    }
}

/// What the evidence asks for, before rules, mode, guard and breaker.
struct Asked {
    proven: bool,
    all: f64,
    proven_level: f64,
    /// The /64 as a whole is meant.
    net: bool,
}

/// What one case is judged by.
struct Bench<'a> {
    now: TimeUs,
    case: &'a Case<'a>,
    thresholds: &'a Thresholds,
    asked: &'a Asked,
    decisions: &'a Decisions,
    target: Target,
    then: &'a Then,
    /// Named where a person wrote it.
    rule: Option<&'a str>,
}

impl Bench<'_> {
    /// What is told of: of the host, or of the /64 where that is meant.
    fn shown(&self) -> &Level {
        self.case.net.filter(|_| self.asked.net).unwrap_or(self.case.level)
    }
}

impl Policy {
    /// `next_alert_id` is one more than the largest ever given, as the caller has stored it.
    pub fn new(config: PolicyConfig, next_alert_id: u64) -> Self {
        Self {
            rules: config.rules_in_force(),
            config,
            next_alert_id: next_alert_id.max(1),
            alerted: AlertedSources::default(),
            repeaters: Repeaters::default(),
            recent: Hour::default(),
            unproven: Hour::default(),
            unproven_alerts: Hour::default(),
            unalerted: 0,
            tripped: false,
            suspended: Vec::new(),
            refused: 0,
        }
    }

    pub fn config(&self) -> &PolicyConfig {
        &self.config
    }
    pub fn set_config(&mut self, config: PolicyConfig) {
        self.rules = config.rules_in_force();
        self.config = config;
    }
    pub fn next_alert_id(&self) -> u64 {
        self.next_alert_id
    }
    /// Automatic decisions that were held back because the hour's were used up.
    pub fn held_back(&self) -> u64 {
        self.refused
    }
    /// Alerts about unproven sources that were only counted.
    pub fn unalerted(&self) -> u64 {
        self.unalerted
    }
    /// The breaker has tripped: nothing is stopped until the hour's decisions are half the cap again, or a person resets it.
    pub fn tripped(&self) -> bool {
        self.tripped
    }
    pub fn reset_breaker(&mut self) {
        self.tripped = false;
        self.recent.clear();
    }
    /// Roles that have drifted: their observations lead to no new automatic drops.
    pub fn suspend(&mut self, roles: Vec<Place>) {
        self.suspended = roles;
    }
    /// Decisions of an earlier run count where a rule asks for repeat offenders.
    pub fn recall<'d>(&mut self, decisions: impl Iterator<Item = &'d Decision>) {
        for d in decisions.filter(|d| d.origin == Origin::Automatic) {
            let proven = d.action == Action::Drop || d.instead_of == Some(Action::Drop);
            self.repeaters.add(d.target, proven, d.created_us);
        }
    }

    /// A person said something about these sources: an alert about them is due again, whatever was raised before.
    pub fn forget_alerts(&mut self, within: Prefix) {
        self.alerted.forget(within);
    }

    /// Judges a source after an epoch's observations are in. `decisions` is only asked: for the guard and for what
    /// holds already.
    pub fn judge(&mut self, now: TimeUs, case: &Case<'_>, thresholds: &Thresholds, decisions: &Decisions) -> Verdict {
        self.forget_old(now);
        let Some(mut asked) = ask(case, thresholds, self.config.busy_share) else { return Verdict::default() };
        let severity = severity(&asked, thresholds);
        let shown = if asked.net { case.net.unwrap_or(case.level) } else { case.level };
        let worst = case.level.worst.as_ref().or_else(|| case.net.and_then(|n| n.worst.as_ref()));
        let facts = Facts {
            now,
            source: case.source,
            way: if case.level.remote { Way::In } else { Way::Out },
            all: asked.all,
            proven_level: asked.proven_level,
            proven: asked.proven,
            severity,
            worst,
            ports: &shown.ports,
            proto: shown.proto,
            interface: case.interface.or(self.config.interface.as_deref()),
            thresholds,
        };
        let rules = self.rules.clone();
        let rule = rules.iter().position(|r| r.when.holds(&facts));
        let matched = rule.and_then(|i| rules.get(i));
        let nothing = Then::new(Act::Alert);
        let then = matched.map_or(&nothing, |r| &r.then);
        if then.act == Act::None {
            return Verdict { rule, ..Verdict::default() };
        }
        let about = matched.map_or(&[][..], |r| &r.when.ports);
        let (target, refusal) = self.aim(then, about, &asked, &facts, case.level, decisions);
        // What others of its /64 did proves nothing against one address of it.
        let whole = target.prefix().len() <= NET6_LEN && !target.prefix().is_v4();
        asked.proven &= !asked.net || whole || case.level.proven >= thresholds.drop;
        let named = matched.filter(|_| !self.config.rules.is_empty()).map(|r| r.name.as_str());
        let bench = Bench { now, case, thresholds, asked: &asked, decisions, target, then, rule: named };
        let Ruling { decision, mut question, mut note, tripped } = match refusal {
            _ if matched.is_none() => Ruling::none("alert only: no rule of the policy matches"),
            _ if !case.level.remote => self.at_home(&bench, refusal),
            Some(why) => Ruling::none(format!("not stopped: {why}")),
            None if then.act == Act::Alert => Ruling::none("alert only"),
            None => self.decide(&bench),
        };
        if let Some(name) = named {
            note += &format!("; by rule `{name}`");
        }
        if self.config.default_bundle {
            note += &format!("; by {DEFAULT_BUNDLE}");
        }

        let subject = if asked.net { target.prefix().addr() } else { case.source };
        let before = self.alerted.get(subject);
        let due = before.is_none_or(|b| severity > b.severity || b.at_us.saturating_add(self.config.realert_us) <= now);
        let told = match then.notify {
            Notify::Once => due,
            Notify::Always => due || decision.is_some(),
            Notify::Never => false,
        };
        // Names cost a forger nothing, a person's attention does.
        let cheap = asked.proven_level < thresholds.alert;
        let cap = self.config.max_per_hour.max(1);
        let drowned = told && cheap && self.unproven_alerts.len() >= cap;
        self.unalerted += u64::from(drowned);
        let (due, told) = (due && !drowned, told && !drowned);
        let mut flooded = false;
        let mut alert_id = before.and_then(|b| b.id);
        let mut alert = None;
        if (due || told)
            && let Some(anomaly) = worst.cloned()
        {
            if told {
                alert_id = Some(self.next_alert_id);
                self.next_alert_id += 1;
                if cheap {
                    self.unproven_alerts.add(now);
                    flooded = self.unproven_alerts.len() == cap;
                }
            }
            self.alerted.remember(subject, Alerted { at_us: now, severity, id: alert_id });
            alert = alert_id.filter(|_| told).map(|id| Alert {
                id,
                time_us: now,
                source: case.source,
                severity,
                evidence: asked.all,
                evidence_proven: asked.proven_level,
                alert_threshold: thresholds.alert,
                drop_threshold: thresholds.drop,
                anomaly,
                ports: shown.ports.clone(),
                flows: shown.flows,
                since_us: shown.since_us,
                outcome: note.clone(),
                mode: self.config.mode_of(then),
            });
        }
        let mut decision = decision;
        for d in decision.iter_mut().chain(question.as_mut().map(|q| &mut q.proposed)) {
            d.alert_id = alert_id;
        }
        Verdict { alert, decision, question, note, tripped, flooded, rule }
    }

    /// The target of the width that the rule asks for: a network that takes in somebody protected gives way to the host.
    /// And why nothing may be stopped at all, where that is so.
    fn aim(
        &self,
        then: &Then,
        about: &[(u16, u16)],
        asked: &Asked,
        facts: &Facts<'_>,
        level: &Level,
        decisions: &Decisions,
    ) -> (Target, Option<String>) {
        let (source, now) = (facts.source, facts.now);
        let host = Target::Net(source.subject());
        let ports: Vec<u16> = facts.ports.iter().copied().filter(|p| within(about, *p)).collect();
        let at_least = if asked.proven { Severity::High } else { Severity::Low };
        let several = |net: Prefix| {
            // Of one /64, several addresses are one customer.
            let itself = Prefix::new(source, if source.is_v4() || net.len() >= NET6_LEN { 128 } else { NET6_LEN });
            self.alerted.several(net, itself, NET_OFFENDERS - 1, at_least, now, self.config.realert_us)
        };
        let aim = Aim {
            source,
            net64: asked.net,
            ports: &ports,
            flow: level.going_on[usize::from(asked.proven)].filter(|f| within(about, f.port)),
            proven: asked.proven,
            proto: facts.proto,
            role: facts.worst.map(|a| a.role),
            several: &several,
        };
        // Where nothing is entered, it does not matter how narrow it would be.
        let width = if then.act.action().is_some() { then.width } else { Width::Auto };
        let wanted = match target::make(width, &aim) {
            Ok(target) => target,
            Err(why) => return (host, Some(why.to_owned())),
        };
        let at_home = |t: Target| {
            let net = t.prefix();
            !net.is_host() && self.config.home.prefixes().iter().any(|h| h.overlaps(net))
        };
        match decisions.check(wanted, now) {
            Ok(()) if !at_home(wanted) => (wanted, None),
            Ok(()) => match decisions.check(host, now) {
                Ok(()) => (host, None),
                Err(why) => (host, Some(why.to_string())),
            },
            Err(_) if wanted != host && decisions.check(host, now).is_ok() => (host, None),
            Err(why) => (wanted, Some(why.to_string())),
        }
    }

    /// The wall clock was set by `step_us`, µs: an hour stays an hour.
    pub fn clock_stepped(&mut self, step_us: i64) {
        for hour in [&mut self.recent, &mut self.unproven, &mut self.unproven_alerts] {
            hour.clock_stepped(step_us);
        }
        self.alerted.clock_stepped(step_us);
        self.repeaters.clock_stepped(step_us);
    }

    fn forget_old(&mut self, now: TimeUs) {
        for hour in [&mut self.recent, &mut self.unproven, &mut self.unproven_alerts] {
            hour.forget_old(now);
        }
        if self.recent.len() <= self.config.max_per_hour / 2 {
            self.tripped = false;
        }
        self.alerted.forget_old(now, self.config.realert_us);
    }
}

#[cfg(test)]
mod hard_tests;
#[cfg(test)]
mod tests;
