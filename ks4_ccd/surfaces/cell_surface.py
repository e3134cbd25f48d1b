# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Fit a smooth surface with steps to the cells of a map.

A cell is the median of stars spread over it: an average of the surface over its
area, and over the parts on either side of an edge that crosses it. The surface is a
penalised tensor-product spline (Eilers & Marx 1996, Stat. Sci. 11, 89), plus a
polynomial in each region between edges. The coefficients of the polynomials of each
degree have a variance, and the penalty of the spline has an order and a strength:
the variances maximise the evidence (MacKay 1992, Neural Comput. 4, 415), and orders
and strengths are averaged over with the probability of each.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from threadpoolctl import threadpool_limits

from ks4_ccd.surfaces._cell_fit import FEW_KNOTS, CellFit, Cells, typical_scatter
from ks4_ccd.surfaces.process import fit_process

__all__ = ["MANY_CELLS", "CellSurface", "Cells", "fit_cells"]

# Fewer leave open how the scatter of cells depends on their errors.
MANY_CELLS = 100
# Along an axis, where neighbouring cells are off together.
_MANY_KNOTS = 34
_CELLS_PER_KNOT = 2


class CellSurface(Protocol):
    """
    A surface through the cells of a map, the result of `fit_cells`.

    Attributes
    ----------
    scatter : float
        The standard deviation of single stars about the surface.
    """

    scatter: float

    def mesh(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the surface on a mesh of coordinates along x and along y."""

    def mesh_deviation(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the standard deviation of the surface on a mesh."""


class _ManyCells:
    """The average of surfaces through many cells."""

    def __init__(self, fit: CellFit) -> None:
        self._basis, self._center = fit.basis, fit.center
        self._weights, penalties = fit.probable()
        self._coefficients = [fit.solution(*p).coefficients for p in penalties]
        self._covariances = [fit.covariance(*p) for p in penalties]
        self._misfit = fit.misfit
        self.scatter = fit.scatter

    def mesh(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        functions = self._basis.at(x, y)
        mean = self._weights @ np.array(self._coefficients)
        return self._center + functions.sum(mean)

    def mesh_deviation(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        functions = self._basis.at(x, y)
        mean = self._weights @ np.array(self._coefficients)
        total = np.full((x.size, y.size), self._misfit)
        for weight, coefficients, covariance in zip(
            self._weights, self._coefficients, self._covariances, strict=True
        ):
            total += weight * functions.variance(covariance)
            if weight < 1:
                total += weight * functions.sum(coefficients - mean) ** 2
        return np.sqrt(total)


class _FewCells:
    """The process through the centres of a few cells."""

    def __init__(self, cells: Cells, edges: tuple[Sequence[float], Sequence[float]]):
        low_x, low_y = self._origin = [along[0] + 0.5 for along in cells.edges]
        x, y = (
            ((along[1:] + along[:-1]) / 2 - low)[index]
            for along, low, index in zip(
                cells.edges, self._origin, np.nonzero(cells.valid), strict=True
            )
        )
        columns, rows = (round(along[-1] - along[0]) for along in cells.edges)
        errors = cells.errors[cells.valid]
        self._process = fit_process(
            *(x, y, cells.values[cells.valid], errors, (rows, columns)),
            ([edge - low_x for edge in edges[0]], [edge - low_y for edge in edges[1]]),
        )
        factor = np.median(self._process.sigma) / np.median(errors)
        self.scatter = float(factor * typical_scatter(cells))

    def mesh(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self._process.mesh(x - self._origin[0], y - self._origin[1])

    def mesh_deviation(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self._process.mesh_deviation(x - self._origin[0], y - self._origin[1])


def fit_cells(
    cells: Cells, edges: tuple[Sequence[float], Sequence[float]] = ((), ())
) -> CellSurface:
    """
    Fit a surface to the cells of a map.

    Parameters
    ----------
    cells : `Cells`
        At least three of them are valid, and errors of these are positive.
    edges : pair of sequences, optional
        The edges along x and y at which the surface may have steps, in ascending
        order, between the outermost edges of the cells.

    Returns
    -------
    surface : `CellSurface`

    Notes
    -----
    The variance of a cell about the surface is that of its stars, rescaled as the
    scatter of all cells demands, and what the positions of its stars add: the
    variance of the surface within the cell over their number, and for a median,
    which may be that of the stars on one side of an edge, part of that variance
    itself. Residuals of neighbouring cells are uncorrelated if the surface follows
    the field. Where they are not, it gets more knots, and the covariance that is
    left is added to the variance of the surface.

    Fewer than 100 cells are fitted as stars at their centres, by
    `~ks4_ccd.surfaces.process.fit_process`.

    Examples
    --------
    >>> import numpy as np
    >>> from ks4_ccd.surfaces.cell_surface import Cells, fit_cells
    >>> edges = np.arange(0, 2001, 100.0)
    >>> step = np.where(np.arange(20) < 7, 0.0, 0.1)[:, None]
    >>> noise = 0.02 * np.random.default_rng(0).normal(size=(20, 20))
    >>> noises, ones = np.full((20, 20), 0.02), np.ones((20, 20))
    >>> cells = Cells(step + noise, ones > 0, noises, noises, ones, (edges, edges))
    >>> surface = fit_cells(cells, ([700.0], []))
    >>> surface.mesh(np.array([690.0, 710.0]), np.array([900.0])).round(3).ravel()
    array([-0.001,  0.099])
    """
    number = np.count_nonzero(cells.valid)
    if number < MANY_CELLS:
        return _FewCells(cells, edges)
    most = int(np.clip(np.sqrt(number / _CELLS_PER_KNOT), 1, _MANY_KNOTS))
    n_knots = min(FEW_KNOTS, most)
    # These matrices are small: several threads would wait for each other.
    with threadpool_limits(1, user_api="blas"):
        fit = CellFit(cells, edges, n_knots)
        fit.converge()
        if fit.is_correlated and n_knots < most:
            fit = CellFit(cells, edges, most)
            fit.converge()
        return _ManyCells(fit)
