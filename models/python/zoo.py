"""Models of many makes behind Weir's input and output contract, with the scores that onnxruntime gives them, for the test.

Usage: zoo.py ROWS DIRECTORY

ROWS holds little-endian float32: number of rows, number of features, the features. Written to DIRECTORY for each NAME: NAME.onnx
(input `features`; output `score`, and `feature_errors` for autoencoders) and NAME.scores. Exits with 3 if a package is missing.
"""

import pathlib
import sys
import warnings

try:
    import numpy
    import onnx
    import onnxruntime
    import skl2onnx
    from onnx import TensorProto, helper, numpy_helper
    from sklearn import ensemble, neural_network
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(3)

FLOAT = numpy.float32


def info(name, columns):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", columns])


def finished(nodes, width, constants=(), outputs=(("score", 1),), ml=3):
    initializers = [v if isinstance(v, TensorProto) else numpy_helper.from_array(*v) for v in constants]
    graph = helper.make_graph(nodes, "zoo", [info("features", width)], [info(*o) for o in outputs], initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", ml)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def converted(model, width):
    """skl2onnx's graph, reading `features`."""
    options = {"zipmap": False} if hasattr(model, "classes_") else None
    opset = {"": 17, "ai.onnx.ml": 3}
    made = skl2onnx.to_onnx(model, numpy.zeros((1, width), FLOAT), target_opset=opset, options=options).graph
    return [helper.make_node("Identity", ["features"], [made.input[0].name]), *made.node], list(made.initializer)


def autoencoder(model, width):
    nodes, constants = converted(model, width)
    # skl2onnx 1.20 gives all outputs of a perceptron as one column.
    constants += [(numpy.asarray([-1, width]), "zoo_shape")]
    nodes += [
        helper.make_node("Reshape", ["variable", "zoo_shape"], ["zoo_same"]),
        helper.make_node("Sub", ["features", "zoo_same"], ["zoo_difference"]),
        helper.make_node("Mul", ["zoo_difference", "zoo_difference"], ["feature_errors"]),
        helper.make_node("ReduceMean", ["feature_errors"], ["score"], axes=[1], keepdims=1),
    ]
    return finished(nodes, width, constants, (("score", 1), ("feature_errors", width)))


def classifier(model, width):
    """The score holds every probability, and the label."""
    nodes, constants = converted(model, width)
    n = len(model.classes_)
    constants += [(numpy.geomspace(1, 100, n, dtype=FLOAT).reshape(n, 1), "zoo_weights"), (numpy.asarray([-1, 1]), "zoo_shape")]
    nodes += [
        helper.make_node("MatMul", ["probabilities", "zoo_weights"], ["zoo_sum"]),
        helper.make_node("Cast", ["label"], ["zoo_label"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["zoo_label", "zoo_shape"], ["zoo_labels"]),
        helper.make_node("Add", ["zoo_sum", "zoo_labels"], ["score"]),
    ]
    return finished(nodes, width, constants)


def regressor(model, width):
    """The score holds every target."""
    nodes, constants = converted(model, width)
    n = model.n_outputs_
    constants += [(numpy.geomspace(1, 10, n, dtype=FLOAT).reshape(n, 1), "zoo_weights")]
    nodes += [helper.make_node("MatMul", ["variable", "zoo_weights"], ["score"])]
    return finished(nodes, width, constants)


def random_tree(random, x, depth, leaf_of):
    """(mode, feature, threshold, nan_true, yes, no) or leaf_of(). Thresholds are values of x, so that equality occurs."""
    if depth == 0 or random.random() < 0.1:
        return leaf_of()
    feature = int(random.integers(x.shape[1]))
    threshold = float(x[random.integers(len(x)), feature])
    below = [random_tree(random, x, depth - 1, leaf_of) for _ in range(2)]
    return (int(random.integers(6)), feature, threshold, int(random.integers(2)), *below)


MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


def version_3(trees):
    """The attributes of a TreeEnsembleRegressor; a leaf is a number."""
    out = {f"nodes_{k}": [] for k in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")}
    out |= {"nodes_missing_value_tracks_true": []}
    out |= {f"target_{k}": [] for k in ("treeids", "nodeids", "ids", "weights")}

    def add(tree, number, node):
        leaf = not isinstance(node, tuple)
        mode, feature, threshold, nan_true, yes, no = (0, 0, 0.0, 0, 0, 0) if leaf else node
        at = len(out["nodes_treeids"])
        row = (number, tree["next"], feature, "LEAF" if leaf else MODES[mode], threshold, 0, 0, nan_true)
        for key, value in zip(list(out)[:8], row):
            out[key].append(value)
        if leaf:
            for key, value in zip(list(out)[8:], (number, tree["next"], 0, node)):
                out[key].append(value)
        mine = tree["next"]
        tree["next"] += 1
        if not leaf:
            out["nodes_truenodeids"][at] = add(tree, number, yes)
            out["nodes_falsenodeids"][at] = add(tree, number, no)
        return mine

    for number, root in enumerate(trees):
        add({"next": 0}, number, root)
    return out | {"n_targets": 1, "post_transform": "NONE"}


def version_5(trees):
    """The attributes of a TreeEnsemble; every tree begins with a comparison."""
    keys = ("featureids", "modes", "splits", "truenodeids", "falsenodeids", "trueleafs", "falseleafs", "missing_value_tracks_true")
    nodes = {k: [] for k in keys}
    weights, roots = [], []

    def add(node):
        mode, feature, threshold, nan_true, *below = node
        at = len(nodes["modes"])
        for key, value in zip(keys, (feature, mode, threshold, 0, 0, 0, 0, nan_true)):
            nodes[key].append(value)
        for side, child in zip(("true", "false"), below):
            leaf = not isinstance(child, tuple)
            nodes[f"{side}leafs"][at] = int(leaf)
            if leaf:
                nodes[f"{side}nodeids"][at] = len(weights)
                weights.append(child)
            else:
                nodes[f"{side}nodeids"][at] = add(child)
        return at

    for root in trees:
        roots.append(add(root))
    modes = numpy_helper.from_array(numpy.asarray(nodes.pop("modes"), numpy.uint8))
    splits = numpy_helper.from_array(numpy.asarray(nodes.pop("splits"), FLOAT))
    return {f"nodes_{k}": v for k, v in nodes.items()} | {
        "nodes_modes": modes,
        "nodes_splits": splits,
        "leaf_weights": numpy_helper.from_array(numpy.asarray(weights, FLOAT)),
        "leaf_targetids": [0] * len(weights),
        "tree_roots": roots,
        "n_targets": 1,
        "post_transform": 0,
    }


def gappy(x):
    """A root that is NaN for about half of the values, as nodes and constants, and what it gives."""
    median = numpy.median(x, axis=0).astype(FLOAT).reshape(1, -1) - FLOAT(1e-3)
    nodes = [
        helper.make_node("Sub", ["features", "zoo_median"], ["zoo_centred"]),
        helper.make_node("Sqrt", ["zoo_centred"], ["zoo_gappy"]),
    ]
    with numpy.errstate(invalid="ignore"):
        seen = numpy.sqrt(x - median)
    return nodes, [(median, "zoo_median")], numpy.nan_to_num(seen, nan=0.5)


def zoo(x):
    random = numpy.random.default_rng(5)
    width = x.shape[1]
    scaled = ((x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)).astype(FLOAT)
    for activation in ("relu", "tanh", "logistic", "identity"):
        net = neural_network.MLPRegressor(hidden_layer_sizes=(8, 3, 8), activation=activation, max_iter=20, random_state=1)
        yield f"autoencoder_{activation}", autoencoder(net.fit(scaled, scaled), width)
    groups = numpy.digitize(scaled.sum(axis=1), numpy.quantile(scaled.sum(axis=1), [0.3, 0.7]))
    for name, labels in (("binary", (groups > 0).astype(int)), ("three", groups * 5 + 1)):
        yield f"forest_{name}", classifier(ensemble.RandomForestClassifier(20, max_depth=6, random_state=1).fit(x, labels), width)
        boosting = ensemble.GradientBoostingClassifier(n_estimators=10, random_state=1).fit(x, labels)
        yield f"boosting_{name}", classifier(boosting, width)
    targets = scaled[:, :3] * [1, 2, 3]
    yield "regressor_three", regressor(ensemble.RandomForestRegressor(20, max_depth=6, random_state=1).fit(x, targets), width)
    deep = ensemble.ExtraTreesRegressor(10, random_state=1).fit(x, random.normal(size=len(x)))
    yield "regressor_deep", regressor(deep, width)

    nodes, constants, seen = gappy(x)
    for aggregate, number in (("AVERAGE", 0), ("SUM", 1), ("MIN", 2), ("MAX", 3)):
        trees = []
        while len(trees) < 30:
            tree = random_tree(random, seen, 7, lambda: float(FLOAT(random.normal())))
            trees += [tree] if isinstance(tree, tuple) else []
        for version, op, attributes in (
            (3, "TreeEnsembleRegressor", version_3(trees) | {"aggregate_function": aggregate, "base_values": [0.25]}),
            (5, "TreeEnsemble", version_5(trees) | {"aggregate_function": number}),
        ):
            made = helper.make_node(op, ["zoo_gappy"], ["score"], domain="ai.onnx.ml", **attributes)
            yield f"{aggregate.lower()}_{version}", finished([*nodes, made], width, constants, ml=version)


def main(rows, directory):
    warnings.simplefilter("ignore")
    directory = pathlib.Path(directory)
    raw = numpy.fromfile(rows, "<f4")
    x = raw[2:].reshape(int(raw[0]), int(raw[1]))
    for name, model in zoo(x):
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, directory / f"{name}.onnx")
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        session.run(["score"], {"features": x})[0].astype("<f4").tofile(directory / f"{name}.scores")


if __name__ == "__main__":
    main(*sys.argv[1:])
