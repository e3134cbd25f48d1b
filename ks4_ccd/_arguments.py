# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Checks of arguments that rooms share."""

import math
from pathlib import Path

import numpy as np

from ks4_ccd.exceptions import KS4Error

__all__ = ["as_folder", "finite", "one_of"]

_FILE_SUFFIXES = (".fits", ".fit", ".fts", ".fz", ".gz", ".bz2", ".xz", ".npy", ".npz")


def as_folder(path):
    """Return the `~pathlib.Path` of a folder to write to, else raise `KS4Error`."""
    try:
        folder = Path(path)
    except TypeError as error:
        msg = f"path must be a folder, got {path!r}"
        raise KS4Error(msg) from error
    if folder.suffix.lower() in _FILE_SUFFIXES and not folder.is_dir():
        msg = f"expected the name of a folder for several files, found that of {folder}"
        raise KS4Error(msg)
    return folder


def one_of(name, value, allowed):
    """Return ``value`` if it is one of the allowed ones, else raise `KS4Error`."""
    known = isinstance(value, str | None) and value in allowed
    if not known:
        msg = f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}"
        raise KS4Error(msg)
    return value


def finite(name, value):
    """Return ``value`` as a float if it is one finite number, else raise `KS4Error`."""
    try:
        number = float(value) if np.ndim(value) == 0 else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        msg = f"{name} must be a finite number, got {value!r}"
        raise KS4Error(msg)
    return number
