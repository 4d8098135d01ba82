//! `manifest.yaml`: everything about a bundle that is not a model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_core::profile::Transform;
use weir_core::role::Role;

use crate::calibrate::Weights;
use crate::floats;

/// Version of the format; another one is refused.
pub const BUNDLE_VERSION: u32 = 2;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub bundle_version: u32,
    pub provenance: Provenance,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceThresholds>,
    pub profiles: Vec<ProfileEntry>,
}

/// Where a bundle comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    pub weir_version: String,
    pub seed: u64,
    /// What it was trained on, in words.
    pub source: String,
    /// When it was trained, microseconds since the Unix epoch, if the caller said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_at_us: Option<u64>,
    /// First and last time of the training rows, in microseconds as the rows had them.
    pub first_us: u64,
    pub last_us: u64,
    /// Length of the source windows, microseconds.
    pub window_us: u64,
    /// Length of the blocks of time that were dealt out to the parts, microseconds.
    pub block_us: u64,
    /// Collections of data that it was trained on, where these were named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub corpora: Vec<Corpus>,
}

/// A collection of data, and under which terms it is to be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corpus {
    pub name: String,
    /// Where it is published.
    pub from: String,
    /// An SPDX identifier, or the terms in words.
    pub licence: String,
    /// Benign flows of it that were used; 0 where it was left out.
    pub rows: u64,
    /// Why it was left out, or what of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Thresholds on a source's evidence, in nats, from held-back benign source windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceThresholds {
    pub alert: f64,
    pub drop: f64,
    /// What each active window of a source may show for nothing, nats: over all flows, over proven flows.
    pub allowance: [f64; 2],
    /// The false-alarm rate the thresholds were chosen for, in source alerts per day.
    pub budget_per_day: f64,
    /// Whether there were enough benign windows to vouch for that rate.
    pub certified: bool,
    pub benign_windows: u64,
    pub benign_sources: u64,
    /// Sources that were unusual throughout: they are left out of the thresholds, and never dropped automatically.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strange: Vec<weir_core::addr::Addr>,
    /// Who carried much of the baseline: above the share that a policy sets they are never dropped automatically.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carriers: Vec<weir_core::busy::Carrier>,
    pub note: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileEntry {
    pub name: String,
    pub features: Vec<FeatureEntry>,
    pub models: Models,
    pub training: TrainingSummary,
    pub weights: Weights,
    pub calibration: Vec<RoleCalibration>,
    pub golden: Vec<Golden>,
}

/// A feature's constants. `mean` and `std` are in transformed units, the others in raw ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureEntry {
    pub name: String,
    pub transform: Transform,
    pub mean: f32,
    pub std: f32,
    /// Stands in for a missing value.
    pub fill: f32,
    pub usual: Usual,
}

/// Quantiles 1%, 50% and 99% of a raw feature over the benign fit rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usual {
    pub low: f32,
    pub median: f32,
    pub high: f32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Models {
    pub autoencoder: ModelEntry,
    pub isolation_forest: ModelEntry,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// Name of the file beside the manifest.
    pub file: String,
    /// In lower-case hexadecimal.
    pub sha256: String,
    pub opset: i64,
    pub outputs: Vec<String>,
}

/// What training did with the rows of a profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSummary {
    pub rows: u64,
    /// Rows per part, before duplicates were dropped from the first two.
    pub fit_rows: u64,
    pub early_stop_rows: u64,
    pub calibration_1_rows: u64,
    pub calibration_2_rows: u64,
    /// Duplicates dropped from the fit part.
    pub fit_duplicates: u64,
    /// Distinct fit rows dropped because the same values come again in a later part.
    #[serde(default)]
    pub fit_recurring: u64,
    /// Rows whose time or source is not known: they were dealt out to the parts one by one at random, the others by blocks
    /// of time and source.
    #[serde(default)]
    pub rows_alone: u64,
    /// Distinct fit rows left out because there were more than training takes.
    pub fit_left_out: u64,
    /// Rounds of training of the autoencoder; 0 for models that were brought along.
    pub epochs: u64,
    /// Mean negative log-likelihood of the early-stop part per feature, in nats of normalised features; 0 likewise.
    pub early_stop_loss: f32,
    /// Rows per role as the rows named them.
    pub roles: BTreeMap<Role, u64>,
}

/// Sorted benign scores of a role and all roles below it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleCalibration {
    pub role: Role,
    /// Raw scores on calibration part 1, ascending.
    #[serde(with = "floats")]
    pub autoencoder: Vec<f32>,
    #[serde(with = "floats")]
    pub isolation_forest: Vec<f32>,
    /// Fused statistics on calibration part 2, ascending; small is strange.
    #[serde(with = "floats")]
    pub fused: Vec<f32>,
}

impl RoleCalibration {
    /// The smallest false-alarm rate that the benign rows can show; p-values below it follow a fitted tail.
    pub fn certified_rate(&self) -> f64 {
        1.0 / (self.fused.len() + 1) as f64
    }
}

/// An input with the raw scores it must give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    #[serde(with = "floats")]
    pub features: Vec<f32>,
    /// Bit `j` is set where feature `j` is present.
    pub present: u64,
    pub autoencoder: f32,
    pub isolation_forest: f32,
}
