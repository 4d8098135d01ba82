//! Learning in place: what is recorded while benign traffic passes, and the training at the end.
//!
//! The first part of the time makes the models and calibrates their p-values. The rest is held back: it goes through the very
//! engine that gathers evidence live, and that gives the thresholds.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::time::Duration;

use weir_core::addr::Addr;
use weir_core::evidence::{CalibrationConfig, Observation, Thresholds, calibrate};
use weir_core::feature::{core_matrix, source_matrix};
use weir_core::matrix::FeatureMatrix;
use weir_core::profile::ProfileId;
use weir_core::record::{FlowRecord, TimeUs};
use weir_core::window::SourceWindow;
use weir_models::{
    Bundle, BundleError, EvidenceThresholds, RowInfo, ScoreError, TrainConfig, TrainError, TrainSet, train,
};

use crate::command::LearnReport;
use crate::exported::FIRST_ID;

/// Share of the time that makes the models; the rest is held back for the thresholds.
const MODEL_SHARE: f64 = 0.6;
/// Rows kept per profile. Beyond that, whole blocks of sources are left out at random, and the rest stays as it was.
const MAX_ROWS: usize = 400_000;
/// Sources in evidence at once, as the live engine has.
const MAX_SOURCES: usize = 65_536;

/// What is wanted of a baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct LearnConfig {
    pub duration: Duration,
    pub min_flows: u64,
    pub min_windows: u64,
    pub window_us: u64,
    pub alert_budget_per_day: f64,
}

/// One profile's rows, with what evidence needs of each.
struct Rows {
    matrix: FeatureMatrix,
    infos: Vec<RowInfo>,
    observations: Vec<Observation>,
}

impl Rows {
    fn new(profile: ProfileId) -> Self {
        Self { matrix: FeatureMatrix::new(profile), infos: Vec::new(), observations: Vec::new() }
    }

    fn push_from(&mut self, matrix: &FeatureMatrix, i: usize, o: Observation) {
        self.matrix.push_from(matrix, i);
        self.infos.push(RowInfo { time_us: o.time_us, group: group(o.source) });
        self.observations.push(o);
    }

    fn keep(&mut self, keep: impl Fn(&RowInfo, &Observation) -> bool) {
        let mut kept = Rows::new(self.matrix.profile());
        for (i, o) in self.observations.iter().enumerate() {
            if keep(&self.infos[i], o) {
                kept.push_from(&self.matrix, i, o.clone());
            }
        }
        *self = kept;
    }
}

fn group(source: Addr) -> u64 {
    let mut h = DefaultHasher::new();
    source.hash(&mut h);
    h.finish()
}

/// A baseline being recorded.
pub struct Recorder {
    config: LearnConfig,
    started_us: TimeUs,
    flows: u64,
    /// Of these, told by exporters: whoever can send them datagrams can teach by them.
    exported: u64,
    windows: u64,
    core: Rows,
    source: Rows,
    /// Sources that something was held against meanwhile: they are no baseline.
    left_out: HashSet<Addr>,
    /// One block of a source in this many is kept.
    thinning: u64,
    /// What was started has ended: training.
    phase: &'static str,
}

impl Recorder {
    pub fn new(config: LearnConfig, now: TimeUs) -> Self {
        Self {
            config,
            started_us: now,
            flows: 0,
            exported: 0,
            windows: 0,
            core: Rows::new(ProfileId::Core),
            source: Rows::new(ProfileId::Source),
            left_out: HashSet::new(),
            thinning: 1,
            phase: "collecting",
        }
    }

    /// One epoch's flow records and source windows.
    pub fn add(&mut self, now: TimeUs, records: &[FlowRecord], windows: &[SourceWindow]) {
        self.flows += records.iter().filter(|r| r.first_record).count() as u64;
        self.exported += records.iter().filter(|r| r.flow_id >= FIRST_ID).count() as u64;
        self.windows += windows.len() as u64;
        let core = core_matrix(records);
        for (i, r) in records.iter().enumerate() {
            let o = Observation::of_flow(now, r, 1.0, true);
            if self.kept(&o) {
                self.core.push_from(&core, i, o);
            }
        }
        let source = source_matrix(windows);
        for (i, w) in windows.iter().enumerate() {
            let o = Observation::of_window(now, w, 1.0, true);
            if self.kept(&o) {
                self.source.push_from(&source, i, o);
            }
        }
        while self.core.infos.len() > MAX_ROWS || self.source.infos.len() > MAX_ROWS {
            self.thinning *= 2;
            let (thinning, window_us) = (self.thinning, self.config.window_us);
            let keep = move |_: &RowInfo, o: &Observation| in_sample(o, thinning, window_us);
            self.core.keep(keep);
            self.source.keep(keep);
        }
    }

    fn kept(&self, o: &Observation) -> bool {
        in_sample(o, self.thinning, self.config.window_us)
    }

    /// Nothing of this source is to be learned.
    pub fn leave_out(&mut self, source: Addr) {
        self.left_out.insert(source);
    }

