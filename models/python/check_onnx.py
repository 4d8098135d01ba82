"""Scores the rows that Weir wrote with onnxruntime, after onnx has checked each graph.

Usage: check_onnx.py DIRECTORY

DIRECTORY holds, for each NAME, NAME.autoencoder.onnx, NAME.isolation_forest.onnx and NAME.rows (little-endian float32: number of
rows, number of features, the features, the presence mask). Written beside them: NAME.autoencoder.scores (scores, then errors per
feature) and NAME.isolation_forest.scores. Exits with 3 if a package is missing.
"""

import pathlib
import sys

try:
    import numpy
    import onnx
    import onnxruntime
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(3)


def run(path, features, present):
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = {"features": features, "present": present}
    names = [i.name for i in session.get_inputs()]
    outputs = [o.name for o in session.get_outputs()]
    values = dict(zip(outputs, session.run(None, {n: given[n] for n in names})))
    assert values["score"].shape == (len(features), 1), values["score"].shape
    assert values["score"].dtype == numpy.float32, values["score"].dtype
    ordered = [values["score"]]
    if "feature_errors" in values:
        assert values["feature_errors"].shape == features.shape, values["feature_errors"].shape
        ordered.append(values["feature_errors"])
    return numpy.concatenate([v.ravel() for v in ordered])


def main(directory):
    directory = pathlib.Path(directory)
    checked = 0
    for rows in sorted(directory.glob("*.rows")):
        raw = numpy.fromfile(rows, "<f4")
        n, width = int(raw[0]), int(raw[1])
        features, present = raw[2:].reshape(2, n, width)
        for kind in ("autoencoder", "isolation_forest"):
            model = directory / f"{rows.stem}.{kind}.onnx"
            run(model, features, present).astype("<f4").tofile(model.with_suffix(".scores"))
            checked += 1
    print(f"checked {checked} graphs with onnx {onnx.__version__} and onnxruntime {onnxruntime.__version__}")


if __name__ == "__main__":
    main(*sys.argv[1:])
