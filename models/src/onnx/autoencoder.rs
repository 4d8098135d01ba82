//! The autoencoder as an ONNX graph: raw features in, scores out.

use weir_core::profile::Transform;

use super::graph::{GraphBuilder, int, ints};
use super::{INPUT_FEATURES, INPUT_PRESENT, OUTPUT_ERRORS, OUTPUT_SCORE};
use crate::autoencoder::Autoencoder;
use crate::normalise::{CLIP, Normaliser};

/// Number of the type FLOAT.
const FLOAT: i64 = 1;

/// The model file for `net` behind `normaliser`. What makes `score` is what [`super::fuse()`] knows.
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

    // What each part makes of the row, whitened: `[N, width, parts]`.
    let parts = net.parts.len();
    let (weights, bias) = net.arrays();
    let weights = g.floats("weights", &[width, width * parts], &weights);
    let bias = g.floats("bias", &[width * parts], &bias);
    let by_part = g.ints("by_part", &[3], &[-1, width as i64, parts as i64]);
    let axis = g.ints("axis", &[1], &[1]);
    g.node("Gemm", &["normalised", &weights, &bias], "whitened", vec![]);
    g.node("Mul", &["whitened", "whitened"], "squared", vec![]);
    g.node("Reshape", &["squared", &by_part], "squared_by_part", vec![]);
    g.node("ReduceSum", &["squared_by_part", &axis], "distances", vec![int("keepdims", 0)]);
    g.node("ReduceMin", &["distances"], OUTPUT_SCORE, vec![ints("axes", &[1]), int("keepdims", 1)]);

    // What the nearest part expects of each feature, given the others.
    let residuals = g.floats("residuals", &[width * parts, width], &net.residual_weights());
    let mask_shape = g.ints("mask_shape", &[3], &[-1, 1, parts as i64]);
    let flat = g.ints("flat", &[2], &[-1, (width * parts) as i64]);
    g.node("LessOrEqual", &["distances", OUTPUT_SCORE], "is_nearest", vec![]);
    g.node("Cast", &["is_nearest"], "nearest", vec![int("to", FLOAT)]);
    g.node("Reshape", &["nearest", &mask_shape], "nearest_by_part", vec![]);
    g.node("Reshape", &["whitened", &by_part], "whitened_by_part", vec![]);
    g.node("Mul", &["whitened_by_part", "nearest_by_part"], "chosen_by_part", vec![]);
    g.node("Reshape", &["chosen_by_part", &flat], "chosen", vec![]);
    g.node("MatMul", &["chosen", &residuals], "residual", vec![]);
    g.node("Mul", &["residual", "residual"], "residual_squared", vec![]);
    g.node("Mul", &["residual_squared", INPUT_PRESENT], OUTPUT_ERRORS, vec![]);

    let inputs = [(INPUT_FEATURES, width), (INPUT_PRESENT, width)];
    g.finish("weir_autoencoder", &inputs, &[(OUTPUT_SCORE, 1), (OUTPUT_ERRORS, width)])
}
