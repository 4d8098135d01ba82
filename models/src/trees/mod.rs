//! Tree ensembles: a validated, flattened, batched evaluator, and the ONNX operators made of it.
//!
//! tract has no `TreeEnsembleRegressor` and no `TreeEnsemble`, and its `TreeEnsembleClassifier` is slow and can be made to hang. Those here trust nothing that a model file says: [`TreeArrays::build`] checks every
//! index, that each tree is a tree, and the sizes, before a [`Forest`] exists; a `Forest` evaluates in bounded time.

mod attributes;
mod build;
mod classify;
mod flat;
mod labels;
mod op;
mod ranked;
mod simd;

pub(crate) use attributes::arrays_of_node;
pub use build::{Aggregate, Mode, TreeArrays, TreeError};
pub use flat::{Forest, Step};
pub(crate) use op::register;
pub use simd::Simd;

/// Most trees of an ensemble.
pub const MAX_TREES: usize = 10_000;
/// Most nodes of a tree; child indices are kept in 16 bits.
pub const MAX_TREE_NODES: usize = 1 << 16;
/// Most nodes of an ensemble.
pub const MAX_NODES: usize = 1 << 22;
/// Deepest tree: evaluation takes this many steps per tree and row at most.
pub const MAX_DEPTH: usize = 128;
/// Largest feature index plus one.
pub const MAX_FEATURES: usize = 4096;
/// Most values per row.
pub const MAX_TARGETS: usize = 1024;
/// Most leaf values: leaves times targets.
pub const MAX_VALUES: usize = 1 << 24;
