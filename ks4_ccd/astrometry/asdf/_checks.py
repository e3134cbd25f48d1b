# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Checks of ASDF nodes, whatever asdf itself has validated.

asdf 6 reads without schemas by default, and a node that was edited by hand would
else be a model of other positions: a missing key is a default, and one number
stands for two. All functions raise `MapFormatError`.
"""

import math
from collections.abc import Mapping, Sequence
from numbers import Real

__all__ = ["keys", "number", "numbers", "rows", "table", "text_cards"]


def keys(node, required, optional=None):
    """
    Check the keys of a node.

    Parameters
    ----------
    node : mapping
    required : iterable of str
        Keys that must be there.
    optional : iterable of str, optional
        Keys that may be there; by default any.
    """
    if not isinstance(node, Mapping):
        _refuse("the node", "a mapping", node)
    missing = [key for key in required if key not in node]
    if missing:
        _fail(f"has no {' and no '.join(missing)}")
    unknown = [] if optional is None else set(node) - set(required) - set(optional)
    if unknown:
        _fail(f"has the unknown key {sorted(map(str, unknown))[0]!r}")


def number(name, value):
    """Return a finite number of a node as a float."""
    plain = isinstance(value, Real) and not isinstance(value, bool)
    if not plain or not math.isfinite(value):
        _refuse(name, "a finite number", value)
    return float(value)


def numbers(name, value, count=2):
    """Return a sequence of so many finite numbers of a node as a tuple."""
    if not (
        _is_sequence(value)
        and len(value) == count
        and all(isinstance(v, Real) and not isinstance(v, bool) for v in value)
        and all(math.isfinite(v) for v in value)
    ):
        words = {2: "two", 3: "three"}
        _refuse(name, f"{words[count]} finite numbers", value)
    return tuple(value)


def rows(name, value):
    """Return a sequence of a node."""
    if not _is_sequence(value):
        _refuse(name, "a list", value)
    return value


def table(name, value):
    """Return a 2D array of a node as a copy in float64: the file may be closed."""
    import numpy as np
    from asdf.tags.core import NDArrayType

    is_array = isinstance(value, np.ndarray | NDArrayType)
    if not is_array or hasattr(value, "unit") or np.ma.isMaskedArray(value[...]):
        _refuse(name, "an array (core/ndarray) without unit and mask", value)
    array = np.array(value)
    if array.dtype.kind not in "iuf" or not np.can_cast(array.dtype, float):
        _refuse(name, "an array of real numbers", array.dtype)
    if array.ndim != 2 or array.size == 0:
        _refuse(name, "a 2D table", f"the shape {array.shape}")
    array = array.astype(float)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        row, column = bad[0]
        found = f"{array[row, column]} at the node [{row}, {column}]"
        _refuse(name, "finite", found)
    return array


def text_cards(name, value):
    """Return a sequence of FITS cards of a node as one string of bytes."""
    if not _is_sequence(value) or not all(
        isinstance(card, str) and card.isascii() and len(card) <= 80 for card in value
    ):
        _refuse(name, "a list of FITS cards of at most 80 ASCII characters", value)
    return "".join(card.ljust(80) for card in value).encode("ascii")


def _is_sequence(value):
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _refuse(name, expected, found):
    text = found if isinstance(found, str) else repr(found)
    text = " ".join(str(text).split())
    _fail(f"is not usable: {name} must be {expected}, got {text[:100]}")


def _fail(message):
    from ks4_ccd.exceptions import MapFormatError

    raise MapFormatError(message)
