# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What a catalog says about its calibration."""

from astropy import units as u

import ks4_ccd
from ks4_ccd.astrometry._offset_record import is_corrected, record_sources
from ks4_ccd.exceptions import AlreadyCalibratedError
from ks4_ccd.photometry._map_identity import checksum_of, doi_of
from ks4_ccd.photometry._record import next_time

__all__ = ["is_corrected", "refuse_second", "refuse_second_correction", "write"]

# The keywords of images: a catalog may have the header of one in its meta.
_MAP, _TIMES = "KS4ZPMAP", "KS4ZPNUM"
_OFFSET_MAP = "KS4OFMAP"


def refuse_second(sources, recalibrate):
    """
    Raise if a catalog has been calibrated, unless one more is wanted.

    Parameters
    ----------
    sources : `~ks4_ccd.sources.Sources`
    recalibrate : bool

    Raises
    ------
    AlreadyCalibratedError
        If there is a record or a column of zero points and ``recalibrate`` is
        false, or if a column is in AB magnitudes or physical fluxes.
    """
    table = sources.table
    for aperture in sources.apertures:
        name, _ = sources.place_of(aperture)
        if _is_physical(getattr(table[name], "unit", None)):
            msg = (
                f"column {name} is in {table[name].unit}, not in instrumental "
                "magnitudes or counts: it is calibrated already"
            )
            raise AlreadyCalibratedError(msg)
    if recalibrate:
        return
    if _MAP in table.meta:
        first, *more = str(table.meta[_MAP]).split(", ")
        msg = (
            "the catalog, or the image that it is of, was calibrated before, with "
            f"{first}{f' and {len(more)} more' if more else ''} ({_MAP})"
        )
    else:
        found = [f"ZP_{aperture}" for aperture in sources.apertures]
        found = [name for name in found if name in table.colnames]
        if not found:
            return
        msg = (
            f"the catalog was calibrated before: it has {', '.join(found)}, as the "
            "release's own catalogs have"
        )
    msg += "; recalibrate=True (--recalibrate) applies maps on top"
    raise AlreadyCalibratedError(msg)


def _is_physical(unit):
    """Return whether a unit is that of a flux in W, or of its magnitude."""
    if isinstance(unit, u.MagUnit):
        unit = unit.physical_unit
    if not isinstance(unit, u.UnitBase):
        return False
    try:
        return u.kg in unit.decompose().bases
    except ValueError:
        # A unit that astropy does not know.
        return False


def refuse_second_correction(meta):
    """Raise `AlreadyCalibratedError` if positions were corrected."""
    if is_corrected(meta):
        msg = (
            "the positions of the catalog were corrected before, with "
            f'{meta[_OFFSET_MAP]} ({_OFFSET_MAP}): offsets="ignore" leaves them alone'
        )
        raise AlreadyCalibratedError(msg)


def write(meta, maps, method, error_kind, offsets):
    """
    Tell in the meta of a table, in place, that it was calibrated.

    Parameters
    ----------
    meta : mapping
    maps : iterable of `~ks4_ccd.ZeroPointMap`
    method : str
    error_kind : str or `None`
        Which errors of the maps went into those of the magnitudes.
    offsets : `~ks4_ccd.OffsetMap` or `None`
        The map that positions were corrected by.
    """
    maps = list(maps)
    times = next_time(meta)
    meta[_MAP] = ", ".join(zpmap.name for zpmap in maps)
    meta["KS4ZPSUM"] = ", ".join(checksum_of(zpmap) for zpmap in maps)
    meta.pop("KS4ZPDOI", None)
    dois = {doi_of(zpmap) for zpmap in maps} - {None}
    if dois:
        meta["KS4ZPDOI"] = ", ".join(dois)
    meta["KS4ZPMTH"] = method
    meta["KS4ZPERR"] = error_kind or "ignore"
    meta[_TIMES] = times
    meta["KS4ZPVER"] = ks4_ccd.__version__
    if offsets is not None:
        record_sources(meta, offsets)
