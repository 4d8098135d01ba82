//! Learning in place: what is recorded while benign traffic passes, and the training at the end.
//!
//! The first part of the time makes the models and calibrates their p-values. The rest is held back: it goes through the very
//! engine that gathers evidence live, and that gives the thresholds.

mod apart;
mod baseline;
mod rows;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use weir_core::addr::Addr;
use weir_core::evidence::Thresholds;
use weir_core::profile::ProfileId;
use weir_core::record::{FlowRecord, TimeUs};
use weir_core::window::SourceWindow;

pub use apart::lay_apart;
pub use baseline::{Baseline, Dealt, LearnError, MODEL_SHARE, said, thresholds_of, to_manifest};
pub use rows::{Recorded, Rows, flow_matrix, sample_of};

use crate::command::LearnReport;
use crate::exported::FIRST_ID;

/// What is wanted of a baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct LearnConfig {
    pub duration: Duration,
    pub min_flows: u64,
    pub min_windows: u64,
    pub window_us: u64,
    pub alert_budget_per_day: f64,
}

/// A baseline being recorded.
pub struct Recorder {
    config: LearnConfig,
    started_us: TimeUs,
    flows: u64,
    /// Of these, told by exporters: whoever can send them datagrams can teach by them.
    exported: u64,
    windows: u64,
    recorded: Recorded,
    /// Sources that something was held against meanwhile: they are no baseline.
    left_out: HashSet<Addr>,
    /// What was started has ended: training.
    phase: &'static str,
}

impl Recorder {
    pub fn new(config: LearnConfig, now: TimeUs) -> Self {
        Self {
            started_us: now,
            flows: 0,
            exported: 0,
            windows: 0,
            recorded: Recorded::new(&[ProfileId::Core, ProfileId::Source], config.window_us),
            left_out: HashSet::new(),
            phase: "collecting",
            config,
        }
    }

    /// One epoch's flow records and source windows.
    pub fn add(&mut self, now: TimeUs, records: &[FlowRecord], windows: &[SourceWindow]) {
        self.flows += records.iter().filter(|r| r.first_record).count() as u64;
        self.exported += records.iter().filter(|r| r.flow_id >= FIRST_ID).count() as u64;
        self.windows += windows.len() as u64;
        self.recorded.add_flows(ProfileId::Core, records.iter().map(|r| (Some(now), r)));
        self.recorded.add_windows(now, windows);
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
    pub fn close(self, now: TimeUs) -> Recording {
        let mut profiles = self.recorded.profiles;
        let known = |source: Option<Addr>| source.is_some_and(|s| self.left_out.contains(&s));
        let dropped = profiles.iter_mut().map(|rows| rows.retain(|o| !known(o.source))).sum();
        let span = now.saturating_sub(self.started_us);
        Recording {
            baseline: Baseline {
                profiles,
                cut: Some(self.started_us + (span as f64 * MODEL_SHARE) as u64),
                window_us: self.config.window_us,
                alert_budget_per_day: self.config.alert_budget_per_day,
                origin: origin(self.flows, self.windows, self.exported),
                trained_at_us: Some(now),
            },
            flows: self.flows,
            windows: self.windows,
            left_out: self.left_out.len(),
            left_out_rows: dropped,
        }
    }
}

/// Where it comes from, in words: who promotes the model should know who could have taught it.
fn origin(flows: u64, windows: u64, exported: u64) -> String {
    let of = format!("{flows} flows and {windows} source windows of live traffic");
    match exported {
        0 => of,
        n if n == flows => format!("{of}, told by exporters"),
        n => format!("{of}, {n} of the flows told by exporters"),
    }
}

/// What was recorded live, ready to be trained on.
pub struct Recording {
    baseline: Baseline,
    pub flows: u64,
    pub windows: u64,
    pub left_out: usize,
    left_out_rows: usize,
}

/// What training gave, written to `dir`.
#[derive(Clone, Debug)]
pub struct Learned {
    pub id: String,
    pub thresholds: Thresholds,
    /// What was used and left out, in words.
    pub summary: String,
}

impl Recording {
    /// Trains, calibrates and writes the bundle. Takes seconds to minutes: for a thread of its own.
    pub fn train(self, dir: PathBuf, seed: u64) -> Result<Learned, LearnError> {
        let (trained, thresholds) =
            self.baseline.train(seed, &mut |p| log::debug!("{}: {} {}/{}", p.profile, p.stage, p.done, p.total))?;
        trained.write(&dir)?;
        let mut summary = said(&trained, &thresholds);
        if self.left_out > 0 {
            summary.push(format!(
                "{} rows of {} sources that something was held against are left out",
                self.left_out_rows, self.left_out
            ));
        }
        Ok(Learned { id: trained.bundle().id().to_owned(), thresholds, summary: summary.join("; ") })
    }
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
        let recording = r.close(60 * S);
        assert_eq!((recording.left_out, recording.left_out_rows), (1, 5));
        let rows = &recording.baseline.profiles[1];
        assert!(rows.origins.iter().all(|o| o.source != Some(source(3))));
        assert_eq!((rows.profile(), rows.len()), (ProfileId::Source, 15));
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
