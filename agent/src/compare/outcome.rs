//! What each of two bundles would have done about a source.

use std::collections::HashMap;

use weir_core::addr::Addr;
use weir_core::decision::Action;
use weir_core::event::Severity;
use weir_core::policy::Verdict;
use weir_core::record::TimeUs;

use crate::proto as pb;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    #[default]
    Nothing,
    Alert,
    Shadow,
    Limit,
    Drop,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Nothing => "nothing",
            Kind::Alert => "alert",
            Kind::Shadow => "shadow",
            Kind::Limit => "limit",
            Kind::Drop => "drop",
        }
    }
}

/// What it came to so far.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub kind: Kind,
    alerted_us: Option<TimeUs>,
    decided_us: Option<TimeUs>,
    severity: Option<Severity>,
    evidence: [f64; 2],
    ports: Vec<u16>,
    reasons: Vec<String>,
    note: String,
}

impl Told {
    pub fn of(now: TimeUs, v: &Verdict) -> Self {
        let decided = v.decision.as_ref();
        // What is held back by the breaker is what it would be.
        let meant = decided.map(|d| d.instead_of.unwrap_or(d.action).max(d.action));
        let kind = match meant {
            Some(Action::Drop) => Kind::Drop,
            Some(Action::Limit) => Kind::Limit,
            Some(Action::Shadow) => Kind::Shadow,
            None if v.alert.is_some() => Kind::Alert,
            None => Kind::Nothing,
        };
        let alert = v.alert.as_ref();
        Self {
            kind,
            alerted_us: alert.map(|_| now),
            decided_us: decided.map(|_| now),
            severity: alert.map(|a| a.severity),
            evidence: alert.map_or([0.0; 2], |a| [a.evidence, a.evidence_proven]),
            ports: alert.map(|a| a.ports.clone()).unwrap_or_default(),
            reasons: alert.map(|a| a.anomaly.reasons.iter().map(|r| r.words.clone()).collect()).unwrap_or_default(),
            note: v.note.clone(),
        }
    }

    /// Takes what came later.
    pub fn join(&mut self, later: Told) {
        let worse = later.kind > self.kind || self.note.is_empty();
        self.kind = self.kind.max(later.kind);
        self.alerted_us = self.alerted_us.or(later.alerted_us);
        self.decided_us = self.decided_us.or(later.decided_us);
        if later.severity.is_some() {
            self.severity = self.severity.max(later.severity);
            (self.evidence, self.ports) = (later.evidence, later.ports);
            if !later.reasons.is_empty() {
                self.reasons = later.reasons;
            }
        }
        if worse {
            self.note = later.note;
        }
    }

    fn message(&self) -> pb::SourceOutcome {
        pb::SourceOutcome {
            outcome: self.kind.name().to_owned(),
            alerted_us: self.alerted_us,
            decided_us: self.decided_us,
            severity: self.severity.map_or("", Severity::name).to_owned(),
            evidence: self.evidence[0],
            evidence_proven: self.evidence[1],
            ports: self.ports.iter().map(|p| u32::from(*p)).collect(),
            reasons: self.reasons.clone(),
            note: self.note.clone(),
        }
    }
}

pub fn differing([a, b]: &[Told; 2]) -> bool {
    a.kind != b.kind
}

/// Counts, the first `most` differences with what is worst first, and how many more there are.
pub fn report(told: &HashMap<Addr, [Told; 2]>, most: usize) -> (pb::SourceCounts, Vec<pb::SourceDifference>, u64) {
    let both = |of: &dyn Fn(&Told) -> bool| {
        let mut counts = [0u64; 3];
        for [a, b] in told.values() {
            for (n, yes) in counts.iter_mut().zip([of(a), of(b), of(a) && of(b)]) {
                *n += u64::from(yes);
            }
        }
        counts
    };
    let [alerted_a, alerted_b, alerted_both] = both(&|t| t.kind >= Kind::Alert);
    let [dropped_a, dropped_b, dropped_both] = both(&|t| t.kind == Kind::Drop);
    let mut differences: Vec<_> = told.iter().filter(|(_, t)| differing(t)).collect();
    let first = |t: &Told| t.alerted_us.or(t.decided_us).unwrap_or(TimeUs::MAX);
    differences.sort_by_key(|(source, [a, b])| {
        (std::cmp::Reverse(a.kind.max(b.kind)), a.kind.min(b.kind), first(a).min(first(b)), **source)
    });
    let differing = differences.len() as u64;
    let told = differences.iter().take(most).map(|(source, [a, b])| pb::SourceDifference {
        source: source.to_string(),
        a: Some(a.message()),
        b: Some(b.message()),
    });
    let counts = pb::SourceCounts { alerted_a, alerted_b, alerted_both, dropped_a, dropped_b, dropped_both, differing };
    (counts, told.collect(), differing.saturating_sub(most as u64))
}

#[cfg(test)]
mod tests {
    use weir_core::decision::{Origin, Sides};
    use weir_core::decisions::NewDecision;

    use super::*;

    fn decided(action: Action, instead_of: Option<Action>, note: &str) -> Verdict {
        let decision = NewDecision {
            target: "192.0.2.9".parse().unwrap(),
            action,
            limit: None,
            sides: Sides::In,
            origin: Origin::Automatic,
            ttl_us: Some(1),
            reason: String::new(),
            instead_of,
            alert_id: None,
            confirm_within_us: None,
        };
        Verdict { decision: Some(decision), note: note.to_owned(), ..Verdict::default() }
    }

    #[test]
    fn the_worst_that_would_have_been_done_counts_and_says_why() {
        let mut told = Told::default();
        told.join(Told::of(5, &decided(Action::Shadow, None, "shadow for 10m")));
        told.join(Told::of(6, &decided(Action::Shadow, Some(Action::Limit), "limited")));
        assert_eq!((told.kind, told.kind.name()), (Kind::Limit, "limit"));
        told.join(Told::of(7, &decided(Action::Shadow, Some(Action::Drop), "the breaker tripped")));
        told.join(Told::of(9, &Verdict { note: "decision 2 holds already".into(), ..Verdict::default() }));
        assert_eq!((told.kind, told.decided_us, told.note.as_str()), (Kind::Drop, Some(5), "the breaker tripped"));
    }

    #[test]
    fn differences_are_told_worst_first_and_within_bounds() {
        let shadow = Told::of(5, &decided(Action::Shadow, None, ""));
        let drop = |at| Told::of(at, &decided(Action::Drop, None, ""));
        let nothing = Told::default;
        let all: HashMap<Addr, [Told; 2]> = [
            ("192.0.2.1", [shadow.clone(), nothing()]),
            ("192.0.2.2", [nothing(), drop(9)]),
            ("192.0.2.3", [drop(5), nothing()]),
            ("192.0.2.4", [drop(5), drop(8)]),
        ]
        .into_iter()
        .map(|(a, t)| (a.parse().unwrap(), t))
        .collect();
        let (counts, differences, more) = report(&all, 2);
        assert_eq!((counts.alerted_a, counts.alerted_b, counts.alerted_both), (3, 2, 1));
        assert_eq!((counts.dropped_a, counts.dropped_b, counts.dropped_both, counts.differing), (2, 2, 1, 3));
        let sources: Vec<_> = differences.iter().map(|d| d.source.as_str()).collect();
        assert_eq!((sources, more), (vec!["192.0.2.3", "192.0.2.2"], 1));
    }
}
