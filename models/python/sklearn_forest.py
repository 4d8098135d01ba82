"""Isolation forests of scikit-learn for Weir, for the test: ours (weir_models.forest) and skl2onnx's own export.

sklearn_forest.py ROWS DIRECTORY fits a forest to the float32 rows in ROWS (number of rows, number of features, the features) and
writes `ours.onnx`, `skl2onnx.onnx` (skl2onnx's own export, renamed to the contract) and `expected.scores`. Exits with 3 if a
package is missing.
"""

import pathlib
import sys

try:
    import numpy
    import onnx
    import skl2onnx
    from onnx import helper
    from sklearn.ensemble import IsolationForest

    from weir_models.forest import to_weir
    from weir_models.graph import constant, matrix, model
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(3)


def from_skl2onnx(forest, width):
    """skl2onnx's export behind the names of the contract: its decision function is offset_ - our score, up to sign."""
    opset = {"": 17, "ai.onnx.ml": 3}
    made = skl2onnx.to_onnx(forest, numpy.zeros((1, width), numpy.float32), target_opset=opset).graph
    offset = constant("weir_offset", [forest.offset_])
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
