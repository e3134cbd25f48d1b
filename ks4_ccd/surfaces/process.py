# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Fit a field to few stars, averaged over the probable models.

Each model is a Gaussian process (Rasmussen & Williams 2006). Models differ in the
smoothness of the field, its amplitude relative to the scatter of the stars, and the
dependence on magnitude. Few stars do not select one of them: predictions are averaged
with the probability of each model given the stars (Hoeting et al. 1999, Stat. Sci. 14,
382), and their differences are part of the uncertainty.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from astropy.stats import mad_std
from threadpoolctl import threadpool_limits

from ks4_ccd.surfaces._kernels import Kernel, kernels
from ks4_ccd.surfaces._mixture import half_width
from ks4_ccd.surfaces._outliers import CLIP, SIGMA_OF_MEDIAN, Outliers, star_sigma
from ks4_ccd.surfaces.basis import trend_columns

__all__ = ["Process", "fit_process"]

# The variance of the field over that of stars, in steps of a factor of 3.
_RATIOS = 10.0 ** np.arange(-2, 6.1, 0.5)
# The smallest ratio is this number over the number of stars: weaker fields are not
# detectable.
_LEAST_SIGNAL = 20.0
# The prior probability of a constant field, in units of that of a ratio, for 20 stars;
# it decreases as the root of their number, as the evidence for a constant increases.
_CONSTANT, _STARS_OF_CONSTANT = 0.2, 20
# The prior of the variance of the stars is worth so many stars: either the variance of
# their measured errors, or about that of their scatter.
_STARS_OF_MEASURED, _STARS_OF_SCATTER = 40, 2
_PILOT_LENGTHS = (0.15, 0.5)
_ROUNDS = 3
_FEWEST_FOR_LINE, _NODES_OF_TENTS = 10, 3
_NEGLIGIBLE = 1e-3
_USELESS = 1e-4  # eigenvalues
_FEWEST = 3
_ONE_SIGMA = 0.8413  # cumulative normal distribution at one sigma


class _Part(NamedTuple):
    """
    Processes with one kernel, in the basis of its eigenvectors at the stars.

    Attributes
    ----------
    kernel : `Kernel`
    scale : float
        Its variance in units of the stars' variance that a ratio of 1 stands for.
    eigenvalues, eigenvectors : `~numpy.ndarray`
        Of the scaled covariance of the stars, each divided by its sigma.
    """

    kernel: Kernel
    scale: float
    eigenvalues: np.ndarray
    eigenvectors: np.ndarray


