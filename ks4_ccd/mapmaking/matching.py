# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Match sources with reference stars: the star table of the maps."""

import warnings
from copy import deepcopy

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Column, Table

from ks4_ccd.catalogs.sources import Sources
from ks4_ccd.exceptions import KS4Error, KS4Warning
from ks4_ccd.files.magnitudes import MATCHED
from ks4_ccd.files.tables import read_table
from ks4_ccd.mapmaking.reference import bands_of, decimal_year, moved, read_reference

__all__ = ["match_catalogs"]

_MOTION = ("pmRA", "pmDE", "Epoch")


def match_catalogs(
    sources,
    reference,
    radius=2 * u.arcsec,
    *,
    band=None,
    columns="sextractor",
    apertures=None,
    reference_columns="auto",
    mutual=False,
    epoch=None,
    mag_zeropoint=None,
):
    """
    Find the reference star of each source.

    Parameters
    ----------
    sources : `~astropy.table.Table`, str or path-like
        The source catalog of an image, or the file that it is in. It is not
        changed.
    reference : `~astropy.table.Table`, str or path-like
        The reference catalog, likewise.
    radius : `~astropy.units.Quantity` or float, optional
        A source and its star are less than this apart; a number is in
        arcsec. By default that of DR1.
    band : {"B", "V", "R", "I"} or str, optional
        Only stars with a usable magnitude of this band (``flag_R`` 1 and a
        finite ``Rmag``) take part, as in DR1. By default all stars do.
    columns : str, `~ks4_ccd.SourceColumns` or dict, optional
        The columns of the source catalog: a preset, or `~ks4_ccd.SourceColumns`.
    apertures : sequence of str, optional
        The names of the apertures in its vector column: checked here, so
        that a mistake is found before maps are built.
    reference_columns : {"auto", "gaiaxp", "plain"} or dict, optional
        Which columns of the reference hold what: see
        `~ks4_ccd.read_reference`.
    mutual : bool, optional
        Whether the source must also be the nearest one of its star. Then no
        star comes twice: of several sources at the same place, one is kept.
    epoch : `~astropy.time.Time`, float or str, optional
        The time of the image: a time, a decimal year, or the value of
        DATE-OBS. The stars are moved there by their proper motions; those
        without stay where they are.
    mag_zeropoint : float, optional
        The zero point that the magnitudes of the sources contain (SExtractor's
        MAG_ZEROPOINT). They stay unchanged: it is recorded in ``meta``, from
        where the builders of maps take it and subtract it.

    Returns
    -------
    matched : `~astropy.table.Table`
        The matched sources in their order with all their columns (of the
        class of ``sources``), and of the star ``RAJ2000``, ``DEJ2000`` (deg,
        at ``epoch``), ``Rmag``, ``e_Rmag`` (mag) and ``flag_R`` for each band;
        ``sep`` (deg), the separation; ``dra``, ``ddec`` (arcsec), the
        position of the star minus that of the source along RA cos(Dec) and
        Dec, that is the correction to add. ``meta`` holds ``MATCHRAD``
        (arcsec), ``MATCHSRC``, ``MATCHREF`` and ``MATCHNUM`` (the numbers of
        sources, stars that took part, and matches) and, if given,
        ``MATCHBND``, ``MATCHEPO`` (yr) and ``MATCHMZP`` (mag).

    Raises
    ------
    KS4Error
        If no source has a star, columns or the band are missing, a catalog
        is empty or cannot be read, an argument is not allowed, ``epoch`` is
        given for a reference without proper motions, or ``mag_zeropoint`` for
        fluxes.

    Warns
    -----
    KS4Warning
        If the reference has proper motions and ``epoch`` is not given: the
        positions of its stars are then those of its own epoch.

    See Also
    --------
    ks4_ccd.read_reference : The reference by itself.

    Notes
    -----
    Sources and stars without a position match nothing. A source that the
    catalog has twice matches twice unless ``mutual``.

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
    stars = read_reference(reference, reference_columns)
    if epoch is not None:
        epoch = decimal_year("epoch", epoch)
        stars = _at_epoch(stars, epoch)
    else:
        _warn_of_motion(stars)
    stars.remove_columns([name for name in _MOTION if name in stars.colnames])
    _refuse_taken_names(sources, stars)
    rows, places = _with_positions(*catalog.sky(), "the source catalog")
    stars = _taking_part(stars, band)
    used, star_places = _with_positions(
        stars["RAJ2000"].value, stars["DEJ2000"].value, "the reference"
    )

    nearest, separation, _ = places.match_to_catalog_sky(star_places)
    near = separation.arcsec < radius
    if not near.any():
        raise KS4Error(_no_match(places, star_places, separation, radius))
    if mutual:
        source_of, _, _ = star_places.match_to_catalog_sky(places)
        near &= source_of[nearest] == np.arange(len(nearest))
    matches = np.flatnonzero(near)
    pairs = places[matches], star_places[nearest[matches]]

    matched = sources[rows[matches]]
    star_rows = used[nearest[matches]]
    for name in stars.colnames:
        matched[name] = stars[name][star_rows]
    matched["sep"] = Column(separation.deg[matches], unit=u.deg)
    for name, offset in zip(
        ("dra", "ddec"), pairs[0].spherical_offsets_to(pairs[1]), strict=True
    ):
        matched[name] = Column(offset.to_value(u.arcsec), unit=u.arcsec)
    facts = (radius, len(sources), len(used), len(matched), band, epoch)
    names = ("RAD", "SRC", "REF", "NUM", "BND", "EPO")
    matched.meta = deepcopy(sources.meta)
    for name, fact in zip(names, facts, strict=True):
        if fact is not None:
            matched.meta[f"MATCH{name}"] = fact
    if mag_zeropoint is not None and not catalog.columns.fluxes:
        matched.meta[MATCHED] = catalog.mag_zeropoint
    return matched


def _in_arcsec(radius):
    msg = f"radius must be an angle above 0 (a number is in arcsec), got {radius!r}"
    try:
        value = u.Quantity(radius)
        if value.unit == u.dimensionless_unscaled:
            value = value.value * u.arcsec
        value = float(value.to_value(u.arcsec))
    except (TypeError, ValueError, u.UnitConversionError) as error:
        raise KS4Error(msg) from error
    if isinstance(radius, bool) or not 0 < value < np.inf:
        raise KS4Error(msg)
    return value


def _at_epoch(stars, epoch):
    # Going on without would leave the motion since then in the offsets.
    if "pmRA" not in stars.colnames:
        msg = (
            f"epoch={epoch:g} needs proper motions, and the reference has none: name "
            "their columns with reference_columns={'pm_ra': ..., 'pm_dec': ...}, or "
            "leave epoch out to match at the epoch of the reference"
        )
        raise KS4Error(msg)
    if "Epoch" not in stars.colnames or (
        len(stars) and not np.isfinite(stars["Epoch"]).any()
    ):
        msg = (
            "the epoch of the reference is not known: name its column or the year "
            "with reference_columns={'epoch': 2016.0} (that of Gaia DR3; 2015.5 for "
            "DR2; 2000.0 for RAJ2000 and DEJ2000 of VizieR)"
        )
        raise KS4Error(msg)
    names = ("RAJ2000", "DEJ2000", "pmRA", "pmDE")
    years = epoch - stars["Epoch"].value
    ra, dec = moved(*(stars[name].value for name in names), years)
    stars["RAJ2000"][:], stars["DEJ2000"][:] = ra, dec
    return stars


def _warn_of_motion(stars):
    """Warn of the motion since the epoch of the reference, by its size."""
    if "pmRA" not in stars.colnames:
        return
    motion = np.array([stars[name].value for name in ("pmRA", "pmDE")])
    motion = motion[:, np.isfinite(motion).all(axis=0)]
    if not motion.any():
        return
    east, north = motion.mean(axis=1)
    msg = (
        "the reference has proper motions, and no epoch to move its stars to was "
        f"given: they move by {np.median(np.hypot(*motion)):.3g} mas a year in the "
        f"median, on average by ({east:+.3g}, {north:+.3g}) mas a year along RA and "
        "Dec; give epoch= (--epoch), the time of the image"
    )
    warnings.warn(msg, KS4Warning, stacklevel=3)


def _taking_part(stars, band):
    if band is None:
        return stars
    if band not in bands_of(stars):
        msg = (
            f"the reference has no magnitudes of band {band!r}, but of "
            f"{', '.join(bands_of(stars)) or 'none'}"
        )
        raise KS4Error(msg)
    usable = (stars[f"flag_{band}"] == 1) & np.isfinite(stars[f"{band}mag"])
    if not usable.any() and len(stars):
        msg = (
            f"none of the {len(stars)} stars of the reference has a finite magnitude "
            f"of band {band} with the flag 1"
        )
        raise KS4Error(msg)
    return stars[np.asarray(usable)]


def _refuse_taken_names(sources, stars):
    new = (*stars.colnames, "sep", "dra", "ddec")
    taken = [name for name in new if name in sources.colnames]
    if taken:
        msg = (
            f"the source catalog has columns {', '.join(taken)} already, which the "
            "match would write: remove or rename them"
        )
        raise KS4Error(msg)


def _with_positions(ra, dec, what):
    """Return the rows that have a position, and these positions."""
    if not len(ra):
        msg = f"{what} is empty"
        raise KS4Error(msg)
    rows = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    if not len(rows):
        msg = f"{what} has {len(ra)} rows, none of them with a position on the sky"
        raise KS4Error(msg)
    if (np.abs(dec[rows]) > 90).any():
        msg = (
            f"{what} must have declinations between -90 and 90 deg, got "
            f"{dec[rows][np.argmax(np.abs(dec[rows]))]:g}"
        )
        raise KS4Error(msg)
    return rows, SkyCoord(ra[rows], dec[rows], unit="deg")


def _no_match(places, star_places, separation, radius):
    """Return what to say when no source has a star."""
    centers, extents = zip(*map(_center_and_extent, (places, star_places)), strict=True)
    named = [center.to_string(precision=4) for center in centers]
    distance = np.median(separation.arcsec)
    far = centers[0].separation(centers[1]).deg > sum(extents)
    advice = (
        "they are of different fields"
        if far
        else "pass a larger radius if the positions are that uncertain"
    )
    return (
        f"no source has a reference star within {radius:g} arcsec: in the median the "
        f"nearest is {_readable(distance)} away. The sources are around {named[0]} "
        f"deg, the reference stars around {named[1]} deg: {advice}"
    )


def _center_and_extent(places):
    # The mean direction: RA across 0 and the poles need no care.
    mean = places.cartesian.mean()
    center = SkyCoord(mean, representation_type="cartesian", frame="icrs")
    center = SkyCoord(center.spherical.lon, center.spherical.lat)
    return center, center.separation(places).deg.max()


def _readable(arcsec):
    return f"{arcsec:.3g} arcsec" if arcsec < 3600 else f"{arcsec / 3600:.3g} deg"
