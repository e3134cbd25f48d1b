# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Interpolate the uncertainties of cells between their centres.

The value at a position is a mean of up to four cells with weights ``w``, so
its variance is the sum of ``w[k] w[m] C[k, m]`` over all pairs of the four,
``C`` being the covariance of two cells::

    2 --- 3      y
    |     |      ^
    0 --- 1      +-> x
"""

from typing import cast

import numpy as np

from ks4_ccd.maps.fill import neighbours_in
from ks4_ccd.maps.grid import Stencil, corners

__all__ = ["NodeErrors", "covariance_of_cells"]

# The pairs of corners, first each corner with itself.
_PAIRS = (
    *((0, 0), (1, 1), (2, 2), (3, 3)),
    *((0, 1), (2, 3), (0, 2), (1, 3), (0, 3), (1, 2)),
)

# The pairs of cells between which covariances are stored, as steps along x and y.
_LAGS = (
    ((0, 0), (1, 0)),
    ((0, 0), (0, 1)),
    ((0, 0), (1, 1)),
    ((1, 0), (0, 1)),
)


class NodeErrors:
    """
    The uncertainties of the cells of a map.

    Parameters
    ----------
    common : 2D `~numpy.ndarray` or `None`
        The part that is common to neighbouring cells, such as the scatter of stars.
        It is interpolated like the values.
    covariance : 3D `~numpy.ndarray` or `None`
        The part that is not: the variance of each cell, its covariances with the
        next cell along x, along y, and along the diagonal, and the covariance of the
        next cell along x with the next one along y.
    """

    def __init__(
        self, common: np.ndarray | None = None, covariance: np.ndarray | None = None
    ) -> None:
        if common is not None:
            # The array may belong to a map, which is immutable.
            common = common.view()
            common.flags.writeable = False
        self.common = common
        self._quads: np.ndarray | None = None
        if covariance is not None:
            self._quads = quads = _quads(covariance)
            if common is not None:
                parts = [_shifted(common, *divmod(k, 2)[::-1]) for k in range(4)]
                for quad, (k, m) in zip(quads, _PAIRS, strict=True):
                    quad += (1 if k == m else 2) * parts[k] * parts[m]

    @property
    def is_linear(self) -> bool:
        """Whether the uncertainties are interpolated like values."""
        return self._quads is None

    def at_centers(self) -> np.ndarray:
        """Return the uncertainties of the cells themselves."""
        if self._quads is None:
            return cast("np.ndarray", self.common)
        return np.sqrt(self._quads[0])

    def scaled(self, factor: float) -> "NodeErrors":
        """Return the uncertainties times a factor."""
        new = NodeErrors(None if self.common is None else factor * self.common)
        if self._quads is not None:
            new._quads = factor**2 * self._quads
        return new

    def terms(self) -> list[tuple[np.ndarray, int, int]]:
        """
        Return the terms of the variance at a position.

        Returns
        -------
        terms : list of (2D `~numpy.ndarray`, int, int)
            Each term is the product of the array at the cell of the lower corner
            and the weights of two corners, which are numbered 0 to 3.
        """
        quads = () if self._quads is None else self._quads
        return [(quad, *pair) for quad, pair in zip(quads, _PAIRS, strict=False)]

    def at(self, along_x: Stencil, along_y: Stencil) -> np.ndarray:
        """
        Return the uncertainty at positions.

        Parameters
        ----------
        along_x, along_y : `~ks4_ccd.maps.grid.Stencil`

        Returns
        -------
        error : `~numpy.ndarray`
        """
        around = corners(along_x, along_y)
        if self._quads is None:
            nodes = self.at_centers()
            first, *others = (nodes[cell] * weight for cell, weight in around)
            return sum(others, first)
        if len(along_x.index) == len(along_y.index) == 2:
            cell = around[0][0]
            weights = [weight for _, weight in around]
            variance = sum(
                term[cell] * weights[k] * weights[m] for term, k, m in self.terms()
            )
        else:
            variance = sum(
                self._covariance_of(self._quads, one, other) * weight * other_weight
                for one, weight in around
                for other, other_weight in around
            )
        return np.sqrt(variance)

    def _covariance_of(
        self,
        quads: np.ndarray,
        one: tuple[np.ndarray, np.ndarray],
        other: tuple[np.ndarray, np.ndarray],
    ) -> np.ndarray:
        """Return the covariance of pairs of cells, adjacent or not."""
        (i, j), (k, m) = one, other
        lowest = np.minimum(i, k), np.minimum(j, m)
        # Terms of different corners include both orders of a pair.
        own, along_x, along_y, diagonal, other_diagonal = (
            quads[term][lowest] / (1 if term == 0 else 2) for term in (0, 4, 6, 8, 9)
        )
        right, up = np.abs(i - k), np.abs(j - m)
        is_next = [
            (right == 0) & (up == 0),
            (right == 1) & (up == 0),
            (right == 0) & (up == 1),
            (right == 1) & (up == 1) & ((i > k) == (j > m)),
            (right == 1) & (up == 1),
        ]
        terms = [own, along_x, along_y, diagonal, other_diagonal]
        common = 0.0 if self.common is None else self.common[one] * self.common[other]
        return np.select(is_next, terms, common)

    def between_rows(self, along_x: Stencil, lower: int) -> np.ndarray:
        """
        Return the variances along two rows of cells, and their covariance.

        Parameters
        ----------
        along_x : `~ks4_ccd.maps.grid.Stencil`
            A stencil of one or two nodes.
        lower : int
            The lower row; the other one is the next.

        Returns
        -------
        lower, shared, upper : 1D `~numpy.ndarray`
            At a fraction ``f`` of the distance between the rows, the variance is
            ``(1 - f)**2 lower + f (1 - f) shared + f**2 upper``.
        """
        index, weights = along_x.index, along_x.weight
        totals = np.zeros((3, index.shape[1]))
        for term, k, m in self.terms():
            if max(k % 2, m % 2) < len(weights):
                part = term[index[0], lower] * weights[k % 2] * weights[m % 2]
                totals[k // 2 + m // 2] += part
        return totals


def covariance_of_cells(
    value: np.ndarray, valid: np.ndarray, covariance: np.ndarray | None = None
) -> np.ndarray:
    """
    Return the covariances of cells, in the form of `NodeErrors`.

    Parameters
    ----------
    value : 2D `~numpy.ndarray`
        The standard error of each cell, empty ones included.
    valid : 2D `~numpy.ndarray` of bool
    covariance : 3D `~numpy.ndarray`, optional
        The covariances of valid cells. By default valid cells are independent.

    Returns
    -------
    covariance : 3D `~numpy.ndarray`
        A filled cell is the mean of those around it, and correlated with them.
    """
    independent = covariance is None
    total = np.zeros((5, *value.shape)) if covariance is None else covariance.copy()
    variance = total[0] = value**2
    if valid.all():
        return total
    for lag, pair in zip(total[1:], _LAGS, strict=True):
        one_valid, other_valid = (_shifted(valid, *cell) for cell in pair)
        one, other = (_shifted(variance, *cell) for cell in pair)
        neither = ~(one_valid | other_valid)
        if independent:
            diagonal = 0 not in np.subtract(*pair)
            share = 1 / np.maximum(neighbours_in(valid, diagonal=diagonal), 1)
            shares = [_shifted(share, *cell) for cell in pair]
            lag[:] += np.where(one_valid & ~other_valid, one * shares[1], 0)
            lag[:] += np.where(other_valid & ~one_valid, other * shares[0], 0)
        else:
            neither |= one_valid ^ other_valid
        lag[neither] = np.sqrt(one * other)[neither]
    return total


def _quads(covariance: np.ndarray) -> np.ndarray:
    """Return the terms of each pair of corners, at the lower corner of four cells."""
    own, along_x, along_y, diagonal, other_diagonal = covariance
    cross = (
        along_x,
        _shifted(along_x, 0, 1),
        along_y,
        _shifted(along_y, 1, 0),
        diagonal,
        other_diagonal,
    )
    variances = [_shifted(own, *divmod(k, 2)[::-1]) for k in range(4)]
    return np.array([*variances, *(2 * part for part in cross)])


def _shifted(array: np.ndarray, along_x: int, along_y: int) -> np.ndarray:
    """Return an array shifted by a number of cells, with repeated last cells."""
    i = np.minimum(np.arange(array.shape[0]) + along_x, array.shape[0] - 1)
    j = np.minimum(np.arange(array.shape[1]) + along_y, array.shape[1] - 1)
    return array[np.ix_(i, j)]
