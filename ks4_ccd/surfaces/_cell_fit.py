# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Fit a penalised spline, and polynomials in regions, to the cells of a map."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ks4_ccd.surfaces._cell_basis import CellBasis
from ks4_ccd.surfaces._outliers import Outliers, star_sigma
from ks4_ccd.surfaces.basis import SurfaceBasis

__all__ = ["FEW_KNOTS", "CellFit", "Cells", "typical_scatter"]

# Along an axis.
FEW_KNOTS = 16
_CELLS_PER_TERM = 5
_MOST_TERMS = 400
_DEGREES = (0, 1, 2)
_ORDERS = (1, 2, 3)
# Relative to the weight of the cells; the last leaves a constant.
_STRENGTHS = tuple(10.0 ** (power / 2) for power in range(-16, 13))
_PILOT = 2, _STRENGTHS.index(1e-3)
_STEPS_OF_ORDER = 4
_NEGLIGIBLE = 0.03
_ROUNDS = 2
_UPDATES = 5  # of the variances of polynomials, at most
_CONVERGED = 0.05  # change of the log of a variance, times what determines it
# Fewer determined coefficients of a degree than that: it is left out.
_DETERMINED = 1.0
_MOST_OWN = 0.9  # of the surface in a cell, from the cell itself
_LEAST_ERROR = 1e-4  # of the spread of all values
_LAGS = (1, 2, 3)  # cells
# Standard errors by which the covariance of neighbours exceeds that of noise.
_SIGNIFICANT = 3.0


class Cells(NamedTuple):
    """
    The cells of a map.

    Attributes
    ----------
    values : 2D `~numpy.ndarray`
    valid : 2D `~numpy.ndarray` of bool
        The cells that have a value.
    errors : 2D `~numpy.ndarray`
        The standard error of each value; they are rescaled, and get a floor, by the
        scatter of the cells about the surface.
    scatter : 2D `~numpy.ndarray`
        The standard deviation of single stars.
    count : 2D `~numpy.ndarray`
        The number of stars.
    edges : pair of 1D `~numpy.ndarray`
        The edges of the cells along x and y.
    """

    values: np.ndarray
    valid: np.ndarray
    errors: np.ndarray
    scatter: np.ndarray
    count: np.ndarray  # type: ignore[assignment]  # hides tuple.count
    edges: tuple[np.ndarray, np.ndarray]


class _Solution(NamedTuple):
    """The surface for one order and strength of the penalty."""

    evidence: float
    coefficients: np.ndarray
    variances: np.ndarray  # of the polynomials' coefficients, by their degree
    determined: np.ndarray  # the number of these that the cells determine


