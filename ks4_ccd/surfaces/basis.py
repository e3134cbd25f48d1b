# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Evaluate the functions that a surface over an image is the sum of."""

from collections.abc import Sequence
from math import comb
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["SurfaceBasis", "regions_of", "trend_columns", "variance_of"]

_CUBIC = 3
_NODES_OF_TREND = 8
_STARS_PER_NODE = 10
_ROWS_AT_ONCE = 2048
# (1 / (1.5 pi))**2: a length of 1.5 images, in units of that of a half wave.
_LONGEST = 0.045


class SurfaceBasis:
    """
    Cubic B-splines over an image, and polynomials in its regions.

    Parameters
    ----------
    image_shape : tuple of int
        ``(rows, columns)``.
    n_knots : int
        The number of intervals between knots along an axis.
    edges : pair of sequences
        The edges of regions along x and y, 0-based pixel coordinates.
    degree : int or `None`
        Of the polynomials; `None` has none.
    """

    def __init__(
        self,
        image_shape: tuple[int, int],
        n_knots: int,
        edges: tuple[Sequence[float], Sequence[float]],
        degree: int | None,
    ) -> None:
        self._lengths = image_shape[1], image_shape[0]
        self.area = image_shape[0] * image_shape[1]
        self._n_knots = n_knots
        self._n_axis = n_knots + _CUBIC
        self._edges = edges
        self._degree = degree
        self.n_spline = self._n_axis**2
        self.has_regions = degree is not None
        # How far apart splines are that overlap, in this order.
        self.bandwidth = _CUBIC * (self._n_axis + 1)

    def rows(self, x: np.ndarray, y: np.ndarray) -> "sparse.csr_array":
        """
        Return the functions at positions.

        Parameters
        ----------
        x, y : 1D `~numpy.ndarray`
            0-based pixel coordinates; those off the image are moved to its edge.

        Returns
        -------
        rows : sparse array
            A row for each position, a column for each function.
        """
        from scipy import sparse

        index, value = zip(
            *(
                self._splines(position, length)
                for position, length in zip((x, y), self._lengths, strict=True)
            ),
            strict=True,
        )
        columns = index[0][:, :, None] * self._n_axis + index[1][:, None, :]
        values = value[0][:, :, None] * value[1][:, None, :]
        splines = _rows_of(values, columns, self.n_spline)
        if self._degree is None:
            return splines
        return sparse.hstack([splines, self._polynomials(x, y, self._degree)]).tocsr()

    def roughness(self, order: int) -> "sparse.csc_array":
        """
        Return the matrix of the roughness of the splines, 0 of a constant alone.

        Parameters
        ----------
        order : {1, 2, 3}
            Of the derivatives that are rough; those of lower orders count as in
            a field that changes over its whole length (Lindgren et al. 2011, J. R.
            Stat. Soc. B 73, 423).
        """
        unit = (self._n_knots / np.pi) ** 2
        return sum(
            comb(order, k) * _LONGEST ** (order - k) * unit ** (k - 1) * self._square(k)
            for k in range(1, order + 1)
        ).tocsc()

    def _square(self, order):
        """Return the sum of the squares of the differences of an order."""
        from scipy import sparse

        return sum(
            comb(order, k)
            * sparse.kron(
                _squared_differences(self._n_axis, order - k),
                _squared_differences(self._n_axis, k),
            )
            for k in range(order + 1)
        )

    def _splines(self, position, length):
        """Return which four splines are not 0 at positions, and their values."""
        from scipy.interpolate import BSpline

        interval = length / self._n_knots
        knots = np.arange(-_CUBIC, self._n_knots + _CUBIC + 1) * interval - 0.5
        inside = np.clip(position, -0.5, np.nextafter(length - 0.5, 0))
        matrix = BSpline.design_matrix(inside, knots, _CUBIC)
        shape = position.size, _CUBIC + 1
        return matrix.indices.reshape(shape), matrix.data.reshape(shape)

    def _polynomials(self, x, y, degree):
        i, j = regions_of(x, y, self._edges)
        # -1 to 1 across each region.
        p, q = (
            _in_region(position, index, edges, length)
            for position, index, edges, length in zip(
                (x, y), (i, j), self._edges, self._lengths, strict=True
            )
        )
        degrees = range(degree + 1)
        terms = [p**a * q**b for a in degrees for b in degrees if a + b <= degree]
        rows_of_regions = len(self._edges[1]) + 1
        region = i * rows_of_regions + j
        columns = region[:, None] * len(terms) + np.arange(len(terms))
        n_regions = (len(self._edges[0]) + 1) * rows_of_regions
        return _rows_of(np.column_stack(terms), columns, n_regions * len(terms))


