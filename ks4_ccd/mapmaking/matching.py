# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Match sources with reference stars."""

import os
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.table import Column, Table
from astropy.time import Time

from ks4_ccd.catalogs.columns import SourceColumns
from ks4_ccd.catalogs.sources import Sources
from ks4_ccd.exceptions import KS4Error, KS4Warning, OptionError
from ks4_ccd.files.magnitudes import MATCHED
from ks4_ccd.files.tables import read_table
from ks4_ccd.mapmaking._motions import at_epoch_of_image
from ks4_ccd.mapmaking.reference import (
    ReferenceColumns,
    bands_of,
    columns_of_band,
    read_reference,
)
from ks4_ccd.mapmaking.synthetic import GAIA_AB_MINUS_VEGA

__all__ = ["match_catalogs"]

_MOTION = ("pmRA", "pmDE", "Epoch")


def match_catalogs(
    sources: Table | str | os.PathLike,
    reference: Table | str | os.PathLike,
    radius: u.Quantity | float = 2 * u.arcsec,
    *,
    band: str | None = None,
    columns: str | SourceColumns | Mapping = "sextractor",
    apertures: Sequence[str] | None = None,
    reference_columns: str | ReferenceColumns | Mapping = "auto",
    mutual: bool = False,
    epoch: Time | float | str | None = None,
    mag_zeropoint: float | None = None,
) -> Table:
    """
    Match the sources of an image with reference stars.

    Parameters
    ----------
    sources : `~astropy.table.Table`, str or path-like
        The source catalog of an image, or its file. It is not changed.
    reference : `~astropy.table.Table`, str or path-like
        The reference catalog, or its file. It is not changed.
    radius : `~astropy.units.Quantity` or float, optional
        The largest separation of a source and its reference star; a number is in
        arcsec. The default is that of DR1.
    band : {"B", "V", "R", "I"} or str, optional
        Match only stars with a usable magnitude in this band (``flag_R`` 1 and a
        finite ``Rmag``), as DR1 does. By default all stars are matched.
    columns : str, `~ks4_ccd.SourceColumns` or dict, optional
        The columns of the source catalog: a preset, or `~ks4_ccd.SourceColumns`.
    apertures : sequence of str, optional
        The names of the apertures in its vector column, which are checked here and
        used when maps are built.
    reference_columns : {"auto", "gaiaxp", "plain"}, `~ks4_ccd.ReferenceColumns` \
or dict, optional
        The columns of the reference: see `~ks4_ccd.read_reference`.
    mutual : bool, optional
        Whether the source must also be the nearest source to its star. Each star
        is then matched at most once: of coincident sources, one is kept.
    epoch : `~astropy.time.Time`, float or str, optional
        The time of the image: a time, a decimal year, or the value of
        DATE-OBS. Proper motions are applied up to this time; stars without a
        proper motion do not move. By default it is taken from ``sources.meta``, which
        contains the image's header for FITS_LDAC files: the middle of the exposure
        (DATE-OBS or MJD-OBS, and EXPTIME), or EPOCH, where that is not the equinox.
        The epoch of the reference itself (2016.0) leaves all stars where they are.
    mag_zeropoint : float, optional
        The zero point that the magnitudes of the sources contain (SExtractor's
        MAG_ZEROPOINT). The magnitudes stay unchanged: the zero point is recorded
        in ``meta``, and subtracted when maps are built.

    Returns
    -------
    matched : `~astropy.table.Table`
        The matched sources in their original order with all their columns, in the
        class of ``sources``. Added columns are, for the star, ``RAJ2000`` and
        ``DEJ2000`` (deg, at ``epoch``), and ``Rmag``, ``e_Rmag`` (mag) and
        ``flag_R`` for each band; ``sep`` (deg), the separation; and ``dra``,
        ``ddec`` (arcsec), the position of the star minus that of the source along
        RA cos(Dec) and Dec, which corrects the position of the source. ``meta``
        records ``MATCHRAD`` (arcsec), ``MATCHSRC``, ``MATCHREF`` and ``MATCHNUM`` (the
        numbers of sources, stars and matches), ``MATCHEPO`` (yr) if stars were moved,
        and, if given, ``MATCHBND`` and ``MATCHMZP`` (mag).

    Raises
    ------
    OptionError
        If an argument does not have one of its allowed values.
    KS4Error
        If no source has a match, columns or the band are missing, a catalog
        is empty or cannot be read, ``epoch`` is given and the epoch of the
        reference is unknown, keywords of the header are not possible epochs or
        contradict each other, or ``mag_zeropoint`` is given for fluxes.

    Warns
    -----
    KS4Warning
        If stars are matched at the epoch of the reference, with the size of the effect:
        because the reference has proper motions and the epoch of the image or of the
        reference is unknown, or because it has none and the epoch of the image is
        known. Or if ``band`` is one of Gaia's in the Vega system.

    See Also
    --------
    ks4_ccd.read_reference : read a reference catalog

    Notes
    -----
    Sources and stars without a position are not matched. A source that is listed
    twice is matched twice, unless ``mutual`` is true.

    A stack has several dates, and its DATE-OBS may be that of the first exposure: give
    the mean time of its exposures as ``epoch`` where they span more than a few months.

    Examples
    --------
    >>> from astropy.table import Table
    >>> from ks4_ccd import match_catalogs
    >>> sources = Table({"ALPHA_J2000": [10.0, 10.1], "DELTA_J2000": [-62.0, -62.0]})
    >>> stars = Table({"RAJ2000": [10.0], "DEJ2000": [-61.9999], "Vmag": [15.0]})
    >>> matched = match_catalogs(sources, stars)
    >>> len(matched)
    1
    >>> print(f"{matched['ddec'][0]:.3f} {matched['ddec'].unit}")
    0.360 arcsec
    """
    radius = _in_arcsec(radius)
    if not isinstance(sources, Table):
        sources = read_table(sources)
    catalog = Sources(sources, columns, apertures, mag_zeropoint)
    if not isinstance(reference, Table):
        reference = read_table(reference)
    stars = read_reference(reference, reference_columns)
    stars, year = at_epoch_of_image(stars, epoch, sources.meta)
    stars.remove_columns([name for name in _MOTION if name in stars.colnames])
    _refuse_existing_names(sources, stars)
    ra, dec = catalog.sky()
    rows, positions = _with_positions(ra, dec, "the source catalog")
    stars = _usable(stars, band, reference.colnames)
    used, star_positions = _with_positions(
        stars["RAJ2000"].value, stars["DEJ2000"].value, "the reference"
    )

    nearest, separation, _ = positions.match_to_catalog_sky(star_positions)
    near = separation.arcsec < radius
    if not near.any():
        raise KS4Error(_no_match(positions, star_positions, separation, radius))
    if mutual:
        source_of, _, _ = star_positions.match_to_catalog_sky(positions)
        near &= source_of[nearest] == np.arange(len(nearest))
    matches = np.flatnonzero(near)
    pairs = positions[matches], star_positions[nearest[matches]]

    matched = sources[rows[matches]]
    star_rows = used[nearest[matches]]
    for name in stars.colnames:
        matched[name] = stars[name][star_rows]
    matched["sep"] = Column(separation.deg[matches], unit=u.deg)
    for name, offset in zip(
        ("dra", "ddec"), pairs[0].spherical_offsets_to(pairs[1]), strict=True
    ):
        matched[name] = Column(offset.to_value(u.arcsec), unit=u.arcsec)
    record = {
        "MATCHRAD": radius,
        "MATCHSRC": len(sources),
        "MATCHREF": len(used),
        "MATCHNUM": len(matched),
        "MATCHBND": band,
        "MATCHEPO": year,
    }
    matched.meta = deepcopy(sources.meta)
    matched.meta |= {name: value for name, value in record.items() if value is not None}
    if mag_zeropoint is not None and not catalog.columns.fluxes:
        matched.meta[MATCHED] = catalog.mag_zeropoint
    return matched


