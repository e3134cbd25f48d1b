# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Select matched stars and read their columns."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table

from ks4_ccd.catalogs.columns import SourceColumns, column_in, magnitude_column
from ks4_ccd.catalogs.sources import Sources
from ks4_ccd.exceptions import KS4Error
from ks4_ccd.ks4.recipe import (
    ASTROMETRIC_RANGE,
    LARGEST_MAGNITUDE_ERROR,
    PHOTOMETRIC_RANGE,
)

__all__ = ["MatchedStars", "usable_errors"]

# The smallest number of stars of a map.
_FEWEST = 3
# The magnitude error, in mag, to which larger ones are reduced.
_LARGEST_ERROR = 1.0


class MatchedStars:
    """
    The matched stars of an image.

    Parameters
    ----------
    matched : `~astropy.table.Table`
        Sources and their reference stars, as returned by `~ks4_ccd.match_catalogs`.
    band : str
        The band of the image.
    columns : str, `~ks4_ccd.SourceColumns` or dict
        The columns of the source catalog: a preset, or `~ks4_ccd.SourceColumns`.
    apertures : sequence of str or `None`
        The names of the apertures in its vector column.
    mag_zeropoint : float, optional
        The zero point that the magnitudes contain.

    Attributes
    ----------
    sources : `~ks4_ccd.catalogs.sources.Sources`
        The columns of the source catalog in ``matched``.
    band : str
        The band of the image.
    x, y : 1D `~numpy.ndarray`
        0-based pixel coordinates.
    """

    def __init__(
        self,
        matched: Table,
        band: str,
        columns: str | SourceColumns | Mapping,
        apertures: Sequence[str] | None,
        mag_zeropoint: float | None = None,
    ) -> None:
        self.sources = Sources(matched, columns, apertures, mag_zeropoint)
        self.band = band
        self.x, self.y = self.sources.positions()
        if len(matched) < _FEWEST:
            msg = (
                f"expected at least {_FEWEST} matched stars, got {len(matched)}; "
                "check that the reference catalog covers the field of the sources"
            )
            raise KS4Error(msg)

    def _column(self, name: str, unit: u.UnitBase | None = None) -> np.ndarray:
        """Return a column in a unit, or without one as magnitudes."""
        if name not in self.sources.table.colnames:
            msg = (
                f"expected a column {name} in the table of matched stars, found "
                f"{', '.join(self.sources.table.colnames)}; use match_catalogs to make "
                "the table"
            )
            raise KS4Error(msg)
        if unit is None:
            return magnitude_column(self.sources.table, name)
        return column_in(self.sources.table, name, unit)

    @cached_property
    def separation(self) -> np.ndarray:
        """Separations of sources and their reference stars, in degrees."""
        # Columns without a unit are in degrees: the pipeline of DR1 writes such.
        return self._column("sep", u.deg)

    @cached_property
    def offsets(self) -> tuple[np.ndarray, np.ndarray]:
        """Reference minus measured along RA cos(dec) and Dec, in arcsec."""
        if {"dra", "ddec"} <= set(self.sources.table.colnames):
            return self._column("dra", u.arcsec), self._column("ddec", u.arcsec)
        ra, dec = self.sources.sky()
        measured = SkyCoord(ra, dec, unit="deg")
        star_ra, star_dec = (
            self._column(name, u.deg) for name in ("RAJ2000", "DEJ2000")
        )
        star = SkyCoord(star_ra, star_dec, unit="deg")
        dra, ddec = measured.spherical_offsets_to(star)
        return dra.arcsec, ddec.arcsec

    @property
    def sky(self) -> tuple[np.ndarray, np.ndarray] | None:
        """
        RA and declination in degrees, or `None` without such columns.

        Those of the reference if the source catalog has no sky positions.
        """
        table, sources = self.sources.table, self.sources
        if sources.has_sky:
            return sources.sky()
        names = "RAJ2000", "DEJ2000"
        if set(names) <= set(table.colnames):
            ra, dec = (column_in(table, name, u.deg) for name in names)
            return ra, dec
        return None

    @cached_property
    def reference(self) -> np.ndarray:
        """Reference magnitudes in the band."""
        return self._column(f"{self.band}mag")

    @cached_property
    def reference_error(self) -> np.ndarray:
        """Errors of reference magnitudes: see `usable_errors`."""
        name = f"e_{self.band}mag"
        if name not in self.sources.table.colnames:
            return np.zeros(len(self.sources))
        return usable_errors(self._column(name))

    @cached_property
    def brightness(self) -> np.ndarray:
        """Magnitudes by which stars are selected: G, else V, else those of the band."""
        for name in ("Gmag", "phot_g_mean_mag", "Vmag"):
            if name in self.sources.table.colnames:
                return self._column(name)
        return self.reference

    def on_image(self, image_shape: tuple[int, int]) -> np.ndarray:
        """Return whether stars are on an image, with a margin of one pixel."""
        on = np.ones(len(self.sources), dtype=bool)
        for position, length in zip((self.y, self.x), image_shape, strict=True):
            on &= np.abs(position - length / 2) <= length / 2 + 1
        return on

    @cached_property
    def is_first(self) -> np.ndarray:
        """Whether a row is the first one of its position and magnitude."""
        keys = self.brightness, self.y, self.x
        order = np.lexsort(keys)
        repeated = np.all([key[order][1:] == key[order][:-1] for key in keys], axis=0)
        first = np.ones(len(self.sources), dtype=bool)
        first[order[1:][repeated]] = False
        return first

    def in_astrometry(self, *, strict: bool) -> np.ndarray:
        """
        Return whether stars pass the cuts of the astrometric maps.

        Parameters
        ----------
        strict : bool
            Whether all columns that DR1 uses in its cuts are required.
        """
        brightest, faintest = ASTROMETRIC_RANGE
        good = self.sources.good_stars(strict=strict)
        good &= (self.brightness > brightest) & (self.brightness < faintest)
        return good & self._well_measured(strict)

    def in_photometry(self, *, strict: bool, mode: str) -> np.ndarray:
        """
        Return whether stars pass the cuts of zero-point maps, except in separation.

        Parameters
        ----------
        strict : bool
            Whether all columns that DR1 uses in its cuts are required.
        mode : {"single", "dual"}
        """
        brightest, faintest = PHOTOMETRIC_RANGE
        if mode == "single":
            good = self.in_astrometry(strict=strict)
        else:
            good = self.sources.good_stars(strict=strict)
            if not strict:
                good &= self._well_measured(strict)
        return good & (self.reference > brightest) & (self.reference < faintest)

    def _well_measured(self, strict: bool) -> np.ndarray:
        if not strict and self.sources.place_of_error("AUTO") is None:
            return np.ones(len(self.sources), dtype=bool)
        return self.sources.magnitude_errors("AUTO") < LARGEST_MAGNITUDE_ERROR

    def require_enough(
        self, used: np.ndarray, quantity: str, required: str
    ) -> np.ndarray:
        """
        Raise an error if too few stars are used.

        Parameters
        ----------
        used : 1D `~numpy.ndarray` of bool
        quantity : str
            The quantity that is mapped, for the message.
        required : str
            The selection, for the message.

        Returns
        -------
        used : 1D `~numpy.ndarray` of bool
            The argument.

        Raises
        ------
        KS4Error
            If there are fewer than three stars.
        """
        number = np.count_nonzero(used)
        if number < _FEWEST:
            msg = (
                f"expected at least {_FEWEST} matched stars usable for {quantity}, "
                f"found {number} of {len(self.sources)}: maps are made from {required}"
            )
            raise KS4Error(msg)
        return used


def usable_errors(errors: np.ndarray) -> np.ndarray:
    """
    Replace errors from which weights cannot be computed.

    Parameters
    ----------
    errors : 1D `~numpy.ndarray`
        Errors in magnitudes.

    Returns
    -------
    usable : 1D `~numpy.ndarray`
        Errors of at most 1 mag. The median replaces those that are negative or not
        finite, so that such stars have an average weight. All are 0 if none is valid.
    """
    valid = np.isfinite(errors) & (errors >= 0)
    median = np.median(errors[valid]) if valid.any() else 0.0
    return np.minimum(np.where(valid, errors, median), _LARGEST_ERROR)
