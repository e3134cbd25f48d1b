# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Read a checked array from the bytes of a map's .npy file.

Nothing is unpickled, and memory is never allocated according to the header alone.
"""

import io
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from ks4_ccd.exceptions import MapFormatError
from ks4_ccd.library._sources import MAX_ARRAY_BYTES, Entry, Source, printable
from ks4_ccd.maps.arrays import is_marked
from ks4_ccd.maps.color import ColorTerm
from ks4_ccd.maps.key import MapKey

__all__ = [
    "check_together",
    "edges_of",
    "read_array",
    "read_once",
    "same_array",
    "without_marks",
]

_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    # Differs in the encoding of the names of fields, which no map has.
    (3, 0): np.lib.format.read_array_header_2_0,
}

# Bytes before the length of the header ends, and of that length.
_HEADER_WIDTHS: dict[tuple[int, ...], tuple[int, int]] = {
    (1, 0): (10, 2),
    (2, 0): (12, 4),
    (3, 0): (12, 4),
}

# That of a map has 128 bytes; numpy takes seconds for some long ones that are damaged.
_MOST_HEADER_BYTES = 1024
_LONGEST_REASON = 200


def read_array(data: bytes, key: MapKey, path: str) -> np.ndarray:
    """
    Return the array in a map's .npy file.

    Parameters
    ----------
    data : bytes
        The content of the file.
    key : `MapKey`
        The array's key.
    path : str
        Its source, for messages.

    Returns
    -------
    array : 2D `~numpy.ndarray`
        In native byte order, indexed ``[x_bin, y_bin]``; a structured array of one
        record for a colour term.

    Raises
    ------
    MapFormatError
        If the file is not a whole .npy file of real numbers in two
        dimensions, or contradicts the documentation of its family in DR1.
    """
    shape, fortran_order, dtype, offset = _read_header(data, path)
    if dtype.hasobject:
        msg = f"{path} contains pickled Python objects, which are never loaded"
        raise MapFormatError(msg)
    is_color = key.part == "color_term" and dtype.names is not None
    if dtype.kind not in "iuf" and not is_color:
        msg = f"{path} must contain real numbers, found the dtype {_shortened(dtype)}"
        raise MapFormatError(msg)
    if not all(type(n) is int and 0 <= n <= MAX_ARRAY_BYTES for n in shape):
        msg = f"{path} is damaged: expected the shape of a map, found {shape}"
        raise MapFormatError(msg)
    if not is_color and (len(shape) != 2 or min(shape) < 1):
        msg = f"{path} must be a 2D array of cells, got shape {shape}"
        raise MapFormatError(msg)
    expected, found = math.prod(shape) * dtype.itemsize, len(data) - offset
    if found != expected:
        what = "is truncated" if found < expected else "is damaged"
        msg = (
            f"{path} {what}: expected {expected} bytes for shape {shape} of {dtype}, "
            f"found {found}"
        )
        raise MapFormatError(msg)
    array = np.frombuffer(data, dtype, offset=offset)
    array = array.reshape(shape, order="F" if fortran_order else "C")
    array = array.astype(dtype.newbyteorder("="), order="C")
    if is_color:
        # Raises for other records, and for numbers that are not finite.
        ColorTerm.from_array(array, path)
    # Others may be negative (offsets), or are checked with their map.
    if key.family == "align" and (array < 0).any():
        msg = (
            f"{path} must contain separations, numbers >= 0, as documented for DR1, "
            f"found {array.min()}"
        )
        raise MapFormatError(msg)
    return array


def _read_header(data: bytes, path: str) -> tuple:
    if not data:
        msg = f"{path} is empty: expected a .npy file"
        raise MapFormatError(msg)
    length = _header_length(data)
    if length > _MOST_HEADER_BYTES:
        msg = (
            f"{path} is damaged or not the .npy file of a map: its header has {length} "
            f"bytes, expected about 128 and at most {_MOST_HEADER_BYTES}"
        )
        raise MapFormatError(msg)
    try:
        return _parse_header(bytes(data[:length]))
    except Exception as error:
        # On damaged headers numpy raises more than it documents: TokenError,
        # RecursionError and others beside ValueError.
        reason = _shortened(error)
        msg = f"{path} is truncated, damaged or not a .npy file: {reason}"
        raise MapFormatError(msg) from error


def _shortened(reason: object) -> str:
    text = printable(reason)
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


def _header_length(data: bytes) -> int:
    # For an unknown version, as much as numpy needs to report it.
    first, width = _HEADER_WIDTHS.get(tuple(data[6:8]), (16, 0))
    return first + int.from_bytes(data[8 : 8 + width], "little")


# The maps of DR1 share a few headers, and numpy takes longer to parse one
# than everything else about an array.
@lru_cache(maxsize=64)
def _parse_header(header: bytes) -> tuple:
    file = io.BytesIO(header)
    version = np.lib.format.read_magic(file)
    if version not in _HEADER_READERS:
        msg = f"version {version} of the format is unknown"
        raise ValueError(msg)
    shape, fortran_order, dtype = _HEADER_READERS[version](file)
    return shape, fortran_order, dtype, file.tell()


def read_once(found: list[tuple[Source, Entry]]) -> tuple[np.ndarray, str]:
    """
    Return the array that one or more entries contain.

    Parameters
    ----------
    found : list of (source, `Entry`)
        The array's entries.

    Returns
    -------
    array : 2D `~numpy.ndarray`
    path : str
        The path of the first of them.

    Raises
    ------
    MapFormatError
        If an array cannot be read, or if they are not all equal.
    """
    (source, first), *others = found
    data = source.read(first)
    array = read_array(data, first.key, first.path)
    for source, other in others:
        other_data = source.read(other)
        if other_data == data:
            continue
        other_array = read_array(other_data, other.key, other.path)
        if not same_array(array, other_array):
            msg = (
                f"{first.path} and {other.path} are the same map and differ: keep the "
                "correct one"
            )
            raise MapFormatError(msg)
    return array, first.path


def same_array(array: np.ndarray, other: np.ndarray) -> bool:
    """
    Return whether two arrays of a map are equal; NaN equals NaN.

    Parameters
    ----------
    array, other : `~numpy.ndarray`
        As `read_array` returns them.
    """
    structured = array.dtype.names is not None or other.dtype.names is not None
    if structured and array.dtype != other.dtype:
        return False
    return np.array_equal(array, other, equal_nan=not structured)


def check_together(
    arrays: dict[str, np.ndarray],
    paths: dict[str, str],
    empty_value: float | None = None,
) -> None:
    """
    Raise for arrays that cannot be one map.

    Parameters
    ----------
    arrays : dict
        The existing arrays of ``values`` or components, ``error`` and
        ``count``, in this order.
    paths : dict
        The path of each of them.
    empty_value : float, optional
        The value of empty cells, if at least one cell must have stars.

    Raises
    ------
    MapFormatError
        If shapes differ, or if all cells are empty.
    """
    first = next(iter(arrays))
    values = arrays[first]
    for part, array in arrays.items():
        if array.shape != values.shape:
            msg = (
                f"{paths[part]} has the shape {array.shape}, expected {values.shape} "
                f"as in {paths[first]}"
            )
            raise MapFormatError(msg)
    if empty_value is None:
        return
    empty = None
    if "count" in arrays:
        if not arrays["count"].any():
            empty = paths["count"], "every cell has 0 stars"
    elif is_marked([values], arrays.get("error"), empty_value).all():
        empty = paths[first], f"every cell is {empty_value:g}"
    if empty is None and np.isnan(values.flat[0]) and np.isnan(values).all():
        empty = paths[first], "every cell is NaN"
    if empty is not None:
        msg = f"{empty[0]} is an empty map: {empty[1]}"
        raise MapFormatError(msg)


def without_marks(
    arrays: dict[str, np.ndarray], components: Sequence[str], mark: float
) -> dict[str, np.ndarray]:
    """
    Return the components of a map without counts, NaN in its empty cells.

    Parameters
    ----------
    arrays : dict
        The components by their names, and ``error`` if there are errors.
    components : tuple of str
    mark : float
        The value of empty cells in DR1.

    Returns
    -------
    components : dict
    """
    values = {name: arrays[name] for name in components}
    marked = is_marked(values.values(), arrays.get("error"), mark)
    if marked.all() and "error" not in arrays:
        # Where no cell differs from the mark, the map is uniform, not empty.
        return {}
    return {name: np.where(marked, np.nan, array) for name, array in values.items()}


def edges_of(array: np.ndarray | None, path: str | None) -> tuple[ArrayLike, ArrayLike]:
    """
    Return the edges of chips or amplifiers that a file contains.

    Parameters
    ----------
    array : 2D `~numpy.ndarray` or `None`
        A row for each edge: its axis, 0 (x) or 1 (y), and its pixel coordinate.
    path : str
        Its source, for messages.

    Returns
    -------
    edges : tuple of `~numpy.ndarray`
        The coordinates along x, and those along y.

    Raises
    ------
    MapFormatError
        If the array has another shape or other axes.
    """
    if array is None:
        return (), ()
    if array.shape[1] != 2 or not np.isin(array[:, 0], (0, 1)).all():
        msg = (
            f"{path} must contain the edges of chips or amplifiers as rows of an axis "
            f"(0 for x, 1 for y) and a pixel coordinate, found the shape {array.shape}"
        )
        raise MapFormatError(msg)
    return tuple(array[array[:, 0] == axis, 1] for axis in (0, 1))
