"""weir-models INPUT... --out BUNDLE: from flows to a bundle that Weir loads.

Has `weir` compute the features of the inputs, fits an isolation forest and an autoencoder to each profile that they give, and has
`weir` calibrate them. Inputs are whatever `weir flows` reads, its own Parquet above all.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

from . import autoencoder, forest, read, save


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="weir-models", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("input", nargs="+", metavar="INPUT", help="flows of benign traffic, as Parquet of `weir flows` or else")
    parser.add_argument("--out", required=True, metavar="BUNDLE", help="folder of the new bundle")
    parser.add_argument("--profile", default="all", help="core, full, source or all (the default)")
    parser.add_argument("--seed", type=int, default=1, help="the same inputs and seed deal the rows out in the same way")
    parser.add_argument("--window", default="10s", help="`window` of the agent that is to use the bundle")
    parser.add_argument("--weir", default="weir", metavar="PATH", help="the program")
    asked = parser.parse_args(arguments)
    same = [*asked.input, "--seed", str(asked.seed), "--window", asked.window]
    with tempfile.TemporaryDirectory() as folder:
        rows, models = pathlib.Path(folder) / "rows", pathlib.Path(folder) / "models"
        run(asked.weir, "model", "features", *same, "--profile", asked.profile, "--out", rows)
        models.mkdir()
        for path in sorted(rows.glob("*.parquet")):
            profile = read(path)
            print(f"fitting {profile.profile}: {len(profile.of('fit')[0])} distinct rows", file=sys.stderr)
            fitted = autoencoder.fit(profile, seed=asked.seed)
            save(autoencoder.to_weir(fitted), profile, models / f"{profile.profile}.autoencoder.onnx")
            trees = forest.fit(profile, seed=asked.seed)
            save(forest.to_weir(*trees), profile, models / f"{profile.profile}.isolation_forest.onnx")
        run(asked.weir, "model", "calibrate", *same, "--models", models, "--out", asked.out)


def run(*words):
    """Runs it; a failure ends this program with its status, since it has said why."""
    status = subprocess.run([str(w) for w in words], check=False).returncode
    if status != 0:
        sys.exit(status)


if __name__ == "__main__":
    main()
