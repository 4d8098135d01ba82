//! From evidence to an alert and a decision. Pure: what it remembers is whom it has alerted about and how many
//! automatic decisions it made in the last hour.
//!
//! - One flow or window never leads to a drop: [`crate::evidence::MIN_DROP`] is more than one window can give.
//! - A drop takes proven evidence, a remote offender and a bundle that a person promoted; it is never automatic for a
//!   source that carries a good part of what is normal here.
//! - Unproven evidence can be forged in anyone's name: a shadow entry of at most 10 minutes, or an alert.
//! - Home hosts are alerted about, never stopped.
//! - Too many decisions within an hour trip a breaker: shadow entries only, and then none.
//!
//! Memory: [`MAX_ALERTED`] sources alerted about, and the times of the decisions of one hour.

mod words;

use std::collections::{HashMap, VecDeque};

use crate::addr::{Addr, Prefix};
use crate::decision::{Action, Origin, Sides, Target};
use crate::decisions::{Decisions, Held, NewDecision};
use crate::drift::Place;
use crate::event::{Alert, Mode, Severity};
use crate::evidence::{Level, NET6_LEN, Thresholds};
use crate::question::{NewQuestion, Unanswered};
use crate::record::TimeUs;

pub use words::duration_words;

/// The longest that unproven evidence may lead to anything, µs: 10 minutes.
pub const MAX_UNPROVEN_TTL_US: u64 = 600_000_000;
/// Addresses of a /64 that must offend before the whole of it is the target.
pub const NET_OFFENDERS: usize = 2;
/// Sources whose last alert is remembered.
pub const MAX_ALERTED: usize = 65_536;

/// How a bundle that came with the program is called wherever something came of it.
pub const DEFAULT_BUNDLE: &str = "the default bundle, not learned here";

const HOUR_US: u64 = 3_600_000_000;

#[derive(Clone, Debug, PartialEq)]
pub struct PolicyConfig {
    pub mode: Mode,
    /// A person promoted the bundle that scores; until then the mode is at most shadow.
    pub promoted: bool,
    /// The bundle that scores came with the program: everything that it leads to says so.
    pub default_bundle: bool,
    /// That bundle leads to alerts alone.
    pub alerts_only: bool,
    /// There are kernel programs to enter anything into; without, the mode is observe.
    pub enters: bool,
    /// Lifetime of an automatic drop, µs.
    pub drop_ttl_us: u64,
    /// Lifetime of a shadow entry for unproven evidence, µs; at most [`MAX_UNPROVEN_TTL_US`].
    pub unproven_ttl_us: u64,
    /// Automatic decisions per hour before the breaker trips.
    pub max_per_hour: usize,
    /// A source with more than this share of recent benign proven flows is never dropped automatically.
    pub busy_share: f64,
    /// How long a question waits for an answer, µs, and what happens then.
    pub question_ttl_us: u64,
    pub unanswered: Unanswered,
    /// A source is alerted about again after this long, or when it gets worse, µs.
    pub realert_us: u64,
    /// Thresholds from fewer benign source windows lead to alerts alone.
    pub min_benign_windows: u64,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            mode: Mode::Shadow,
            promoted: false,
            default_bundle: false,
            alerts_only: false,
            enters: true,
            drop_ttl_us: HOUR_US,
            unproven_ttl_us: MAX_UNPROVEN_TTL_US,
            max_per_hour: 100,
            busy_share: 0.05,
            question_ttl_us: HOUR_US,
            unanswered: Unanswered::Nothing,
            realert_us: HOUR_US,
            min_benign_windows: 200,
        }
    }
}

impl PolicyConfig {
    /// The mode that holds: observe where nothing can be entered, at most shadow until a person has promoted the bundle.
    pub fn effective_mode(&self) -> Mode {
        if !self.enters {
            return Mode::Observe;
        }
        if self.mode == Mode::Enforce && !self.promoted { Mode::Shadow } else { self.mode }
    }
}

/// A source whose evidence has grown.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub source: Addr,
    pub level: &'a Level,
    /// The level of the /64 it lies in, for IPv6.
    pub net: Option<&'a Level>,
    /// Its share of recent benign proven flows: [`crate::busy::Busy::share`].
    pub busy_share: f64,
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
}

