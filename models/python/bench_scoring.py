"""The other side of `cargo xtask bench scoring`: onnxruntime and scikit-learn on one thread.

bench_scoring.py make DIRECTORY: forests of 100 trees, 256 samples and 32 features, of rows like those of flows and of uniform
noise: NAME.onnx, NAME.rows, NAME.scores (those of onnxruntime) and NAME.pickle.
bench_scoring.py run DIRECTORY: measures them, and the autoencoders of the bundle there. Prints JSON, one measurement per line, in
microseconds per row, the best of many. Exits with 3 if a package is missing.
"""

import itertools
import json
import pathlib
import sys
import time

try:
    import joblib
    import numpy
    import onnx
    import onnxruntime
    from sklearn.ensemble import IsolationForest
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(3)

from weir_models.forest import to_weir

WIDTH = 32
ROWS = 4096
SPEND = 0.4


def make(directory):
    random = numpy.random.default_rng(1)
    normal = random.normal(size=(4 * ROWS, WIDTH)) + 0.5 * random.normal(size=(4 * ROWS, 1))
    for name, x in (("flows", numpy.exp(1.5 * normal)), ("uniform", random.random((4 * ROWS, WIDTH)))):
        x = x.astype(numpy.float32)
        forest = IsolationForest(n_estimators=100, max_samples=256, random_state=1, n_jobs=1).fit(x)
        joblib.dump(forest, directory / f"{name}.pickle")
        onnx.save(to_weir(forest, numpy.zeros(WIDTH)), directory / f"{name}.onnx")
        x = x[:ROWS]
        numpy.concatenate([[len(x), WIDTH], x.ravel()]).astype("<f4").tofile(directory / f"{name}.rows")
        scores = session(directory / f"{name}.onnx").run(["score"], {"features": x, "present": numpy.ones_like(x)})[0]
        scores.astype("<f4").tofile(directory / f"{name}.scores")


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def best(f):
    least, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < SPEND:
        start = time.perf_counter()
        f()
        least = min(least, time.perf_counter() - start)
    return least


def say(tool, what, batch, seconds):
    print(json.dumps({"tool": tool, "what": what, "batch": batch, "us": seconds * 1e6 / batch}), flush=True)


def run(directory):
    for name in ("flows", "uniform"):
        raw = numpy.fromfile(directory / f"{name}.rows", "<f4")
        rows = raw[2:].reshape(int(raw[0]), int(raw[1]))
        forest, graph = joblib.load(directory / f"{name}.pickle"), session(directory / f"{name}.onnx")
        for batch in (64, 4096):
            # Other rows each time: a branch predictor learns the way of few rows by heart.
            windows = itertools.cycle(rows.reshape(-1, batch, WIDTH))
            present = numpy.ones_like(rows[:batch])
            run_graph = lambda: graph.run(["score"], {"features": next(windows), "present": present})
            say("onnxruntime", f"forest, {name}", batch, best(run_graph))
            say("scikit-learn", f"forest, {name}", batch, best(lambda: forest.score_samples(next(windows))))
    for profile in ("core", "full"):
        raw = numpy.fromfile(directory / f"{profile}.rows", "<f4")
        features, present = raw[2:].reshape(2, int(raw[0]), int(raw[1]))
        whole = directory / "bundle" / f"{profile}.autoencoder.onnx"
        # onnxruntime computes every output of a graph, wanted or not.
        score = directory / f"{profile}.score.onnx"
        onnx.utils.extract_model(str(whole), str(score), ["features", "present"], ["score"])
        for what, graph in (("autoencoder", session(score)), ("autoencoder with errors", session(whole))):
            for batch in (1, 64, 1024):
                given = {"features": features[:batch], "present": present[:batch]}
                say("onnxruntime", f"{what}, {profile}", batch, best(lambda: graph.run(None, given)))


if __name__ == "__main__":
    {"make": make, "run": run}[sys.argv[1]](pathlib.Path(sys.argv[2]))
