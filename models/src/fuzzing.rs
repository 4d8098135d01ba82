//! What reads bundles, for `cargo xtask fuzz`: up to where tract begins, whose panics are caught or end a child process.

use prost::Message as _;
use tract_onnx::pb::ModelProto;

use crate::onnx::{OUTPUT_SCORE, fuse, only, parse};
use crate::trees::arrays_of_node;

/// A model file for `width` features: checked, and its tree ensembles built and evaluated.
pub fn model(bytes: &[u8], width: usize) {
    if let Ok(graph) = parse(bytes, width, &[OUTPUT_SCORE]) {
        let mut wanted = only(&graph.proto, &[OUTPUT_SCORE]);
        fuse(&mut wanted);
    }
    // Nodes of graphs that are refused as a whole are as good.
    let Ok(ModelProto { graph: Some(graph), .. }) = ModelProto::decode(bytes) else { return };
    for node in graph.node.iter().filter(|n| n.op_type.starts_with("TreeEnsemble")) {
        let Ok(forest) = arrays_of_node(node).and_then(|arrays| arrays.build()) else { continue };
        let width = forest.width().max(1);
        for rows in [1, 70] {
            let scores = forest.predict(&vec![0.5; rows * width], width);
            let scores = scores.expect("what was built can be evaluated");
            assert_eq!(scores.len(), rows * forest.targets(), "so many scores as rows and targets");
        }
    }
}