class _Model(NamedTuple):
    """
    One process, conditioned on the stars.

    Attributes
    ----------
    part : `_Part`
    ratio : float
        The variance of the field, in units of that of stars.
    trend : int
        The number of the choice of columns of a trend with magnitude.
    columns : 2D `~numpy.ndarray`
        A constant, the covariates and the trend, rotated as the eigenvectors are.
    precision : 2D `~numpy.ndarray`
        Of their coefficients.
    coefficients : 1D `~numpy.ndarray`
    rest : 1D `~numpy.ndarray`
        The values of the stars less these terms, rotated.
    variance : float
        The variance of a star, in units of its sigma squared.
    """

    part: _Part
    ratio: float
    trend: int
    columns: np.ndarray
    precision: np.ndarray
    coefficients: np.ndarray
    rest: np.ndarray
    variance: float

    @property
    def shrunk(self) -> np.ndarray:
        """The inverse eigenvalues of the covariance of the stars' values."""
        return 1 / (1 + self.ratio * self.part.eigenvalues)

    def left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Return residuals of held-out stars, and the inverse of their variance."""
        vectors, shrunk = self.part.eigenvectors, self.shrunk
        of_columns = vectors @ (self.columns * shrunk[:, None])
        precision = vectors**2 @ shrunk - _quadratic(of_columns, self.precision)
        precision = np.maximum(precision, 1e-12)
        return vectors @ (shrunk * self.rest) / precision, precision


class Process:
    """
    A field through stars.

    Parameters
    ----------
    x, y : 1D `~numpy.ndarray`
        0-based pixel coordinates of the stars.
    center : float
        The constant that was subtracted from their values.
    unit : 1D `~numpy.ndarray`
        Their relative standard deviations.
    models : list of `_Model`
    weights : 1D `~numpy.ndarray`
        The probability of each model.
    n_covariates : int, optional

    Attributes
    ----------
    x, y : 1D `~numpy.ndarray`
        Of the stars left after clipping.
    sigma : 1D `~numpy.ndarray`
        The standard deviation of each about the true field.
    left_out : 1D `~numpy.ndarray`
        The residual of each from the field through the others.
    left_out_deviation : 1D `~numpy.ndarray`
        The uncertainty of that field at the star.
    covariates : tuple of `~numpy.ndarray`
        The coefficients of the covariates, and their covariance.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        center: float,
        unit: np.ndarray,
        models: list[_Model],
        weights: np.ndarray,
        n_covariates: int = 0,
    ) -> None:
        self.x, self.y = x, y
        self._unit, self._models, self._weights = unit, models, weights
        self._n_covariates = n_covariates
        self.covariates = self._covariates()
        variances = np.array([model.variance for model in models])
        self.sigma = unit * np.sqrt(weights @ variances)
        left_out = [model.left_out() for model in models]
        residuals = unit * np.array([residual for residual, _ in left_out])
        precisions = np.array([precision for _, precision in left_out])
        excess = np.maximum(1 / precisions - 1, 0) * variances[:, None]
        self.left_out = weights @ residuals
        self.left_out_deviation = half_width(weights, residuals, unit * np.sqrt(excess))
        constants = np.array([model.coefficients[0] for model in models])
        self._constant = center + weights @ constants
        # The field at a position is its covariance with the stars, times these.
        self._influence = []
        for part, members in self._by_part():
            pull = sum(w * m.ratio * m.shrunk * m.rest for m, w in members)
            pull = part.scale * (part.eigenvectors @ pull) / unit
            self._influence.append((part.kernel, pull))

    def _covariates(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean coefficients of covariates, and their covariance."""
        own = slice(1, 1 + self._n_covariates)
        every = np.array([model.coefficients[own] for model in self._models])
        mean = self._weights @ every
        covariance = np.einsum("m,mi,mj->ij", self._weights, every - mean, every - mean)
        for model, weight in zip(self._models, self._weights, strict=True):
            inverse = np.linalg.inv(model.precision)[own, own]
            covariance += weight * model.variance * inverse
        return mean, covariance

    def _by_part(self) -> Iterator[tuple[_Part, list[tuple[_Model, float]]]]:
        """Yield each part, and its models with their weights."""
        members: dict[int, list[tuple[_Model, float]]] = {}
        for model, weight in zip(self._models, self._weights, strict=True):
            members.setdefault(id(model.part), []).append((model, weight))
        for some in members.values():
            yield some[0][0].part, some

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the field at 0-based pixel coordinates."""
        return self._constant + sum(
            kernel.between(x, y, self.x, self.y) @ pull
            for kernel, pull in self._influence
        )

    def mesh(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the field on a mesh of coordinates along x and along y."""
        total = np.full((x.size, y.size), self._constant)
        for kernel, pull in self._influence:
            for share, along_x, along_y in kernel.terms(x, y, self.x, self.y):
                total += (share * along_x * pull) @ along_y.T
        return total

    def mesh_deviation(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """
        Return the uncertainty of the field on a mesh.

        Returns
        -------
        deviation : 2D `~numpy.ndarray`
            68 % of the errors of the field are smaller.
        """
        mesh_x, mesh_y = (p.ravel() for p in np.meshgrid(x, y, indexing="ij"))
        weights, means, deviations = [], [], []
        for part, members in self._by_part():
            largest = max(model.ratio for model, _ in members)
            useful = slice(np.searchsorted(largest * part.eigenvalues, _USELESS), None)
            covariance = part.kernel.between(mesh_x, mesh_y, self.x, self.y)
            covariance /= self._unit
            covariance = part.scale * (covariance @ part.eigenvectors[:, useful])
            square = covariance**2
            for model, weight in members:
                ratio, shrunk = model.ratio, model.shrunk[useful]
                rows = -ratio * (covariance @ (model.columns[useful] * shrunk[:, None]))
                rows[:, 0] += 1
                variance = ratio * part.scale - ratio**2 * (square @ shrunk)
                variance = np.maximum(variance, 0) + _quadratic(rows, model.precision)
                mean = ratio * (covariance @ (shrunk * model.rest[useful]))
                weights.append(weight)
                means.append(mean + model.coefficients[0])
                deviations.append(np.sqrt(variance * model.variance))
        width = half_width(*map(np.array, (weights, means, deviations)))
        return width.reshape(x.size, y.size)

    def trend(self, choices: list[np.ndarray], used: np.ndarray) -> np.ndarray:
        """Return the trend of stars about the median of those used."""
        k = self._n_covariates
        trend = sum(
            weight * (choices[model.trend] @ model.coefficients[1 + k :])
            for model, weight in zip(self._models, self._weights, strict=True)
        )
        return trend - np.median(trend[used])


def fit_process(
    x: np.ndarray,
    y: np.ndarray,
    values: np.ndarray,
    errors: np.ndarray,
    image_shape: tuple[int, int],
    edges: tuple[Sequence[float], Sequence[float]] = ((), ()),
    trend: np.ndarray | None = None,
    covariates: np.ndarray | None = None,
) -> Process:
    """
    Fit a field to few stars.

    Parameters
    ----------
    x, y, values, errors, image_shape, edges, trend, covariates
        As for `~ks4_ccd.surfaces.surface.fit_surface`, of three stars or more.

    Returns
    -------
    field : `Process`
    """
    with threadpool_limits(1, user_api="blas"):
        choices = _trend_choices(trend, values.size)
        if covariates is None:
            covariates = np.zeros((values.size, 0))
        sigma, used = _weights(x, y, values, errors, image_shape, choices, covariates)
        return _average(
            *(x[used], y[used], values[used], sigma[used]),
            _opinions(errors[used], sigma[used]),
            [columns[used] for columns in choices],
            covariates[used],
            *kernels(image_shape, edges),
        )


def _weights(
    x: np.ndarray,
    y: np.ndarray,
    values: np.ndarray,
    errors: np.ndarray,
    image_shape: tuple[int, int],
    choices: list[np.ndarray],
    covariates: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the relative sigma of stars, and which are left after clipping."""
    pilots = [
        Kernel(rough, length * max(image_shape))
        for rough in (False, True)
        for length in _PILOT_LENGTHS
    ]
    outliers = Outliers(x, y)
    residuals = values - np.median(values)
    spread = max(mad_std(values), 1e-12)
    used = np.abs(residuals) <= 2 * CLIP * spread
    for _ in range(_ROUNDS):
        sigma = star_sigma(residuals, errors, used)
        pilot = _average(
            *(x[used], y[used], values[used], sigma[used]),
            _opinions(errors[used], sigma[used]),
            [columns[used] for columns in choices],
            covariates[used],
            pilots,
            np.ones(len(pilots)),
        )
        left = values - pilot.at(x, y) - pilot.trend(choices, used)
        left -= covariates @ pilot.covariates[0]
        left[used] = pilot.left_out
        total = np.hypot(pilot.sigma, pilot.left_out_deviation)
        pulls = pilot.left_out / total
        # The deviation of the star itself, without the uncertainty of the field.
        residuals = left.copy()
        residuals[used] = pulls * pilot.sigma
        # Outliers increase the scatter of the others; the median is robust.
        scale = min(SIGMA_OF_MEDIAN * np.median(np.abs(pulls)), 1.0)
        allowed = np.full(x.size, np.median(total))
        allowed[used] = total
        kept = ~outliers.among(left, scale * allowed)
        if np.count_nonzero(kept) < _FEWEST:
            break
        used = kept
    return star_sigma(residuals, errors, used), used


def _opinions(errors: np.ndarray, sigma: np.ndarray) -> list[tuple[float, float]]:
    """Return priors of the variance of the stars: a weight, and a value, for each."""
    opinions: list[tuple[float, float]] = [(_STARS_OF_SCATTER, 1.0)]
    measured = min(np.mean((errors / sigma) ** 2), 1.0)
    if measured > 0:
        opinions.append((_STARS_OF_MEASURED, measured))
    return opinions


def _trend_choices(trend: np.ndarray | None, number: int) -> list[np.ndarray]:
    """Return columns of no trend, a line, and tents, without their means."""
    choices = [np.zeros((number, 0))]
    if trend is not None and number >= _FEWEST_FOR_LINE and np.ptp(trend) > 0:
        choices.append((trend - np.mean(trend))[:, None])
        tents = trend_columns(trend)
        if tents.shape[1] + 1 >= _NODES_OF_TENTS:
            choices.append(tents)
    return choices


def _average(
    x: np.ndarray,
    y: np.ndarray,
    values: np.ndarray,
    sigma: np.ndarray,
    opinions: list[tuple[float, float]],
    choices: list[np.ndarray],
    covariates: np.ndarray,
    found: list[Kernel],
    priors: np.ndarray,
) -> Process:
    """Return the average over all models, each with its probability as weight."""
    center = np.median(values)
    whitened = (values - center) / sigma
    ratios = _RATIOS[_RATIOS * x.size >= _LEAST_SIGNAL]
    trials: list[tuple[_Trial, float]] = []
    logs = []
    for kernel, prior in zip(found, priors / priors.sum(), strict=True):
        part = _part(kernel, x, y, sigma)
        some = ratios
        if not trials:
            # Without a field, all kernels are equal: it is included with the first.
            some = np.append(ratios, 0.0)
            constant = _CONSTANT * np.sqrt(_STARS_OF_CONSTANT / x.size)
        for (choice, columns), opinion in product(enumerate(choices), opinions):
            trial = _Trial(part, choice, columns, covariates, whitened, sigma, opinion)
            evidence = trial.solve(some).evidence + np.log(prior)
            evidence[some == 0] += np.log(constant / prior)
            trials += [(trial, ratio) for ratio in some]
            logs.append(evidence)
    weights = np.exp(np.concatenate(logs) - max(part.max() for part in logs))
    kept = np.flatnonzero(weights > _NEGLIGIBLE * weights.sum())
    models = [trials[number][0].model(trials[number][1]) for number in kept]
    weights = weights[kept] / weights[kept].sum()
    # The field refers to a star of median magnitude.
    k = covariates.shape[1]
    trend = sum(
        weight * (choices[model.trend] @ model.coefficients[1 + k :])
        for model, weight in zip(models, weights, strict=True)
    )
    center += np.median(trend)
    return Process(x, y, center, sigma, models, weights, k)


def _part(kernel: Kernel, x: np.ndarray, y: np.ndarray, sigma: np.ndarray) -> _Part:
    covariance = kernel.between(x, y, x, y) / np.outer(sigma, sigma)
    scale = x.size / np.trace(covariance)
    eigenvalues, eigenvectors = np.linalg.eigh(scale * covariance)
    return _Part(kernel, scale, np.maximum(eigenvalues, 0), eigenvectors)


class _Solution(NamedTuple):
    """The solutions for several ratios: a row for each."""

    evidence: np.ndarray
    precision: np.ndarray
    coefficients: np.ndarray
    rest: np.ndarray
    variance: np.ndarray


class _Trial:
    """The stars, rotated to the eigenvectors of a part, and columns of a trend."""

    def __init__(
        self,
        part: _Part,
        choice: int,
        columns: np.ndarray,
        covariates: np.ndarray,
        whitened: np.ndarray,
        sigma: np.ndarray,
        opinion: tuple[float, float],
    ) -> None:
        self._part, self._choice, self._opinion = part, choice, opinion
        self._free = k = 1 + covariates.shape[1]
        columns = np.column_stack([np.ones(sigma.size), covariates, columns])
        columns = columns / sigma[:, None]
        self._columns = part.eigenvectors.T @ columns
        self._values = part.eigenvectors.T @ whitened
        # The prior of a trend is worth a single star (Kass & Wasserman 1995).
        self._prior = columns.T @ columns / sigma.size
        self._prior[:k] = self._prior[:, :k] = 0

    def solve(self, ratios: np.ndarray) -> _Solution:
        """Return the solutions for some ratios."""
        from scipy.special import gammaln, stdtrit

        columns, values = self._columns, self._values
        shrunk = 1 / (1 + np.multiply.outer(ratios, self._part.eigenvalues))
        precision = np.einsum("rn,np,nq->rpq", shrunk, columns, columns, optimize=True)
        precision += self._prior
        right = (shrunk * values) @ columns
        coefficients = np.linalg.solve(precision, right[..., None])[..., 0]
        rest = values - coefficients @ columns.T
        squares = (shrunk * rest**2).sum(axis=1)
        squares += np.einsum("rp,pq,rq->r", coefficients, self._prior, coefficients)
        number, expected = self._opinion
        squares = np.maximum(squares, 1e-30) + number * expected
        freedom = values.size - 1 + number
        evidence = np.log(shrunk).sum(axis=1) - freedom * np.log(squares)
        evidence += number * np.log(number * expected)
        evidence += 2 * (gammaln(freedom / 2) - gammaln(number / 2))
        evidence -= np.linalg.slogdet(precision)[1]
        evidence += np.linalg.slogdet(self._prior[self._free :, self._free :])[1]
        # One sigma of Student's distribution, as the variance is estimated, too.
        variance = squares / freedom * stdtrit(freedom, _ONE_SIGMA) ** 2
        return _Solution(evidence / 2, precision, coefficients, rest, variance)

    def model(self, ratio: float) -> _Model:
        """Return the model for one ratio."""
        solution = self.solve(np.array([ratio]))
        own = (part[0] for part in solution[1:])
        return _Model(self._part, ratio, self._choice, self._columns, *own)


def _quadratic(rows: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Return rows @ inverse(precision) @ rows.T, its diagonal."""
    return np.einsum("pi,pi->p", rows @ np.linalg.inv(precision), rows)
