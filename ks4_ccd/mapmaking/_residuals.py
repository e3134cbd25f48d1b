# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What a calibration leaves of the differences between sources and stars."""

import numpy as np
from astropy.stats import mad_std

from ks4_ccd.ks4.recipe import (
    LARGEST_MAGNITUDE_ERROR,
    MATCH_RADIUS,
    PHOTOMETRIC_RANGE,
)

__all__ = ["Residuals", "scatter_of", "trend_of"]

_MAS = 1000.0


class Residuals:
    """
    Matched stars, and what calibrations leave of their differences.

    Parameters
    ----------
    stars : `MatchedStars`
    kind : {"zeropoint", "offset"}
        Whether magnitudes (in mag) are compared or positions (in mas).
    aperture : str
        Of the magnitudes.
    mode : {"single", "dual"}
        Which stars make maps.

    Attributes
    ----------
    stars : `MatchedStars`
        The same.
    axes : tuple of str
        Of which there are residuals.
    unit : str
    errors : 1D `~numpy.ndarray`
        The measured errors of sources and stars, in mag, 0 where unknown.
    makers : 1D `~numpy.ndarray` of bool
        The stars that maps are made of.
    published : 1D `~numpy.ndarray` of bool
        The stars that the published accuracy is of.
    """

    def __init__(self, stars, kind, aperture, mode):
        self.stars = stars
        self._is_position = kind == "offset"
        if self._is_position:
            self.axes, self.unit, aperture = ("ra", "dec"), "mas", "AUTO"
            self._raw = -_MAS * np.array(stars.offsets)
            self.makers = stars.in_astrometry(strict=False)
            measured = stars.sources.magnitude_errors(aperture)
            self.errors = np.nan_to_num(measured)
        else:
            self.axes, self.unit = ("mag",), "mag"
            magnitudes = stars.sources.magnitudes(aperture)
            self._raw = (magnitudes - stars.reference)[np.newaxis]
            self.makers = stars.in_photometry(strict=False, mode=mode)
            self.makers &= stars.separation < MATCH_RADIUS
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
        """Whether residuals may depend on magnitude."""
        return not self._is_position

    @property
    def known(self):
        """The stars that have a residual under any calibration."""
        finite = np.isfinite([self.stars.x, self.stars.y, self.stars.reference])
        return finite.all(axis=0) & np.isfinite(self._raw).all(axis=0)

    def left_by(self, calibration):
        """
        Return calibrated minus reference.

        Parameters
        ----------
        calibration : float, `~ks4_ccd.ZeroPointMap` or `~ks4_ccd.OffsetMap`

        Returns
        -------
        residuals : 2D `~numpy.ndarray`
            A row an axis, a column a star.
        """
        if not hasattr(calibration, "at"):
            return self._raw + calibration
        correction = np.array(calibration.at(self.stars.x, self.stars.y))
        return self._raw + (_MAS * correction if self._is_position else correction)

    def error_of(self, calibration):
        """Return the standard error of a calibration at the stars, 0 if not known."""
        arrays = (getattr(calibration, part, None) for part in ("error", "count"))
        if any(array is None for array in arrays):
            return np.zeros(len(self.stars.sources))
        x, y = self.stars.x, self.stars.y
        error = calibration.error_at(x, y, error_kind="median")
        return _MAS * error if self._is_position else error


_STARS_PER_BIN = 30
_MOST_BINS = 20


def trend_of(magnitudes, residuals):
    """
    Return the typical residual as a function of magnitude.

    Parameters
    ----------
    magnitudes, residuals : 1D `~numpy.ndarray`
        Of the stars of the map, finite. Without stars, nothing is known: NaN.

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
        return _nothing
    return lambda values: np.interp(values, nodes, medians)


def scatter_of(errors, residuals):
    """
    Return the standard deviation of a star as a function of its measured error.

    Parameters
    ----------
    errors, residuals : 1D `~numpy.ndarray`
        Of the stars of the map, finite. Without stars, nothing is known: NaN.

    Returns
    -------
    scatter : callable
        From measured errors: 1.4826 times the median absolute deviation in
        bins of equal numbers of stars, linear in between. A smaller error
        than any has the scatter of the first bin (what is left then is that
        of the reference), a larger one that of the last, in proportion.
    """
    bins = _bins(errors)
    nodes = np.array([np.median(errors[part]) for part in bins])
    scatters = [mad_std(residuals[part]) for part in bins]
    if not bins:
        return _nothing

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
        # All alike, as where no errors are known.
        number = 1
    return np.array_split(np.argsort(values, kind="stable"), number)


def _nothing(values):
    return np.full(np.shape(values), np.nan)
