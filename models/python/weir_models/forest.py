"""Isolation forests of scikit-learn as one tree ensemble that Weir evaluates fast and explains by its paths."""

import numpy
from onnx import helper
from sklearn.ensemble import IsolationForest

from .graph import constant, filled, matrix, model

EULER = 0.5772156649015329


def fit(rows, seed=1, trees=100, samples=256):
    """Fits a forest to the part `fit`, in transformed units. Gives what [`to_weir`] takes."""
    x, present = rows.of("fit")
    fill = rows.fill(x, present)
    forest = IsolationForest(n_estimators=trees, max_samples=min(samples, len(x)), random_state=seed, n_jobs=1)
    forest.fit(rows.transformed(numpy.where(present, x, fill)).astype(numpy.float32))
    return forest, fill, rows.log1p


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


def ensemble(forest, log1p=None):
    """The attributes of one TreeEnsembleRegressor that sums depth + c(n) over all trees. Thresholds of features marked in
    `log1p` were drawn for ln(1 + x), and are given for x."""
    nodes = {k: [] for k in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")}
    target = {k: [] for k in ("treeids", "nodeids", "ids", "weights")}
    for number, (estimator, columns) in enumerate(zip(forest.estimators_, forest.estimators_features_)):
        tree = estimator.tree_
        depth = numpy.zeros(tree.node_count, dtype=int)
        thresholds = tree.threshold
        if log1p is not None:
            inner = tree.children_left >= 0
            logged = inner & log1p[columns[numpy.where(inner, tree.feature, 0)]]
            thresholds = numpy.where(logged, numpy.expm1(numpy.where(logged, thresholds, 0)), thresholds)
        thresholds = round_down(thresholds)
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


def to_weir(forest, fill, log1p=None):
    """The ONNX model of a fitted forest, where `fill` holds, per feature, what stands in for a missing value. The score equals
    `-forest.score_samples(x)`, of ln(1 + x) for features marked in `log1p`."""
    width = len(fill)
    scale = -1 / (len(forest.estimators_) * mean_path(forest.max_samples_))
    constants = [constant("half", [0.5]), constant("fill", [fill]), constant("scale", [scale]), constant("two", [2.0])]
    trees = ensemble(forest, log1p)
    nodes = [
        *filled(),
        helper.make_node("TreeEnsembleRegressor", ["filled"], ["paths"], domain="ai.onnx.ml", **trees),
        helper.make_node("Mul", ["paths", "scale"], ["exponent"]),
        helper.make_node("Pow", ["two", "exponent"], ["score"]),
    ]
    inputs = [matrix("features", width), matrix("present", width)]
    return model(helper.make_graph(nodes, "isolation_forest", inputs, [matrix("score", 1)], constants))
