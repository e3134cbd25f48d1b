# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Evaluate functions on meshes, and their averages over cells.

The functions are products of one of x and one of y: cubic B-splines over the image,
and polynomials in the regions between edges. So all sums over a mesh are products of
small matrices, one for each axis (Currie, Durban & Eilers 2006, J. R. Stat. Soc. B
68, 259).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["CellBasis", "Functions", "Products"]

_CUBIC = 3
# Of Gauss and Legendre's quadrature, exact for polynomials of degree 5.
_POINTS_OF_SEGMENT = 3


class Products(NamedTuple):
    """
    Products of a function of x and one of y.

    Attributes
    ----------
    x, y : 2D `~numpy.ndarray`
        A row for each coordinate, a column for each function.
    kept : 1D `~numpy.ndarray` of int
        The products in use, counted as ``column of x * columns of y + column of y``.
    """

    x: np.ndarray
    y: np.ndarray
    kept: np.ndarray

    @property
    def number(self) -> int:
        """The number of products, in use or not."""
        return self.x.shape[1] * self.y.shape[1]


class Functions:
    """
    All functions of a basis on a mesh: one kind of product after the other.

    Parameters
    ----------
    kinds : iterable of `Products`
    """

    def __init__(self, kinds: Iterable[Products]) -> None:
        self.kinds = tuple(kinds)

    def sum(self, coefficients: np.ndarray) -> np.ndarray:
        """Return the sum of the functions on the mesh."""
        total = np.zeros((len(self.kinds[0].x), len(self.kinds[0].y)))
        for part, kind in self._parts():
            full = np.zeros(kind.number)
            full[kind.kept] = coefficients[part]
            total += kind.x @ full.reshape(kind.x.shape[1], -1) @ kind.y.T
        return total

    def products_with(self, array: np.ndarray) -> np.ndarray:
        """Return the sums over the mesh of each function times an array."""
        sums = [(kind.x.T @ array @ kind.y).ravel()[kind.kept] for kind in self.kinds]
        return np.concatenate(sums)

    def normal_matrix(self, weights: np.ndarray) -> np.ndarray:
        """Return the weighted sums over the mesh of the products of functions."""
        size = sum(kind.kept.size for kind in self.kinds)
        matrix = np.empty((size, size), order="F")
        for rows, one in self._parts():
            for columns, other in self._parts():
                if rows.start > columns.start:
                    continue
                along_x, along_y = _pairs(one.x, other.x), _pairs(one.y, other.y)
                sums = _interleaved(along_x.T @ weights @ along_y, one, other)
                matrix[rows, columns] = sums[np.ix_(one.kept, other.kept)]
                matrix[columns, rows] = matrix[rows, columns].T
        return matrix

    def variance(self, of_coefficients: np.ndarray) -> np.ndarray:
        """Return the variance of the sum of the functions on the mesh."""
        return np.maximum(self.covariance_at_lag(of_coefficients, 0, 0), 0)

    def covariance_at_lag(
        self, of_coefficients: np.ndarray, axis: int, lag: int
    ) -> np.ndarray:
        """Return the covariance of the sums at coordinates and ``lag`` further."""
        lags = (lag, 0) if axis == 0 else (0, lag)
        first = self.kinds[0]
        reach = max(len(first.x) - lags[0], 0), max(len(first.y) - lags[1], 0)
        total = np.zeros(reach)
        for rows, one in self._parts():
            for columns, two in self._parts():
                full = np.zeros((one.number, two.number))
                full[np.ix_(one.kept, two.kept)] = of_coefficients[rows, columns]
                along_x = _pairs(one.x[: reach[0]], two.x[lags[0] :])
                along_y = _pairs(one.y[: reach[1]], two.y[lags[1] :])
                total += along_x @ _by_axis(full, one, two) @ along_y.T
        return total

    def _parts(self) -> Iterator[tuple[slice, Products]]:
        start = 0
        for kind in self.kinds:
            yield slice(start, start + kind.kept.size), kind
            start += kind.kept.size


