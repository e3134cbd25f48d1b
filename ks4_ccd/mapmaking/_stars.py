# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A table of matched stars, as the numbers that maps are made of."""

from functools import cached_property

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from ks4_ccd.catalogs.columns import column_in, magnitude_column
from ks4_ccd.catalogs.sources import Sources
from ks4_ccd.exceptions import KS4Error
from ks4_ccd.ks4.recipe import (
    ASTROMETRIC_RANGE,
    LARGEST_MAGNITUDE_ERROR,
    PHOTOMETRIC_RANGE,
)

__all__ = ["MatchedStars", "usable_errors"]

_FEWEST = 3
_LARGEST = 1.0  # mag, no error is taken to be larger


class MatchedStars:
    """
    The stars that a map is made from.

    Parameters
    ----------
    matched : `~astropy.table.Table`
        Sources with the reference stars that they are, as
        `~ks4_ccd.match_catalogs` returns them.
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
        The same table.
    x, y : 1D `~numpy.ndarray`
        0-based pixel coordinates.
    """

    def __init__(self, matched, band, columns, apertures, mag_zeropoint=None):
        self.sources = Sources(matched, columns, apertures, mag_zeropoint)
        self.band = band
        self.x, self.y = self.sources.positions()
        if len(matched) < _FEWEST:
            msg = (
                f"a map needs {_FEWEST} matched stars or more, got {len(matched)}: is "
                "the reference catalog of the field of the sources?"
            )
            raise KS4Error(msg)

    def _column(self, name, unit=None):
        """Return a column in a unit, by default of magnitudes."""
        if name not in self.sources.table.colnames:
            msg = (
                f"the table of matched stars has no column {name}: it has "
                f"{', '.join(self.sources.table.colnames)}. match_catalogs makes such "
                "tables"
            )
            raise KS4Error(msg)
        if unit is None:
            return magnitude_column(self.sources.table, name)
        return column_in(self.sources.table, name, unit)

    @cached_property
    def separation(self):
        """How far sources are from their stars, in degrees."""
        # Without a unit, as the pipeline writes it.
        return self._column("sep", u.deg)

    @cached_property
    def offsets(self):
        """Reference minus measured along RA cos(dec) and Dec, in arcsec."""
        if {"dra", "ddec"} <= set(self.sources.table.colnames):
            return self._column("dra", u.arcsec), self._column("ddec", u.arcsec)
        ra, dec = self.sources.sky()
        measured = SkyCoord(ra, dec, unit="deg")
        star = (self._column(name, u.deg) for name in ("RAJ2000", "DEJ2000"))
        star = SkyCoord(*star, unit="deg")
        return tuple(part.arcsec for part in measured.spherical_offsets_to(star))

    @property
    def sky(self):
        """RA and declination in degrees, those of the reference without own ones."""
        table, sources = self.sources.table, self.sources
        if sources.has("ra") and sources.has("dec"):
            return sources.sky()
        names = "RAJ2000", "DEJ2000"
        if set(names) <= set(table.colnames):
            return tuple(column_in(table, name, u.deg) for name in names)
        return None

    @cached_property
    def reference(self):
        """The reference magnitudes in the band."""
        return self._column(f"{self.band}mag")

    @cached_property
    def reference_error(self):
        """Their errors: the median where one is not known, 0 if none is."""
        name = f"e_{self.band}mag"
        if name not in self.sources.table.colnames:
            return np.zeros(len(self.sources))
        return usable_errors(self._column(name))

    @cached_property
    def brightness(self):
        """The magnitude of the cut for positions: G, or V, or that of the band."""
        for name in ("Gmag", "phot_g_mean_mag", "Vmag"):
            if name in self.sources.table.colnames:
                return self._column(name)
        return self.reference

    def on_image(self, image_shape):
        """Return which stars are on an image, or less than a pixel beside it."""
        on = np.ones(len(self.sources), dtype=bool)
        for position, length in zip((self.y, self.x), image_shape, strict=True):
            on &= np.abs(position - length / 2) <= length / 2 + 1
        return on

    @cached_property
    def is_first(self):
        """Which stars are not there before, at the same place and as bright."""
        keys = self.brightness, self.y, self.x
        order = np.lexsort(keys)
        again = np.all([key[order][1:] == key[order][:-1] for key in keys], axis=0)
        first = np.ones(len(self.sources), dtype=bool)
        first[order[1:][again]] = False
        return first

    def in_astrometry(self, *, strict):
        """Return which stars pass the cuts for the astrometric maps."""
        brightest, faintest = ASTROMETRIC_RANGE
        good = self.sources.good_stars(strict=strict)
        good &= (self.brightness > brightest) & (self.brightness < faintest)
        return good & self._well_measured(strict)

    def in_photometry(self, *, strict, mode):
        """Return which stars pass the cuts for zero points, but for separation."""
        brightest, faintest = PHOTOMETRIC_RANGE
        if mode == "single":
            good = self.in_astrometry(strict=strict)
        else:
            good = self.sources.good_stars(strict=strict)
            if not strict:
                good &= self._well_measured(strict)
        return good & (self.reference > brightest) & (self.reference < faintest)

    def _well_measured(self, strict):
        if not strict and self.sources.place_of_error("AUTO") is None:
            return np.ones(len(self.sources), dtype=bool)
        return self.sources.magnitude_errors("AUTO") < LARGEST_MAGNITUDE_ERROR

    def enough(self, used, what, wanted):
        """Return which stars are used, or say that they are too few."""
        if np.count_nonzero(used) < _FEWEST:
            msg = (
                f"{np.count_nonzero(used)} of {len(self.sources)} matched stars are "
                f"usable for {what}, a map needs {_FEWEST}: {wanted}"
            )
            raise KS4Error(msg)
        return used


def usable_errors(errors):
    """
    Return errors as weights can be made of: finite, and not too large.

    Parameters
    ----------
    errors : 1D `~numpy.ndarray`
        In magnitudes.

    Returns
    -------
    usable : 1D `~numpy.ndarray`
        The median in place of those that are not known (not finite or
        negative): a star without an error is no better than others. All are
        0 if none is known.
    """
    known = np.isfinite(errors) & (errors >= 0)
    usual = np.median(errors[known]) if known.any() else 0.0
    return np.minimum(np.where(known, errors, usual), _LARGEST)
