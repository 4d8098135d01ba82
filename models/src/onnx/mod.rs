//! ONNX: building graphs, and checking foreign ones before tract sees them.

mod autoencoder;
mod check;
mod forest;
mod fuse;
mod graph;
#[cfg(test)]
mod tests;

pub(crate) use autoencoder::export as export_autoencoder;
pub(crate) use check::parse;
pub use check::{Graph, GraphError, MAX_MODEL_BYTES, metadata};
pub(crate) use forest::{export as export_forest, path_forest};
pub(crate) use fuse::{floats_of, fuse, only};

/// Raw features, float32 `[N, F]`.
pub const INPUT_FEATURES: &str = "features";
/// 1 where a feature is present, 0 where it is missing; float32 `[N, F]`. A model may do without it.
pub const INPUT_PRESENT: &str = "present";
/// Anomaly score, higher is stranger; float32 `[N, 1]`.
pub const OUTPUT_SCORE: &str = "score";
/// The autoencoder's error per feature, squared, in units of its benign variance; float32 `[N, F]`.
pub const OUTPUT_ERRORS: &str = "feature_errors";

/// Key of an ONNX file's metadata under which whoever fitted it says to which rows: [`crate::split_id`].
pub const METADATA_SPLIT: &str = "weir.split";

/// Versions that exported graphs declare.
pub const OPSET: i64 = 17;
pub const OPSET_ML: i64 = 3;
const IR_VERSION: i64 = 8;