def _in_arcsec(radius: u.Quantity | float) -> float:
    msg = f"radius must be an angle above 0 (a number is in arcsec), got {radius!r}"
    try:
        value = u.Quantity(radius)
        if value.unit == u.dimensionless_unscaled:
            value = value.value * u.arcsec
        value = float(value.to_value(u.arcsec))
    except (TypeError, ValueError, u.UnitConversionError) as error:
        raise OptionError(msg) from error
    if isinstance(radius, bool) or not 0 < value < np.inf:
        raise OptionError(msg)
    return value


def _usable(stars: Table, band: str | None, columns: Sequence[str]) -> Table:
    if band is None:
        return stars
    if band not in bands_of(stars):
        msg = (
            f"expected magnitudes of band {band!r} in the reference, found bands "
            f"{', '.join(bands_of(stars)) or 'none'}: looked for the columns "
            f"{', '.join(columns_of_band(band))}, found {', '.join(columns)}; name "
            f"the column with reference_columns={{'magnitudes': {{{band!r}: ...}}}} "
            "(--reference-columns mag=...)"
        )
        raise KS4Error(msg)
    usable = (stars[f"flag_{band}"] == 1) & np.isfinite(stars[f"{band}mag"])
    if not usable.any() and len(stars):
        msg = (
            f"expected stars with a finite magnitude of band {band} and flag 1 in the "
            f"reference, found none among {len(stars)} stars"
        )
        raise KS4Error(msg)
    description = stars[f"{band}mag"].description or ""
    if band in GAIA_AB_MINUS_VEGA and "Vega" in description:
        offset = GAIA_AB_MINUS_VEGA[band]
        msg = (
            f"the magnitudes of band {band} are in the Vega system, and zero points "
            "from them will be; AB magnitudes follow with "
            f"reference_columns={{'offsets': {{{band!r}: {offset}}}}} "
            f"(--reference-columns offset={offset})"
        )
        warnings.warn(msg, KS4Warning, stacklevel=3)
    return stars[np.asarray(usable)]