def regions_of(
    x: ArrayLike, y: ArrayLike, edges: tuple[Sequence[float], Sequence[float]]
) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the regions that contain positions, along each axis.

    Parameters
    ----------
    x, y : array_like
        0-based pixel coordinates.
    edges : pair of sequences
        The edges along x and y; a position on one belongs to the region after it.

    Returns
    -------
    i, j : `~numpy.ndarray` of int
    """
    i, j = (
        np.searchsorted(borders, position, side="right")
        for borders, position in zip(edges, (x, y), strict=True)
    )
    return i, j


def trend_columns(property_: np.ndarray) -> np.ndarray:
    """
    Return tent functions of a property of the stars, without their mean.

    Parameters
    ----------
    property_ : 1D `~numpy.ndarray`

    Returns
    -------
    columns : 2D `~numpy.ndarray`
        A row for each star, a column for each function; none for equal or few stars:
        with as many functions as stars, nothing would be left for the surface.
    """
    number = min(_NODES_OF_TREND, property_.size // _STARS_PER_NODE)
    nodes = np.unique(np.quantile(property_, np.linspace(0, 1, max(number, 1))))
    # The first tent is left out: with it, they would add up to a constant.
    tents = [
        np.interp(property_, nodes, np.arange(nodes.size) == k)
        for k in range(1, nodes.size)
    ]
    columns = np.reshape(tents, (-1, property_.size)).T
    return columns - columns.mean(axis=0)


def variance_of(rows: "sparse.csr_array", covariance: np.ndarray) -> np.ndarray:
    """
    Return the variance of sums of functions.

    Parameters
    ----------
    rows : sparse array
        A row for each sum, with few entries.
    covariance : 2D `~numpy.ndarray`
        Of the coefficients of the functions.

    Returns
    -------
    variance : 1D `~numpy.ndarray`
    """
    rows = rows.tocsr()
    numbers = np.diff(rows.indptr)
    most = max(numbers.max(initial=0), 1)
    filled = np.arange(most) < numbers[:, None]
    columns = np.zeros(filled.shape, dtype=np.intp)
    values = np.zeros(filled.shape)
    columns[filled], values[filled] = rows.indices, rows.data
    variance = np.empty(len(numbers))
    for start in range(0, variance.size, _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        c, v = columns[part], values[part]
        entries = covariance[c[:, :, None], c[:, None, :]]
        variance[part] = np.einsum("ni,nij,nj->n", v, entries, v, optimize=True)
    return np.maximum(variance, 0)


def _in_region(position, index, edges, length):
    borders = np.concatenate([[-0.5], edges, [length - 0.5]])
    low, high = borders[index], borders[index + 1]
    # Borders may be off the image, and stars beside it beyond them.
    high = np.where(high > low, high, low + 1)
    return 2 * (np.clip(position, -0.5, length - 0.5) - low) / (high - low) - 1


def _rows_of(values, columns, n_columns):
    """Return a sparse array with the same number of entries in every row."""
    from scipy import sparse

    n_rows, per_row = values.shape[0], values[0].size if len(values) else 0
    ends = np.arange(n_rows + 1) * per_row
    shape = n_rows, n_columns
    return sparse.csr_array((values.ravel(), columns.ravel(), ends), shape=shape)


def _squared_differences(n, order):
    """Return D.T @ D for the differences D of an order of n coefficients."""
    from scipy import sparse

    difference = sparse.eye_array(n, format="csr")
    for _ in range(order):
        difference = difference[1:] - difference[:-1]
    return difference.T @ difference
