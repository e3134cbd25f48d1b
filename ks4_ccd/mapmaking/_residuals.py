# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Compute the residuals of calibrated stars, their trends and quoted errors."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from astropy.stats import mad_std
from astropy.table import Column, Table, vstack

from ks4_ccd.ks4.recipe import (
    LARGEST_MAGNITUDE_ERROR,
    MATCH_RADIUS,
    PHOTOMETRIC_RANGE,
)
from ks4_ccd.mapmaking._color import color_of, widest_color
from ks4_ccd.mapmaking._stars import MatchedStars
from ks4_ccd.maps.color import ColorTerm
from ks4_ccd.maps.offset import OffsetMap
from ks4_ccd.maps.zeropoint import ZeroPointMap

__all__ = [
    "Residuals",
    "calibrated_residuals",
    "held_out_residuals",
    "scatter_of",
    "star_table",
    "trend_of",
]

# The smallest number of stars in a bin, if there are several, and the largest number
# of bins.
_STARS_PER_BIN = 30
_MOST_BINS = 20
_MAS = 1000.0  # in an arcsec
_IN_UNIT = ("residual", "trend", "error")

_Function: TypeAlias = Callable[[np.ndarray], np.ndarray]


class Residuals:
    """
    Compute residuals of matched stars with different calibrations.

    Parameters
    ----------
    stars : `~ks4_ccd.mapmaking._stars.MatchedStars`
    kind : {"zeropoint", "offset"}
        Whether magnitudes (in mag) or positions (in mas) are compared.
    aperture : str
        The aperture of the magnitudes.
    mode : {"single", "dual"}
        The mode of the catalog, on which the selection of ``map_stars`` depends.

    Attributes
    ----------
    stars : `~ks4_ccd.mapmaking._stars.MatchedStars`
        The argument.
    axes : tuple of str
        The names of the axes along which residuals are measured.
    unit : str
        The unit of residuals.
    errors : 1D `~numpy.ndarray`
        The measurement errors of magnitudes and reference magnitudes in quadrature,
        in mag; 0 where unknown.
    map_stars : 1D `~numpy.ndarray` of bool
        Whether a star passes the cuts of the maps.
    published : 1D `~numpy.ndarray` of bool
        Whether a star is in the selection to which the published accuracy refers.
    """

    def __init__(
        self, stars: MatchedStars, kind: str, aperture: str, mode: str
    ) -> None:
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
    def has_trend(self) -> bool:
        """Whether a trend of residuals with magnitude is removed."""
        return not self._is_position

    @property
    def measured(self) -> np.ndarray:
        """Whether a star has all the values that a residual requires."""
        finite = np.isfinite([self.stars.x, self.stars.y, self.stars.reference])
        return finite.all(axis=0) & np.isfinite(self._raw).all(axis=0)

    def after(self, calibration: float | ZeroPointMap | OffsetMap) -> np.ndarray:
        """
        Return residuals after calibration: calibrated minus reference.

        Parameters
        ----------
        calibration : float, `~ks4_ccd.ZeroPointMap` or `~ks4_ccd.OffsetMap`

        Returns
        -------
        residuals : 2D `~numpy.ndarray`
            One row per axis, one column per star.
        """
        if not isinstance(calibration, ZeroPointMap | OffsetMap):
            return self._raw + calibration
        correction = np.array(calibration.at(self.stars.x, self.stars.y))
        if (term := _color_term(calibration)) is not None:
            difference = term.at(color_of(self.stars.sources.table, term.bands))
            # Without a colour, a star is calibrated as one of the reference colour.
            correction += np.where(np.isfinite(difference), difference, 0)
        return self._raw + (_MAS * correction if self._is_position else correction)

    def error_of(self, calibration: float | ZeroPointMap | OffsetMap) -> np.ndarray:
        """Return the standard error of a calibration at the stars, 0 if unknown."""
        if (
            not isinstance(calibration, ZeroPointMap | OffsetMap)
            or calibration.error is None
            or calibration.count is None
        ):
            return np.zeros(len(self.stars.sources))
        x, y = self.stars.x, self.stars.y
        error = np.asarray(calibration.error_at(x, y, error_kind="median"))
        if (term := _color_term(calibration)) is not None:
            of_term = term.error_at(color_of(self.stars.sources.table, term.bands))
            error = np.hypot(error, np.where(np.isfinite(of_term), of_term, 0))
        return _MAS * error if self._is_position else error


def _color_term(calibration: ZeroPointMap | OffsetMap) -> ColorTerm | None:
    """Return the colour term of a map, `None` if its values hold for all colours."""
    term = calibration.color_term if isinstance(calibration, ZeroPointMap) else None
    return term if term is not None and term.order else None


def held_out_residuals(
    residuals: Residuals, map_: ZeroPointMap | OffsetMap, others: np.ndarray
) -> np.ndarray:
    """
    Return residuals, trends and quoted errors of held-out stars.

    Parameters
    ----------
    residuals : `Residuals`
    map_ : `~ks4_ccd.ZeroPointMap` or `~ks4_ccd.OffsetMap`
    others : 1D `~numpy.ndarray` of bool
        The stars from which the map was made, and from which trends and errors are
        derived.

    Returns
    -------
    values : 3D `~numpy.ndarray`
        Residuals, trends and errors; the second index is the axis, the third the star.
    """
    errors, magnitude = residuals.errors, residuals.stars.reference
    others = others & residuals.map_stars & residuals.measured
    own, trends = [], []
    calibrated = residuals.after(map_)
    for values in calibrated:
        trend = np.zeros(values.size)
        if residuals.has_trend:
            trend = trend_of(magnitude[others], values[others])(magnitude)
        scatter = scatter_of(errors[others], (values - trend)[others])
        own.append(scatter(errors))
        trends.append(trend)
    return np.array([calibrated, trends, np.hypot(own, residuals.error_of(map_))])


