//! From benign rows to a bundle: models and p-values from the first part of the time, thresholds on evidence from the rest.
//! What was recorded live and what was read from files go the same way.

use std::collections::BTreeMap;

use weir_core::busy::carriers;
use weir_core::evidence::{CalibrationConfig, Observation, Thresholds, calibrate};
use weir_core::matrix::FeatureMatrix;
use weir_core::profile::ProfileId;
use weir_core::record::TimeUs;
use weir_models::{
    Bundle, BundleError, EvidenceThresholds, ForeignModels, Part, ScoreError, TrainConfig, TrainError, TrainProgress,
    TrainSet, TrainedBundle, calibrate_foreign, parts, split_id, train,
};

use super::rows::{Origin, Rows};
use crate::human;

/// Share of the time, or of the rows, that makes the models; the rest is held back for the thresholds.
pub const MODEL_SHARE: f64 = 0.6;
/// Sources in evidence at once, as the live engine has.
const MAX_SOURCES: usize = 65_536;

#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Score(#[from] ScoreError),
}

/// Benign rows, ready to be trained on.
pub struct Baseline {
    pub profiles: Vec<Rows>,
    /// Rows behind this time that evidence can rest on are held back for its thresholds. `None`: no row is.
    pub cut: Option<TimeUs>,
    pub window_us: u64,
    pub alert_budget_per_day: f64,
    /// What the rows are, in words.
    pub origin: String,
    pub trained_at_us: Option<TimeUs>,
}

/// The rows of a profile dealt out.
pub struct Dealt {
    pub id: String,
    /// One per row; `None` where it is held back for the thresholds on evidence.
    pub parts: Vec<Option<Part>>,
}

impl Baseline {
    fn held_back(&self, o: &Origin) -> bool {
        o.observation.as_ref().zip(self.cut).is_some_and(|(o, cut)| o.time_us > cut)
    }

    /// Rows of a profile that make its models.
    pub fn model_rows(&self, rows: &Rows) -> usize {
        rows.origins.iter().filter(|o| !self.held_back(o)).count()
    }

    /// Trains and calibrates. Takes seconds to minutes.
    pub fn train(
        &self,
        seed: u64,
        progress: &mut dyn FnMut(TrainProgress),
    ) -> Result<(TrainedBundle, Thresholds), LearnError> {
        let trained = train(&self.model_sets(), &self.config(seed), progress)?;
        self.with_thresholds(trained)
    }

    /// Calibrates models that were made elsewhere, likewise.
    pub fn calibrate(
        &self,
        models: &BTreeMap<ProfileId, ForeignModels>,
        seed: u64,
        progress: &mut dyn FnMut(TrainProgress),
    ) -> Result<(TrainedBundle, Thresholds), LearnError> {
        let trained = calibrate_foreign(&self.model_sets(), models, &self.config(seed), progress)?;
        self.with_thresholds(trained)
    }

    /// What [`Baseline::train`] and [`Baseline::calibrate`] use the rows of each profile for, and the name of that division:
    /// see [`split_id`].
    pub fn deal(&self, seed: u64) -> Result<Vec<Dealt>, LearnError> {
        let sets = self.model_sets();
        let parts = parts(&sets, &self.config(seed))?;
        Ok(self
            .profiles
            .iter()
            .zip(sets.iter().zip(parts))
            .map(|(rows, (set, parts))| {
                let id = split_id(set, &parts);
                let mut dealt = parts.into_iter();
                let used = |o: &Origin| if self.held_back(o) { None } else { dealt.next() };
                Dealt { id, parts: rows.origins.iter().map(used).collect() }
            })
            .collect())
    }

    fn config(&self, seed: u64) -> TrainConfig {
        TrainConfig {
            seed,
            window_us: self.window_us,
            source: self.origin.clone(),
            trained_at_us: self.trained_at_us,
            ..TrainConfig::default()
        }
    }

    fn model_sets(&self) -> Vec<TrainSet> {
        self.profiles.iter().map(|rows| self.model_set(rows)).collect()
    }

    fn with_thresholds(&self, mut trained: TrainedBundle) -> Result<(TrainedBundle, Thresholds), LearnError> {
        let mut held_back = Vec::new();
        for rows in &self.profiles {
            held_back.extend(self.observations(rows, trained.bundle())?);
        }
        let some = !held_back.is_empty();
        let calibration = CalibrationConfig {
            window_us: self.window_us,
            alerts_per_day: self.alert_budget_per_day,
            max_sources: MAX_SOURCES,
        };
        let mut thresholds = calibrate(held_back, &calibration);
        let origins = self.profiles.iter().flat_map(|rows| &rows.origins);
        thresholds.carriers = carriers(origins.filter(|o| o.carried).filter_map(|o| o.source));
        if some {
            trained.set_evidence(Some(to_manifest(&thresholds, self.alert_budget_per_day)))?;
        }
        Ok((trained, thresholds))
    }

    fn model_set(&self, rows: &Rows) -> TrainSet {
        let mut set = TrainSet { matrix: FeatureMatrix::new(rows.profile()), rows: Vec::new() };
        for (i, o) in rows.origins.iter().enumerate().filter(|(_, o)| !self.held_back(o)) {
            set.matrix.push_from(&rows.matrix, i);
            set.rows.push(o.place);
        }
        set
    }

    /// What is held back, with the p-values that the bundle gives it.
    fn observations(&self, rows: &Rows, bundle: &Bundle) -> Result<Vec<Observation>, ScoreError> {
        let mut matrix = FeatureMatrix::new(rows.profile());
        let mut observations = Vec::new();
        for (i, o) in rows.origins.iter().enumerate().filter(|(_, o)| self.held_back(o)) {
            matrix.push_from(&rows.matrix, i);
            observations.extend(o.observation.clone());
        }
        let scored = bundle.score(&matrix)?;
        for (o, s) in observations.iter_mut().zip(scored) {
            o.p = f64::from(s.p);
            o.actionable = s.actionable;
        }
        Ok(observations)
    }
}

/// What the rows of each profile were used for, and how the thresholds came about: a line each.
pub fn said(trained: &TrainedBundle, thresholds: &Thresholds) -> Vec<String> {
    let profiles = trained.summary().map(|(profile, s)| {
        let known = match s.fit_recurring {
            0 => String::new(),
            n => format!(" and {n} whose values come again later"),
        };
        format!(
            "{profile}: {} rows, of which {} to fit ({} duplicates{known} left out), {} to stop, {} + {} to calibrate",
            s.rows, s.fit_rows, s.fit_duplicates, s.early_stop_rows, s.calibration_1_rows, s.calibration_2_rows
        )
    });
    profiles.chain([format!("thresholds: {}", thresholds.note)]).collect()
}

/// Who carried much of the baseline, as a line; `None` where nobody did.
pub fn carry(thresholds: &Thresholds) -> Option<String> {
    let all = &thresholds.carriers;
    let named = || human::carriers(all.iter().map(|c| (c.net, c.share)));
    (!all.is_empty()).then(|| format!("carry much: {}", named()))
}

pub fn to_manifest(t: &Thresholds, budget_per_day: f64) -> EvidenceThresholds {
    EvidenceThresholds {
        alert: t.alert,
        drop: t.drop,
        allowance: t.allowance,
        budget_per_day,
        certified: t.certified,
        benign_windows: t.benign_windows,
        benign_sources: t.benign_sources,
        strange: t.strange.clone(),
        carriers: t.carriers.clone(),
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
        carriers: e.carriers.clone(),
        note: e.note.clone(),
    })
}
