# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Sample maps at the positions of many sources.

The nodes and weights of a source are computed once for all maps of one grid.
Values and uncertainties of these maps are stored cell by cell, so that one lookup
returns all values of a cell.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from ks4_ccd.exceptions import KS4Error
from ks4_ccd.ks4.recipe import METHOD
from ks4_ccd.maps.base import ValueMap
from ks4_ccd.maps.grid import MapGrid, Stencil, corners
from ks4_ccd.maps.key import EMPTY_MARKS
from ks4_ccd.maps.node_errors import NodeErrors

__all__ = ["EMPTY", "UNREACHABLE", "AtSources", "sample"]

# Bits: quality flags of the cell of a source.
EMPTY, UNREACHABLE = 1, 2

# Number of rows whose arrays stay in the cache of a core.
_BLOCK = 2**13

# Number of cells in a bilinear interpolation.
_LINEAR = 4


class AtSources(NamedTuple):
    """
    Values of a map sampled at sources.

    Attributes
    ----------
    value : 1D `~numpy.ndarray`
        The value in the unit of the map.
    error : 1D `~numpy.ndarray` or `None`
        Its uncertainty, `None` for a map without uncertainties.
    count : 1D `~numpy.ndarray` or `None`
        The number of stars in the cell of a source.
    flag : 1D `~numpy.ndarray` of int
        `EMPTY` if that cell is empty, and `UNREACHABLE` if it touches no cell
        with stars.
    """

    value: np.ndarray
    error: np.ndarray | None
    count: np.ndarray | None  # type: ignore[assignment]  # hides tuple.count
    flag: np.ndarray


def sample(
    maps: Mapping[str, ValueMap],
    x: np.ndarray,
    y: np.ndarray,
    *,
    method: str,
    error_kind: str,
    errors_needed: bool,
) -> dict[str, AtSources]:
    """
    Sample maps at positions.

    Parameters
    ----------
    maps : dict
        A `~ks4_ccd.ZeroPointMap` or `~ks4_ccd.MisalignmentMap` for each name; the
        names are free.
    x, y : 1D `~numpy.ndarray`
        0-based pixel coordinates, finite.
    method : {"bilinear", "nearest", "dr1"}
        ``"dr1"`` uses the published arrays at the cell of a source unchanged.
    error_kind : {"scatter", "median"}
        The kind of uncertainty: see `~ks4_ccd.ZeroPointMap.error_at`.
    errors_needed : bool
        Whether a map without uncertainties is an error.

    Returns
    -------
    sampled : dict
        An `AtSources` for each name.
    """
    names_on = defaultdict(list)
    for name, map_ in maps.items():
        names_on[map_.grid].append(name)
    found = {}
    for grid, names in names_on.items():
        cells = _Cells(grid, "nearest" if method == METHOD else method)
        for name in names:
            map_ = maps[name]
            if method == METHOD:
                nodes = map_.marked(EMPTY_MARKS[map_.family])["values"]
            else:
                nodes = map_.filled().values
            cells.add((name, "value"), nodes)
            errors = _node_errors(map_, method, error_kind, errors_needed)
            if errors is not None:
                cells.add_errors((name, "error"), errors)
            if map_.count is not None:
                cells.add_own((name, "count"), map_.count)
            flag = EMPTY * ~map_.valid + UNREACHABLE * ~map_.reachable
            cells.add_own((name, "flag"), flag)
        arrays = cells.at(x, y)
        for name in names:
            found[name] = AtSources(
                value=arrays[name, "value"],
                error=arrays.get((name, "error")),
                count=arrays.get((name, "count")),
                flag=arrays[name, "flag"],
            )
    return {name: found[name] for name in maps}


def _node_errors(
    map_: ValueMap, method: str, error_kind: str, needed: bool
) -> NodeErrors | None:
    if method == METHOD and error_kind == "scatter" and map_.error is not None:
        return NodeErrors(map_.error)
    try:
        return map_.node_errors(error_kind, published=method == METHOD)
    except KS4Error:
        if needed:
            raise
        return None


# A map, and an array of it.
_Name = tuple[str, str]


