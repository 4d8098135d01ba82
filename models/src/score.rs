//! Scoring: from a feature matrix to calibrated p-values.

use weir_core::matrix::FeatureMatrix;
use weir_core::profile::ProfileId;
use weir_core::role::Role;

use crate::bundle::Bundle;
use crate::calibrate::ACTIONABLE_MIN_ROWS;
use crate::runner::RunError;

/// `1 - p`: how much of normal an observation is stranger than. Finite, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Score(f32);

impl Score {
    /// From a p-value; anything that is none counts as the least strange, 0.
    pub fn from_p(p: f32) -> Self {
        Self(if p.is_finite() { (1.0 - p).clamp(0.0, 1.0) } else { 0.0 })
    }

    pub fn get(self) -> f32 {
        self.0
    }
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // 0.99996 must not read as 1.
        if self.0 < 1.0 && self.0 > 0.9999 { f.write_str("0.9999") } else { write!(f, "{:.4}", self.0) }
    }
}

/// One scored row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Fused p-value: finite, above 0, at most 1; so are the two below.
    pub p: f32,
    pub p_autoencoder: f32,
    pub p_isolation_forest: f32,
    /// What the models gave; higher is stranger, the scale is the model's own.
    pub raw_autoencoder: f32,
    pub raw_isolation_forest: f32,
    /// The role whose benign rows it was compared with.
    pub role: Role,
    /// Whether there were enough benign rows for an action to rest on the p-value.
    pub actionable: bool,
    /// `p` lies below what the calibration rows can show, and follows a fitted tail.
    pub extrapolated: bool,
}

impl Scored {
    pub fn score(&self) -> Score {
        Score::from_p(self.p)
    }
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScoreError {
    #[error("bundle {bundle} has no models for profile `{profile}`: it has {has}; train one or load another bundle")]
    NoProfile { bundle: String, profile: ProfileId, has: String },
    #[error("a row of profile `{profile}` has {got} values, expected {expected}")]
    Width { profile: ProfileId, got: usize, expected: usize },
    #[error("bundle {bundle}, {file}: {source}")]
    Run { bundle: String, file: String, source: RunError },
}

impl Bundle {
    /// Scores every row. A row's result does not depend on the rows beside it; only the last bits of the autoencoder's raw score
    /// depend on how many there are.
    pub fn score(&self, matrix: &FeatureMatrix) -> Result<Vec<Scored>, ScoreError> {
        let profile = self.profile(matrix.profile())?;
        let raw = profile.models.run_matrix(matrix).map_err(|e| self.run_error(matrix.profile(), e))?;
        let mut out = Vec::with_capacity(raw.len());
        for (i, raw) in raw.into_iter().enumerate() {
            // Loading refuses a calibration without Role::All, to which every role falls back.
            let Some((role, table)) = profile.calibration.resolve(matrix.role(i)) else { continue };
            let c = table.calibrated(raw);
            out.push(Scored {
                p: c.p,
                p_autoencoder: c.autoencoder,
                p_isolation_forest: c.isolation_forest,
                raw_autoencoder: raw.autoencoder,
                raw_isolation_forest: raw.isolation_forest,
                role,
                actionable: table.rows() >= ACTIONABLE_MIN_ROWS,
                extrapolated: c.extrapolated,
            });
        }
        Ok(out)
    }

    pub(crate) fn profile(&self, id: ProfileId) -> Result<&crate::bundle::LoadedProfile, ScoreError> {
        self.profiles.get(&id).ok_or_else(|| ScoreError::NoProfile {
            bundle: self.id().to_owned(),
            profile: id,
            has: self.profiles().map(ProfileId::name).collect::<Vec<_>>().join(", "),
        })
    }

    pub(crate) fn run_error(&self, id: ProfileId, (model, source): (usize, RunError)) -> ScoreError {
        let file = self.profiles.get(&id).map_or_else(String::new, |p| p.models.files[model].clone());
        ScoreError::Run { bundle: self.id().to_owned(), file, source }
    }
}
