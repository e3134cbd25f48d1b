# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Compute the residuals of calibrated stars, their trends and quoted errors."""

import numpy as np
from astropy.stats import mad_std
from astropy.table import Column, Table, vstack

from ks4_ccd.ks4.recipe import (
    LARGEST_MAGNITUDE_ERROR,
    MATCH_RADIUS,
    PHOTOMETRIC_RANGE,
)

__all__ = [
    "Residuals",
    "calibrated_residuals",
    "held_out_residuals",
    "scatter_of",
    "star_table",
    "trend_of",
]

_STARS_PER_BIN = 30
_MOST_BINS = 20
_MAS = 1000.0
_IN_UNIT = ("residual", "trend", "error")


class Residuals:
    """
    Residuals of matched stars under any calibration.

    Parameters
    ----------
    stars : `MatchedStars`
    kind : {"zeropoint", "offset"}
        Whether magnitudes (in mag) are compared or positions (in mas).
    aperture : str
        The aperture of the magnitudes.
    mode : {"single", "dual"}
        The mode of the catalog, which decides on the stars that maps are made from.

    Attributes
    ----------
    stars : `MatchedStars`
        The same.
    axes : tuple of str
        The axes that residuals are measured along.
    unit : str
    errors : 1D `~numpy.ndarray`
        The measured errors of sources and stars, in mag, 0 where unknown.
    map_stars : 1D `~numpy.ndarray` of bool
        The stars that maps are made from.
    published : 1D `~numpy.ndarray` of bool
        The stars that the published accuracy refers to.
    """

    def __init__(self, stars, kind, aperture, mode):
        self.axes: tuple[str, ...]
        self.stars = stars
        self._is_position = kind == "offset"
        if self._is_position:
            self.axes, self.unit, aperture = ("ra", "dec"), "mas", "AUTO"
            self._raw = -_MAS * np.array(stars.offsets)
            self.map_stars = stars.in_astrometry(strict=False)
            measured = stars.sources.magnitude_errors(aperture)
            self.errors = np.nan_to_num(measured)
        else:
            self.axes, self.unit = ("mag",), "mag"
            magnitudes = stars.sources.magnitudes(aperture)
            self._raw = (magnitudes - stars.reference)[np.newaxis]
            self.map_stars = stars.in_photometry(strict=False, mode=mode)
            self.map_stars &= stars.separation < MATCH_RADIUS
            measured = stars.sources.magnitude_errors(aperture)
            self.errors = np.hypot(np.nan_to_num(measured), stars.reference_error)
        brightest, faintest = PHOTOMETRIC_RANGE
        self.published = (
            stars.sources.good_stars()
            & (stars.separation < MATCH_RADIUS)
            & (stars.reference >= brightest)
            & (stars.reference <= faintest)
        )
        if stars.sources.place_of_error(aperture) is not None:
            self.published &= measured < LARGEST_MAGNITUDE_ERROR

    @property
    def has_trend(self):
        """Whether a trend of residuals with magnitude is removed."""
        return not self._is_position

    @property
    def known(self):
        """The stars with a residual under any calibration."""
        finite = np.isfinite([self.stars.x, self.stars.y, self.stars.reference])
        return finite.all(axis=0) & np.isfinite(self._raw).all(axis=0)

    def after(self, calibration):
        """
        Return calibrated minus reference.

        Parameters
        ----------
        calibration : float, `~ks4_ccd.ZeroPointMap` or `~ks4_ccd.OffsetMap`

        Returns
        -------
        residuals : 2D `~numpy.ndarray`
            One row per axis, one column per star.
        """
        if not hasattr(calibration, "at"):
            return self._raw + calibration
        correction = np.array(calibration.at(self.stars.x, self.stars.y))
        return self._raw + (_MAS * correction if self._is_position else correction)

    def error_of(self, calibration):
        """Return the standard error of a calibration at the stars, 0 if unknown."""
        arrays = (getattr(calibration, part, None) for part in ("error", "count"))
        if any(array is None for array in arrays):
            return np.zeros(len(self.stars.sources))
        x, y = self.stars.x, self.stars.y
        error = calibration.error_at(x, y, error_kind="median")
        return _MAS * error if self._is_position else error