def calibrated_residuals(
    residuals: Residuals, calibration: float | ZeroPointMap | OffsetMap
) -> np.ndarray:
    """
    Return residuals, trends and quoted errors with an existing calibration.

    Parameters
    ----------
    residuals : `Residuals`
    calibration : float, `~ks4_ccd.ZeroPointMap` or `~ks4_ccd.OffsetMap`

    Returns
    -------
    values : 3D `~numpy.ndarray`
        As of `held_out_residuals`.
    """
    calibrated, used = residuals.after(calibration), residuals.measured
    trends, errors = np.zeros_like(calibrated), np.full_like(calibrated, np.nan)
    if residuals.has_trend:
        magnitude = residuals.stars.reference
        used = used & residuals.published if residuals.published.any() else used
        trends[0] = trend_of(magnitude[used], calibrated[0][used])(magnitude)
        quoted = np.hypot(residuals.errors, residuals.error_of(calibration))
        errors[0] = np.where(quoted > 0, quoted, np.nan)
    return np.array([calibrated, trends, errors])


def star_table(
    residuals: Residuals,
    values: np.ndarray,
    fold: np.ndarray,
    meta: Mapping,
    color: tuple[str, str] | None = None,
) -> Table:
    """
    Return the table of stars of a validation.

    Parameters
    ----------
    residuals : `Residuals`
    values : 3D `~numpy.ndarray`
        Residuals, trends and errors: see `held_out_residuals`.
    fold : 1D `~numpy.ndarray` of int
        The fold of each star.
    meta : mapping
        The record of the validation.
    color : pair of str, optional
        The bands of the colours; by default those with the widest range of colours.

    Returns
    -------
    table : `~astropy.table.Table`
        See `~ks4_ccd.Validation`. The rows of the first axis come first.
    """
    stars, rows = residuals.stars, np.flatnonzero(residuals.measured)
    columns: dict[str, tuple] = {"row": (rows, None, "in the table of matched stars")}
    columns["x"] = stars.x[rows], "pix", "0-based"
    columns["y"] = stars.y[rows], "pix", "0-based"
    if stars.sources.has_sky:
        ra, dec = stars.sources.sky()
        columns["ra"], columns["dec"] = (ra[rows], "deg", ""), (dec[rows], "deg", "")
    columns["magnitude"] = stars.reference[rows], "mag", "of the reference"
    color = widest_color(stars.sources.table) if color is None else color
    if color is not None:
        name = "-".join(color)
        columns["color"] = color_of(stars.sources.table, color)[rows], "mag", name
        meta = {**meta, "color": name}
    columns["fold"] = fold[rows], None, "-1: not held out"
    columns["published"] = residuals.published[rows], None, "in the published selection"
    parts = []
    for axis, residual, trend, error in zip(
        residuals.axes, *values[..., rows], strict=True
    ):
        part = Table()
        for name, (data, unit, description) in columns.items():
            part[name] = Column(data, unit=unit, description=description)
        part["axis"] = [axis] * len(rows)
        for name, data in zip(_IN_UNIT, (residual, trend, error), strict=True):
            part[name] = Column(data, unit=residuals.unit)
        part["pull"] = (residual - trend) / error
        parts.append(part)
    table = vstack(parts)
    table.meta = {**meta, "matched": len(stars.sources)}
    return table


def trend_of(magnitudes: np.ndarray, residuals: np.ndarray) -> _Function:
    """
    Return the median residual as a function of magnitude.

    Parameters
    ----------
    magnitudes, residuals : 1D `~numpy.ndarray`
        Finite values of the stars of the map.

    Returns
    -------
    trend : callable
        A function of magnitudes: the medians in bins of equal numbers of stars,
        interpolated linearly between bins and constant beyond the outermost ones. It
        returns NaN if there are no stars.
    """
    bins = _bins(magnitudes)
    nodes = [np.median(magnitudes[part]) for part in bins]
    medians = [np.median(residuals[part]) for part in bins]
    if not bins:
        return _not_a_number
    return lambda values: np.interp(values, nodes, medians)


def scatter_of(errors: np.ndarray, residuals: np.ndarray) -> _Function:
    """
    Return the standard deviation of a star as a function of its measurement error.

    Parameters
    ----------
    errors, residuals : 1D `~numpy.ndarray`
        Finite values of the stars of the map.

    Returns
    -------
    scatter : callable
        A function of measurement errors: 1.4826 times the median absolute deviation in
        bins of equal numbers of stars, interpolated linearly between bins. Below the
        first bin it is constant, because the scatter of the reference does not
        decrease; beyond the last bin it is proportional to the error. It returns NaN
        if there are no stars.
    """
    bins = _bins(errors)
    nodes = np.array([np.median(errors[part]) for part in bins])
    scatters = [mad_std(residuals[part]) for part in bins]
    if not bins:
        return _not_a_number

    def scatter(values: np.ndarray) -> np.ndarray:
        beyond = np.maximum(values / nodes[-1], 1) if nodes[-1] > 0 else 1.0
        return np.interp(values, nodes, scatters) * beyond

    return scatter


def _bins(values: np.ndarray) -> list[np.ndarray]:
    """Return the indices of the stars in bins of equal numbers."""
    if not values.size:
        return []
    number = int(np.clip(values.size // _STARS_PER_BIN, 1, _MOST_BINS))
    if np.ptp(values) == 0:
        # All values are equal, for example where no errors are known.
        number = 1
    return np.array_split(np.argsort(values, kind="stable"), number)


def _not_a_number(values: np.ndarray) -> np.ndarray:
    return np.full(np.shape(values), np.nan)
