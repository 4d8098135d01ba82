//! The autoencoder as an ONNX graph: raw features in, scores out.

use weir_core::profile::Transform;

use super::graph::{GraphBuilder, int};
use super::{INPUT_FEATURES, INPUT_PRESENT, OUTPUT_ERRORS, OUTPUT_SCORE};
use crate::autoencoder::{Autoencoder, INPUT_CLIP};
use crate::normalise::{CLIP, Normaliser};

/// The model file for `net` behind `normaliser`.
pub(crate) fn export(normaliser: &Normaliser, net: &Autoencoder) -> Vec<u8> {
    let width = normaliser.width();
    let row = [1, width];
    let mut g = GraphBuilder::default();

    let zero = g.floats("zero", &[1], &[0.0]);
    let one = g.floats("one", &[1], &[1.0]);
    let is_log: Vec<bool> = normaliser.transforms.iter().map(|t| *t == Transform::Log1p).collect();
    let is_log = g.bools("is_log", &row, &is_log);
    let mean = g.floats("mean", &row, &normaliser.mean);
    let std = g.floats("std", &row, &normaliser.std);
    let low = g.floats("clip_low", &[1], &[-CLIP]);
    let high = g.floats("clip_high", &[1], &[CLIP]);
    g.node("Max", &[INPUT_FEATURES, &zero], "non_negative", vec![]);
    g.node("Add", &["non_negative", &one], "plus_one", vec![]);
    g.node("Log", &["plus_one"], "log1p", vec![]);
    g.node("Where", &[&is_log, "log1p", INPUT_FEATURES], "transformed", vec![]);
    g.node("Sub", &["transformed", &mean], "centred", vec![]);
    g.node("Div", &["centred", &std], "scaled", vec![]);
    g.node("Max", &["scaled", &low], "clipped_low", vec![]);
    g.node("Min", &["clipped_low", &high], "clipped", vec![]);
    g.node("Mul", &["clipped", INPUT_PRESENT], "normalised", vec![]);

    let low = g.floats("input_low", &[1], &[-INPUT_CLIP]);
    let high = g.floats("input_high", &[1], &[INPUT_CLIP]);
    g.node("Max", &["normalised", &low], "input_clipped_low", vec![]);
    let mut at = g.node("Min", &["input_clipped_low", &high], "network_input", vec![]);
    let last = net.layers.len() - 1;
    for (i, layer) in net.layers.iter().enumerate() {
        let (inputs, outputs) = layer.weights.dim();
        let weights: Vec<f32> = layer.weights.iter().copied().collect();
        let weights = g.floats(&format!("weights_{i}"), &[inputs, outputs], &weights);
        let bias = g.floats(&format!("bias_{i}"), &[outputs], &layer.bias.to_vec());
        at = g.node("Gemm", &[&at, &weights, &bias], &format!("layer_{i}"), vec![]);
        if layer.relu {
            debug_assert!(i != last, "the output layer is linear");
            at = g.node("Relu", &[&at], &format!("active_{i}"), vec![]);
        }
    }

    let weight: Vec<f32> = net.error_variance.iter().map(|v| 1.0 / v).collect();
    let weight = g.floats("inverse_variance", &row, &weight);
    let axis = g.ints("columns", &[1], &[1]);
    g.node("Sub", &["normalised", &at], "difference", vec![]);
    g.node("Mul", &["difference", "difference"], "squared", vec![]);
    g.node("Mul", &["squared", &weight], "weighted", vec![]);
    g.node("Mul", &["weighted", INPUT_PRESENT], OUTPUT_ERRORS, vec![]);
    g.node("ReduceSum", &[OUTPUT_ERRORS, &axis], "error_sum", vec![int("keepdims", 1)]);
    g.node("ReduceSum", &[INPUT_PRESENT, &axis], "present_sum", vec![int("keepdims", 1)]);
    g.node("Max", &["present_sum", &one], "present_count", vec![]);
    g.node("Div", &["error_sum", "present_count"], OUTPUT_SCORE, vec![]);

    let inputs = [(INPUT_FEATURES, width), (INPUT_PRESENT, width)];
    g.finish("weir_autoencoder", &inputs, &[(OUTPUT_SCORE, 1), (OUTPUT_ERRORS, width)])
}