class CellBasis:
    """
    Cubic B-splines over an image of cells, and polynomials in its regions.

    Parameters
    ----------
    cell_edges : pair of 1D `~numpy.ndarray`
        The edges of cells along x and y, in ascending order.
    edges : pair of sequences
        The edges of regions along x and y, between the outermost edges of cells.
    n_knots : int
        The number of intervals between knots along an axis.
    degrees : sequence of int
        Of the polynomials in use, such as ``(0, 1, 2)``; none without edges.

    Attributes
    ----------
    n_splines : int
        The number of products of splines, the first functions.
    degree : 1D `~numpy.ndarray` of int
        That of each other function.
    cells : `Functions`
        Their averages over the cells.
    points : `Functions`
        Their values at the points that averages over the cells consist of.
    """

    def __init__(
        self,
        cell_edges: tuple[np.ndarray, np.ndarray],
        edges: tuple[Sequence[float], Sequence[float]],
        n_knots: int,
        degrees: Sequence[int],
    ) -> None:
        self._cell_edges, self._edges = cell_edges, edges
        self._n_knots = n_knots
        most = max(degrees, default=-1)
        powers = [np.tile(np.arange(most + 1), len(along) + 1) for along in edges]
        degree = np.add.outer(*powers).ravel()
        self._most = most
        self._kept = np.flatnonzero(np.isin(degree, degrees))
        self.degree = degree[self._kept]
        self.n_splines = (n_knots + _CUBIC) ** 2
        positions, self._averages = zip(
            *(_quadrature(*both) for both in zip(cell_edges, edges, strict=True)),
            strict=True,
        )
        self.points = self.at(*positions)
        self.cells = Functions(
            Products(self._averages[0] @ k.x, self._averages[1] @ k.y, k.kept)
            for k in self.points.kinds
        )

    def at(self, x: np.ndarray, y: np.ndarray) -> Functions:
        """Return the functions on a mesh of coordinates along x and along y."""
        every = np.arange(self.n_splines)
        kinds = [Products(self._splines(0, x), self._splines(1, y), every)]
        if self._kept.size:
            along_x, along_y = self._polynomials(0, x), self._polynomials(1, y)
            kinds.append(Products(along_x, along_y, self._kept))
        return Functions(kinds)

    def averaged(self, at_points: np.ndarray) -> np.ndarray:
        """Return the averages over the cells of what is known at `points`."""
        along_x, along_y = self._averages
        return along_x @ at_points @ along_y.T

    def _splines(self, axis, position):
        from scipy.interpolate import BSpline

        low, high = self._cell_edges[axis][[0, -1]]
        interval = (high - low) / self._n_knots
        knots = low + np.arange(-_CUBIC, self._n_knots + _CUBIC + 1) * interval
        inside = np.clip(position, low, np.nextafter(high, low))
        return BSpline.design_matrix(inside, knots, _CUBIC).toarray()

    def _polynomials(self, axis, position):
        edges, (low, high) = self._edges[axis], self._cell_edges[axis][[0, -1]]
        borders = np.concatenate([[low], edges, [high]])
        position = np.clip(position, low, high)
        region = np.searchsorted(edges, position, side="right")
        # -1 to 1 across each region.
        width = borders[region + 1] - borders[region]
        p = 2 * (position - borders[region]) / width - 1
        values = np.zeros((position.size, len(edges) + 1, self._most + 1))
        powers = np.arange(self._most + 1)
        values[np.arange(position.size), region] = p[:, None] ** powers
        return values.reshape(position.size, -1)


def _quadrature(cell_edges, edges):
    """Return points, and the matrix that averages over cells, each side of an edge."""
    borders = np.union1d(cell_edges, edges)
    centers, widths = (borders[1:] + borders[:-1]) / 2, np.diff(borders)
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS_OF_SEGMENT)
    points = (centers[:, None] + widths[:, None] / 2 * nodes).ravel()
    cell = np.searchsorted(cell_edges, points, side="right") - 1
    share = (widths[:, None] / 2 * weights).ravel() / np.diff(cell_edges)[cell]
    average = np.zeros((len(cell_edges) - 1, points.size))
    average[cell, np.arange(points.size)] = share
    return points, average


def _pairs(one, other):
    """Return the products of each column of one array and each of another."""
    size = one.shape[1] * other.shape[1]
    return (one[:, :, None] * other[:, None, :]).reshape(len(one), size)


def _interleaved(array, one, other):
    """Return pairs of columns by axis as a matrix of products by products."""
    a, b, c, d = _sizes(one, other)
    return array.reshape(a, b, c, d).transpose(0, 2, 1, 3).reshape(a * c, b * d)


def _by_axis(matrix, one, other):
    """Return the inverse of `_interleaved`."""
    a, b, c, d = _sizes(one, other)
    return matrix.reshape(a, c, b, d).transpose(0, 2, 1, 3).reshape(a * b, c * d)


def _sizes(one, other):
    return one.x.shape[1], other.x.shape[1], one.y.shape[1], other.y.shape[1]
