//! Weir's models: training, bundles, ONNX export, calibration, scoring through tract, and explanations.
//!
//! [`train()`] makes a [`TrainedBundle`] of benign rows, [`Bundle::load`] checks and compiles one, [`Bundle::score`] gives calibrated
//! p-values, [`Bundle::explain`] says which features were strange. The format is described in this crate's README.

mod autoencoder;
mod bundle;
mod calibrate;
mod explain;
mod floats;
#[cfg(fuzzing)]
pub mod fuzzing;
mod isolation;
pub mod metrics;
mod normalise;
mod onnx;
mod parts;
mod rng;
mod runner;
mod score;
mod train;
pub mod trees;

pub use bundle::{
    BUNDLE_VERSION, Bundle, BundleError, ChildLimits, Corpus, EvidenceThresholds, FeatureEntry, FileState,
    GOLDEN_TOLERANCE, Golden, Inspected, InspectedFile, MANIFEST_FILE, MAX_MANIFEST_BYTES, Manifest, ModelEntry,
    Models, ProfileEntry, Provenance, REFUSED, RoleCalibration, TrainingSummary, Usual, check_vacant, verify_in_child,
};
pub use calibrate::{ACTIONABLE_MIN_ROWS, MAX_ROLE_ROWS, ROLE_MIN_ROWS, TIE_TOLERANCE, Weights};
pub use explain::{Change, Contribution, Unless, amount, unless_words, words};
pub use normalise::CLIP;
pub use onnx::{
    GraphError, INPUT_FEATURES, INPUT_PRESENT, MAX_MODEL_BYTES, METADATA_SPLIT, OPSET, OPSET_ML, OUTPUT_ERRORS,
    OUTPUT_SCORE, metadata,
};
pub use runner::{BATCHES, RunError, Scorer};
pub use score::{Score, ScoreError, Scored};
pub use train::{
    AutoencoderConfig, ForeignModels, ForestConfig, Part, RowInfo, Stage, TrainConfig, TrainError, TrainProgress,
    TrainSet, TrainedBundle, calibrate_foreign, parts, split_id, train,
};
