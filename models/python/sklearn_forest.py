"""Brings a scikit-learn isolation forest to Weir's input and output contract (see models/README.md).

As a library: `to_weir(forest, fill)` gives the ONNX model of a fitted `sklearn.ensemble.IsolationForest`, where `fill` holds, per
feature, what stands in for a missing value. The score equals `-forest.score_samples(x)`.

As a program, for the test: sklearn_forest.py ROWS DIRECTORY fits a forest to the float32 rows in ROWS (number of rows, number of
features, the features) and writes `ours.onnx`, `skl2onnx.onnx` (skl2onnx's own export, renamed to the contract) and
`expected.scores`. Exits with 3 if a package is missing.
"""

import pathlib
import sys

try:
    import numpy
    import onnx
    import skl2onnx
    from onnx import TensorProto, helper, numpy_helper
    from sklearn.ensemble import IsolationForest
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(3)

EULER = 0.5772156649015329


def mean_path(n):
    """c(n): mean path length of an unsuccessful search among n points."""
    n = numpy.asarray(n, dtype=float)
    m = numpy.maximum(n, 3)
    c = 2 * (numpy.log(m - 1) + EULER) - 2 * (m - 1) / m
    return numpy.where(n <= 1, 0.0, numpy.where(n == 2, 1.0, c))


def round_down(thresholds):
    """The largest float32 at most each threshold: x <= t stays the same for every float32 x."""
    t = thresholds.astype(numpy.float32)
    return numpy.where(t > thresholds, numpy.nextafter(t, numpy.float32(-numpy.inf)), t)


def ensemble(forest):
    """The attributes of one TreeEnsembleRegressor that sums depth + c(n) over all trees."""
    nodes = {k: [] for k in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")}
    target = {k: [] for k in ("treeids", "nodeids", "ids", "weights")}
    for number, (estimator, columns) in enumerate(zip(forest.estimators_, forest.estimators_features_)):
        tree = estimator.tree_
        depth = numpy.zeros(tree.node_count, dtype=int)
        thresholds = round_down(tree.threshold)
        paths = mean_path(tree.n_node_samples)
        for i in range(tree.node_count):
            leaf = tree.children_left[i] < 0
            if leaf:
                for key, value in zip(target, (number, i, 0, depth[i] + paths[i])):
                    target[key].append(value)
            else:
                depth[[tree.children_left[i], tree.children_right[i]]] = depth[i] + 1
            row = (
                number,
                i,
                0 if leaf else columns[tree.feature[i]],
                "LEAF" if leaf else "BRANCH_LEQ",
                0.0 if leaf else thresholds[i],
                0 if leaf else tree.children_left[i],
                0 if leaf else tree.children_right[i],
            )
            for key, value in zip(nodes, row):
                nodes[key].append(value)
    plain = lambda v: v if isinstance(v, (str, float)) else v.item() if hasattr(v, "item") else v
    attributes = {f"nodes_{k}": [plain(x) for x in v] for k, v in nodes.items()}
    attributes |= {f"target_{k}": [plain(x) for x in v] for k, v in target.items()}
    attributes["nodes_values"] = [float(v) for v in attributes["nodes_values"]]
    return attributes | {"n_targets": 1, "aggregate_function": "SUM", "post_transform": "NONE"}


def matrix(name, columns):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", columns])


def model(graph):
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def to_weir(forest, fill):
    width = len(fill)
    scale = -1 / (len(forest.estimators_) * mean_path(forest.max_samples_))
    constants = {"half": [0.5], "fill": [fill], "scale": [scale], "two": [2.0]}
    initializers = [numpy_helper.from_array(numpy.asarray(v, dtype=numpy.float32), k) for k, v in constants.items()]
    nodes = [
        helper.make_node("Greater", ["present", "half"], ["is_present"]),
        helper.make_node("Where", ["is_present", "features", "fill"], ["filled"]),
        helper.make_node("TreeEnsembleRegressor", ["filled"], ["paths"], domain="ai.onnx.ml", **ensemble(forest)),
        helper.make_node("Mul", ["paths", "scale"], ["exponent"]),
        helper.make_node("Pow", ["two", "exponent"], ["score"]),
    ]
    inputs = [matrix("features", width), matrix("present", width)]
    return model(helper.make_graph(nodes, "isolation_forest", inputs, [matrix("score", 1)], initializers))


def from_skl2onnx(forest, width):
    """skl2onnx's export behind the names of the contract: its decision function is offset_ - our score, up to sign."""
    opset = {"": 17, "ai.onnx.ml": 3}
    made = skl2onnx.to_onnx(forest, numpy.zeros((1, width), numpy.float32), target_opset=opset).graph
    offset = numpy_helper.from_array(numpy.asarray([forest.offset_], dtype=numpy.float32), "weir_offset")
    nodes = [helper.make_node("Identity", ["features"], [made.input[0].name]), *made.node]
    nodes += [
        helper.make_node("Add", ["scores", "weir_offset"], ["weir_samples"]),
        helper.make_node("Neg", ["weir_samples"], ["score"]),
    ]
    outputs = [matrix("score", 1)]
    return model(helper.make_graph(nodes, "skl2onnx", [matrix("features", width)], outputs, [*made.initializer, offset]))


def main(rows, directory):
    directory = pathlib.Path(directory)
    raw = numpy.fromfile(rows, "<f4")
    x = raw[2:].reshape(int(raw[0]), int(raw[1]))
    forest = IsolationForest(n_estimators=100, random_state=1).fit(x)
    for name, made in (("ours", to_weir(forest, numpy.median(x, axis=0))), ("skl2onnx", from_skl2onnx(forest, x.shape[1]))):
        onnx.checker.check_model(made, full_check=True)
        onnx.save(made, directory / f"{name}.onnx")
    (-forest.score_samples(x)).astype("<f4").tofile(directory / "expected.scores")


if __name__ == "__main__":
    main(*sys.argv[1:])
