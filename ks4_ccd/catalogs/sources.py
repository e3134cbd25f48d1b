# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Read positions, magnitudes and flags of source catalogs.

Other modules depend neither on the column names of SExtractor and photutils nor on
the 1-based pixels of SExtractor.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table

from ks4_ccd.catalogs.columns import (
    SourceColumns,
    as_columns,
    column_in,
    counts_column,
    magnitude_column,
    names_of,
    pixel_column,
    plain_column,
)
from ks4_ccd.exceptions import KS4Error, OptionError
from ks4_ccd.files.magnitudes import contained_zeropoint
from ks4_ccd.ks4.names import APERTURES

__all__ = ["Sources"]

_VECTOR_APERTURES = ("FWHM", "APER3", "APER5", "APER10")
_STELLARITY = 0.8
# A column, and an element of it if it is a vector column.
Place = tuple[str, int | None]

_PARTNERS = {"x": "y", "y": "x", "ra": "dec", "dec": "ra"}


class Sources:
    """
    A source catalog as arrays: positions, magnitudes, uncertainties and flags.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The catalog; it is not changed.
    columns : str, `SourceColumns` or dict, optional
        The columns of the catalog: the name of a preset, or column names. The keys
        of a dict are parameters of `SourceColumns`.
    apertures : sequence of str, optional
        The names of the apertures in the vector column, in its order; by
        default those of KS4 (FWHM, APER3, APER5, APER10) if there are four.
    mag_zeropoint : float, optional
        The zero point that the magnitudes contain (SExtractor's MAG_ZEROPOINT):
        by default the value that `~ks4_ccd.match_catalogs` recorded in the table's
        meta, or 0.

    Attributes
    ----------
    table : `~astropy.table.Table`
        The catalog.
    columns : `SourceColumns`
    apertures : tuple of str
        The apertures for which the catalog has magnitudes.

    Raises
    ------
    OptionError
        If an argument is not of the type or among the values listed here.
    KS4Error
        If ``mag_zeropoint`` contradicts the table's meta.
    """

    def __init__(
        self,
        table: Table,
        columns: str | SourceColumns | Mapping = "sextractor",
        apertures: Sequence[str] | None = None,
        mag_zeropoint: float | None = None,
    ) -> None:
        if not isinstance(table, Table):
            msg = f"a catalog must be an astropy Table, got {type(table).__name__}"
            raise OptionError(msg)
        self.table = table
        self.columns = as_columns(columns)
        self._given_zeropoint = mag_zeropoint
        if mag_zeropoint is not None:
            # A wrong argument is an error even if no magnitude is needed.
            self.mag_zeropoint  # noqa: B018
        self._magnitudes = self._places(
            self.columns.magnitudes, self.columns.vector, apertures
        )
        self._errors = self._places(
            self.columns.errors, self.columns.vector_errors, apertures
        )
        self.apertures = tuple(self._magnitudes)

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def mag_zeropoint(self) -> float:
        """
        The zero point that the magnitudes contain, 0 for instrumental magnitudes.

        Raises
        ------
        KS4Error
            If the table's meta records another zero point than the given one.
        """
        return contained_zeropoint(
            self.table.meta, self._given_zeropoint, self.columns.fluxes
        )

    def _places(
        self,
        named: Mapping[str, str | Sequence[str] | tuple[str, int]],
        vector: str | None,
        apertures: Sequence[str] | None,
    ) -> dict[str, Place]:
        """Return the column and element of each aperture."""
        places = self._places_in_vector(vector, apertures)
        for aperture, place in named.items():
            name, element = _name_and_element(place, self.table)
            if name in self.table.colnames:
                places[aperture] = (name, element)
        ordered = sorted(places, key=_rank_of)
        return {aperture: places[aperture] for aperture in ordered}

    def _places_in_vector(
        self, vector: str | None, apertures: Sequence[str] | None
    ) -> dict[str, Place]:
        names = self.table.colnames
        if vector is None or not {vector, f"{vector}_0"} & set(names):
            return {}
        if vector in names and self.table[vector].ndim > 1:
            number = self.table[vector].shape[1]
            elements: list[Place] = [(vector, i) for i in range(number)]
        else:
            elements = [(vector, None)] if vector in names else []
            number = len(elements)
            while f"{vector}_{number}" in names:
                elements.append((f"{vector}_{number}", None))
                number += 1
        if apertures is None:
            if len(elements) != len(_VECTOR_APERTURES):
                return {}
            apertures = _VECTOR_APERTURES
        if (
            not isinstance(apertures, Sequence)
            or isinstance(apertures, str)
            or len(apertures) != len(elements)
        ):
            msg = (
                f"apertures must name the {len(elements)} apertures of {vector} in "
                f"their order, got {apertures!r}"
            )
            raise OptionError(msg)
        return dict(zip(apertures, elements, strict=True))

    def place_of(self, aperture: str) -> Place:
        """Return the column and element of an aperture's magnitudes."""
        return self._place(self._magnitudes, aperture, self.columns.magnitudes)

    def place_of_error(self, aperture: str) -> Place | None:
        """Return the column and element of the uncertainties, `None` without one."""
        return self._errors.get(aperture)

    def _place(
        self,
        places: dict[str, Place],
        aperture: str,
        named: Mapping[str, str | Sequence[str] | tuple[str, int]],
    ) -> Place:
        if aperture not in places:
            wanted = named.get(aperture) or self.columns.vector
            msg = (
                f"the catalog has no magnitudes of aperture {aperture} (column "
                f"{wanted}), only of {', '.join(places) or 'no aperture'}; its columns "
                f"are {', '.join(self.table.colnames)}"
            )
            if self.columns.vector in self.table.colnames:
                msg += f"; name the apertures of {self.columns.vector} with apertures="
            raise KS4Error(msg)
        return places[aperture]

    def column(self, what: str) -> str:
        """
        Return the name of the column for a parameter of `SourceColumns`.

        Raises
        ------
        KS4Error
            If the catalog has no such column.
        """
        names = names_of(self.columns, what)
        partner = _PARTNERS.get(what)
        partners = names_of(self.columns, partner) if partner else ()
        there = [name in self.table.colnames for name in names]
        if len(partners) == len(names):
            # XWIN_IMAGE belongs to YWIN_IMAGE, not to Y_IMAGE.
            pairs = [
                name
                for name, partner in zip(names, partners, strict=True)
                if {name, partner} <= set(self.table.colnames)
            ]
            if pairs:
                return pairs[0]
        if any(there):
            return names[there.index(True)]
        msg = (
            f"the catalog has no column {' or '.join(names) or f'for {what}'}: its "
            f"columns are {', '.join(self.table.colnames) or 'none'}"
        )
        raise KS4Error(msg)

    def has(self, what: str) -> bool:
        """Return whether the catalog has a column for a parameter."""
        try:
            self.column(what)
        except KS4Error:
            return False
        return True

    @property
    def has_sky(self) -> bool:
        """Whether the catalog has sky coordinates."""
        # photutils writes a column of None if the image has no WCS.
        coordinates = self.has("sky") and self.table[self.column("sky")]
        has_columns = self.has("ra") and self.has("dec")
        return isinstance(coordinates, SkyCoord) or has_columns

    def positions(self) -> tuple[np.ndarray, np.ndarray]:
        """
        Return 0-based pixel coordinates, NaN for sources without a position.

        Returns
        -------
        x, y : 1D `~numpy.ndarray`
        """
        x, y = (
            pixel_column(self.table, self.column(axis)) - self.columns.first_pixel
            for axis in ("x", "y")
        )
        return x, y

    def sky(self) -> tuple[np.ndarray, np.ndarray]:
        """
        Return sky coordinates.

        Returns
        -------
        ra, dec : 1D `~numpy.ndarray`
            In degrees (ICRS), NaN for sources without a position.
        """
        if self.has("sky"):
            coordinates = self.table[self.column("sky")]
            if isinstance(coordinates, SkyCoord):
                icrs = coordinates.icrs
                return _degrees(icrs.ra), _degrees(icrs.dec)
        if not self.columns.ra:
            names = " or ".join(names_of(self.columns, "sky"))
            msg = (
                f"the catalog has no sky coordinates{names and f' in {names}'}: its "
                f"columns are {', '.join(self.table.colnames)}"
            )
            raise KS4Error(msg)
        ra, dec = (
            column_in(self.table, self.column(axis), u.deg) for axis in ("ra", "dec")
        )
        return ra, dec

    def magnitudes(self, aperture: str, unit: u.UnitBase = u.adu) -> np.ndarray:
        """
        Return the instrumental magnitudes in an aperture.

        Parameters
        ----------
        aperture : str
        unit : `~astropy.units.UnitBase`, optional
            The unit of the images that the map applies to, and of fluxes.

        Returns
        -------
        magnitudes : 1D `~numpy.ndarray`
            The magnitudes without ``mag_zeropoint``; NaN for missing measurements:
            masked, not finite, 90 or more in absolute value (such as 99, -99 and
            999), or a flux not above 0.
        """
        name, element = self.place_of(aperture)
        if self.columns.fluxes:
            values = counts_column(self.table, name, element, unit)
            return -2.5 * np.log10(np.where(values > 0, values, np.nan))
        values = magnitude_column(self.table, name, element)
        if self.mag_zeropoint:
            values -= self.mag_zeropoint
        return values

    def magnitude_errors(self, aperture: str, unit: u.UnitBase = u.adu) -> np.ndarray:
        """
        Return the uncertainties of magnitudes in an aperture.

        Parameters
        ----------
        aperture, unit
            As in `magnitudes`.

        Returns
        -------
        errors : 1D `~numpy.ndarray`
            NaN for missing measurements: masked, not finite, 90 or more, or
            negative; all NaN if the catalog has no such column.
        """
        place = self.place_of_error(aperture)
        if place is None:
            return np.full(len(self), np.nan)
        if self.columns.fluxes:
            name, element = place
            errors = counts_column(self.table, name, element, unit)
            name, element = self.place_of(aperture)
            flux = counts_column(self.table, name, element, unit)
            errors *= 2.5 / np.log(10) / np.where(flux > 0, flux, np.nan)
        else:
            errors = magnitude_column(self.table, *place)
        errors[errors < 0] = np.nan
        return errors

    def good_stars(self, *, strict: bool = False) -> np.ndarray:
        """
        Return which sources are stars without flags.

        Parameters
        ----------
        strict : bool, optional
            Whether a missing column is an error; by default its cut is omitted.

        Returns
        -------
        good : 1D `~numpy.ndarray` of bool
            True for sources with flags of 0 and a ``star_class`` above 0.8.
        """
        good = np.ones(len(self), dtype=bool)
        for name in self.columns.flags:
            if self._has_for_cut(name, strict):
                good &= plain_column(self.table, name) == 0
        star_class = self.columns.star_class
        if star_class is not None and self._has_for_cut(star_class, strict):
            good &= plain_column(self.table, star_class) > _STELLARITY
        return good

    def _has_for_cut(self, name: str, strict: bool) -> bool:
        if name in self.table.colnames:
            return True
        if strict:
            msg = (
                f"the cuts of DR1 require the column {name}, which the catalog does "
                f"not have: its columns are {', '.join(self.table.colnames) or 'none'}"
            )
            raise KS4Error(msg)
        return False


def _name_and_element(
    place: str | Sequence[str] | tuple[str, int], table: Table
) -> Place:
    if isinstance(place, str):
        return place, None
    if len(place) == 2 and isinstance(place[1], int):
        return str(place[0]), place[1]
    # Of several names, the first one in the table.
    names = [str(name) for name in place]
    return next((name for name in names if name in table.colnames), names[0]), None


def _degrees(angles: u.Quantity) -> np.ndarray:
    values = angles.to_value(u.deg)
    if hasattr(values, "unmasked"):
        return np.where(values.mask, np.nan, values.unmasked)
    return np.array(values)


def _rank_of(aperture: str) -> int:
    return APERTURES.index(aperture) if aperture in APERTURES else len(APERTURES)
