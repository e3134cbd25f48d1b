# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Find lines across a map of cells at which its field has steps.

Candidate lines are judged by a score test: the chi-square of a step across each, in
the covariance of the surface that is fitted without it and of the noise of cells
(Rao 1948, Proc. Camb. Phil. Soc. 44, 50). The most significant are added, moved to
their most probable positions, and tested again, until no more are found.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from ks4_ccd.surfaces._cell_fit import FEW_KNOTS, CellFit, Cells
from ks4_ccd.surfaces.cell_surface import MANY_CELLS

__all__ = ["FALSE_ALARMS", "CellEdge", "find_cell_edges"]

# Lines found along each axis of a map without steps, in the mean of many maps, if
# the surface fitted were the true one: some three times as many are found.
FALSE_ALARMS = 0.003
_PER_CELL = 4  # candidates
_BETWEEN = 2.0  # cells between two lines, and to the end of the map
_DOMINANT = 0.5  # of the largest significance: what is added before the next fit
_APART = 4.0  # cells between lines that are added at once
_PASSES = 40
_REACH = 1.5  # cells that a line is moved by at once
_POSITIONS = 121
_LAST_ROUNDS = 2
# Of a step, along a line that no edge crosses.
_DEGREE = 2
# Density of outliers over that of cells at their expected values.
_OUTLIERS = 0.003
# Polynomials of a region are not followed farther than that, in half widths.
_BEYOND = 1.3


class CellEdge(NamedTuple):
    """
    A line at which a map has steps.

    Attributes
    ----------
    position, uncertainty : float
        The mean and the standard deviation of the probability of positions, in the
        coordinates of the cells' edges.
    log_false_alarms : float
        The natural logarithm of the number of lines as significant as this that
        are found in a map without steps, in the mean.
    """

    position: float
    uncertainty: float
    log_false_alarms: float


def find_cell_edges(
    maps: Sequence[Cells], false_alarms: float = FALSE_ALARMS
) -> tuple[list[CellEdge], list[CellEdge]]:
    """
    Find lines across maps of cells at which their fields have steps.

    Parameters
    ----------
    maps : sequence of `~ks4_ccd.surfaces.cell_surface.Cells`
        Maps of the same cells, with independent errors, that have edges in common.
    false_alarms : float, optional
        How many lines may be found along each axis of a map without steps, in the
        mean.

    Returns
    -------
    x, y : list of `CellEdge`
        Sorted by position; none if a map has fewer than 100 cells with stars, or 4
        cells or fewer along the axis.

    Examples
    --------
    >>> import numpy as np
    >>> from ks4_ccd.surfaces.cell_edges import find_cell_edges
    >>> from ks4_ccd.surfaces.cell_surface import Cells
    >>> edges = np.arange(0, 2001, 100.0)
    >>> step = np.where(np.arange(20) < 7, 0.0, 0.1)[:, None]
    >>> noise = 0.02 * np.random.default_rng(0).normal(size=(20, 20))
    >>> noises, ones = np.full((20, 20), 0.02), np.ones((20, 20))
    >>> cells = Cells(step + noise, ones > 0, noises, noises, ones, (edges, edges))
    >>> x, y = find_cell_edges([cells])
    >>> [round(edge.position, -1) for edge in x], y
    ([700.0], [])
    """
    fewest = min(np.count_nonzero(cells.valid) for cells in maps)
    if fewest < MANY_CELLS:
        return [], []
    # These matrices are small: several threads would wait for each other.
    with threadpool_limits(1, user_api="blas"):
        return _Search(maps, fewest, float(np.log(false_alarms))).run()