def held_out_residuals(residuals, map_, others):
    """
    Return residuals, trends and quoted errors of stars left out of a map.

    Parameters
    ----------
    residuals : `Residuals`
    map_ : `~ks4_ccd.ZeroPointMap` or `~ks4_ccd.OffsetMap`
    others : 1D `~numpy.ndarray` of bool
        The stars that the map was made from, which give trends and errors.

    Returns
    -------
    values : 3D `~numpy.ndarray`
        Residuals, trends and errors, by axis and star.
    """
    errors, magnitude = residuals.errors, residuals.stars.reference
    others = others & residuals.map_stars & residuals.known
    own, trends = [], []
    left = residuals.after(map_)
    for values in left:
        trend = np.zeros(values.size)
        if residuals.has_trend:
            trend = trend_of(magnitude[others], values[others])(magnitude)
        scatter = scatter_of(errors[others], (values - trend)[others])
        own.append(scatter(errors))
        trends.append(trend)
    return np.array([left, trends, np.hypot(own, residuals.error_of(map_))])


def calibrated_residuals(residuals, calibration):
    """Return the same as `held_out_residuals`, for a given calibration."""
    left, known = residuals.after(calibration), residuals.known
    trends, errors = np.zeros_like(left), np.full_like(left, np.nan)
    if residuals.has_trend:
        magnitude = residuals.stars.reference
        known = known & residuals.published if residuals.published.any() else known
        trends[0] = trend_of(magnitude[known], left[0][known])(magnitude)
        quoted = np.hypot(residuals.errors, residuals.error_of(calibration))
        errors[0] = np.where(quoted > 0, quoted, np.nan)
    return np.array([left, trends, errors])


def star_table(residuals, values, fold, meta):
    """Return a table of residuals, with the stars of one axis after the other."""
    stars, rows = residuals.stars, np.flatnonzero(residuals.known)
    columns: dict[str, tuple] = {"row": (rows, None, "in the table of matched stars")}
    columns["x"] = stars.x[rows], "pix", "0-based"
    columns["y"] = stars.y[rows], "pix", "0-based"
    if stars.sources.has("ra") and stars.sources.has("dec"):
        ra, dec = stars.sources.sky()
        columns["ra"], columns["dec"] = (ra[rows], "deg", ""), (dec[rows], "deg", "")
    columns["magnitude"] = stars.reference[rows], "mag", "of the reference"
    columns["fold"] = fold[rows], None, "-1: never left out"
    columns["published"] = residuals.published[rows], None, "in the published selection"
    parts = []
    for axis, left, trend, error in zip(
        residuals.axes, *values[..., rows], strict=True
    ):
        part = Table()
        for name, (data, unit, description) in columns.items():
            part[name] = Column(data, unit=unit, description=description)
        part["axis"] = [axis] * len(rows)
        for name, data in zip(_IN_UNIT, (left, trend, error), strict=True):
            part[name] = Column(data, unit=residuals.unit)
        part["pull"] = (left - trend) / error
        parts.append(part)
    table = vstack(parts)
    table.meta = meta | {"matched": len(stars.sources)}
    return table


def trend_of(magnitudes, residuals):
    """
    Return the typical residual as a function of magnitude.

    Parameters
    ----------
    magnitudes, residuals : 1D `~numpy.ndarray`
        Of the stars of the map, finite; without stars the result is NaN.

    Returns
    -------
    trend : callable
        From magnitudes: medians of bins of equal numbers of stars, linear in
        between and constant beyond the outermost.
    """
    bins = _bins(magnitudes)
    nodes = [np.median(magnitudes[part]) for part in bins]
    medians = [np.median(residuals[part]) for part in bins]
    if not bins:
        return _unknown
    return lambda values: np.interp(values, nodes, medians)


def scatter_of(errors, residuals):
    """
    Return the standard deviation of a star as a function of its measured error.

    Parameters
    ----------
    errors, residuals : 1D `~numpy.ndarray`
        Of the stars of the map, finite; without stars the result is NaN.

    Returns
    -------
    scatter : callable
        From measured errors: 1.4826 times the median absolute deviation in
        bins of equal numbers of stars, linear in between. Smaller errors
        than those of the first bin have its scatter (that of the reference
        remains), larger ones that of the last bin, in proportion.
    """
    bins = _bins(errors)
    nodes = np.array([np.median(errors[part]) for part in bins])
    scatters = [mad_std(residuals[part]) for part in bins]
    if not bins:
        return _unknown

    def scatter(values):
        beyond = np.maximum(values / nodes[-1], 1) if nodes[-1] > 0 else 1.0
        return np.interp(values, nodes, scatters) * beyond

    return scatter


def _bins(values):
    """Return the indices of the stars in bins of equal numbers."""
    if not values.size:
        return []
    number = int(np.clip(values.size // _STARS_PER_BIN, 1, _MOST_BINS))
    if np.ptp(values) == 0:
        # All equal, for example if no errors are known.
        number = 1
    return np.array_split(np.argsort(values, kind="stable"), number)


def _unknown(values):
    return np.full(np.shape(values), np.nan)
