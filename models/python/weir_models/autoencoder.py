"""Perceptrons of scikit-learn as autoencoders, normalisation and all in the graph."""

import warnings
from dataclasses import dataclass

import numpy
import skl2onnx
from onnx import helper
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from .graph import constant, filled, matrix, model

# Values beyond this many standard deviations count as so many; inputs of the network as so many.
CLIP, CLIP_INPUT = 10.0, 3.0
# Of a standard deviation and of an error: a column that never varied must not make the first other value infinitely strange.
FLOOR = 0.02


@dataclass(frozen=True)
class Fitted:
    net: MLPRegressor
    fill: numpy.ndarray
    """What stands in for a missing value, raw [F]."""
    log1p: numpy.ndarray
    mean: numpy.ndarray
    """In transformed units [F]."""
    std: numpy.ndarray
    error: numpy.ndarray
    """Mean squared error of each feature on benign rows that the network did not see [F]."""


def fit(rows, seed=1, hidden=(24, 6, 24), epochs=200):
    """Fits a perceptron that gives back its input: to the part `fit`, and its errors by the part `early_stop`."""
    x, present = rows.of("fit")
    fill = rows.fill(x, present)
    t = rows.transformed(numpy.where(present, x, fill))
    mean, std = t.mean(axis=0), numpy.maximum(t.std(axis=0), FLOOR)
    z = numpy.clip((t - mean) / std, -CLIP, CLIP)
    net = MLPRegressor(hidden_layer_sizes=hidden, max_iter=epochs, random_state=seed, early_stopping=len(z) >= 100, n_iter_no_change=10)
    with warnings.catch_warnings():
        # So many epochs were asked for.
        warnings.simplefilter("ignore", ConvergenceWarning)
        net.fit(numpy.clip(z, -CLIP_INPUT, CLIP_INPUT), z)
    x, present = rows.of("early_stop")
    z = numpy.clip((rows.transformed(numpy.where(present, x, fill)) - mean) / std, -CLIP, CLIP)
    squared = (z - net.predict(numpy.clip(z, -CLIP_INPUT, CLIP_INPUT)).reshape(z.shape)) ** 2
    error = (squared * present).sum(axis=0) / numpy.maximum(present.sum(axis=0), 1)
    return Fitted(net, fill, rows.log1p, mean, std, numpy.maximum(error, FLOOR**2))


def to_weir(fitted):
    """The ONNX model: `features` and `present` in, `score` and `feature_errors` out."""
    width = len(fitted.fill)
    opset = {"": 17, "ai.onnx.ml": 3}
    net = skl2onnx.to_onnx(fitted.net, numpy.zeros((1, width), numpy.float32), target_opset=opset).graph
    constants = [
        constant("half", [0.5]),
        constant("fill", [fitted.fill]),
        constant("is_log", [fitted.log1p], bool),
        constant("zero", [0.0]),
        constant("one", [1.0]),
        constant("mean", [fitted.mean]),
        constant("std", [fitted.std]),
        constant("weights", [1 / fitted.error]),
        constant("columns", [1], numpy.int64),
        constant("shape", [-1, width], numpy.int64),
        *(constant(n, v) for n, v in (("low", -CLIP), ("high", CLIP), ("low_in", -CLIP_INPUT), ("high_in", CLIP_INPUT))),
    ]
    nodes = [
        *filled(),
        helper.make_node("Max", ["filled", "zero"], ["not_negative"]),
        helper.make_node("Add", ["not_negative", "one"], ["plus_one"]),
        helper.make_node("Log", ["plus_one"], ["logged"]),
        helper.make_node("Where", ["is_log", "logged", "filled"], ["transformed"]),
        helper.make_node("Sub", ["transformed", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "low", "high"], ["z"]),
        helper.make_node("Clip", ["scaled", "low_in", "high_in"], ["z_in"]),
        helper.make_node("Identity", ["z_in"], [net.input[0].name]),
        *net.node,
        # skl2onnx gives all outputs of a perceptron as one column.
        helper.make_node("Reshape", [net.output[0].name, "shape"], ["same"]),
        helper.make_node("Sub", ["z", "same"], ["difference"]),
        helper.make_node("Mul", ["difference", "difference"], ["squared"]),
        helper.make_node("Mul", ["squared", "weights"], ["weighted"]),
        helper.make_node("Cast", ["is_present"], ["ones"], to=1),
        helper.make_node("Mul", ["weighted", "ones"], ["feature_errors"]),
        helper.make_node("ReduceSum", ["feature_errors", "columns"], ["sum"], keepdims=1),
        helper.make_node("ReduceSum", ["ones", "columns"], ["count"], keepdims=1),
        helper.make_node("Max", ["count", "one"], ["at_least_one"]),
        helper.make_node("Div", ["sum", "at_least_one"], ["score"]),
    ]
    inputs = [matrix("features", width), matrix("present", width)]
    outputs = [matrix("score", 1), matrix("feature_errors", width)]
    return model(helper.make_graph(nodes, "autoencoder", inputs, outputs, [*constants, *net.initializer]))