class _Cells:
    """The arrays of several maps on one grid, stored cell by cell."""

    def __init__(self, grid: MapGrid, method: str) -> None:
        self._grid = grid
        self._method = method
        self._linear: dict[_Name, np.ndarray] = {}
        self._quadratic: dict[_Name, NodeErrors] = {}
        self._own: dict[_Name, np.ndarray] = {}

    def add(self, name: _Name, nodes: np.ndarray) -> None:
        """Add an array to interpolate."""
        self._linear[name] = nodes

    def add_errors(self, name: _Name, errors: NodeErrors) -> None:
        """Add uncertainties to interpolate."""
        if errors.is_linear or self._method == "nearest":
            self._linear[name] = errors.at_centers()
        else:
            self._quadratic[name] = errors

    def add_own(self, name: _Name, nodes: np.ndarray) -> None:
        """Add an array to evaluate at the cell of a position."""
        self._own[name] = nodes.astype(_count_dtype(nodes))

    def at(self, x: np.ndarray, y: np.ndarray) -> dict[_Name, np.ndarray]:
        """Return the arrays at positions, by their names."""
        arrays = {name: np.empty(x.size) for name in (*self._linear, *self._quadratic)}
        for name, nodes in self._own.items():
            arrays[name] = np.empty(x.size, nodes.dtype)
        linear = _side_by_side(self._linear.values())
        terms = _terms_side_by_side(self._quadratic.values())
        own = {name: nodes.ravel() for name, nodes in self._own.items()}

        for start in range(0, x.size, _BLOCK):
            rows = slice(start, start + _BLOCK)
            cell, stencils = self._stencils(x[rows], y[rows])
            columns = self._grid.shape[1]
            around = [(i * columns + j, w) for (i, j), w in corners(*stencils)]
            _split(_weighted(linear, around), self._linear, arrays, rows)
            if terms and len(around) != _LINEAR:
                for name, errors in self._quadratic.items():
                    arrays[name][rows] = errors.at(*stencils)
            elif terms:
                variance = _weighted_pairs(terms, around)
                error = np.sqrt(variance, out=variance)
                _split(error, self._quadratic, arrays, rows)
            for name, nodes in own.items():
                np.take(nodes, cell, out=arrays[name][rows], mode="clip")
        return arrays

    def _stencils(
        self, x: np.ndarray, y: np.ndarray
    ) -> tuple[np.ndarray, list[Stencil]]:
        """Return the cell of each position, and the stencils along x and y."""
        nearest = self._stencils_of("nearest", x, y)
        (i,), (j,) = (along.index for along in nearest)
        cell = i * self._grid.shape[1] + j
        if self._method == "nearest":
            return cell, nearest
        return cell, self._stencils_of(self._method, x, y)

    def _stencils_of(self, method: str, x: np.ndarray, y: np.ndarray) -> list[Stencil]:
        return [self._grid.stencil(axis, p, method) for axis, p in enumerate((x, y))]


def _count_dtype(nodes: np.ndarray) -> type[np.number]:
    """Return int32 for whole numbers, float32 otherwise (as in smoothed maps)."""
    return np.int32 if np.array_equal(nodes, np.rint(nodes)) else np.float32


def _side_by_side(nodes: Iterable[np.ndarray]) -> np.ndarray:
    """Return arrays of cells as one with a row per cell."""
    return np.stack([array.ravel() for array in nodes], axis=1)


def _terms_side_by_side(errors: Iterable[NodeErrors]) -> list[tuple]:
    """Return the terms of the variances of several maps, see `NodeErrors.terms`."""
    terms = zip(*(one.terms() for one in errors), strict=True)
    return [
        (_side_by_side(array for array, _, _ in term), *term[0][1:]) for term in terms
    ]


def _split(
    columns: np.ndarray,
    names: Iterable[_Name],
    arrays: dict[_Name, np.ndarray],
    rows: slice,
) -> None:
    for k, name in enumerate(names):
        arrays[name][rows] = columns[:, k]


def _weighted(
    nodes: np.ndarray, around: list[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    total: np.ndarray | None = None
    for cell, weight in around:
        part = nodes.take(cell, axis=0, mode="clip")
        if len(around) > 1:
            part *= weight[:, np.newaxis]
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None
    return total


def _weighted_pairs(
    terms: list[tuple], around: list[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    (cell, _), *_ = around
    weights = [weight for _, weight in around]
    total: np.ndarray | None = None
    for nodes, k, m in terms:
        part = nodes.take(cell, axis=0, mode="clip")
        part *= (weights[k] * weights[m])[:, np.newaxis]
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None
    return total