class _Search:
    def __init__(self, maps, fewest, limit):
        self._maps, self._limit = maps, limit
        self._n_knots = min(FEW_KNOTS, int(np.sqrt(fewest / 2)))
        self._cell_edges = maps[0].edges
        self._sizes = [float(np.mean(np.diff(along))) for along in self._cell_edges]
        self._candidates = [
            np.arange(
                along[0] + _BETWEEN * size,
                along[-1] - (_BETWEEN - 1 / _PER_CELL) * size,
                size / _PER_CELL,
            )
            for along, size in zip(self._cell_edges, self._sizes, strict=True)
        ]
        self._edges: list[list[float]] = [[], []]

    def run(self):
        for _ in range(_PASSES):
            before = sum(map(len, self._edges))
            if not self._extend(self._fit()):
                break
            self._refine(self._fit())
            self._prune()
            if sum(map(len, self._edges)) <= before:
                # What was added is not significant beside the others.
                break
        for _ in range(_LAST_ROUNDS if any(self._edges) else 0):
            uncertainties = self._refine(self._fit())
        if not any(self._edges):
            return [], []
        fits = self._fit()
        return tuple(
            [
                CellEdge(position, uncertainty, self._significance(fits, axis, number))
                for number, (position, uncertainty) in enumerate(
                    zip(self._edges[axis], uncertainties[axis], strict=True)
                )
            ]
            for axis in (0, 1)
        )

    def _fit(self):
        fits = [CellFit(cells, self._edges, self._n_knots) for cells in self._maps]
        for fit in fits:
            fit.converge()
        return fits

    def _extend(self, fits):
        """Add the most significant lines, and return whether there are any."""
        found = []
        for axis, candidates in enumerate(self._candidates):
            logs = self._log_false_alarms(fits, self._edges, axis, candidates)
            for edge in self._edges[axis]:
                near = np.abs(candidates - edge) <= _BETWEEN * self._sizes[axis]
                logs = np.where(near, 0.0, logs)
            found.append(logs)
        top = min(float(logs.min(initial=0.0)) for logs in found)
        if top > self._limit:
            return False
        for axis, logs in enumerate(found):
            candidates, apart = self._candidates[axis], _APART * self._sizes[axis]
            while logs.min(initial=0.0) < min(self._limit, _DOMINANT * top):
                position = float(candidates[np.argmin(logs)])
                self._edges[axis].append(position)
                logs = np.where(np.abs(candidates - position) < apart, 0.0, logs)
            self._edges[axis].sort()
        return True

    def _prune(self):
        """Remove lines that are not significant beside the others."""
        while any(self._edges):
            fits = self._fit()
            least, axis, number = max(
                (self._significance(fits, axis, number), axis, number)
                for axis in (0, 1)
                for number in range(len(self._edges[axis]))
            )
            if least <= self._limit:
                return
            del self._edges[axis][number]

    def _significance(self, fits, axis, number):
        """Return the log of false alarms of one line, with the others in the model."""
        others = [list(along) for along in self._edges]
        position = np.array([others[axis].pop(number)])
        reduced = [fit.without(others) for fit in fits]
        return float(self._log_false_alarms(reduced, others, axis, position)[0])

    def _log_false_alarms(self, fits, edges, axis, positions):
        if not positions.size:
            return np.zeros(0)
        chi2, freedom = zip(
            *(_score(fit, self._cell_edges, edges, axis, positions) for fit in fits),
            strict=True,
        )
        # An upper limit: neighbouring candidates are correlated.
        number = len(self._candidates[axis])
        return _log_tail(sum(chi2), sum(freedom)) + np.log(number)

    def _refine(self, fits):
        """Move all lines to their most probable positions; return uncertainties."""
        edges: list[list[float]] = [[], []]
        uncertainties: list[list[float]] = [[], []]
        for axis in (0, 1):
            for number in range(len(self._edges[axis])):
                mean, deviation = self._position(fits, axis, number)
                edges[axis].append(mean)
                uncertainties[axis].append(deviation)
        self._edges = edges
        return uncertainties

    def _position(self, fits, axis, number):
        """Return the mean and the standard deviation of the position of a line."""
        cell_edges, size = self._cell_edges[axis], self._sizes[axis]
        before, own, behind = [cell_edges[0], *self._edges[axis], cell_edges[-1]][
            number : number + 3
        ]
        low = max((before + own) / 2, own - _REACH * size)
        high = min((own + behind) / 2, own + _REACH * size)
        positions = np.linspace(low, high, _POSITIONS)
        log = sum(
            _log_likelihood(fit, cells, self._edges, axis, number, positions)
            for fit, cells in zip(fits, self._maps, strict=True)
        )
        probability = np.exp(log - log.max())
        probability /= probability.sum()
        mean = probability @ positions
        step = positions[1] - positions[0]
        variance = probability @ (positions - mean) ** 2 + step**2 / 12
        return float(mean), float(np.sqrt(variance))


def _log_likelihood(fit, cells, edges, axis, number, positions):
    """Return the log of the probability of cells, with a line at positions."""
    cell_edges = cells.edges[axis]
    near = (cell_edges[1:] > positions[0]) & (cell_edges[:-1] < positions[-1])

    def lines(array):
        return np.moveaxis(array, axis, 0)[near]

    first, last = map(lines, _sides(fit, cells.edges, edges, axis, number))
    share = _shares(cell_edges, positions)[:, near, None]
    expected = first + share * (last - first)
    count = np.maximum(lines(cells.count), 1)
    # As of the surface within a cell that an edge crosses, see `CellFit`.
    within = share * (1 - share) * (last - first) ** 2
    total = within + lines(cells.scatter) ** 2
    placed = within / count
    placed += np.maximum(1 - 2 / count, 0) * within**2 / np.maximum(total, 1e-300)
    own = lines(fit.star_errors) ** 2
    variance = own + placed
    square = (lines(fit.values) - expected) ** 2
    density = np.exp(-0.5 * square / variance) / np.sqrt(variance)
    density += _OUTLIERS / np.sqrt(own)
    return (np.log(density) * lines(fit.used)).sum(axis=(1, 2))


