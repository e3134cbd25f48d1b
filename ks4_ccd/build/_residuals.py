# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What a calibration leaves of the differences between sources and stars."""

import numpy as np

from ks4_ccd.build._stars import LARGEST_ERROR, ZEROPOINT_RANGE

__all__ = ["Residuals"]

_WIDEST_MATCH = 0.5 / 3600  # degrees
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
            self.makers &= stars.separation < _WIDEST_MATCH
            measured = stars.sources.magnitude_errors(aperture)
            self.errors = np.hypot(np.nan_to_num(measured), stars.reference_error)
        brightest, faintest = ZEROPOINT_RANGE
        self.published = (
            stars.sources.good_stars()
            & (stars.separation < _WIDEST_MATCH)
            & (stars.reference >= brightest)
            & (stars.reference <= faintest)
        )
        if stars.sources.place_of_error(aperture) is not None:
            self.published &= measured < LARGEST_ERROR

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