    /// Enough time has passed and enough was seen.
    pub fn ready(&self, now: TimeUs) -> bool {
        now.saturating_sub(self.started_us) >= self.config.duration.as_micros() as u64
            && self.flows >= self.config.min_flows
            && self.windows >= self.config.min_windows
    }

    pub fn report(&self, now: TimeUs) -> LearnReport {
        LearnReport {
            started_us: self.started_us,
            duration_us: self.config.duration.as_micros() as u64,
            elapsed_us: now.saturating_sub(self.started_us),
            flows: self.flows,
            min_flows: self.config.min_flows,
            windows: self.windows,
            min_windows: self.config.min_windows,
            phase: self.phase.to_owned(),
        }
    }

    /// The recording is over.
    pub fn close(mut self, now: TimeUs) -> Baseline {
        let left_out = std::mem::take(&mut self.left_out);
        let mut dropped = 0;
        for rows in [&mut self.core, &mut self.source] {
            let before = rows.infos.len();
            rows.keep(|_, o| !left_out.contains(&o.source));
            dropped += before - rows.infos.len();
        }
        Baseline {
            config: self.config,
            started_us: self.started_us,
            ended_us: now,
            core: self.core,
            source: self.source,
            flows: self.flows,
            exported: self.exported,
            windows: self.windows,
            left_out: left_out.len(),
            left_out_rows: dropped,
        }
    }
}

/// Whole blocks of a source stay together, so that evidence is gathered over them as it would have been.
fn in_sample(o: &Observation, thinning: u64, window_us: u64) -> bool {
    if thinning == 1 {
        return true;
    }
    let mut h = DefaultHasher::new();
    (o.source, o.time_us / (60 * window_us.max(1))).hash(&mut h);
    h.finish().is_multiple_of(thinning)
}

/// A recorded baseline, ready to be trained on.
pub struct Baseline {
    config: LearnConfig,
    started_us: TimeUs,
    ended_us: TimeUs,
    core: Rows,
    source: Rows,
    pub flows: u64,
    exported: u64,
    pub windows: u64,
    pub left_out: usize,
    left_out_rows: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Score(#[from] ScoreError),
}

/// What training gave, written to `dir`.
#[derive(Clone, Debug)]
pub struct Learned {
    pub id: String,
    pub thresholds: Thresholds,
    /// What was used and left out, in words.
    pub summary: String,
}

impl Baseline {
    /// Where it comes from, in words: who promotes the model should know who could have taught it.
    fn origin(&self) -> String {
        let of = format!("{} flows and {} source windows of live traffic", self.flows, self.windows);
        match self.exported {
            0 => of,
            n if n == self.flows => format!("{of}, told by exporters"),
            n => format!("{of}, {n} of the flows told by exporters"),
        }
    }

