# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Write the arrays of a map as .npy files named like those of DR1."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from ks4_ccd.exceptions import FileWriteError, KS4Error
from ks4_ccd.files.writing import written_whole
from ks4_ccd.maps.arrays import is_marked
from ks4_ccd.maps.grid import MapGrid
from ks4_ccd.maps.key import EMPTY_MARKS, MapKey, parts_of

if TYPE_CHECKING:
    from ks4_ccd.maps.base import CalibrationMap

__all__ = ["write_map"]


def write_map(map_: "CalibrationMap", folder: Path) -> list[Path]:
    """
    Write a map to a folder, which is created if it does not exist.

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
        If a file cannot be written, another map has its name but for the case of
        letters, or the origin of its grid cannot be stored.
    """
    key = cast("MapKey", map_.key)
    if map_.grid.origin != MapGrid(map_.grid.shape, 1).origin:
        msg = (
            f"{map_.name} begins at {map_.grid.origin}: files in the layout of DR1 "
            "cannot record that, their cells begin at the edge of the image"
        )
        raise KS4Error(msg)
    needed, optional = parts_of(key.kind)
    families = needed | optional
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_case(folder, [key.with_family(f).filename for f in families.values()])
        for part, array in _arrays_of(map_).items():
            file = folder / key.with_family(families[part]).filename
            if array is not None:
                with written_whole(file, overwrite=True) as new, open(new, "wb") as npy:
                    np.save(npy, np.asarray(array, dtype=float), allow_pickle=False)
                paths.append(file)
            else:
                # That of a map that this one replaces is not its own.
                file.unlink(missing_ok=True)
    except FileWriteError:
        raise
    except OSError as error:
        msg = f"cannot write the map to {folder}: {error}"
        raise KS4Error(msg) from error
    return paths


def _refuse_case(folder: Path, names: list[str]) -> None:
    """Refuse names that some file systems do not distinguish from existing ones."""
    present = {name.casefold(): name for name in os.listdir(folder)}
    for name in names:
        other = present.get(name.casefold(), name)
        if other != name:
            msg = (
                f"{folder} contains {other}, which some file systems do not "
                f"distinguish from {name}: save to another folder"
            )
            raise KS4Error(msg)


def _arrays_of(map_):
    mark = EMPTY_MARKS[map_.family]
    arrays, error = map_.marked(mark), map_.error
    if map_.count is None:
        # Without counts, the reader takes the mark of DR1 for an empty cell: a
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
