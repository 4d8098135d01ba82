"""An autoencoder of PyTorch for one profile, beside a forest of scikit-learn.

Usage: torch_autoencoder.py ROWS.parquet MODELS

ROWS.parquet is of `weir model features`; MODELS is a folder for `weir model calibrate --models`. Exits with 3 if a package is
missing.
"""

import pathlib
import sys
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

try:
    import numpy
    import onnx
    import torch

    from weir_models import forest, read, save
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(3)


class Autoencoder(torch.nn.Module):
    """Takes raw values and gives `score` and `feature_errors`: normalisation belongs inside."""

    def __init__(self, log1p, fill, mean, std, hidden=24, bottleneck=6):
        super().__init__()
        width = len(fill)
        for name, value in (("fill", fill), ("mean", mean), ("std", std), ("error", numpy.ones(width))):
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.float32).reshape(1, width))
        self.register_buffer("is_log", torch.as_tensor(log1p, dtype=torch.bool).reshape(1, width))
        self.net = torch.nn.Sequential(
            torch.nn.Linear(width, hidden),
            torch.nn.ReLU(),
            torch.nn.Linear(hidden, bottleneck),
            torch.nn.Linear(bottleneck, hidden),
            torch.nn.ReLU(),
            torch.nn.Linear(hidden, width),
        )

    def normalised(self, features, present):
        filled = torch.where(present > 0.5, features, self.fill)
        logged = torch.log(torch.clamp(filled, min=0.0) + 1.0)
        return (torch.where(self.is_log, logged, filled) - self.mean) / self.std

    def squared(self, features, present):
        z = self.normalised(features, present)
        return (torch.clamp(z, -10.0, 10.0) - self.net(torch.clamp(z, -3.0, 3.0))) ** 2 * present

    def forward(self, features, present):
        errors = self.squared(features, present) / self.error
        count = torch.clamp(present.sum(dim=1, keepdim=True), min=1.0)
        return errors.sum(dim=1, keepdim=True) / count, errors


def tensors(rows, part):
    x, present = rows.of(part)
    return torch.from_numpy(x), torch.from_numpy(present.astype(numpy.float32))


def fit(rows, epochs=100, patience=10):
    torch.manual_seed(1)
    torch.set_num_threads(1)
    x, present = rows.of("fit")
    fill = rows.fill(x, present)
    t = rows.transformed(numpy.where(present, x, fill))
    net = Autoencoder(rows.log1p, fill, t.mean(axis=0), numpy.maximum(t.std(axis=0), 0.02))
    fitted, stop = tensors(rows, "fit"), tensors(rows, "early_stop")
    adam = torch.optim.Adam(net.parameters(), lr=2e-3)
    best, since, weights = float("inf"), 0, None
    for _ in range(epochs):
        for batch in torch.randperm(len(fitted[0])).split(128):
            adam.zero_grad()
            net.squared(fitted[0][batch], fitted[1][batch]).mean().backward()
            adam.step()
        with torch.no_grad():
            loss = net.squared(*stop).mean().item()
        if loss < best:
            best, since, weights = loss, 0, {k: v.clone() for k, v in net.state_dict().items()}
        else:
            since += 1
            if since > patience:
                break
    net.load_state_dict(weights)
    with torch.no_grad():
        # Benign errors per feature, on rows that the network was not fitted to.
        mean = net.squared(*stop).sum(dim=0) / torch.clamp(stop[1].sum(dim=0), min=1.0)
        net.error.copy_(torch.clamp(mean, min=0.02**2).reshape(1, -1))
    return net.eval()


def export(net, width, path):
    """One file, with a symbolic number of rows, in an operator set that Weir takes (9 to 21)."""
    example = (torch.zeros(2, width), torch.ones(2, width))
    names = {"input_names": ["features", "present"], "output_names": ["score", "feature_errors"]}
    axes = {name: {0: "N"} for group in names.values() for name in group}
    with warnings.catch_warnings():
        # The exporter that traces is old, needs no further package and does what is needed here.
        warnings.simplefilter("ignore")
        torch.onnx.export(net, example, str(path), opset_version=17, dynamic_axes=axes, dynamo=False, **names)


def main(path, models):
    rows, models = read(path), pathlib.Path(models)
    models.mkdir(parents=True, exist_ok=True)
    encoder = models / f"{rows.profile}.autoencoder.onnx"
    export(fit(rows), len(rows.features), encoder)
    save(onnx.load(encoder), rows, encoder)
    save(forest.to_weir(*forest.fit(rows)), rows, models / f"{rows.profile}.isolation_forest.onnx")
    print(f"{models}: autoencoder of torch {torch.__version__} and a forest for profile {rows.profile}")


if __name__ == "__main__":
    main(*sys.argv[1:])
