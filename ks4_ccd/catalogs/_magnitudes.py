# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Calibrate the magnitudes of a catalog in one aperture."""

import math
import warnings
from collections.abc import Iterable, Iterator

import numpy as np
from astropy import units as u

from ks4_ccd.catalogs._columns import NewColumn
from ks4_ccd.catalogs._values import AtSources
from ks4_ccd.catalogs.columns import counts_column
from ks4_ccd.catalogs.sources import Place, Sources
from ks4_ccd.exceptions import (
    AlreadyCalibratedError,
    KS4Warning,
    MapMismatchError,
)
from ks4_ccd.maps.errors import ERROR_KINDS
from ks4_ccd.photometry.options import result_dtype

__all__ = ["Magnitudes", "refuse_impossible", "warn_missing"]

_LN_FACTOR = 0.4 * math.log(10)
_NANOJANSKY = (1 * u.nJy).to_value(u.ABmag)
# From the brightest star to the faintest sources detected by any telescope.
_BRIGHTEST, _FAINTEST = 0.0, 30.0
_SAMPLE = 10_000


class Magnitudes:
    """
    Calibrated magnitudes in one aperture, with uncertainties.

    Parameters
    ----------
    sources : `~ks4_ccd.catalogs.sources.Sources`
    aperture : str
    at : `~ks4_ccd.catalogs._values.AtSources`
        The aperture's map, sampled at the sources.
    unusable : 1D `~numpy.ndarray` of bool
        True for sources that are not calibrated because they have no position.
    masked : 1D `~numpy.ndarray` of bool
        True for sources whose result is masked, including ``unusable``.
    error_kind : {"scatter", "median"}
        The kind of zero-point uncertainty in ``at``.
    propagated : bool
        Whether it is included in the uncertainties of magnitudes.
    unit : `~astropy.units.UnitBase`, optional
        The unit of the images that the map applies to.

    Attributes
    ----------
    aperture : str
    missing : 1D `~numpy.ndarray` of bool
        True for sources without a magnitude in the catalog.
    unit : `~astropy.units.UnitBase`
    """

    def __init__(
        self,
        sources: Sources,
        aperture: str,
        at: AtSources,
        unusable: np.ndarray,
        masked: np.ndarray,
        error_kind: str,
        propagated: bool,
        unit: u.UnitBase = u.adu,
    ) -> None:
        self.aperture = aperture
        self._sources = sources
        self._at = at
        self._error_kind = error_kind
        self._zp_error = at.error if propagated else None
        self.unit = unit
        self._place = sources.place_of(aperture)
        self._error_place = sources.place_of_error(aperture)
        self._dtype = result_dtype(sources.table[self._place[0]].dtype)
        magnitude = sources.magnitudes(aperture, unit)
        self.missing = ~np.isfinite(magnitude)
        self._masked = masked
        self._unusable = unusable
        # Uncalibrated values must not remain under the mask.
        magnitude[self.missing | unusable] = np.nan
        magnitude += at.value
        self._magnitude = magnitude
        self._error: np.ndarray | None = None
        if self._error_place is not None:
            self._error = sources.magnitude_errors(aperture, unit)
            self._error[np.isnan(magnitude)] = np.nan
            if self._zp_error is not None:
                np.hypot(self._error, self._zp_error, out=self._error)

    def medians(self, every: int = 1) -> tuple[float, float]:
        """Return median calibrated magnitude and zero point of each nth source."""
        magnitude, zeropoint = self._magnitude[::every], self._at.value[::every]
        used = np.isfinite(magnitude) & ~self._masked[::every]
        if not used.any():
            return np.nan, np.nan
        return float(np.median(magnitude[used])), float(np.median(zeropoint[used]))

    def columns(self) -> Iterator[tuple[NewColumn, Place | None]]:
        """Yield the columns of magnitude and uncertainty, and the replaced columns."""
        name = self.aperture
        places: tuple[Place | None, Place | None] = self._place, self._error_place
        if self._sources.columns.fluxes:
            places = None, None
        what = f"AB magnitude, aperture {name}"
        yield self._column(f"MAG_{name}", self._magnitude, "mag", what), places[0]
        if self._error is not None:
            how = "without" if self._zp_error is None else "including"
            what = f"uncertainty of MAG_{name}, {how} that of the zero point"
            yield self._column(f"MAGERR_{name}", self._error, "mag", what), places[1]

    def zeropoint_columns(self) -> Iterator[NewColumn]:
        """Yield the columns of zero point, its uncertainty and number of stars."""
        name, at, mask = self.aperture, self._at, self._masked
        what = f"AB zero point of MAG_{name}"
        yield NewColumn(f"ZP_{name}", at.value, "mag", what, mask)
        if at.error is not None:
            kind = ERROR_KINDS[self._error_kind].description
            what = f"uncertainty of ZP_{name}: {kind}"
            yield NewColumn(f"ZPERR_{name}", at.error, "mag", what, mask)
        if at.count is not None:
            count = np.where(self._unusable, 0, at.count)
            what = f"number of stars of ZP_{name} in the cell of the source"
            yield NewColumn(f"NUMPHOTO_{name}", count, None, what)

    def flux_columns(self) -> Iterator[NewColumn]:
        """Yield the columns of the flux and its uncertainty."""
        if self._sources.columns.fluxes:
            flux, error = self._from_counts()
        else:
            # Fluxes that overflow are masked.
            with np.errstate(over="ignore", invalid="ignore"):
                flux = 10 ** (-0.4 * (self._magnitude - _NANOJANSKY))
                error = None if self._error is None else _LN_FACTOR * flux * self._error
        name = self.aperture
        yield self._column(f"FLUX_{name}", flux, "nJy", f"flux, aperture {name}")
        if error is not None:
            what = f"uncertainty of FLUX_{name}"
            yield self._column(f"FLUXERR_{name}", error, "nJy", what)

    def _from_counts(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return physical fluxes, negative ones included, and their uncertainties."""
        table, at = self._sources.table, self._at
        factor = 10 ** (-0.4 * (at.value - _NANOJANSKY))
        factor[self._unusable] = np.nan
        name, element = self._place
        flux = counts_column(table, name, element, self.unit) * factor
        if self._error_place is None:
            return flux, None
        name, element = self._error_place
        error = counts_column(table, name, element, self.unit) * factor
        if self._zp_error is not None:
            np.hypot(error, _LN_FACTOR * flux * self._zp_error, out=error)
        return flux, error

    def _column(
        self, name: str, values: np.ndarray, unit: str, description: str
    ) -> NewColumn:
        """Return a column that is masked for uncalibrated sources."""
        with np.errstate(over="ignore"):
            values = values.astype(self._dtype)
        mask = self._masked | ~np.isfinite(values)
        return NewColumn(name, values, unit, description, mask)


def warn_missing(magnitudes: Iterable[Magnitudes]) -> None:
    """Warn about apertures in which no source has a magnitude."""
    empty = [m.aperture for m in magnitudes if m.missing.size and m.missing.all()]
    if empty:
        msg = (
            f"no source has a magnitude in {', '.join(empty)}: all are NaN, masked, "
            "90 or more in absolute value (99, -99), or fluxes not above 0"
        )
        warnings.warn(msg, KS4Warning, stacklevel=3)


def refuse_impossible(magnitudes: Iterable[Magnitudes], sources: Sources) -> None:
    """
    Refuse magnitudes that are too bright or too faint for any catalog.

    Parameters
    ----------
    magnitudes : iterable of `Magnitudes`
    sources : `~ks4_ccd.catalogs.sources.Sources`

    Raises
    ------
    AlreadyCalibratedError
        If the median magnitude in an aperture is fainter than 30.
    MapMismatchError
        If it is brighter than 0.
    """
    every = max(1, len(sources) // _SAMPLE)
    for one in magnitudes:
        # All sources are used only if the median of a sample is outside the limits.
        if _BRIGHTEST <= one.medians(every)[0] <= _FAINTEST:
            continue
        median, zeropoint = one.medians()
        if not (median < _BRIGHTEST or median > _FAINTEST):
            continue
        own, name = median - zeropoint, sources.place_of(one.aperture)[0]
        msg = (
            f"column {name}: expected a median calibrated magnitude between "
            f"{_BRIGHTEST:g} and {_FAINTEST:g}, found {median:.2f} in aperture "
            f"{one.aperture} ({own:.2f}, and a zero point of {zeropoint:.2f}); "
        )
        contained = sources.mag_zeropoint
        if sources.columns.fluxes:
            msg += f"give fluxes in {one.unit} of an image that the map applies to"
            raise MapMismatchError(msg)
        if median > _FAINTEST:
            msg += (
                "the magnitudes contain a zero point already: give the zero point of "
                "the measurement (mag_zeropoint=30 or --mag-zeropoint 30 for "
                "SExtractor's MAG_ZEROPOINT 30); a published catalog is calibrated"
            )
            raise AlreadyCalibratedError(msg)
        msg += (
            f"mag_zeropoint={contained:g} was subtracted: omit it if the magnitudes do "
            "not contain it"
            if contained
            else "give the zero-point map of the image on which they were measured"
        )
        raise MapMismatchError(msg)
