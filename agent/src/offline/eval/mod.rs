//! Evaluation: labelled flows through a bundle, or through bundles trained on a part of their benign ones.

pub mod drift;
pub mod measure;
pub mod parts;
mod plot;
pub mod report;
pub mod sources;
pub mod words;

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use weir_core::matrix::FeatureMatrix;
use weir_core::profile::ProfileId;
use weir_core::record::{FlowRecord, Have};
use weir_models::{Bundle, RowInfo, ScoreError, TrainProgress};
use weir_source::label::{Verdict, verdict};
use weir_source::{Observation, Stop, Taker};

use super::replay::{BATCH, is_housekeeping};
use super::train::counter;
use crate::learn::{Baseline, LearnError, Recorded, Rows, flow_matrix};
use drift::DriftGauge;
use measure::Judged;

/// Rows whose test part is decided together: those of one source in this span, µs.
const BLOCK_US: u64 = 600_000_000;
/// The least that training deals out together, µs: as long as source windows are by default.
const WINDOW_US: u64 = 10_000_000;

/// What was evaluated and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub benign: u64,
    /// Flows of which nobody said what they are: taken as benign.
    pub unlabelled: u64,
    pub attacks: BTreeMap<String, u64>,
    /// Flows left out, by the reason.
    pub left_out: BTreeMap<String, u64>,
}

impl Taken {
    /// The label of an attack, or `None` for what counts as benign.
    fn sort(&mut self, flow: &Observation) -> Option<String> {
        match verdict(flow.label.as_deref()) {
            Verdict::Benign => self.benign += 1,
            Verdict::Unlabelled => self.unlabelled += 1,
            Verdict::Attack => {
                let label = flow.label.as_deref().unwrap_or_default();
                *counter(&mut self.attacks, label) += 1;
                let known = self.attacks.contains_key(label);
                return Some(if known { label } else { "(other labels)" }.to_owned());
            }
        }
        None
    }

    fn leave_out(&mut self, why: String) {
        *self.left_out.entry(why).or_default() += 1;
    }
}

/// Whether a record can be judged by a profile, or why not.
fn can(r: &FlowRecord, profile: ProfileId) -> Result<(), String> {
    if is_housekeeping(r) {
        return Err("DHCP and neighbour discovery are never scored".into());
    }
    if r.have.has(profile.needs()) {
        return Ok(());
    }
    let lacks: Vec<_> = profile.needs().without(r.have).names().collect();
    Err(format!("profile `{profile}` needs what the input does not tell: {}", lacks.join(", ")))
}

/// The smallest rate that every role's calibration can show.
fn certified(bundle: &Bundle, profile: ProfileId) -> f64 {
    let of = bundle.manifest().profiles.iter().filter(|p| p.name == profile.name());
    of.flat_map(|p| &p.calibration).map(|c| c.certified_rate()).fold(0.0, f64::max)
}

/// Scores flows by one bundle as they come.
pub struct ByBundle<'b> {
    bundle: &'b Bundle,
    profile: ProfileId,
    batch: Vec<(FlowRecord, Option<String>)>,
    pub judged: Judged,
    pub taken: Taken,
    pub failed: Option<ScoreError>,
    /// Of the benign flows.
    pub drift: DriftGauge,
    /// Benign flows within the time that the bundle was trained on.
    pub known_time: u64,
}

impl<'b> ByBundle<'b> {
    pub fn new(bundle: &'b Bundle, profile: ProfileId) -> Self {
        let judged = Judged { benign_weight: 1.0, certified: certified(bundle, profile), ..Judged::default() };
        Self {
            bundle,
            profile,
            batch: Vec::new(),
            judged,
            taken: Taken::default(),
            failed: None,
            drift: DriftGauge::new(bundle, profile),
            known_time: 0,
        }
    }

    fn score(&mut self) -> Result<(), ScoreError> {
        let matrix = flow_matrix(self.profile, self.batch.iter().map(|(r, _)| r));
        let scored = self.bundle.score(&matrix)?;
        let trained = &self.bundle.manifest().provenance;
        for (i, ((r, attack), s)) in self.batch.drain(..).zip(&scored).enumerate() {
            match attack {
                Some(label) => self.judged.attacks.entry(label).or_default().push(s),
                None => {
                    self.judged.benign.push(s);
                    self.drift.add(&matrix, i);
                    let within = (trained.first_us..=trained.last_us).contains(&r.end_us);
                    self.known_time += u64::from(r.have.has(Have::TIME) && trained.last_us > 0 && within);
                }
            }
        }
        Ok(())
    }

    /// Everything was read.
    pub fn close(&mut self) -> Result<(), ScoreError> {
        self.failed.take().map_or_else(|| self.score(), Err)
    }
}

impl Taker for ByBundle<'_> {
    fn record(&mut self, flow: Observation) -> Result<(), Stop> {
        if let Err(why) = can(&flow.record, self.profile) {
            self.taken.leave_out(why);
            return Ok(());
        }
        let attack = self.taken.sort(&flow);
        self.batch.push((flow.record, attack));
        if self.batch.len() < BATCH {
            return Ok(());
        }
        self.score().map_err(|e| {
            self.failed = Some(e);
            Stop
        })
    }
}

