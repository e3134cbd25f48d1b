# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A table of matched stars, as the numbers that maps are made of."""

from functools import cached_property

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from ks4_ccd._table_columns import plain_column
from ks4_ccd.exceptions import KS4Error
from ks4_ccd.sources import Sources

__all__ = ["MatchedStars"]

BRIGHTEST, FAINTEST = 14.0, 20.0  # mag in G (or V), for positions
ZEROPOINT_RANGE = 14.0, 19.0  # mag in the band of the map
LARGEST_ERROR = 0.05  # mag, in AUTO
_FEWEST = 3


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
    columns : {"sextractor", "photutils"}, `~ks4_ccd.sources.SourceColumns` or dict
        Which columns of the source catalog hold what.
    apertures : sequence of str or `None`
        The names of the apertures in its vector column.

    Attributes
    ----------
    sources : `~ks4_ccd.sources.Sources`
        The same table.
    x, y : 1D `~numpy.ndarray`
        0-based pixel coordinates.
    """

    def __init__(self, matched, band, columns, apertures):
        self.sources = Sources(matched, columns, apertures)
        self.band = band
        self.x, self.y = self.sources.positions()
        if len(matched) < _FEWEST:
            msg = (
                f"a map needs {_FEWEST} matched stars or more, got {len(matched)}: is "
                "the reference catalog of the field of the sources?"
            )
            raise KS4Error(msg)

    def _column(self, name):
        if name not in self.sources.table.colnames:
            msg = (
                f"the table of matched stars has no column {name}: it has "
                f"{', '.join(self.sources.table.colnames)}. match_catalogs makes such "
                "tables"
            )
            raise KS4Error(msg)
        return plain_column(self.sources.table, name)

    @cached_property
    def separation(self):
        """How far sources are from their stars, in degrees."""
        separation = self._column("sep")
        unit = self.sources.table["sep"].unit
        # Without a unit, as the pipeline writes it.
        return separation if unit is None else (separation * unit).to_value(u.deg)

    @cached_property
    def offsets(self):
        """Reference minus measured along RA cos(dec) and Dec, in arcsec."""
        if {"dra", "ddec"} <= set(self.sources.table.colnames):
            return self._column("dra"), self._column("ddec")
        ra, dec = self.sources.sky()
        measured = SkyCoord(ra, dec, unit="deg")
        star = SkyCoord(self._column("RAJ2000"), self._column("DEJ2000"), unit="deg")
        return tuple(part.arcsec for part in measured.spherical_offsets_to(star))

    @cached_property
    def reference(self):
        """The reference magnitudes in the band."""
        return self._column(f"{self.band}mag")

    @cached_property
    def reference_error(self):
        """Their errors, 0 where there are none."""
        name = f"e_{self.band}mag"
        if name not in self.sources.table.colnames:
            return np.zeros(len(self.sources))
        return np.nan_to_num(self._column(name))

    @cached_property
    def brightness(self):
        """The magnitude of the cut for positions: G, or V, or that of the band."""
        for name in ("Gmag", "Vmag"):
            if name in self.sources.table.colnames:
                return self._column(name)
        return self.reference

    def in_astrometry(self, *, strict):
        """Return which stars pass the cuts for the astrometric maps."""
        good = self.sources.good_stars(strict=strict)
        good &= (self.brightness > BRIGHTEST) & (self.brightness < FAINTEST)
        return good & self._well_measured(strict)

    def in_photometry(self, *, strict, mode):
        """Return which stars pass the cuts for zero points, but for separation."""
        brightest, faintest = ZEROPOINT_RANGE
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
        return self.sources.magnitude_errors("AUTO") < LARGEST_ERROR

    def enough(self, used, what, wanted):
        """Return which stars are used, or say that they are too few."""
        if np.count_nonzero(used) < _FEWEST:
            msg = (
                f"{np.count_nonzero(used)} of {len(self.sources)} matched stars are "
                f"usable for {what}, a map needs {_FEWEST}: {wanted}"
            )
            raise KS4Error(msg)
        return used
