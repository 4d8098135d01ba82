"""Fits models to the rows of `weir model features` and exports them as Weir takes them (see models/README.md)."""

from . import autoencoder, forest
from .rows import Rows, read, save

__all__ = ["Rows", "autoencoder", "forest", "read", "save"]
