# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Evaluate the basis functions of a surface over an image."""

from collections.abc import Iterator, Sequence
from math import comb
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["SplineRows", "SurfaceBasis", "regions_of", "trend_columns"]

_CUBIC = 3
_NODES_OF_TREND = 8
_STARS_PER_NODE = 10
# (1 / (1.5 pi))**2: a length of 1.5 images, in units of that of a half wave.
_LONGEST = 0.045


class SplineRows(NamedTuple):
    """
    The sixteen tensor-product splines that are not 0 at each of many positions.

    Attributes
    ----------
    columns : 2D `~numpy.ndarray` of int
        Their numbers, ascending: a row for each of the sixteen, a column for each
        position.
    values : 2D `~numpy.ndarray`
        Their values there.
    """

    columns: np.ndarray
    values: np.ndarray

    def sparse(self, n_spline: int) -> "sparse.csr_array":
        """Return a row for each position, a column for each of all the splines."""
        from scipy import sparse

        per_row, n_rows = self.columns.shape
        ends = np.arange(n_rows + 1) * per_row
        return sparse.csr_array(
            (self.values.T.ravel(), self.columns.T.ravel(), ends),
            shape=(n_rows, n_spline),
        )


class SurfaceBasis:
    """
    Cubic B-splines over an image, and polynomials in its regions.

    Symmetric matrices of the splines (a row and a column for each) are stored by
    diagonals: ``[k, j]`` is entry ``(j + offsets[k], j)``. All others are 0, as splines
    that are farther apart do not overlap.

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

    Attributes
    ----------
    area : int
        Number of pixels of the image.
    n_spline, n_border : int
        Number of splines, and of polynomials.
    offsets : 1D `~numpy.ndarray` of int
        The diagonals of matrices of the splines, 0 first, ascending.
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
        self.n_spline = self._n_axis**2
        # The powers of x and y in each term of a polynomial.
        powers = range(-1 if degree is None else degree + 1)
        self._powers = [(a, b) for a in powers for b in powers if a + b <= powers[-1]]
        self._regions = len(edges[0]) + 1, len(edges[1]) + 1
        self.n_border = self._regions[0] * self._regions[1] * len(self._powers)
        steps = np.arange(-_CUBIC, _CUBIC + 1)
        every = np.add.outer(self._n_axis * steps, steps).ravel()
        self.offsets = np.unique(every[every >= 0])
        # The pairs of the sixteen splines at a position, and their diagonal.
        steps = np.arange(_CUBIC + 1)
        first = np.add.outer(self._n_axis * steps, steps).ravel()
        self._pairs = [
            (one, other, int(np.searchsorted(self.offsets, first[one] - first[other])))
            for one in range(first.size)
            for other in range(one + 1)
        ]

    def rows(self, x: np.ndarray, y: np.ndarray) -> "sparse.csr_array":
        """
        Return all functions at positions.

        Parameters
        ----------
        x, y : 1D `~numpy.ndarray`
            0-based pixel coordinates; those off the image are moved to its edge.

        Returns
        -------
        rows : sparse array
            A row for each position, a column for each spline, then a column for each
            polynomial.
        """
        from scipy import sparse

        splines = self.splines(x, y).sparse(self.n_spline)
        if self.n_border == 0:
            return splines
        return sparse.hstack([splines, self.polynomials(x, y)]).tocsr()

    def splines(self, x: np.ndarray, y: np.ndarray) -> SplineRows:
        """
        Return the splines at positions.

        Parameters
        ----------
        x, y : 1D `~numpy.ndarray`
            0-based pixel coordinates; those off the image are moved to its edge.

        Returns
        -------
        rows : `SplineRows`
        """
        (i, along_x), (j, along_y) = (
            self._along(position, length)
            for position, length in zip((x, y), self._lengths, strict=True)
        )
        columns = i[:, None] * self._n_axis + j
        values = along_x[:, None] * along_y
        return SplineRows(
            columns.reshape(-1, columns.shape[-1]),
            values.reshape(-1, values.shape[-1]),
        )

    def polynomials(self, x: np.ndarray, y: np.ndarray) -> "sparse.csr_array":
        """
        Return the polynomials of the regions at positions, as for `splines`.

        Returns
        -------
        rows : sparse array
            A row for each position, a column for each polynomial.
        """
        from scipy import sparse

        (i, p), (j, q) = self._in_regions(x, y)
        terms = np.array([p**a * q**b for a, b in self._powers])
        n_terms = len(self._powers)
        region = i * self._regions[1] + j
        columns = region[:, None] * n_terms + np.arange(n_terms)
        ends = np.arange(x.size + 1) * n_terms
        shape = x.size, self.n_border
        return sparse.csr_array((terms.T.ravel(), columns.ravel(), ends), shape=shape)

    def at(
        self, x: np.ndarray, y: np.ndarray, spline: np.ndarray, border: np.ndarray
    ) -> np.ndarray:
        """
        Return the sum of splines and polynomials at positions.

        Parameters
        ----------
        x, y : 1D `~numpy.ndarray`
            0-based pixel coordinates.
        spline, border : 1D `~numpy.ndarray`
            The coefficients of the splines and of the polynomials.

        Returns
        -------
        values : 1D `~numpy.ndarray`
        """
        columns, values = self.splines(x, y)
        total = (spline[columns] * values).sum(axis=0)
        return total + self.polynomials(x, y) @ border if self.n_border else total

    def mesh(
        self, x: np.ndarray, y: np.ndarray, spline: np.ndarray, border: np.ndarray
    ) -> np.ndarray:
        """Return the same on a mesh of coordinates along x and along y."""
        total = self.mesh_of_splines(x, y, spline)
        if self.n_border == 0:
            return total
        (i, p), (j, q) = self._in_regions(x, y)
        coefficients = border.reshape(*self._regions, -1)[i[:, None], j]
        for number, (a, b) in enumerate(self._powers):
            total += np.outer(p**a, q**b) * coefficients[..., number]
        return total

    def mesh_of_splines(
        self, x: np.ndarray, y: np.ndarray, spline: np.ndarray
    ) -> np.ndarray:
        """
        Return sums of splines alone on a mesh.

        Parameters
        ----------
        x, y : 1D `~numpy.ndarray`
            0-based pixel coordinates along the axes.
        spline : `~numpy.ndarray`
            Coefficients, of any number of sums: those of a sum along the last axis.

        Returns
        -------
        values : `~numpy.ndarray`
            Of shape ``(..., x.size, y.size)``.
        """
        along_x, along_y = self._mesh_factors(x, y)
        square = spline.reshape(*spline.shape[:-1], self._n_axis, self._n_axis)
        return along_x @ square @ along_y.T

    def mesh_of_squares(
        self, x: np.ndarray, y: np.ndarray, band: np.ndarray
    ) -> np.ndarray:
        """
        Return the quadratic form of a matrix of the splines on a mesh.

        Parameters
        ----------
        x, y : 1D `~numpy.ndarray`
            0-based pixel coordinates along the axes.
        band : 2D `~numpy.ndarray`
            The diagonals of the matrix.

        Returns
        -------
        squares : 2D `~numpy.ndarray`
            ``rows @ matrix @ rows.T`` at each position.
        """
        factors = self._mesh_factors(x, y)
        total = np.zeros((x.size, y.size))
        for number, i, j in self._steps():
            along_x, along_y = (
                _shifted_product(factor, step)
                for factor, step in zip(factors, (i, j), strict=True)
            )
            square = band[number].reshape(self._n_axis, self._n_axis)
            total += (1 + (number > 0)) * (along_x @ square @ along_y.T)
        return total

    def normal_band(self, rows: SplineRows, weights: np.ndarray) -> np.ndarray:
        """
        Return the matrix of the normal equations of stars, by diagonals.

        Parameters
        ----------
        rows : `SplineRows`
            The splines at the stars.
        weights : 1D `~numpy.ndarray`
            The weight of each.

        Returns
        -------
        band : 2D `~numpy.ndarray`
        """
        band = np.zeros((self.offsets.size, self.n_spline))
        columns, values = rows
        weighted = values * weights
        for one, other, number in self._pairs:
            product = weighted[one] * values[other]
            band[number] += np.bincount(columns[other], product, self.n_spline)
        return band

    def squares(self, rows: SplineRows, band: np.ndarray) -> np.ndarray:
        """Return the quadratic form of a matrix of the splines at positions."""
        total = np.zeros(rows.values.shape[1])
        columns, values = rows
        for one, other, number in self._pairs:
            square = band[number, columns[other]] * values[one] * values[other]
            total += square if one == other else 2 * square
        return total

    def roughness(self, order: int) -> "sparse.csc_array":
        """Return the matrix of `roughness_band` as a sparse array."""
        from scipy import sparse

        band = self.roughness_band(order)
        lower = sparse.dia_array(
            (band, -self.offsets), shape=(self.n_spline, self.n_spline)
        )
        return (lower + sparse.tril(lower, -1).T).tocsc()

    def roughness_band(self, order: int) -> np.ndarray:
        """
        Return the matrix of the roughness of the splines, 0 of a constant alone.

        Parameters
        ----------
        order : {1, 2, 3}
            Of the derivatives that are penalised; those of lower orders count as in
            a field that changes over its whole length (Lindgren et al. 2011, J. R.
            Stat. Soc. B 73, 423).

        Returns
        -------
        band : 2D `~numpy.ndarray`
            The matrix, by diagonals.
        """
        unit = (self._n_knots / np.pi) ** 2
        along = [_squared_differences(self._n_axis, k) for k in range(order + 1)]
        band = np.zeros((self.offsets.size, self.n_spline))
        for k in range(1, order + 1):
            factor = comb(order, k) * _LONGEST ** (order - k) * unit ** (k - 1)
            # The derivatives of an order are mixed ones along both axes, too.
            for of_x in range(k + 1):
                share = factor * comb(k, of_x)
                for number, i, j in self._steps():
                    product = np.outer(along[of_x][i], along[k - of_x][j])
                    band[number] += share * product.ravel()
        return band

    def _steps(self) -> Iterator[tuple[int, int, int]]:
        """Yield the number of a diagonal, and its steps along x and along y."""
        # Of two ways that lead to an offset, one leaves the image, so the products
        # of what is along its axes are 0.
        for number, offset in enumerate(self.offsets):
            for i in range(_CUBIC + 1):
                j = int(offset) - i * self._n_axis
                if abs(j) <= _CUBIC and (i > 0 or j >= 0):
                    yield number, i, j

    def _along(
        self, position: np.ndarray, length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return which four splines are not 0 along an axis, and their values."""
        from scipy.interpolate import BSpline

        interval = length / self._n_knots
        knots = np.arange(-_CUBIC, self._n_knots + _CUBIC + 1) * interval - 0.5
        inside = np.clip(position, -0.5, np.nextafter(length - 0.5, 0))
        matrix = BSpline.design_matrix(inside, knots, _CUBIC)
        shape = position.size, _CUBIC + 1
        index, value = matrix.indices.reshape(shape), matrix.data.reshape(shape)
        return index.T.astype(np.intp), value.T.copy()

    def _mesh_factors(
        self, x: np.ndarray, y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the splines along x and along y, a row for each coordinate."""
        factors = []
        for position, length in zip((x, y), self._lengths, strict=True):
            index, value = self._along(position, length)
            factor = np.zeros((position.size, self._n_axis))
            factor[np.arange(position.size), index] = value
            factors.append(factor)
        return factors[0], factors[1]

    def _in_regions(
        self, x: np.ndarray, y: np.ndarray
    ) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Return along each axis the region, and the position in it: -1 to 1."""
        regions = regions_of(x, y, self._edges)
        (i, p), (j, q) = (
            (index, _in_region(position, index, edges, length))
            for position, index, edges, length in zip(
                (x, y), regions, self._edges, self._lengths, strict=True
            )
        )
        return (i, p), (j, q)


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


def _shifted_product(factor: np.ndarray, step: int) -> np.ndarray:
    """Return ``factor[:, k] * factor[:, k + step]``, 0 where one does not exist."""
    product = np.zeros_like(factor)
    n = factor.shape[1]
    here = slice(max(-step, 0), min(n - step, n))
    there = slice(max(step, 0), min(n + step, n))
    product[:, here] = factor[:, here] * factor[:, there]
    return product


def _in_region(
    position: np.ndarray, index: np.ndarray, edges: Sequence[float], length: int
) -> np.ndarray:
    borders = np.concatenate([[-0.5], edges, [length - 0.5]])
    low, high = borders[index], borders[index + 1]
    # Borders may be off the image, and stars beside it beyond them.
    high = np.where(high > low, high, low + 1)
    return 2 * (np.clip(position, -0.5, length - 0.5) - low) / (high - low) - 1


def _squared_differences(n: int, order: int) -> dict[int, np.ndarray]:
    """
    Return D.T @ D for the differences D of an order of n coefficients.

    By diagonals, which are numbered by the row less the column: as many entries as
    there are columns.
    """
    differences = np.diff(np.eye(n), order, axis=0)
    square = differences.T @ differences
    diagonals = {}
    for step in range(-_CUBIC, _CUBIC + 1):
        columns = np.arange(n)
        inside = (columns + step >= 0) & (columns + step < n)
        diagonals[step] = np.zeros(n)
        diagonals[step][inside] = square[columns[inside] + step, columns[inside]]
    return diagonals