class CellFit:
    """
    Weights of cells, and the surfaces that they determine.

    Parameters
    ----------
    cells : `Cells`
    edges : pair of sequences
        As for `~ks4_ccd.surfaces.cell_surface.fit_cells`.
    n_knots : int
        The number of intervals between knots along an axis.

    Attributes
    ----------
    basis : `~ks4_ccd.surfaces._cell_basis.CellBasis`
    center : float
        The constant that was subtracted from the values.
    values, weights : 2D `~numpy.ndarray`
        The values of cells about it, and the inverse of their variances, 0 for cells
        that are empty or outliers.
    star_errors : 2D `~numpy.ndarray`
        The standard errors of values, without what positions of stars add.
    used : 2D `~numpy.ndarray` of bool
        The cells that are not outliers.
    scatter : float
        The standard deviation of single stars about the surface.
    misfit : float
        The variance of the field about the surface that neighbours share.
    is_correlated : bool
        Whether it is significant.
    """

    def __init__(self, cells, edges, n_knots):
        self._cells, self._edges, self._n_knots = cells, edges, n_knots
        self.basis = CellBasis(
            cells.edges, edges, n_knots, _degrees(edges, np.count_nonzero(cells.valid))
        )
        valid = cells.valid
        self.center = np.median(cells.values[valid])
        self.values = np.where(valid, cells.values - self.center, 0.0)
        spread = np.std(self.values[valid])
        self._least = max(_LEAST_ERROR * spread, 1e-12)
        self._outliers = Outliers(*(p.astype(float) for p in np.nonzero(valid)))
        self.used = valid
        self._variances = np.full(len(_DEGREES), max(spread**2, self._least**2))
        self._weigh(np.maximum(cells.errors, self._least))

    def converge(self):
        """Find the weights of cells and the surface until they belong together."""
        order, step = _PILOT
        for _ in range(_ROUNDS):
            step = self._best(order, step)
            self._keep_determined(order, step)
            self._reweigh(order, step)
        self._step = self._best(order, step)
        self._find_misfit(order, self._step)

    @property
    def best(self):
        """The order and the strength of the penalty that weights were found with."""
        return _PILOT[0], self._step

    def without(self, edges):
        """Return the fit with the same weights and penalty, but other edges."""
        other = CellFit(self._cells, edges, self._n_knots)
        other.used, other.star_errors = self.used, self.star_errors
        other._variances, other._step = self._variances.copy(), self._step
        other._weigh(self._errors)
        return other

    def solved(self):
        """Return coefficients, and the factor of their system, a lower triangle."""
        solution, factor = self._solve(*self.best)
        return solution.coefficients, factor

    def probable(self):
        """Return the probabilities of penalties that have any, and these."""
        found = {
            (order, step): evidence
            for order in _ORDERS
            for step, evidence in self._downhill(order, self._start(order)).items()
        }
        logs = np.array(list(found.values()))
        weights = np.exp(logs - logs.max())
        weights /= weights.sum()
        kept = np.flatnonzero(weights > _NEGLIGIBLE)
        penalties = list(found)
        return weights[kept] / weights[kept].sum(), [penalties[k] for k in kept]

    def _weigh(self, errors):
        """Make the normal equations of the cells with these standard errors."""
        self._errors = errors
        self.weights = np.where(self.used, errors, np.inf) ** -2.0
        self._matrix = self.basis.cells.normal_matrix(self.weights)
        weighted = self.weights * self.values
        self._right = self.basis.cells.products_with(weighted)
        self._square = np.sum(weighted * self.values)
        n = self.basis.n_splines
        self._unit = np.trace(self._matrix[:n, :n]) / n
        self._solutions: dict[tuple[int, int], _Solution] = {}

    def _best(self, order, start):
        """Return the strength of most evidence."""
        known = self._downhill(order, start)
        return max(known, key=lambda step: known[step])

    def _downhill(self, order, start):
        """Return the evidences from a strength to that of the most, and beside it."""
        known = {}

        def evidence(step):
            if not 0 <= step < len(_STRENGTHS):
                return -np.inf
            known[step] = self.solution(order, step).evidence
            return known[step]

        best = start
        while True:
            step = best
            best = max((step, step - 1, step + 1), key=evidence)
            if best == step:
                return known

    def _start(self, order):
        """Return about which strength of an order is as good as that of the pilot."""
        step = self._step - _STEPS_OF_ORDER * (order - _PILOT[0])
        return min(max(step, 0), len(_STRENGTHS) - 1)

    def solution(self, order, step):
        """Return the surface under a penalty."""
        key = order, step
        if key not in self._solutions:
            self._solutions[key], _ = self._solve(order, step)
            # Those of the next one are close to them.
            self._variances = self._solutions[key].variances
        return self._solutions[key]

    def covariance(self, order, step):
        """Return the covariance of the coefficients under a penalty."""
        from scipy.linalg import lapack

        self._variances = self.solution(order, step).variances
        _, factor = self._solve(order, step)
        lower, _ = lapack.dpotri(factor, lower=True)
        return np.tril(lower) + np.tril(lower, -1).T

    def _solve(self, order, step):
        """Return the surface under a penalty, and the factor of its system."""
        from scipy.linalg import lapack

        n = self.basis.n_splines
        strength = _STRENGTHS[step] * self._unit
        roughness, log_roughness = _roughness(self._n_knots, order)
        system = self._matrix[:n, :n] + strength * roughness
        splines, _ = lapack.dpotrf(system, lower=True, clean=True)
        half, _ = lapack.dtrtrs(splines, self._right[:n], lower=True)
        half = half.ravel()
        log_ratio = _log_determinant(splines) - log_roughness
        log_ratio -= (n - 1) * np.log(strength)
        square = self._square - half @ half
        variances, determined = self._variances.copy(), np.zeros(len(_DEGREES))
        beyond, factor = np.zeros(0), splines
        if self.basis.degree.size:
            border, _ = lapack.dtrtrs(splines, self._matrix[:n, n:], lower=True)
            rest = self._matrix[n:, n:] - border.T @ border
            right = self._right[n:] - border.T @ half
            variances, determined = self._variances_of(rest, right)
            prior = variances[self.basis.degree]
            corner, beyond, _ = _solved(rest, right, prior)
            log_ratio += _log_determinant(corner) + np.log(prior).sum()
            square -= right @ beyond
            half = half - border @ beyond
            factor = np.zeros_like(self._matrix, order="F")
            factor[:n, :n], factor[n:, :n], factor[n:, n:] = splines, border.T, corner
        first, _ = lapack.dtrtrs(splines, half, lower=True, trans=1)
        coefficients = np.concatenate([first.ravel(), beyond])
        # Integrated over a common factor of all errors, which outliers affect.
        freedom = np.count_nonzero(self.used) - 1
        evidence = -0.5 * (log_ratio + freedom * np.log(max(square, 1e-300)))
        return _Solution(evidence, coefficients, variances, determined), factor

    def _variances_of(self, rest, right):
        """Return the variances of polynomials' coefficients of the most evidence."""
        degree = self.basis.degree
        variances, determined = self._variances.copy(), np.zeros(len(_DEGREES))
        for _ in range(_UPDATES):
            before = variances.copy()
            _, found, uncertainty = _solved(rest, right, variances[degree])
            for d in np.unique(degree):
                own = degree == d
                determined[d] = np.sum(1 - uncertainty[own] / variances[d])
                square = np.sum(found[own] ** 2)
                variances[d] = square / max(determined[d], 1e-3)
            variances = np.maximum(variances, (1e-3 * self._least) ** 2)
            # What the cells do not determine does not matter.
            change = determined * np.abs(np.log(variances / before))
            if change.max() < _CONVERGED:
                break
        return variances, determined

    def _keep_determined(self, order, step):
        """Leave out polynomials of the degrees that the cells do not determine."""
        determined = self.solution(order, step).determined
        degrees = np.unique(self.basis.degree)
        kept = [d for d in degrees if d == 0 or determined[d] >= _DETERMINED]
        if len(kept) < len(degrees):
            self.basis = CellBasis(self._cells.edges, self._edges, self._n_knots, kept)
            self._weigh(self._errors)

    def _reweigh(self, order, step):
        """Find the weights of cells, and the outliers, by their residuals."""
        cells, valid = self._cells, self._cells.valid
        coefficients = self.solution(order, step).coefficients
        residuals = self.values - self.basis.cells.sum(coefficients)
        own = self.basis.cells.variance(self.covariance(order, step)) * self.weights
        within = self._within(coefficients)
        number = np.where(valid, cells.count, 1.0)
        placed = within / np.maximum(number, 1.0)
        share = np.maximum(1 - 2 / np.maximum(number, 1.0), 0)
        placed += share * within**2 / np.maximum(within + cells.scatter**2, 1e-300)
        own, residuals, placed, errors = (
            part[valid]
            for part in (
                np.minimum(own, _MOST_OWN),
                residuals,
                placed,
                np.maximum(cells.errors, self._least),
            )
        )
        # Of what they would be without the variance that positions add, and the fit.
        reduced = residuals * errors / np.sqrt((1 - own) * (errors**2 + placed))
        sigma = np.maximum(star_sigma(reduced, errors, self.used[valid]), self._least)
        self.scatter = float(np.median(sigma / errors) * typical_scatter(cells))
        total = np.sqrt(sigma**2 + placed)
        self.used = valid.copy()
        self.used[valid] = ~self._outliers.among(residuals, total)
        self.star_errors = self._errors.copy()
        self.star_errors[valid] = sigma
        errors = self._errors.copy()
        errors[valid] = total
        self._weigh(errors)

    def _within(self, coefficients):
        """Return the variance of the surface within each cell."""
        at_points = self.basis.points.sum(coefficients)
        mean = self.basis.averaged(at_points)
        return np.maximum(self.basis.averaged(at_points**2) - mean**2, 0)

    def _find_misfit(self, order, step):
        """Find by how much more neighbours are off together than they would be."""
        functions, covariance = self.basis.cells, self.covariance(order, step)
        residuals = self.values
        residuals = residuals - functions.sum(self.solution(order, step).coefficients)
        self.misfit, self.is_correlated = 0.0, False
        for axis in (0, 1):
            total = total_weight = 0.0
            for lag in _LAGS:
                here, there = _pairs(residuals, axis, lag)
                weights = np.prod(_pairs(self.weights, axis, lag), axis=0)
                # The fit itself makes residuals of neighbours differ.
                expected = functions.covariance_at_lag(covariance, axis, lag)
                total += np.sum(weights * (here * there + expected))
                total_weight += weights.sum()
            if total > _SIGNIFICANT * np.sqrt(total_weight):
                self.is_correlated = True
                self.misfit = max(self.misfit, total / total_weight)