/// See the module.
pub struct Policy {
    config: PolicyConfig,
    next_alert_id: u64,
    alerted: HashMap<Addr, Alerted>,
    recent: VecDeque<TimeUs>,
    tripped: bool,
    suspended: Vec<Place>,
    refused: u64,
}

#[derive(Clone, Copy)]
struct Alerted {
    at_us: TimeUs,
    severity: Severity,
    id: u64,
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

fn automatic(target: Target, action: Action, ttl_us: u64, reason: String) -> NewDecision {
    NewDecision {
        target,
        action,
        limit: None,
        sides: Sides::In,
        origin: Origin::Automatic,
        ttl_us: Some(ttl_us),
        reason,
        instead_of: None,
        alert_id: None,
        confirm_within_us: None,
    }
}

/// What the evidence asks for, before mode, guard and breaker.
struct Asked {
    target: Target,
    proven: bool,
    all: f64,
    proven_level: f64,
    /// The /64 as a whole is meant.
    net: bool,
}

impl Policy {
    /// `next_alert_id` is one more than the largest ever given, as the caller has stored it.
    pub fn new(config: PolicyConfig, next_alert_id: u64) -> Self {
        Self {
            config,
            next_alert_id: next_alert_id.max(1),
            alerted: HashMap::new(),
            recent: VecDeque::new(),
            tripped: false,
            suspended: Vec::new(),
            refused: 0,
        }
    }

    pub fn config(&self) -> &PolicyConfig {
        &self.config
    }
    pub fn set_config(&mut self, config: PolicyConfig) {
        self.config = config;
    }
    pub fn next_alert_id(&self) -> u64 {
        self.next_alert_id
    }
    /// Automatic decisions that were held back because the hour's were used up.
    pub fn held_back(&self) -> u64 {
        self.refused
    }
    /// The breaker has tripped: no drops until the hour's decisions are half the cap again, or a person resets it.
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

    /// Judges a source after an epoch's observations are in. `decisions` is only asked: for the guard and for what
    /// holds already.
    pub fn judge(&mut self, now: TimeUs, case: &Case<'_>, thresholds: &Thresholds, decisions: &Decisions) -> Verdict {
        self.forget_old(now);
        let Some(mut asked) = ask(case, thresholds) else { return Verdict::default() };
        let severity = severity(&asked, thresholds);
        let refusal = self.aim(&mut asked, case, decisions, now);
        let Ruling { decision, mut question, note, tripped } = match refusal {
            _ if !case.level.remote => Ruling::none("a home host, or not aimed at home: alert only"),
            Some(why) => Ruling::none(format!("not stopped: {why}")),
            None => self.decide(now, case, thresholds, &asked, decisions),
        };
        let note = if self.config.default_bundle { format!("{note}; by {DEFAULT_BUNDLE}") } else { note };

        let subject = if asked.net { asked.target.prefix().addr() } else { case.source };
        let before = self.alerted.get(&subject).copied();
        let due = before.is_none_or(|b| severity > b.severity || b.at_us.saturating_add(self.config.realert_us) <= now);
        let mut alert_id = before.map(|b| b.id);
        let mut alert = None;
        if due && let Some(anomaly) = case.level.worst.clone().or_else(|| case.net.and_then(|n| n.worst.clone())) {
            let id = self.next_alert_id;
            self.next_alert_id += 1;
            self.remember(subject, Alerted { at_us: now, severity, id });
            let shown = if asked.net { case.net.unwrap_or(case.level) } else { case.level };
            alert_id = Some(id);
            alert = Some(Alert {
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
                mode: self.config.effective_mode(),
            });
        }
        let mut decision = decision;
        for d in decision.iter_mut().chain(question.as_mut().map(|q| &mut q.proposed)) {
            d.alert_id = alert_id;
        }
        Verdict { alert, decision, question, note, tripped }
    }

