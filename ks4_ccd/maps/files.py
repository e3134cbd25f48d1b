# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Write the arrays of a map as .npy files named like those of the release."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast
from uuid import uuid4

import numpy as np

from ks4_ccd.exceptions import KS4Error
from ks4_ccd.maps.arrays import is_marked
from ks4_ccd.maps.key import EMPTY_MARKS, MapKey, parts_of

if TYPE_CHECKING:
    from ks4_ccd.maps.base import CalibrationMap

__all__ = ["write_map"]


def write_map(map_: "CalibrationMap", folder: Path) -> list[Path]:
    """
    Write a map to a folder, which is made if it does not exist.

    Parameters
    ----------
    map_ : `~ks4_ccd.ZeroPointMap` or any other calibration map
        A map with a key.
    folder : `~pathlib.Path`

    Returns
    -------
    paths : list of `~pathlib.Path`

    Raises
    ------
    KS4Error
        If a file cannot be written.
    """
    key = cast("MapKey", map_.key)
    needed, optional = parts_of(key.kind)
    families = needed | optional
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for part, array in _arrays_of(map_).items():
            if part not in families:
                continue
            file = folder / key.with_family(families[part]).filename
            if array is not None:
                paths.append(_write_npy(file, array))
            else:
                # That of a map that this one replaces is not its own.
                file.unlink(missing_ok=True)
    except OSError as error:
        msg = f"cannot write the map to {folder}: {error}"
        raise KS4Error(msg) from error
    return paths


def _arrays_of(map_):
    mark = EMPTY_MARKS[map_.family]
    arrays, error = map_.marked(mark), map_.error
    if map_.count is None:
        # Without counts, the reader takes the release's mark for an empty cell: a
        # value that happens to be the mark is written as the next number.
        taken = map_.valid & is_marked(arrays.values(), map_.error, mark)
        for name, array in arrays.items():
            array[~map_.valid] = mark
            array[taken] = np.nextafter(mark, np.inf)
            arrays[name] = array
        error = None if error is None else np.where(map_.valid, error, 0)
    edges = map_.grid.edges
    borders = [(axis, border) for axis in (0, 1) for border in edges[axis]]
    edges = np.array(borders) if borders else None
    return arrays | {"error": error, "count": map_.count, "edges": edges}


def _write_npy(path, array):
    """Write an array to a file that appears whole or not at all."""
    partial = path.with_name(f".{path.name}.{uuid4().hex[:12]}.part")
    try:
        with open(partial, "wb") as file:
            np.save(file, np.asarray(array, dtype=float), allow_pickle=False)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path
