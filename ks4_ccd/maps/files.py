# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Write the arrays of a map as .npy files with names as in DR1."""

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
        If a file cannot be written, the name of an existing file differs only in the
        case of letters, or the origin of the grid cannot be stored.
    """
    key = cast("MapKey", map_.key)
    if map_.grid.origin != MapGrid(map_.grid.shape, 1).origin:
        msg = (
            f"expected the cells of {map_.name} to begin at the edge of the image, as "
            f"files in the layout of DR1 require, found the origin {map_.grid.origin}"
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
                if array.dtype.names is None:
                    array = np.asarray(array, dtype=float)
                with written_whole(file, overwrite=True) as new, open(new, "wb") as npy:
                    np.save(npy, array, allow_pickle=False)
                paths.append(file)
            else:
                # A file of the map that is replaced would be read as part of this one.
                file.unlink(missing_ok=True)
    except FileWriteError:
        raise
    except OSError as error:
        msg = f"cannot write the map to {folder}: {error}"
        raise KS4Error(msg) from error
    return paths


def _refuse_case(folder: Path, names: list[str]) -> None:
    """Raise an error if names differ from existing ones only in the case of letters."""
    present = {name.casefold(): name for name in os.listdir(folder)}
    for name in names:
        other = present.get(name.casefold(), name)
        if other != name:
            msg = (
                f"{folder} contains {other}, which some file systems do not "
                f"distinguish from {name}: save to another folder"
            )
            raise KS4Error(msg)


def _arrays_of(map_: "CalibrationMap") -> dict[str, np.ndarray | None]:
    """Return the arrays of a map as stored in files."""
    mark = EMPTY_MARKS[map_.family]
    components, error = map_.marked(mark), map_.error
    if map_.count is None:
        # Without counts, the mark of DR1 identifies empty cells: a value equal to the
        # mark is replaced by the next floating-point number.
        ambiguous = map_.valid & is_marked(components.values(), map_.error, mark)
        for array in components.values():
            array[~map_.valid] = mark
            array[ambiguous] = np.nextafter(mark, np.inf)
        error = None if error is None else np.where(map_.valid, error, 0)
    rows = [(axis, edge) for axis in (0, 1) for edge in map_.grid.edges[axis]]
    edges = np.array(rows) if rows else None
    arrays = {**components, "error": error, "count": map_.count, "edges": edges}
    if hasattr(map_, "color_term"):
        term = map_.color_term
        arrays["color_term"] = None if term is None else term.to_array()
    return arrays
