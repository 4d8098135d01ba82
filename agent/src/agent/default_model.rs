//! The bundle that came with the program, in service until one was learned here.

use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use weir_core::event::Level;
use weir_core::policy::DEFAULT_BUNDLE;
use weir_core::record::TimeUs;
use weir_models::Bundle;

use super::{Agent, policy};
use crate::clock::wall_us;
use crate::command::BundleReport;
use crate::config::DefaultModel;
use crate::default_bundle::{self, DefaultError};
use crate::human;
use crate::pipeline::Model;

/// A bundle that is being loaded and checked, on a thread of its own: learning has begun meanwhile.
pub(super) type Loading = Receiver<Result<Bundle, DefaultError>>;

fn allowed(setting: DefaultModel) -> &'static str {
    match setting {
        DefaultModel::Off => "not used",
        DefaultModel::Alert => "alerts alone",
        DefaultModel::Shadow => "alerts and shadow entries",
        DefaultModel::Enforce => "alerts and what the mode allows, drops included",
    }
}

impl Agent {
    /// Brings `default_model` into force; of no concern where a bundle serves that was learned here.
    pub(super) fn follow_default(&mut self) {
        if self.pipeline.model().is_some() {
            self.loading = None;
            return;
        }
        let serves = self.pipeline.default_model().is_some();
        match (self.config.default_model, serves) {
            (DefaultModel::Off, false) => self.loading = None,
            (DefaultModel::Off, true) => {
                self.pause_challenge();
                self.pipeline.withdraw();
                self.pipeline.policy.set_config(policy(&self.config, false));
                let words = "the default bundle is out of service: nothing is scored until a bundle was learned here";
                self.news(wall_us(), Level::Info, "model", words.to_owned());
            }
            (_, true) => self.limit_default(),
            (_, false) => self.load_default(),
        }
    }

    fn load_default(&mut self) {
        if self.loading.is_some() {
            return;
        }
        let now = wall_us();
        let window_us = self.config.window.as_micros() as u64;
        if let Some(m) = default_bundle::manifest()
            && m.provenance.window_us != window_us
        {
            let [its, ours] = [m.provenance.window_us, window_us].map(|us| human::duration(human::micros(us)));
            let words = format!(
                "the default bundle is not used: it is made for windows of {its}, and `window` is {ours}; nothing is scored \
                 until a bundle was learned here"
            );
            return self.news(now, Level::Info, "model", words);
        }
        let (to, loading) = sync_channel(1);
        let loader = std::thread::Builder::new().name("weir-default".into());
        match loader.spawn(move || drop(to.send(default_bundle::load()))) {
            Ok(_) => self.loading = Some(loading),
            Err(e) => self.warn("default", format!("the default bundle was not loaded: {e}")),
        }
    }

    /// Puts the bundle into service once it is there, unless one was learned meanwhile.
    pub(super) fn default_arrived(&mut self, now: TimeUs) {
        let Some(loading) = &self.loading else { return };
        let loaded = match loading.try_recv() {
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => None,
            Ok(loaded) => Some(loaded),
        };
        self.loading = None;
        match loaded {
            Some(Ok(bundle)) if self.pipeline.model().is_none() => {
                self.pipeline.serve(Model::built_in(bundle));
                self.limit_default();
                let what = allowed(self.config.default_model);
                let words = format!("{DEFAULT_BUNDLE}, serves until one was: {what}; learning goes on");
                self.news(now, Level::Info, "model", words);
                self.resume_challenge();
            }
            Some(Ok(_)) => {}
            Some(Err(e)) => self.warn("default", format!("{e}; nothing is scored until a bundle was learned here")),
            None => self.warn("default", "the default bundle was not loaded: its thread ended".to_owned()),
        }
    }

    /// What the bundle in service may lead to.
    fn limit_default(&mut self) {
        let mut config = policy(&self.config, self.config.default_model == DefaultModel::Enforce);
        config.default_bundle = true;
        config.alerts_only = self.config.default_model == DefaultModel::Alert;
        self.pipeline.policy.set_config(config);
    }

    /// How it is listed beside the bundles of the store; `None` where the program has none.
    pub(super) fn describe_default(&self) -> Option<BundleReport> {
        let manifest = default_bundle::manifest()?;
        let rows = |name: &str| manifest.profiles.iter().filter(|p| p.name == name).map(|p| p.training.rows).sum();
        let what = allowed(self.config.default_model);
        Some(BundleReport {
            id: default_bundle::ID.to_owned(),
            promoted: false,
            origin: format!("{DEFAULT_BUNDLE}: {what}; {}", manifest.provenance.source),
            created_us: manifest.provenance.trained_at_us.unwrap_or(0),
            flows: rows("core"),
            windows: rows("source"),
            profiles: manifest.profiles.iter().map(|p| p.name.clone()).collect(),
            current: self.pipeline.default_model().is_some(),
            hash: self.pipeline.default_model().map(|m| m.bundle.id().to_owned()).unwrap_or_default(),
            bytes: default_bundle::files().iter().map(|(_, contents)| contents.len() as u64).sum(),
            challenger: false,
            steps_back: None,
            since_us: None,
        })
    }
}
