//! What people said of recorded traffic, where it is learned from.
//!
//! - What was labelled an attack teaches nothing, and what a suppression covered teaches nothing by itself: it was not looked at.
//! - What was labelled a false alarm may teach, whatever was held against its source: its rows make models and p-values, but are at
//!   most [`MAX_SHARE`] of those of a profile, so that whatever looks like them keeps a p-value of about that share and is an anomaly
//!   still; and no threshold on evidence rests on them.
//! - Taking a label back takes its influence from the next learning on.

use weir_core::addr::{Addr, Prefix};
use weir_core::label::{Labels, Truth};
use weir_core::record::TimeUs;
use weir_core::suppression::Suppressions;

/// Of the rows of a profile, those that people vouched for.
pub const MAX_SHARE: f64 = 0.01;
/// Time around a label's that counts as its own, µs: flows become known after they began, and windows are longer than epochs.
const AROUND_US: u64 = 15_000_000;

/// What is said of a flow or of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Attack,
    FalseAlarm,
    Suppressed,
}

#[derive(Clone, Debug, PartialEq)]
struct Stretch {
    prefix: Prefix,
    /// Empty: any.
    ports: Vec<u16>,
    from_us: TimeUs,
    to_us: TimeUs,
}

impl Stretch {
    fn meets(&self, source: Addr, from_us: TimeUs, to_us: TimeUs) -> bool {
        self.prefix.contains(source) && from_us <= self.to_us && to_us >= self.from_us
    }

    fn names(&self, port: Option<u16>) -> bool {
        self.ports.is_empty() || port.is_some_and(|p| self.ports.contains(&p))
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labelled {
    attacks: Vec<Stretch>,
    false_alarms: Vec<Stretch>,
    suppressed: Vec<Stretch>,
}

impl Labelled {
    pub fn new(labels: &Labels, suppressions: &Suppressions) -> Self {
        let of = |truth: Truth| {
            let of = labels.live().filter(move |l| l.truth == truth);
            of.map(|l| Stretch {
                prefix: l.source.subject(),
                ports: l.ports.clone(),
                from_us: l.from_us.saturating_sub(AROUND_US),
                to_us: l.to_us.saturating_add(AROUND_US),
            })
        };
        let all = suppressions.live().iter().chain(suppressions.ended());
        let suppressed = all.map(|s| Stretch {
            prefix: s.scope.prefix,
            ports: s.scope.ports.clone(),
            from_us: s.created_us,
            to_us: s.ended_us.unwrap_or(TimeUs::MAX),
        });
        Self {
            attacks: of(Truth::Attack).collect(),
            false_alarms: of(Truth::FalseAlarm).collect(),
            suppressed: suppressed.collect(),
        }
    }

    /// `port`: of the server; `None` for a window, which may hold several: nobody vouches for all of them, and any may be suppressed.
    pub fn of(&self, source: Addr, port: Option<u16>, from_us: TimeUs, to_us: TimeUs) -> Option<Said> {
        let any = |all: &[Stretch], named: &dyn Fn(&Stretch) -> bool| {
            all.iter().any(|s| s.meets(source, from_us, to_us) && named(s))
        };
        if any(&self.attacks, &|_| true) {
            Some(Said::Attack)
        } else if any(&self.false_alarms, &|s| s.names(port)) {
            Some(Said::FalseAlarm)
        } else if any(&self.suppressed, &|s| port.is_none() || s.names(port)) {
            Some(Said::Suppressed)
        } else {
            None
        }
    }
}

/// Which of `vouched` rows are taken beside `others`: evenly spread, and no more than [`MAX_SHARE`] of all.
pub fn taken(vouched: usize, others: usize) -> impl Iterator<Item = usize> {
    let most = (others as f64 * MAX_SHARE / (1.0 - MAX_SHARE)) as usize;
    let n = vouched.min(most);
    (0..n).map(move |i| i * vouched / n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::label::NewLabel;
    use weir_core::suppression::{NewSuppression, Scope};

    const S: u64 = 1_000_000;

    fn addr(s: &str) -> Addr {
        s.parse().unwrap()
    }

    fn label(truth: Truth, source: &str, ports: &[u16]) -> NewLabel {
        NewLabel {
            alert_id: u64::from(addr(source).0[15]),
            source: addr(source),
            from_us: 1000 * S,
            to_us: 1100 * S,
            ports: ports.to_vec(),
            truth,
            comment: String::new(),
            by: "me".into(),
            suppression_id: None,
        }
    }

    #[test]
    fn an_attack_goes_before_a_false_alarm_and_that_before_a_suppression() {
        let (mut labels, mut suppressions) = (Labels::default(), Suppressions::default());
        labels.add(label(Truth::Attack, "192.0.2.1", &[]), S).unwrap();
        let benign = labels.add(label(Truth::FalseAlarm, "192.0.2.2", &[80]), S).unwrap();
        labels.add(label(Truth::Unsure, "192.0.2.3", &[]), S).unwrap();
        let scope =
            Scope { prefix: "192.0.2.0/24".parse().unwrap(), ports: vec![80, 22], role: None, features: Vec::new() };
        let new = NewSuppression {
            scope,
            ttl_us: 10_000 * S,
            comment: String::new(),
            by: "me".into(),
            came_of: String::new(),
        };
        let id = suppressions.add(new, 1050 * S).unwrap().id;
        let said = |l: &Labelled, source: &str, port, at: u64| l.of(addr(source), port, at * S, at * S);
        let all = Labelled::new(&labels, &suppressions);
        assert_eq!(said(&all, "192.0.2.1", Some(80), 1080), Some(Said::Attack));
        assert_eq!(said(&all, "192.0.2.2", Some(80), 1080), Some(Said::FalseAlarm));
        assert_eq!(said(&all, "192.0.2.2", Some(22), 1080), Some(Said::Suppressed));
        assert_eq!(said(&all, "192.0.2.2", Some(443), 1080), None, "another port was not meant");
        assert_eq!(said(&all, "192.0.2.2", None, 1080), Some(Said::Suppressed), "nobody vouches for a whole window");
        assert_eq!(said(&all, "192.0.2.3", Some(80), 1040), None, "before it");
        assert_eq!(said(&all, "192.0.2.2", Some(80), 1200), Some(Said::Suppressed), "after the labelled time");
        // What was suppressed was not looked at, also once that has ended; a label that was taken back says nothing.
        suppressions.remove(id, 1300 * S).unwrap();
        labels.undo(benign.id, "me".into(), S).unwrap();
        let all = Labelled::new(&labels, &suppressions);
        assert_eq!(said(&all, "192.0.2.2", Some(80), 1200), Some(Said::Suppressed));
        assert_eq!(
            (said(&all, "192.0.2.2", Some(80), 1080), said(&all, "192.0.2.2", Some(80), 1301)),
            (Some(Said::Suppressed), None)
        );
    }

    #[test]
    fn what_people_vouch_for_is_a_small_part_of_all() {
        assert_eq!(taken(1000, 9900).count(), 100);
        assert_eq!(taken(5, 9900).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(taken(10, 200).collect::<Vec<_>>(), [0, 5]);
        assert_eq!((taken(10, 0).count(), taken(0, 1000).count()), (0, 0));
    }
}