    /// Turns a /64 that the guard protects back into the host; returns why nothing may be stopped at all.
    fn aim(&self, asked: &mut Asked, case: &Case<'_>, decisions: &Decisions, now: TimeUs) -> Option<String> {
        let refusal = decisions.check(asked.target, now).err()?;
        let host = Target::Net(Prefix::host(case.source));
        if asked.target != host && decisions.check(host, now).is_ok() {
            asked.target = host;
            return None;
        }
        Some(refusal.to_string())
    }

    fn decide(
        &mut self,
        now: TimeUs,
        case: &Case<'_>,
        thresholds: &Thresholds,
        asked: &Asked,
        decisions: &Decisions,
    ) -> Ruling {
        let mode = self.config.effective_mode();
        let none = |note: &str| Ruling::none(note);
        if !self.config.enters {
            return none("no interface, so nothing can be stopped here: alert only");
        }
        if mode == Mode::Observe {
            return none("mode observe: alert only");
        }
        if self.config.alerts_only {
            return none("alert only: `default_model` allows no more until a bundle was learned here");
        }
        if thresholds.benign_windows < self.config.min_benign_windows {
            return Ruling::none(format!(
                "alert only: thresholds rest on {} benign source windows, {} are needed to act",
                thresholds.benign_windows, self.config.min_benign_windows
            ));
        }
        if asked.proven && case.busy_share > self.config.busy_share {
            let why = format!(
                "this source carries {:.0}% of recent benign flows (a proxy, a NAT, a crawler?), and more than {:.0}% is never \
                 dropped automatically",
                100.0 * case.busy_share,
                100.0 * self.config.busy_share
            );
            return self.ask_first(case, thresholds, asked, why);
        }
        if asked.proven && thresholds.strange.contains(&case.source) {
            let why = "this source was as unusual while normal was learned, so it may well be normal";
            return self.ask_first(case, thresholds, asked, why.to_owned());
        }
        let suspended = asked.proven && self.is_suspended(case);
        let would_drop = asked.proven && !suspended;
        let capped = self.recent.len() >= self.config.max_per_hour;
        let drop = would_drop && mode == Mode::Enforce && !self.tripped && !capped;
        let action = if drop { Action::Drop } else { Action::Shadow };
        let ttl_us =
            if would_drop { self.config.drop_ttl_us } else { self.config.unproven_ttl_us.min(MAX_UNPROVEN_TTL_US) };

        if let Some((on, held)) = held(asked.target, now, decisions, action, would_drop) {
            return Ruling::none(format!("decision {} on {} holds already", held.id, on));
        }
        if self.recent.len() >= 2 * self.config.max_per_hour {
            self.refused += 1;
            return Ruling::none(format!(
                "held back: {} automatic decisions in the last hour; a person may decide, or reset the breaker",
                self.recent.len()
            ));
        }
        let tripping = capped && !self.tripped;
        self.tripped |= capped;
        self.recent.push_back(now);

        let limit = self.config.max_per_hour;
        let note = match (drop, would_drop) {
            (true, _) => format!("blocked for {}", duration_words(ttl_us)),
            (false, true) => {
                let why = if self.tripped {
                    format!("the breaker tripped at {limit} automatic decisions in an hour")
                } else if self.config.mode == Mode::Enforce && self.config.default_bundle {
                    "`default_model` allows no drops".to_owned()
                } else if self.config.mode == Mode::Enforce {
                    "the model has not been promoted: `weir model promote`".to_owned()
                } else {
                    format!("mode {}", mode.name())
                };
                format!("shadow only ({why}): it would be blocked for {}", duration_words(ttl_us))
            }
            (false, false) if suspended => format!(
                "shadow for {}: what is normal has drifted in its role, so nothing is dropped automatically",
                duration_words(ttl_us)
            ),
            (false, false) => format!(
                "shadow for {}: unproven traffic may be forged in anyone's name and is not dropped",
                duration_words(ttl_us)
            ),
        };
        let reason = words::reason(case, asked.all, asked.proven_level, thresholds, would_drop);
        let decision = NewDecision {
            instead_of: (would_drop && !drop).then_some(Action::Drop),
            ..automatic(asked.target, action, ttl_us, reason)
        };
        let question = (would_drop && mode == Mode::Review)
            .then(|| self.question(case, thresholds, asked, "mode review".to_owned()));
        Ruling { decision: Some(decision), question, note, tripped: tripping }
    }