    /// Trains, calibrates and writes the bundle. Takes seconds to minutes: for a thread of its own.
    pub fn train(self, dir: PathBuf, seed: u64) -> Result<Learned, LearnError> {
        let span = self.ended_us.saturating_sub(self.started_us);
        let cut = self.started_us + (span as f64 * MODEL_SHARE) as u64;
        let config = TrainConfig {
            seed,
            window_us: self.config.window_us,
            source: self.origin(),
            trained_at_us: Some(self.ended_us),
            ..TrainConfig::default()
        };
        let sets: Vec<TrainSet> = [&self.core, &self.source].map(|rows| before(rows, cut)).into();
        let mut trained =
            train(&sets, &config, &mut |p| log::debug!("{}: {} {}/{}", p.profile, p.stage, p.done, p.total))?;

        let mut held_back = Vec::new();
        for rows in [&self.core, &self.source] {
            held_back.extend(after(rows, cut, trained.bundle())?);
        }
        let thresholds = calibrate(
            held_back,
            &CalibrationConfig {
                window_us: self.config.window_us,
                alerts_per_day: self.config.alert_budget_per_day,
                max_sources: MAX_SOURCES,
            },
        );
        trained.set_evidence(Some(to_manifest(&thresholds, self.config.alert_budget_per_day)))?;
        trained.write(&dir)?;
        let mut summary: Vec<String> = trained
            .summary()
            .map(|(profile, s)| {
                format!(
                    "{profile}: {} rows, of which {} to fit ({} duplicates left out), {} to stop, {} + {} to calibrate",
                    s.rows, s.fit_rows, s.fit_duplicates, s.early_stop_rows, s.calibration_1_rows, s.calibration_2_rows
                )
            })
            .collect();
        summary.push(format!("thresholds: {}", thresholds.note));
        if self.left_out > 0 {
            summary.push(format!(
                "{} rows of {} sources that something was held against are left out",
                self.left_out_rows, self.left_out
            ));
        }
        Ok(Learned { id: trained.bundle().id().to_owned(), thresholds, summary: summary.join("; ") })
    }
}

fn before(rows: &Rows, cut: TimeUs) -> TrainSet {
    let mut set = TrainSet { matrix: FeatureMatrix::new(rows.matrix.profile()), rows: Vec::new() };
    for (i, info) in rows.infos.iter().enumerate().filter(|(_, info)| info.time_us <= cut) {
        set.matrix.push_from(&rows.matrix, i);
        set.rows.push(*info);
    }
    set
}

/// Observations behind `cut`, with the p-values that the bundle gives them.
fn after(rows: &Rows, cut: TimeUs, bundle: &Bundle) -> Result<Vec<Observation>, ScoreError> {
    let mut matrix = FeatureMatrix::new(rows.matrix.profile());
    let mut observations = Vec::new();
    for (i, o) in rows.observations.iter().enumerate().filter(|(_, o)| o.time_us > cut) {
        matrix.push_from(&rows.matrix, i);
        observations.push(o.clone());
    }
    let scored = bundle.score(&matrix)?;
    for (o, s) in observations.iter_mut().zip(scored) {
        o.p = f64::from(s.p);
        o.actionable = s.actionable;
    }
    Ok(observations)
}

fn to_manifest(t: &Thresholds, budget_per_day: f64) -> EvidenceThresholds {
    EvidenceThresholds {
        alert: t.alert,
        drop: t.drop,
        allowance: t.allowance,
        budget_per_day,
        certified: t.certified,
        benign_windows: t.benign_windows,
        benign_sources: t.benign_sources,
        strange: t.strange.clone(),
        note: t.note.clone(),
    }
}

/// The thresholds of a bundle; a bundle without any leads to no action.
pub fn thresholds_of(bundle: &Bundle) -> Thresholds {
    bundle.manifest().evidence.as_ref().map_or_else(Thresholds::uncalibrated, |e| Thresholds {
        alert: e.alert,
        drop: e.drop,
        allowance: e.allowance,
        certified: e.certified,
        benign_windows: e.benign_windows,
        benign_sources: e.benign_sources,
        strange: e.strange.clone(),
        note: e.note.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::role::Role;
    use weir_core::window::SourceSummary;

    const S: u64 = 1_000_000;

    fn config() -> LearnConfig {
        LearnConfig {
            duration: Duration::from_secs(60),
            min_flows: 0,
            min_windows: 10,
            window_us: 2 * S,
            alert_budget_per_day: 10.0,
        }
    }

    fn source(i: u32) -> Addr {
        Addr::from(std::net::IpAddr::from(std::net::Ipv4Addr::from(0xc633_6400 + i)))
    }

    /// A window of `flows` flows, benign sources having one to four.
    fn window(source: Addr, start_us: TimeUs, flows: u64) -> SourceWindow {
        let summary = SourceSummary {
            flows,
            sampled: flows,
            hosts: 1,
            ports: 1,
            host_ports: 1,
            busiest: flows,
            bytes_from_source: 600 * flows,
            bytes_to_source: 4_000 * flows,
            first_start_us: start_us,
            last_start_us: start_us + S,
            ..SourceSummary::default()
        };
        let end_us = start_us + 2 * S;
        SourceWindow {
            source,
            remote: true,
            role: Role::SourceAll,
            start_us,
            end_us,
            early: false,
            summary,
            ports: vec![80],
        }
    }

    #[test]
    fn recording_goes_on_until_there_is_enough_of_everything() {
        let mut r = Recorder::new(config(), 0);
        assert!(!r.ready(61 * S), "too few windows");
        for i in 0..10 {
            r.add(2 * S, &[], &[window(source(i), 0, 2)]);
        }
        assert!(!r.ready(59 * S), "too short");
        assert!(r.ready(60 * S));
        let report = r.report(30 * S);
        assert_eq!((report.windows, report.elapsed_us, report.phase.as_str()), (10, 30 * S, "collecting"));
    }

    #[test]
    fn what_was_held_against_a_source_keeps_it_out_of_the_baseline() {
        let mut r = Recorder::new(config(), 0);
        for w in 0..5 {
            for i in 0..4 {
                r.add(w * 2 * S, &[], &[window(source(i), w * 2 * S, 2)]);
            }
        }
        r.leave_out(source(3));
        let baseline = r.close(60 * S);
        assert_eq!((baseline.left_out, baseline.left_out_rows), (1, 5));
        assert!(baseline.source.observations.iter().all(|o| o.source != source(3)));
        assert_eq!(baseline.source.infos.len(), 15);
    }

    #[test]
    fn thinning_keeps_whole_blocks_of_a_source() {
        let block = 60 * 2 * S;
        for i in 0..50 {
            for b in 0..4 {
                let kept = |at: u64| {
                    let o = Observation::of_window(at, &window(source(i), at, 2), 1.0, true);
                    in_sample(&o, 4, 2 * S)
                };
                assert!((0..60).all(|w| kept(b * block + w * 2 * S) == kept(b * block)));
            }
        }
    }

    #[test]
    fn too_little_traffic_is_an_error_that_says_so() {
        let mut r = Recorder::new(config(), 0);
        r.add(2 * S, &[], &[window(source(1), 0, 2)]);
        let dir = tempfile::tempdir().unwrap();
        let error = r.close(60 * S).train(dir.path().join("bundle"), 1).unwrap_err().to_string();
        assert!(error.contains("rows") && error.contains("record for longer"), "{error}");
    }
}
