//! Learning in place: what is recorded while benign traffic passes, and the training at the end.
//!
//! The first part of the time makes the models and calibrates their p-values. The rest is held back: it goes through the very
//! engine that gathers evidence live, and that gives the thresholds.

mod apart;
mod baseline;
mod labelled;
mod left_out;
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
pub use baseline::{Baseline, Dealt, LearnError, MODEL_SHARE, carry, said, thresholds_of, to_manifest};
pub use labelled::{Labelled, MAX_SHARE, Said, taken};
pub use left_out::LeftOut;
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
    /// The last span in which not everything was counted.
    degraded: (TimeUs, TimeUs),
    degraded_us: u64,
    degraded_rows: u64,
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
            degraded: (0, 0),
            degraded_us: 0,
            degraded_rows: 0,
            phase: "collecting",
            config,
        }
    }

    /// The epoch from `since` to `now` was not counted in full: nothing of it is a baseline.
    pub fn degraded(&mut self, since: TimeUs, now: TimeUs) {
        self.degraded_us += now.saturating_sub(since.max(self.started_us));
        // One span where they follow each other.
        self.degraded = (if since <= self.degraded.1 { self.degraded.0 } else { since }, now);
    }

    fn is_degraded(&self, from: TimeUs, to: TimeUs) -> bool {
        self.degraded.1 > 0 && from <= self.degraded.1 && to > self.degraded.0
    }

    /// One epoch's flow records and source windows.
    pub fn add(&mut self, now: TimeUs, records: &[FlowRecord], windows: &[SourceWindow]) {
        let whole = |start_us| !self.is_degraded(start_us, now);
        if records.iter().all(|r| whole(r.start_us)) && windows.iter().all(|w| whole(w.start_us)) {
            return self.take(now, records, windows);
        }
        let flows: Vec<FlowRecord> = records.iter().filter(|r| whole(r.start_us)).cloned().collect();
        let rows: Vec<SourceWindow> = windows.iter().filter(|w| whole(w.start_us)).cloned().collect();
        self.degraded_rows += (records.len() - flows.len() + windows.len() - rows.len()) as u64;
        self.take(now, &flows, &rows);
    }

    fn take(&mut self, now: TimeUs, records: &[FlowRecord], windows: &[SourceWindow]) {
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
            from: "live traffic".to_owned(),
        }
    }

    /// The recording is over.
    pub fn close(self, now: TimeUs) -> Recording {
        let mut recorded = self.recorded;
        // A network that is left out takes its hosts with it.
        let known = |source: Option<Addr>| {
            let named = |s: Addr| self.left_out.contains(&s) || s.net6().is_some_and(|n| self.left_out.contains(&n));
            source.is_some_and(named)
        };
        let rows: usize = recorded.profiles.iter_mut().map(|rows| rows.retain(|o| !known(o.source))).sum();
        Recording::of(RecordingOf {
            recorded,
            flows: self.flows,
            windows: self.windows,
            exported: self.exported,
            vouched: 0,
            left_out: LeftOut {
                sources: self.left_out.len(),
                rows: rows as u64,
                degraded_us: self.degraded_us,
                degraded_rows: self.degraded_rows,
                ..LeftOut::default()
            },
            started_us: self.started_us,
            until_us: now,
            window_us: self.config.window_us,
            alert_budget_per_day: self.config.alert_budget_per_day,
            of: "live traffic",
        })
    }
}

/// What a [`Recording`] is made of.
pub struct RecordingOf {
    pub recorded: Recorded,
    pub flows: u64,
    pub windows: u64,
    /// Of the flows, told by exporters.
    pub exported: u64,
    /// Rows of false alarms that people vouched for.
    pub vouched: u64,
    pub left_out: LeftOut,
    pub started_us: TimeUs,
    pub until_us: TimeUs,
    pub window_us: u64,
    pub alert_budget_per_day: f64,
    /// In words, whose flows they are.
    pub of: &'static str,
}

/// Benign rows of a span of time, ready to be trained on.
pub struct Recording {
    baseline: Baseline,
    pub flows: u64,
    pub windows: u64,
    /// Rows of false alarms that people vouched for.
    pub vouched: u64,
    pub left_out: LeftOut,
}

impl Recording {
    pub fn of(r: RecordingOf) -> Self {
        let origin = origin(&r);
        let span = r.until_us.saturating_sub(r.started_us);
        Self {
            baseline: Baseline {
                profiles: r.recorded.profiles,
                cut: Some(r.started_us + (span as f64 * MODEL_SHARE) as u64),
                window_us: r.window_us,
                alert_budget_per_day: r.alert_budget_per_day,
                origin,
                trained_at_us: Some(r.until_us),
            },
            flows: r.flows,
            windows: r.windows,
            vouched: r.vouched,
            left_out: r.left_out,
        }
    }
}

/// Where it comes from, in words: who promotes the model should know who could have taught it, and what could not.
fn origin(r: &RecordingOf) -> String {
    let of = format!("{} flows and {} source windows of {}", r.flows, r.windows, r.of);
    let of = match r.exported {
        0 => of,
        n if n == r.flows => format!("{of}, told by exporters"),
        n => format!("{of}, {n} of the flows told by exporters"),
    };
    let of = match r.vouched {
        0 => of,
        n => format!("{of}, and {n} rows of false alarms"),
    };
    match r.left_out.words() {
        words if words.is_empty() => of,
        words => format!("{of}; left out: {}", words.join(", ")),
    }
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
        summary.extend(carry(&thresholds));
        let left_out = self.left_out.words();
        if !left_out.is_empty() {
            summary.push(format!("left out: {}", left_out.join(", ")));
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
        assert_eq!((recording.left_out.sources, recording.left_out.rows), (1, 5));
        assert!(recording.baseline.origin.ends_with("left out: 5 rows of 1 source with evidence against it"));
        let rows = &recording.baseline.profiles[1];
        assert!(rows.origins.iter().all(|o| o.source != Some(source(3))));
        assert_eq!((rows.profile(), rows.len()), (ProfileId::Source, 15));
    }

    #[test]
    fn what_was_not_counted_in_full_is_no_baseline() {
        let mut r = Recorder::new(config(), 0);
        r.add(2 * S, &[], &[window(source(1), 0, 2)]);
        r.degraded(3 * S, 4 * S);
        r.add(4 * S, &[], &[window(source(1), 2 * S, 2), window(source(2), 2 * S, 2)]);
        r.degraded(4 * S, 5 * S);
        r.add(6 * S, &[], &[window(source(1), 4 * S, 2)]);
        r.add(8 * S, &[], &[window(source(1), 6 * S, 2)]);
        let recording = r.close(60 * S);
        assert_eq!((recording.windows, recording.left_out.degraded_rows), (2, 3));
        let words = recording.left_out.words().join(", ");
        assert_eq!(words, "3 rows of 2s in which not everything was counted");
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
