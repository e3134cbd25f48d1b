# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Compare penalties by their evidence, with no more fits than the comparison needs.

The evidence is the probability of held-out stars, fold by fold. Most penalties are
so much worse than the best that the stars of one fold are enough to see it: races
of Maron & Moore (1994, Advances in Neural Information Processing Systems 6, 59).
What is kept is compared, and weighted, by all stars.
"""

import numpy as np

from ks4_ccd.surfaces.spline import Spline

__all__ = ["PenaltySearch", "Trial"]

# Relative to the weight of the stars; the last leaves a constant.
_SMOOTHNESS = tuple(10.0**power for power in range(-10, 5))
_CONSTANT = 1e9
_START = _SMOOTHNESS.index(1e-5)
_ORDERS = (1, 2, 3)
# A constant is as probable as so many strengths of each order.
_PRIOR_OF_CONSTANT = 4
# Of the difference of two penalties, as some of the folds predict that of all.
_SIGNIFICANT = 8.0
_NEGLIGIBLE = 1e-6  # relative to the probability of the best


class Trial:
    """
    A penalty, and what it makes of the folds tried so far.

    Parameters
    ----------
    spline : `~ks4_ccd.surfaces.spline.Spline`
        Its weights must stay the same.
    order : {1, 2, 3}
    smoothness : float
        Of the penalty.
    prior : float, optional
        Its probability before any star is known, relative to that of others.
    """

    def __init__(
        self, spline: Spline, order: int, smoothness: float, prior: float = 1.0
    ) -> None:
        self.order, self.smoothness = order, smoothness
        self.log_prior = np.log(prior)
        self._spline = spline
        self._squares: list[np.ndarray] = []

    def squares(self, n_folds: int) -> np.ndarray:
        """Return the squared residuals of the held-out stars of the first folds."""
        for fold in range(len(self._squares), n_folds):
            self._squares.append(
                self._spline.held_out_squares(fold, self.order, self.smoothness)
            )
        return np.concatenate(self._squares[:n_folds])

    @property
    def evidence(self) -> float:
        """
        The log of the probability of held-out stars, and of the prior.

        Geisser & Eddy (1979), J. Am. Stat. Assoc. 74, 153. For a surface with steps
        that no smooth one can follow, it is a better criterion than the probability
        of all stars under a smooth process.
        """
        squares = self.squares(len(self._spline.folds))
        mean = max(np.mean(squares), 1e-30)
        return -0.5 * squares.size * np.log(mean) + self.log_prior

    def exceeds(self, other: "Trial", margin: float = 0.0) -> bool:
        """
        Return whether the evidence is larger than that of another trial.

        Parameters
        ----------
        other : `Trial`
            Of the same stars with the same weights.
        margin : float, optional
            By how much more.
        """
        folds = self._spline.folds
        total = sum(stars.size for stars in folds)
        # The evidence is a power of the sum of squares.
        ratio = np.exp(2 * (margin + other.log_prior - self.log_prior) / total)
        for n_folds in range(1, len(folds)):
            excess = other.squares(n_folds) - ratio * self.squares(n_folds)
            number = excess.size
            noise = np.std(excess) * np.sqrt(number * (total - number) / total)
            if np.abs(excess.sum()) > _SIGNIFICANT * noise:
                return excess.sum() > 0
        return self.evidence > other.evidence + margin


class PenaltySearch:
    """
    The search for the penalties of a spline that are probable.

    Parameters
    ----------
    spline : `~ks4_ccd.surfaces.spline.Spline`
    other : `PenaltySearch`, optional
        A search with other weights, whose results are where this one starts.
    """

    def __init__(self, spline: Spline, other: "PenaltySearch | None" = None) -> None:
        self.spline = spline
        self._starts = {} if other is None else other._best
        self._best: dict[int, int] = {}
        self._trials: dict[tuple[int, int], Trial] = {}
        self._constant = Trial(spline, _ORDERS[0], _CONSTANT, _PRIOR_OF_CONSTANT)

    def best_of_order(self, order: int) -> Trial:
        """Return the best penalty of an order, found uphill."""
        step = self._best.get(order, self._starts.get(order, _START))
        while order not in self._best:
            best = step
            for beside in (step - 1, step + 1):
                if 0 <= beside < len(_SMOOTHNESS) and self._trial(
                    order, beside
                ).exceeds(self._trial(order, best)):
                    best = beside
            if best == step:
                self._best[order] = step
            step = best
        return self._trial(order, step)

    def best(self) -> Trial:
        """Return the best penalty."""
        best = self._constant
        for order in _ORDERS:
            found = self.best_of_order(order)
            best = found if found.exceeds(best) else best
        return best

    def probable(self) -> tuple[list[Trial], np.ndarray]:
        """Return the penalties that are not negligible, and their probabilities."""
        best = self.best()
        margin = -np.log(_NEGLIGIBLE)
        trials = [
            trial
            for trial in (*self._trials.values(), self._constant)
            if trial is best or not best.exceeds(trial, margin)
        ]
        if len(trials) == 1:
            return trials, np.ones(1)
        logs = np.array([trial.evidence for trial in trials])
        weights = np.exp(logs - logs.max())
        return trials, weights / weights.sum()

    def _trial(self, order: int, step: int) -> Trial:
        if (order, step) not in self._trials:
            self._trials[order, step] = Trial(self.spline, order, _SMOOTHNESS[step])
        return self._trials[order, step]