    /// What would be a drop is left to a person, and nothing is entered meanwhile.
    fn ask_first(&self, case: &Case<'_>, thresholds: &Thresholds, asked: &Asked, why: String) -> Ruling {
        let note = format!("asks a person: {why}");
        Ruling { question: Some(self.question(case, thresholds, asked, why)), ..Ruling::none(note) }
    }

    fn question(&self, case: &Case<'_>, thresholds: &Thresholds, asked: &Asked, why: String) -> NewQuestion {
        let reason = words::reason(case, asked.all, asked.proven_level, thresholds, true);
        NewQuestion {
            source: case.source,
            proposed: automatic(asked.target, Action::Drop, self.config.drop_ttl_us, reason),
            why,
            ttl_us: self.config.question_ttl_us,
            unanswered: self.config.unanswered,
        }
    }

    fn is_suspended(&self, case: &Case<'_>) -> bool {
        let levels = [Some(case.level), case.net].into_iter().flatten();
        levels.filter_map(|l| l.proven_by).any(|place| self.suspended.contains(&place))
    }

    fn forget_old(&mut self, now: TimeUs) {
        while self.recent.front().is_some_and(|t| t.saturating_add(HOUR_US) <= now) {
            self.recent.pop_front();
        }
        if self.recent.len() <= self.config.max_per_hour / 2 {
            self.tripped = false;
        }
        if self.alerted.len() >= MAX_ALERTED {
            let realert = self.config.realert_us;
            self.alerted.retain(|_, a| a.at_us.saturating_add(realert) > now);
        }
    }

    fn remember(&mut self, subject: Addr, alerted: Alerted) {
        if self.alerted.len() >= MAX_ALERTED && !self.alerted.contains_key(&subject) {
            // All of them recent: the least severe, oldest goes. It may be alerted about again too soon.
            let least = self.alerted.iter().min_by_key(|(a, x)| (x.severity, x.at_us, **a)).map(|(a, _)| *a);
            if let Some(least) = least {
                self.alerted.remove(&least);
            }
        }
        self.alerted.insert(subject, alerted);
    }
}

/// The live decision that makes another one needless, if there is one: on the target or on the /64 around it.
fn held(
    target: Target,
    now: TimeUs,
    decisions: &Decisions,
    action: Action,
    would_drop: bool,
) -> Option<(Target, Held)> {
    let around = Target::Net(Prefix::new(target.prefix().addr(), NET6_LEN));
    let around = (!target.prefix().is_v4()).then_some(around);
    let on = |t: Target| Some((t, decisions.wanted_on(t, now)?));
    [Some(target), around].into_iter().flatten().filter_map(on).find(|(_, d)| {
        let as_strict = !would_drop || d.instead_of == Some(Action::Drop);
        d.action == Action::Drop || (action == Action::Shadow && as_strict)
    })
}

/// What the evidence asks for; `None` below the alert threshold.
fn ask(case: &Case<'_>, t: &Thresholds) -> Option<Asked> {
    let host = Target::Net(Prefix::host(case.source));
    let own = |proven| Asked { target: host, proven, all: case.level.all, proven_level: case.level.proven, net: false };
    if let Some(net) = case.net {
        let target = Target::Net(Prefix::new(case.source, NET6_LEN));
        let whole = |proven| Asked { target, proven, all: net.all, proven_level: net.proven, net: true };
        if net.proven >= t.drop && net.offenders[1] >= NET_OFFENDERS {
            return Some(whole(true));
        }
        let strongest = case.level.proven < t.drop;
        if net.all >= t.alert && net.offenders[0] >= NET_OFFENDERS && strongest {
            return Some(whole(false));
        }
    }
    if case.level.proven >= t.drop {
        return Some(own(true));
    }
    (case.level.all >= t.alert || case.level.proven >= t.alert).then(|| own(false))
}

fn severity(asked: &Asked, t: &Thresholds) -> Severity {
    if asked.proven {
        Severity::High
    } else if asked.all >= 2.0 * t.alert || asked.proven_level >= t.alert {
        Severity::Medium
    } else {
        Severity::Low
    }
}

#[cfg(test)]
mod tests;
