//! The isolation forest as an ONNX graph: one tree ensemble that sums path lengths, then the score.

use tract_onnx::pb::ModelProto;

use super::graph::{GraphBuilder, floats, int, ints, string, strings};
use super::{INPUT_FEATURES, INPUT_PRESENT, OUTPUT_SCORE};
use crate::isolation::IsolationForest;
use crate::normalise::Normaliser;
use crate::trees::{Forest, TreeError, arrays_of_node};

/// Raw features, missing ones replaced. A tree ensemble that reads this tensor (or the raw features) directly can explain
/// itself by paths.
pub(crate) const FILLED: &str = "filled";

/// The model file. Splits compare raw features, so that no rounding of a logarithm decides a branch.
pub(crate) fn export(normaliser: &Normaliser, forest: &IsolationForest) -> Vec<u8> {
    let width = normaliser.width();
    let arrays = forest.arrays();
    let mut g = GraphBuilder::default();
    let half = g.floats("half", &[1], &[0.5]);
    let fill = g.floats("fill", &[1, width], &normaliser.fill);
    g.node("Greater", &[INPUT_PRESENT, &half], "is_present", vec![]);
    g.node("Where", &["is_present", INPUT_FEATURES, &fill], FILLED, vec![]);
    let attributes = vec![
        string("aggregate_function", "SUM"),
        int("n_targets", 1),
        ints("nodes_falsenodeids", &arrays.nodes_falsenodeids),
        ints("nodes_featureids", &arrays.nodes_featureids),
        strings("nodes_modes", arrays.nodes_modes.iter().map(|m| m.name())),
        ints("nodes_nodeids", &arrays.nodes_nodeids),
        ints("nodes_treeids", &arrays.nodes_treeids),
        ints("nodes_truenodeids", &arrays.nodes_truenodeids),
        floats("nodes_values", &arrays.nodes_values),
        string("post_transform", "NONE"),
        ints("target_ids", &vec![0; arrays.target_nodeids.len()]),
        ints("target_nodeids", &arrays.target_nodeids),
        ints("target_treeids", &arrays.target_treeids),
        floats("target_weights", &arrays.target_weights),
    ];
    g.node_of("ai.onnx.ml", "TreeEnsembleRegressor", &[FILLED], "path_lengths", attributes);
    let scale = g.floats("scale", &[1], &[forest.exponent_scale()]);
    let two = g.floats("two", &[1], &[2.0]);
    g.node("Mul", &["path_lengths", &scale], "exponent", vec![]);
    g.node("Pow", &[&two, "exponent"], OUTPUT_SCORE, vec![]);
    let inputs = [(INPUT_FEATURES, width), (INPUT_PRESENT, width)];
    g.finish("weir_isolation_forest", &inputs, &[(OUTPUT_SCORE, 1)])
}

/// The tree ensemble of a model whose paths are about the features themselves; `None` if there is none.
pub(crate) fn path_forest(model: &ModelProto) -> Result<Option<Forest>, TreeError> {
    let nodes = model.graph.as_ref().map_or(&[][..], |g| &g.node);
    let mut ensembles =
        nodes.iter().filter(|n| ["TreeEnsembleRegressor", "TreeEnsemble"].contains(&n.op_type.as_str()));
    match (ensembles.next(), ensembles.next()) {
        (Some(n), None) if n.input.len() == 1 && [INPUT_FEATURES, FILLED].contains(&n.input[0].as_str()) => {
            Ok(Some(arrays_of_node(n)?.build()?).filter(|f| f.targets() == 1))
        }
        _ => Ok(None),
    }
}