/// Holds flows to train on a part of the benign ones and judge by the rest.
pub struct Divided {
    profile: ProfileId,
    benign: Recorded,
    attacks: BTreeMap<String, FeatureMatrix>,
    pub taken: Taken,
}

/// What one division came to.
pub struct Run {
    pub judged: Judged,
    /// Of the benign rows that were judged.
    pub drift: DriftGauge,
    pub trained: usize,
    /// Benign rows that were judged and have the values of a row that was trained on.
    pub recurring: usize,
}

impl Divided {
    pub fn new(profile: ProfileId) -> Self {
        Self {
            profile,
            benign: Recorded::new(&[profile], WINDOW_US),
            attacks: BTreeMap::new(),
            taken: Taken::default(),
        }
    }

    pub fn benign(&self) -> &Rows {
        &self.benign.profiles[0]
    }

    /// Trains on `share` of the benign rows, judges the others and all attacks. Rows of one source within ten minutes are on
    /// one side; rows of which time or source is not known are divided one by one.
    pub fn run(&self, share: f64, seed: u64, progress: &mut dyn FnMut(TrainProgress)) -> Result<Run, LearnError> {
        let benign = self.benign();
        let to_train: Vec<bool> =
            benign.origins.iter().enumerate().map(|(i, o)| drawn(o.place, i, seed) < share).collect();
        let baseline = Baseline {
            profiles: vec![benign.part(|i| to_train[i])],
            // Rows are judged one by one here: thresholds on evidence have no part in it.
            cut: None,
            window_us: WINDOW_US,
            alert_budget_per_day: 1.0,
            origin: format!("{share} of the benign flows of an evaluation"),
            trained_at_us: None,
        };
        let (trained, _) = baseline.train(seed, progress)?;
        let (train, test) = (&baseline.profiles[0], benign.part(|i| !to_train[i]));
        let seen: HashSet<_> = (0..train.len()).map(|i| bits(&train.matrix, i)).collect();
        let recurring = (0..test.len()).filter(|i| seen.contains(&bits(&test.matrix, *i))).count();
        let bundle = trained.bundle();
        let mut judged = Judged {
            benign_weight: (self.taken.benign + self.taken.unlabelled) as f64 / test.len().max(1) as f64,
            certified: certified(bundle, self.profile),
            ..Judged::default()
        };
        let mut drift = DriftGauge::new(bundle, self.profile);
        (0..test.len()).for_each(|i| drift.add(&test.matrix, i));
        bundle.score(&test.matrix)?.iter().for_each(|s| judged.benign.push(s));
        for (label, matrix) in &self.attacks {
            let scores = judged.attacks.entry(label.clone()).or_default();
            bundle.score(matrix)?.iter().for_each(|s| scores.push(s));
        }
        Ok(Run { judged, drift, trained: train.len(), recurring })
    }
}

impl Taker for Divided {
    fn record(&mut self, flow: Observation) -> Result<(), Stop> {
        let r = &flow.record;
        if let Err(why) = can(r, self.profile) {
            self.taken.leave_out(why);
            return Ok(());
        }
        match self.taken.sort(&flow) {
            None => {
                let known = r.have.has(Have::TIME).then_some(r.end_us);
                self.benign.add_flows(self.profile, std::iter::once((known, r)));
            }
            Some(label) => {
                let rows = self.attacks.entry(label).or_insert_with(|| FeatureMatrix::new(self.profile));
                rows.push_from(&flow_matrix(self.profile, [r]), 0);
            }
        }
        Ok(())
    }
}

/// A number from 0 to 1 that decides on which side a row is: the same for the rows of one source in one block of time.
fn drawn(place: Option<RowInfo>, row: usize, seed: u64) -> f64 {
    let mut h = DefaultHasher::new();
    match place {
        Some(p) => (seed, p.group, p.time_us / BLOCK_US).hash(&mut h),
        None => (seed, row).hash(&mut h),
    }
    (h.finish() >> 11) as f64 / (1_u64 << 53) as f64
}

/// The values of a row, to be compared bit for bit.
fn bits(m: &FeatureMatrix, i: usize) -> (Vec<u32>, u64) {
    (m.row(i).iter().map(|v| v.to_bits()).collect(), m.present(i))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_on_one_side_for_a_while_and_the_share_is_kept() {
        let at = |group, minute: u64| Some(RowInfo { time_us: minute * 60_000_000, group });
        assert_eq!(drawn(at(3, 21), 5, 1), drawn(at(3, 29), 900, 1));
        for place in [|i: u64| Some(RowInfo { time_us: i * BLOCK_US, group: 4 }), |_| None] {
            let part = |seed| (0..10_000).filter(|i| drawn(place(*i), *i as usize, seed) < 0.75).collect::<Vec<_>>();
            let (one, two) = (part(1), part(2));
            assert!((7_300..7_700).contains(&one.len()), "{}", one.len());
            assert!(one != two, "another seed divides otherwise");
        }
    }
}
