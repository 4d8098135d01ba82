"""Rows of features as `weir model features` writes them."""

from dataclasses import dataclass

import numpy
import onnx
import pyarrow.parquet

# Columns beside the features.
ABOUT = ("part", "role", "time")


@dataclass(frozen=True)
class Rows:
    """Benign rows of one profile, in the order of the file."""

    profile: str
    features: list[str]
    """Names, in the order in which models take them."""
    log1p: numpy.ndarray
    """bool [F]: features that models should see as ln(1 + x)."""
    x: numpy.ndarray
    """float32 [N, F], raw; 0 where missing."""
    present: numpy.ndarray
    """bool [N, F]"""
    part: numpy.ndarray
    """str [N]: fit, early_stop, calibration_1, calibration_2 or thresholds. Models must see the first two alone."""
    split: str
    """The name of this division; models carry it."""

    def of(self, part):
        """Rows and presence of a part; those of `fit` once each, without values that come again in a later part, unless
        less than half would be left."""
        rows = numpy.flatnonzero(self.part == part)
        if part == "fit":
            keys = self._keys()
            _, first = numpy.unique(keys[rows], return_index=True)
            rows = rows[numpy.sort(first)]
            later = set(keys[(self.part != "fit") & (self.part != "thresholds")])
            new = numpy.asarray([i for i in rows if keys[i] not in later], dtype=int)
            rows = new if 2 * len(new) >= len(rows) else rows
        return self.x[rows], self.present[rows]

    def _keys(self):
        rows = numpy.ascontiguousarray(numpy.hstack([self.x, self.present.astype(numpy.float32)]))
        return rows.view(numpy.dtype((numpy.void, rows.shape[1] * rows.itemsize))).ravel().astype(object)

    def transformed(self, x):
        return numpy.where(self.log1p, numpy.log1p(numpy.maximum(x, 0)), x)

    def fill(self, x, present):
        """What stands in for a missing value: the mean of those that are there, in transformed units; float32 [F], raw."""
        t = self.transformed(x)
        count = numpy.maximum(present.sum(axis=0), 1)
        mean = numpy.where(present, t, 0).sum(axis=0) / count
        return numpy.where(self.log1p, numpy.expm1(mean), mean).astype(numpy.float32)


def read(path):
    """The rows of NAME.parquet."""
    table = pyarrow.parquet.read_table(path)
    about = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    if "weir.split" not in about:
        raise ValueError(f"{path} is not of `weir model features`: its metadata has no `weir.split`")
    names = [n for n in table.column_names if n not in ABOUT]
    columns = [table.column(n).to_numpy(zero_copy_only=False).astype(numpy.float32) for n in names]
    x = numpy.column_stack(columns)
    present = ~numpy.isnan(x)
    return Rows(
        profile=about["weir.profile"],
        features=names,
        log1p=numpy.asarray([t == "log1p" for t in about["weir.transforms"].split(",")]),
        x=numpy.where(present, x, numpy.float32(0)),
        present=present,
        part=numpy.asarray(table.column("part").to_pylist()),
        split=about["weir.split"],
    )


def save(model, rows, path):
    """Checks an ONNX model, notes which rows it was fitted to, and writes it."""
    properties = {p.key: p.value for p in model.metadata_props} | {"weir.split": rows.split}
    onnx.helper.set_model_props(model, properties)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
