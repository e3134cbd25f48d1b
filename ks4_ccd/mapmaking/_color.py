# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Colours of matched stars: their columns, and a trend of residuals with colour."""

import re
import warnings
from itertools import combinations
from typing import NamedTuple

import numpy as np
from astropy.stats import mad_std
from astropy.table import Table

from ks4_ccd.catalogs.columns import magnitude_column
from ks4_ccd.exceptions import KS4Warning, OptionError
from ks4_ccd.maps.color import check_bands
from ks4_ccd.surfaces.basis import trend_columns

__all__ = ["MOST_TERMS", "best_order", "color_of", "warn_of_color", "widest_color"]

# The largest order of a colour term.
MOST_TERMS = 2

_MAGNITUDE = re.compile(r"([A-Za-z0-9]+)mag")
# A trend is reported from this significance on, and this size: below it, it is
# smaller than the residuals of the best maps.
_SIGNIFICANT, _LEAST_RMS = 5.0, 0.001
_CLIP = 4.0
_FOLDS = 5
_ROUNDS = 3
_FEWEST = 30


def color_of(matched: Table, bands: tuple[str, str]) -> np.ndarray:
    """
    Return the colours of the reference stars.

    Parameters
    ----------
    matched : `~astropy.table.Table`
        Matched stars: ``{band}mag`` are the reference magnitudes.
    bands : pair of str
        The colour is the magnitude in the first band minus that in the second.

    Returns
    -------
    color : 1D `~numpy.ndarray`
        In magnitudes, NaN where it is unknown.

    Raises
    ------
    OptionError
        If ``bands`` is not a pair of different bands, or the reference has no
        magnitudes in one of them.
    """
    first, second = check_bands(bands)
    for band in (first, second):
        if f"{band}mag" not in matched.colnames:
            available = ", ".join(_bands_in(matched)) or "none"
            msg = (
                f"color=({first!r}, {second!r}) needs the reference magnitudes "
                f"{first}mag and {second}mag: the table has no column {band}mag. "
                f"Bands of the reference: {available}"
            )
            raise OptionError(msg)
    magnitudes = [magnitude_column(matched, f"{band}mag") for band in (first, second)]
    return magnitudes[0] - magnitudes[1]


def _bands_in(matched: Table) -> list[str]:
    """Return the bands in which the reference has magnitudes."""
    found = map(_MAGNITUDE.fullmatch, matched.colnames)
    return [match[1] for match in found if match]


def widest_color(matched: Table) -> tuple[str, str] | None:
    """Return the bands of the colour that varies most, `None` without two bands."""
    spreads = {
        bands: mad_std(color_of(matched, bands), ignore_nan=True)
        for bands in combinations(_bands_in(matched), 2)
    }
    spreads = {bands: spread for bands, spread in spreads.items() if spread > 0}
    return max(spreads, key=lambda bands: spreads[bands]) if spreads else None


def best_order(
    powers: np.ndarray, residuals: np.ndarray, magnitudes: np.ndarray
) -> int:
    """
    Return the order of a colour term that predicts held-out stars best.

    Parameters
    ----------
    powers : 2D `~numpy.ndarray`
        The powers of the colour of each star, a column for each.
    residuals : 1D `~numpy.ndarray`
        The residuals of the stars without a colour term.
    magnitudes : 1D `~numpy.ndarray`
        Their magnitudes, with which residuals may vary as well.

    Returns
    -------
    order : int
        From 0 to the number of powers.
    """
    number = residuals.size
    others = np.column_stack([np.ones(number), trend_columns(magnitudes)])
    columns = np.column_stack([others, powers])
    fold = np.random.default_rng(0).permutation(number) % _FOLDS
    fit, *_ = np.linalg.lstsq(columns, residuals, rcond=None)
    sigma = max(mad_std(residuals - columns @ fit), 1e-12)
    scores = []
    for order in range(powers.shape[1] + 1):
        used = columns[:, : others.shape[1] + order]
        pulls = np.zeros(number)
        for held_out in (fold == k for k in range(_FOLDS)):
            fit, *_ = np.linalg.lstsq(used[~held_out], residuals[~held_out], rcond=None)
            pulls[held_out] = (residuals[held_out] - used[held_out] @ fit) / sigma
        scores.append(np.mean(np.minimum(pulls**2, _CLIP**2)))
    return int(np.argmin(scores))


class _Trend(NamedTuple):
    bands: tuple[str, str]
    slope: float
    error: float
    rms: float


def warn_of_color(
    matched: Table,
    used: np.ndarray,
    residuals: np.ndarray,
    magnitudes: np.ndarray,
    content: str,
) -> bool:
    """
    Warn of residuals that depend on the colour of the stars.

    Parameters
    ----------
    matched : `~astropy.table.Table`
        Matched stars.
    used : 1D `~numpy.ndarray` of bool
        The stars of the map.
    residuals, magnitudes : 1D `~numpy.ndarray`
        Their residuals from the map and their reference magnitudes.
    content : str
        The content of the map, for the message.

    Returns
    -------
    warned : bool

    Warns
    -----
    KS4Warning
        If the slope of the residuals with a colour of the reference is
        significant at 5 sigma and the zero points of the stars vary by more than
        1 mmag RMS with it.
    """
    trends = []
    for bands in combinations(_bands_in(matched), 2):
        trend = _trend(color_of(matched[used], bands), residuals, magnitudes)
        if trend is not None:
            trends.append(_Trend(bands, *trend))
    strong = [
        trend
        for trend in trends
        if abs(trend.slope) > _SIGNIFICANT * trend.error and trend.rms > _LEAST_RMS
    ]
    if not strong:
        return False
    bands, slope, error, rms = max(strong, key=lambda trend: trend.rms)
    msg = (
        f"the residuals of {content} depend on the colour of the stars: "
        f"{slope:+.3f} +/- {error:.3f} mag per mag of {'-'.join(bands)}, "
        f"{1000 * rms:.1f} mmag RMS. color={bands!r} (--color {'-'.join(bands)}) "
        "includes a colour term in the map"
    )
    warnings.warn(msg, KS4Warning, stacklevel=4)
    return True


def _trend(
    color: np.ndarray, residuals: np.ndarray, magnitudes: np.ndarray
) -> tuple[float, float, float] | None:
    """Return the slope of residuals with colour, its uncertainty, and its RMS size."""
    known = np.isfinite(color)
    if np.count_nonzero(known) < _FEWEST or np.ptp(color[known]) == 0:
        return None
    color, residuals = color[known], residuals[known]
    # Faint stars are redder: a trend with magnitude must not be taken for colour.
    columns = np.column_stack(
        [
            color - np.median(color),
            np.ones(color.size),
            trend_columns(magnitudes[known]),
        ]
    )
    used = np.ones(color.size, dtype=bool)
    for _ in range(_ROUNDS):
        fit, *_ = np.linalg.lstsq(columns[used], residuals[used], rcond=None)
        rest = residuals - columns @ fit
        used = np.abs(rest) <= _CLIP * mad_std(rest)
    scatter = np.std(rest[used])
    covariance = np.linalg.pinv(columns[used].T @ columns[used])
    error = float(scatter * np.sqrt(covariance[0, 0]))
    return float(fit[0]), error, float(abs(fit[0]) * np.std(color[used]))