def _refuse_existing_names(sources: Table, stars: Table) -> None:
    new = (*stars.colnames, "sep", "dra", "ddec")
    existing = [name for name in new if name in sources.colnames]
    if existing:
        msg = (
            "the source catalog already has columns that the match adds, "
            f"{', '.join(existing)}: remove or rename them"
        )
        raise KS4Error(msg)


def _with_positions(
    ra: np.ndarray, dec: np.ndarray, catalog: str
) -> tuple[np.ndarray, SkyCoord]:
    """Return the rows that have a position, and these positions."""
    if not len(ra):
        msg = f"{catalog} is empty"
        raise KS4Error(msg)
    rows = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    if not len(rows):
        msg = (
            f"{catalog} must contain finite sky positions, found none in {len(ra)} rows"
        )
        raise KS4Error(msg)
    if (np.abs(dec[rows]) > 90).any():
        msg = (
            f"{catalog} must have declinations between -90 and 90 deg, got "
            f"{dec[rows][np.argmax(np.abs(dec[rows]))]:g}"
        )
        raise KS4Error(msg)
    return rows, SkyCoord(ra[rows], dec[rows], unit="deg")


def _no_match(
    positions: SkyCoord, star_positions: SkyCoord, separation: Angle, radius: float
) -> str:
    """Return the message of a match without a pair."""
    centers, extents = zip(
        *map(_center_and_extent, (positions, star_positions)), strict=True
    )
    named = [center.to_string(precision=4) for center in centers]
    distance = np.median(separation.arcsec)
    far = centers[0].separation(centers[1]).deg > sum(extents)
    advice = (
        "the catalogs cover different fields"
        if far
        else "use a larger radius if the positions are that uncertain"
    )
    return (
        f"no source has a reference star within {radius:g} arcsec: the median distance "
        f"to the nearest star is {_readable(distance)}. The sources are around "
        f"{named[0]} deg, the reference stars around {named[1]} deg: {advice}"
    )


def _center_and_extent(positions: SkyCoord) -> tuple[SkyCoord, float]:
    # The mean of unit vectors is valid across RA 0 and at the poles.
    mean = positions.cartesian.mean()
    center = SkyCoord(mean, representation_type="cartesian", frame="icrs")
    center = SkyCoord(center.spherical.lon, center.spherical.lat)
    return center, center.separation(positions).deg.max()


def _readable(arcsec: float) -> str:
    return f"{arcsec:.3g} arcsec" if arcsec < 3600 else f"{arcsec / 3600:.3g} deg"
