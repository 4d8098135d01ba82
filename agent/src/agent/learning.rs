//! Learning, and the bundle that serves.

use std::sync::Arc;
use std::time::Duration;

use weir_core::event::Level;
use weir_core::record::TimeUs;
use weir_core::render::rfc3339;
use weir_models::Manifest;

use super::Agent;
use crate::clock::wall_us;
use crate::command::{BundleReport, CommandError, LearnReport};
use crate::learn::{LearnConfig, Recorder};
use crate::model::{self, Finished};
use crate::pipeline::Model;
use crate::store::BundleDir;

/// Bundles that are kept besides the current and the promoted one.
const KEEP: usize = 3;

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
            Some(dir) => match self.serve(&dir) {
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
    }

    fn serve(&mut self, dir: &BundleDir) -> Result<(), weir_models::BundleError> {
        model::check(&dir.path)?;
        let bundle = model::load_here(&dir.path)?;
        self.pipeline.serve(Model::new(bundle));
        self.set_promoted(dir.promoted);
        Ok(())
    }

    fn set_promoted(&mut self, promoted: bool) {
        let config = super::policy(&self.config, promoted);
        self.pipeline.policy.set_config(config);
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
        let now = wall_us();
        let Finished::Training(result) = finished;
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
            bundles.prune(KEEP)?;
            Ok(dir)
        });
        match installed {
            Ok(dir) => {
                self.pipeline.serve(Model::new(bundle));
                self.set_promoted(dir.promoted);
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

    /// Records that a person wants this bundle (the current one, unless named) to lead to actions.
    pub(super) fn promote(&mut self, id: Option<&str>) -> Result<BundleReport, CommandError> {
        let bundles = self.store.bundles();
        let current = bundles.current();
        let dir = match id {
            Some(id) => bundles.get(id)?,
            None => current.clone().ok_or_else(|| {
                CommandError::NotFound("there is no bundle yet; `weir status` shows how far learning is".to_owned())
            })?,
        };
        let served = current.is_some_and(|c| c.id == dir.id) && self.pipeline.model().is_some();
        if !served {
            self.serve(&dir).map_err(|e| CommandError::Refused(e.to_string()))?;
            self.store.bundles().activate(&dir.id)?;
        }
        let dir = self.store.bundles().promote(&dir.id)?;
        self.set_promoted(true);
        Ok(self.describe(&dir))
    }

    /// What is known of a bundle without loading it.
    pub(super) fn describe(&self, dir: &BundleDir) -> BundleReport {
        let served = self.pipeline.model().filter(|_| dir.current).map(|m| Arc::clone(&m.bundle));
        let manifest = match &served {
            Some(bundle) => Some(bundle.manifest().clone()),
            None => Manifest::read(&dir.path).ok(),
        };
        let rows = |name: &str| {
            let profiles = manifest.iter().flat_map(|m| &m.profiles);
            profiles.filter(|p| p.name == name).map(|p| p.training.rows).sum()
        };
        BundleReport {
            id: dir.id.clone(),
            promoted: dir.promoted,
            origin: manifest.as_ref().map_or_else(|| "unreadable".to_owned(), |m| m.provenance.source.clone()),
            created_us: manifest.as_ref().and_then(|m| m.provenance.trained_at_us).unwrap_or(0),
            flows: rows("core"),
            windows: rows("source"),
            profiles: manifest.iter().flat_map(|m| &m.profiles).map(|p| p.name.clone()).collect(),
            // One that could not be loaded does not serve, whatever was chosen.
            current: served.is_some(),
        }
    }
}

/// A name for a new bundle, in order of time, so that the oldest go first.
pub(super) fn new_id(now: TimeUs) -> String {
    rfc3339(now).chars().take(19).filter(char::is_ascii_alphanumeric).collect()
}

fn unpromoted(dir: &BundleDir) -> &'static str {
    if dir.promoted { "" } else { " alerts and shadow entries until it is promoted (`weir model promote`)" }
}