def _score(fit, cell_edges, edges, axis, positions):
    """Return the chi-square of a step at each position, and its degrees of freedom."""
    from scipy.linalg import lapack

    coefficients, factor = fit.solved()
    residuals = fit.values - fit.basis.cells.sum(coefficients)
    weights, residuals = (np.moveaxis(p, axis, 0) for p in (fit.weights, residuals))
    share = _shares(cell_edges[axis], positions)
    parts = _parts(cell_edges[1 - axis], edges[1 - axis])
    number = len(positions), len(parts)
    right = share @ (weights * residuals) @ parts.T
    products = (parts[:, None] * parts).reshape(-1, parts.shape[1])
    matrix = (share**2 @ weights @ products.T).reshape(number[0], number[1], number[1])
    # Steps times all functions of the fit.
    columns = []
    for kind in fit.basis.cells.kinds:
        along, across = (kind.x, kind.y) if axis == 0 else (kind.y, kind.x)
        weighted = np.einsum("ij,pj,jb->pib", weights, parts, across, optimize=True)
        sums = np.einsum("ci,ia,pib->cpab", share, along, weighted, optimize=True)
        sums = sums if axis == 0 else sums.swapaxes(2, 3)
        columns.append(sums.reshape(number[0] * number[1], -1)[:, kind.kept])
    both = np.asfortranarray(np.hstack(columns).T)
    half, _ = lapack.dtrtrs(factor, both, lower=True)
    half = half.T.reshape(*number, -1)
    unit = np.trace(matrix, axis1=1, axis2=2).mean() / number[1]
    matrix = matrix - half @ half.swapaxes(1, 2) + 1e-6 * unit * np.eye(number[1])
    steps = np.linalg.solve(matrix, right[..., None])[..., 0]
    return (right * steps).sum(axis=1), number[1]


def _sides(fit, cell_edges, edges, axis, number):
    """Return the surfaces of the regions before and behind a line, in all cells."""
    x, y = ((along[1:] + along[:-1]) / 2 for along in cell_edges)
    splines, *polynomials = fit.basis.at(x, y).kinds
    coefficients = fit.solution(*fit.best).coefficients
    n = fit.basis.n_splines
    surface = splines.x @ coefficients[:n].reshape(splines.x.shape[1], -1) @ splines.y.T
    if not polynomials:
        return surface, surface
    (kind,) = polynomials
    full = np.zeros(kind.number)
    full[kind.kept] = coefficients[n:]
    full = full.reshape(kind.x.shape[1], -1)
    position, across = ((x, kind.y), (y, kind.x))[axis]
    borders = [cell_edges[axis][0], *edges[axis], cell_edges[axis][-1]]
    terms = kind[axis].shape[1] // (len(borders) - 1)
    sides = []
    for region in (number, number + 1):
        low, high = borders[region : region + 2]
        p = np.clip(2 * (position - low) / (high - low) - 1, -_BEYOND, _BEYOND)
        along = p[:, None] ** np.arange(terms)
        own = slice(region * terms, (region + 1) * terms)
        of_region = full[own] if axis == 0 else full[:, own]
        values = (
            along @ of_region @ across.T if axis == 0 else across @ of_region @ along.T
        )
        sides.append(surface + values)
    return sides


def _shares(cell_edges, positions):
    """Return the share of each cell that is behind each position."""
    low, high = cell_edges[:-1], cell_edges[1:]
    return np.clip((high - np.asarray(positions)[:, None]) / (high - low), 0, 1)


def _parts(cell_edges, edges):
    """Return functions along a line: one for each region, or a polynomial."""
    if not len(edges):
        p = np.linspace(-1, 1, len(cell_edges) - 1)
        return np.polynomial.legendre.legvander(p, _DEGREE).T
    behind = _shares(cell_edges, [cell_edges[0], *edges, cell_edges[-1]])
    return behind[:-1] - behind[1:]


def _log_tail(chi2, freedom):
    """Return the log of the probability that a chi-square exceeds values."""
    from scipy.special import gammaincc, gammaln

    a, x = freedom / 2, np.maximum(chi2, 1e-300) / 2
    tail = np.maximum(gammaincc(a, x), 1e-300)
    # The first term of its asymptotic series (Abramowitz & Stegun 6.5.32).
    far = (a - 1) * np.log(x) - x - gammaln(a)
    return np.where(tail > 1e-290, np.log(tail), far)
