# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Checks of arguments that rooms share."""

import math
from pathlib import Path

import numpy as np

from ks4_ccd.exceptions import KS4Error, MapFormatError

__all__ = ["as_folder", "cell_array", "finite", "one_of"]

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


def cell_array(part, array, shape=None):
    """Return ``array`` as a read-only float64 copy, or say what is wrong."""
    if np.ma.is_masked(array):
        msg = f"{part} is masked in places: mark empty cells by a star count of 0"
        raise MapFormatError(msg)
    if hasattr(array, "unit"):
        msg = (
            f"{part} must be plain numbers in the unit of the map, got a quantity in "
            f"{array.unit}: convert it with to_value"
        )
        raise MapFormatError(msg)
    try:
        array = np.asarray(array)
    except ValueError as error:
        msg = f"{part} must be a 2D array of cells: {error}"
        raise MapFormatError(msg) from error
    if array.dtype.kind not in "iuf":
        msg = f"{part} must be real numbers, got dtype {array.dtype}"
        raise MapFormatError(msg)
    if array.ndim != 2 or array.size == 0:
        msg = f"{part} must be a 2D array of cells, got shape {array.shape}"
        raise MapFormatError(msg)
    if shape is not None and array.shape != shape:
        msg = f"{part} must have the shape {shape} of the grid, got {array.shape}"
        raise MapFormatError(msg)
    bad = ~np.isfinite(array)
    unsigned = part in ("error", "count")
    if unsigned:
        bad |= array < 0
    if bad.any():
        i, j = np.argwhere(bad)[0]
        msg = (
            f"{part} must be finite{' and >= 0' if unsigned else ''}, got "
            f"{array[i, j]} in cell [{i}, {j}] and {np.count_nonzero(bad)} such cells "
            "in all (an empty cell is marked by a star count of 0)"
        )
        raise MapFormatError(msg)
    array = array.astype(float)
    array.flags.writeable = False
    return array