def typical_scatter(cells):
    """Return the root mean square scatter of stars."""
    valid = cells.valid
    return np.sqrt(np.average(cells.scatter[valid] ** 2, weights=cells.count[valid]))


def _pairs(array, axis, lag):
    """Return the cells that have another one so many further, and these."""
    lines = np.moveaxis(array, axis, 0)
    first, last = lines[: max(len(lines) - lag, 0)], lines[lag:]
    return np.moveaxis(first, 0, axis), np.moveaxis(last, 0, axis)


def _degrees(edges, n_cells):
    """Return the degrees of the regions' polynomials that cells may determine."""
    n_regions = (len(edges[0]) + 1) * (len(edges[1]) + 1)
    if n_regions == 1:
        return ()
    terms = {d: (d + 1) * (d + 2) / 2 for d in _DEGREES}
    per_region = min(n_cells / _CELLS_PER_TERM, _MOST_TERMS) / n_regions
    return tuple(d for d in _DEGREES if d == 0 or terms[d] <= per_region)


@lru_cache(maxsize=16)
def _roughness(n_knots, order):
    """Return the roughness of splines, and the log of its determinant."""
    matrix = SurfaceBasis((1, 1), n_knots, ((), ()), None).roughness(order).toarray()
    # All but a constant, which is not rough.
    _, log_determinant = np.linalg.slogdet(matrix + 1 / len(matrix))
    matrix.flags.writeable = False
    return matrix, log_determinant


def _solved(matrix, right, prior):
    """Return the factor of a system, its solution, and the variances of this."""
    from scipy.linalg import lapack

    system = matrix + np.diag(1 / prior)
    factor, _ = lapack.dpotrf(system, lower=True, clean=True)
    solution, _ = lapack.dpotrs(factor, right, lower=True)
    inverse, _ = lapack.dpotri(factor, lower=True)
    return factor, solution.ravel(), np.diag(inverse)


def _log_determinant(factor):
    return 2 * np.log(np.diag(factor)).sum()
