//! What the scores of flows and windows were like: a sample of each second, and how p-values are spread.

use std::collections::{BTreeMap, HashMap};

use weir_core::addr::Addr;
use weir_core::event::Anomaly;
use weir_core::record::{FlowRecord, TimeUs};

use super::Score;
use crate::compare::spread::Values;
use crate::scoring::ANOMALY_P;

/// Strange flows of a second that are shown, the strangest.
const STRANGE: usize = 35;
/// Other flows of a second that are shown, spread over it.
const OTHERS: usize = 15;
/// A source that had evidence against it has no part in how p-values are spread for so long, µs.
const SUSPECT_US: u64 = 600_000_000;
/// Such sources that are told apart.
const MAX_SUSPECTS: usize = 65_536;

/// See the module. Adding costs little: most of what comes is counted and not kept.
#[derive(Debug, Default)]
pub struct Gauge {
    strange: Vec<Score>,
    others: Vec<Score>,
    /// Of the others, every `stride`th is kept.
    stride: u64,
    seen: u64,
    pub spread: Spread,
    suspects: HashMap<Addr, TimeUs>,
}

/// P-values by profile, since a bundle serves.
#[derive(Clone, Debug, Default)]
pub struct Spread {
    /// Of the first that was counted.
    pub since_us: TimeUs,
    pub profiles: BTreeMap<&'static str, Profile>,
}

#[derive(Clone, Debug, Default)]
pub struct Profile {
    pub(crate) values: Values,
    pub rows: u64,
    /// Rows of sources with evidence against them.
    pub withheld: u64,
}

impl Gauge {
    pub fn flow(&mut self, now: TimeUs, record: &FlowRecord, anomaly: &Anomaly) {
        self.count(now, record.client, anomaly);
        self.sample(Score {
            time_us: now,
            p_value: anomaly.p_value,
            source: record.client,
            server: record.server,
            port: record.server_port,
            proto: record.proto,
            actionable: anomaly.actionable,
            flow_id: record.flow_id,
        });
    }

    /// A row of a profile about a source.
    pub fn count(&mut self, now: TimeUs, source: Addr, anomaly: &Anomaly) {
        if self.spread.since_us == 0 {
            self.spread.since_us = now;
        }
        let profile = self.spread.profiles.entry(anomaly.profile).or_default();
        if !self.suspects.is_empty() && self.suspects.get(&source).is_some_and(|until| *until > now) {
            profile.withheld += 1;
            return;
        }
        profile.rows += 1;
        profile.values.add(anomaly.p_value);
    }

    fn sample(&mut self, score: Score) {
        if score.p_value <= ANOMALY_P {
            if self.strange.len() < STRANGE {
                return self.strange.push(score);
            }
            let least = self.strange.iter_mut().max_by(|a, b| a.p_value.total_cmp(&b.p_value));
            if let Some(least) = least.filter(|l| l.p_value > score.p_value) {
                *least = score;
            }
            return;
        }
        self.seen += 1;
        if !self.seen.is_multiple_of(self.stride.max(1)) {
            return;
        }
        self.others.push(score);
        if self.others.len() > OTHERS {
            self.stride = 2 * self.stride.max(1);
            let mut n = 0u64;
            self.others.retain(|_| {
                n += 1;
                n.is_multiple_of(2)
            });
        }
    }

    /// There is evidence against a source.
    pub fn suspect(&mut self, source: Addr, now: TimeUs) {
        if self.suspects.len() >= MAX_SUSPECTS {
            self.suspects.retain(|_, until| *until > now);
        }
        if self.suspects.len() < MAX_SUSPECTS {
            self.suspects.insert(source, now + SUSPECT_US);
        }
    }

    /// The sample since it was last taken: strange flows, and others.
    pub fn take(&mut self) -> [Vec<Score>; 2] {
        (self.stride, self.seen) = (1, 0);
        [std::mem::take(&mut self.strange), std::mem::take(&mut self.others)]
    }

    /// Another bundle serves: its p-values begin anew.
    pub fn begin_anew(&mut self) {
        self.spread = Spread::default();
        self.suspects.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::role::Role;

    fn anomaly(p_value: f32) -> Anomaly {
        Anomaly {
            profile: "core",
            p_value,
            autoencoder: p_value,
            isolation_forest: p_value,
            role: Role::All,
            actionable: true,
            extrapolated: false,
            default_bundle: false,
            reasons: Vec::new(),
        }
    }

    fn record(id: u64) -> FlowRecord {
        crate::archive::tests::record(id, 1, 2)
    }

    #[test]
    fn a_busy_second_is_sampled_evenly_and_its_strangest_flows_are_in_it() {
        let mut gauge = Gauge::default();
        for id in 1..=100_000u64 {
            let p = if id % 1000 == 0 { 0.01 / id as f32 } else { 0.5 };
            gauge.flow(1, &record(id), &anomaly(p));
        }
        let [strange, others] = gauge.take();
        assert!(strange.len() == STRANGE && (OTHERS / 2..=OTHERS).contains(&others.len()), "{}", others.len());
        assert!(strange.iter().any(|s| s.flow_id == 100_000), "the strangest comes last and is kept");
        assert!(others.iter().any(|s| s.flow_id < 50_000) && others.iter().any(|s| s.flow_id > 50_000));
        assert!(gauge.take().iter().all(Vec::is_empty));
        gauge.flow(2, &record(1), &anomaly(0.5));
        assert_eq!(gauge.take()[1].len(), 1, "the next second begins anew");
    }

    #[test]
    fn whoever_has_evidence_against_them_has_no_part_in_the_spread_for_a_while() {
        let mut gauge = Gauge::default();
        let source = record(1).client;
        gauge.count(5, source, &anomaly(0.001));
        gauge.suspect(source, 5);
        gauge.count(6, source, &anomaly(0.001));
        gauge.count(6 + SUSPECT_US, source, &anomaly(0.5));
        let core = &gauge.spread.profiles["core"];
        assert_eq!((gauge.spread.since_us, core.rows, core.withheld), (5, 2, 1));
        gauge.begin_anew();
        assert!(gauge.spread.profiles.is_empty());
    }
}
