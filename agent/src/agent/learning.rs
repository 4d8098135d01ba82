//! Learning, and the bundle that serves.

use std::path::PathBuf;
use std::time::Duration;

use weir_core::event::Level;
use weir_core::record::TimeUs;
use weir_core::render::rfc3339;
use weir_models::Bundle;

use super::Agent;
use crate::clock::wall_us;
use crate::command::LearnReport;
use crate::learn::{LearnConfig, Learned, Recorder};
use crate::model::{self, Finished, KEEP};
use crate::pipeline::Model;
use crate::store::BundleDir;

/// A training under way.
pub(super) struct Training {
    pub id: String,
    pub report: LearnReport,
    /// Not what a recording gave that was under way.
    pub from_record: bool,
}

impl Agent {
    /// Loads the bundle that served last, or starts learning where there is none.
    pub(super) fn load_current(&mut self) {
        let now = wall_us();
        match self.store.bundles().current() {
            Some(dir) => match self.load_and_serve(&dir) {
                Ok(()) => self.news(now, Level::Info, "model", format!("bundle {} serves{}", dir.id, unpromoted(&dir))),
                Err(e) => {
                    self.warn("model", format!("bundle {} cannot be used, learning anew: {e}", dir.id));
                    self.start_learning(None, None);
                }
            },
            None => {
                self.news(now, Level::Info, "learn", "no model yet: learning what is normal here".to_owned());
                self.start_learning(None, None);
            }
        }
        self.follow_default();
    }

    /// Begins a recording; `None` takes the configured values.
    pub(super) fn start_learning(&mut self, duration: Option<Duration>, min_flows: Option<u64>) {
        let learn = &self.config.learn;
        let config = LearnConfig {
            duration: duration.unwrap_or(learn.duration),
            min_flows: min_flows.unwrap_or(learn.min_flows),
            min_windows: learn.min_windows,
            window_us: self.config.window.as_micros() as u64,
            alert_budget_per_day: self.config.alert_budget_per_day,
        };
        self.pipeline.record(Recorder::new(config, wall_us()));
    }

    /// The recording or training under way.
    pub(super) fn learning(&self, now: TimeUs) -> Option<LearnReport> {
        let training = self.training.as_ref().map(|t| t.report.clone());
        training.or_else(|| self.pipeline.recorder().map(|r| r.report(now)))
    }

    /// Starts the training once the recording is long enough.
    pub(super) fn learn(&mut self, now: TimeUs) {
        if self.training.is_some() || !self.pipeline.recorder().is_some_and(|r| r.ready(now)) {
            return;
        }
        let Some(recorder) = self.pipeline.take_recorder() else { return };
        let report = LearnReport { phase: "training".to_owned(), ..recorder.report(now) };
        let recording = recorder.close(now);
        let id = new_id(now);
        let words = format!("training on {} flows and {} source windows", recording.flows, recording.windows);
        let started =
            self.store.bundles().stage(&id).map_err(|e| e.to_string()).and_then(|dir| {
                model::train(|| Ok(recording), dir, now, self.finished.clone()).map_err(|e| e.to_string())
            });
        match started {
            Ok(()) => {
                self.training = Some(Training { id, report, from_record: false });
                self.news(now, Level::Info, "learn", words);
            }
            Err(e) => self.warn("learn", format!("training could not be started: {e}")),
        }
    }

    /// A thread has finished.
    pub fn finished(&mut self, finished: Finished) {
        match finished {
            Finished::Training(result) => self.trained(*result),
            Finished::Prepared(prepared) => self.prepared(*prepared),
        }
    }

    fn trained(&mut self, result: Result<(Learned, PathBuf, Bundle), String>) {
        let now = wall_us();
        let Some(training) = self.training.take() else { return };
        let id = training.id.clone();
        let (learned, _, bundle) = match result {
            Ok(done) => done,
            Err(e)
                if training.from_record && (self.pipeline.model().is_some() || self.pipeline.recorder().is_some()) =>
            {
                return self.warn("learn", format!("nothing was learned from the record: {e}"));
            }
            Err(e) => {
                self.warn("learn", format!("nothing was learned, learning goes on: {e}"));
                return self.start_learning(None, None);
            }
        };
        let bundles = self.store.bundles();
        let installed = bundles.install(&id).and_then(|_| bundles.activate(&id)).and_then(|dir| {
            bundles.prune(KEEP, None)?;
            Ok(dir)
        });
        match installed {
            Ok(dir) => {
                self.take_service(&dir, Model::new(bundle));
                if training.from_record {
                    // What was being learned from live traffic is learned.
                    self.pipeline.take_recorder();
                }
                self.warnings.remove("learn");
                let t = &learned.thresholds;
                self.news(
                    now,
                    Level::Info,
                    "learned",
                    format!(
                        "bundle {id} serves{}: alert at evidence {:.1}, drop at {:.1} (proven). {}",
                        unpromoted(&dir),
                        t.alert,
                        t.drop,
                        learned.summary
                    ),
                );
            }
            Err(e) => self.warn("learn", format!("the learned bundle could not be put into service: {e}")),
        }
    }
}

/// A name for a new bundle, in order of time, so that the oldest go first.
pub(super) fn new_id(now: TimeUs) -> String {
    rfc3339(now).chars().take(19).filter(char::is_ascii_alphanumeric).collect()
}

pub(super) fn unpromoted(dir: &BundleDir) -> &'static str {
    if dir.promoted { "" } else { " alerts and shadow entries until it is promoted (`weir model promote`)" }
}
