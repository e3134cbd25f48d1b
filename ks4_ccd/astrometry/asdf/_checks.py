# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Check ASDF nodes, independently of the validation by asdf.

asdf 6 does not validate files by default, and a node with a mistake would become a
model of wrong positions: a missing key would mean a default, and one number would
stand for two. All functions raise `MapFormatError`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, NoReturn

import numpy as np
from asdf.tags.core import NDArrayType

from ks4_ccd.exceptions import MapFormatError

__all__ = ["keys", "number", "numbers", "rows", "table", "text_cards"]


def keys(
    node: object, required: Sequence[str], optional: Iterable[str] | None = None
) -> None:
    """
    Check the keys of a node.

    Parameters
    ----------
    node : mapping
    required : sequence of str
        Required keys.
    optional : iterable of str, optional
        Other allowed keys; by default all keys are allowed.
    """
    if not isinstance(node, Mapping):
        _refuse("the node", "a mapping", node)
    missing = [key for key in required if key not in node]
    if missing:
        _fail(f"has no {' and no '.join(missing)}")
    unknown = [] if optional is None else set(node) - set(required) - set(optional)
    if unknown:
        _fail(f"has the unknown key {sorted(map(str, unknown))[0]!r}")


def number(name: str, value: object) -> float:
    """Return a finite number of a node as a float."""
    if not _is_finite(value):
        _refuse(name, "a finite number", value)
    return float(value)  # type: ignore[arg-type] # checked above


def numbers(name: str, value: Any, count: int = 2) -> tuple[float, ...]:
    """Return a sequence of ``count`` finite numbers of a node as a tuple."""
    if not (
        _is_sequence(value) and len(value) == count and all(map(_is_finite, value))
    ):
        words = {2: "two", 3: "three"}
        _refuse(name, f"{words[count]} finite numbers", value)
    return tuple(value)


def rows(name: str, value: Any) -> Sequence[Any]:
    """Return a sequence of a node."""
    if not _is_sequence(value):
        _refuse(name, "a list", value)
    return value


def table(name: str, value: Any) -> np.ndarray:
    """Return a copy of a 2D array of a node, in float64."""
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


def text_cards(name: str, value: Any) -> bytes:
    """Return a sequence of FITS cards of a node as bytes."""
    if not _is_sequence(value) or not all(
        isinstance(card, str) and card.isascii() and len(card) <= 80 for card in value
    ):
        _refuse(name, "a list of FITS cards of at most 80 ASCII characters", value)
    return "".join(card.ljust(80) for card in value).encode("ascii")


def _is_finite(value: object) -> bool:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and math.isfinite(value)  # type: ignore[arg-type] # a Real


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _refuse(name: str, expected: str, found: object) -> NoReturn:
    text = found if isinstance(found, str) else repr(found)
    text = " ".join(str(text).split())
    _fail(f"is not usable: {name} must be {expected}, got {text[:100]}")


def _fail(message: str) -> NoReturn:
    raise MapFormatError(message)
