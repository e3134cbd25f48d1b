# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Record a calibration in the meta of a catalog, and refuse a second one."""

from collections.abc import Iterable, Mapping, MutableMapping
from importlib.metadata import version

from astropy import units as u

from ks4_ccd.astrometry.offset_record import (
    is_corrected,
    record_sources,
)
from ks4_ccd.catalogs.columns import unit_of
from ks4_ccd.catalogs.sources import Sources
from ks4_ccd.exceptions import AlreadyCalibratedError
from ks4_ccd.files.magnitudes import (
    CONTAINED,
    MATCHED,
    SEXTRACTOR,
    zeropoint_columns,
)
from ks4_ccd.ks4.calibrated import COLOR, TIMES, calibration_in, next_time
from ks4_ccd.ks4.record import doi_of
from ks4_ccd.maps.identity import checksum_of, reference_colors
from ks4_ccd.maps.offset import OffsetMap
from ks4_ccd.maps.zeropoint import ZeroPointMap

__all__ = ["refuse_second", "refuse_second_correction", "write"]

# The keywords of images, because the meta of a catalog may contain a header.
_MAP = "KS4ZPMAP"
_OFFSET_MAP = "KS4OFMAP"


def refuse_second(sources: Sources, recalibrate: bool) -> None:
    """
    Refuse a catalog that has been calibrated.

    Parameters
    ----------
    sources : `~ks4_ccd.catalogs.sources.Sources`
    recalibrate : bool
        Whether a catalog is accepted whose image was calibrated, or whose fluxes
        remained uncalibrated.

    Raises
    ------
    AlreadyCalibratedError
        If a column is in AB magnitudes or physical fluxes; if magnitudes
        contain zero points according to the table's meta or columns; or
        if another calibration is recorded and ``recalibrate`` is false.
    """
    table = sources.table
    for aperture in sources.apertures:
        name, _ = sources.place_of(aperture)
        if _is_physical(unit_of(table[name])):
            msg = (
                f"column {name} is in {table[name].unit}, not in instrumental "
                "magnitudes or adu: it is calibrated already"
            )
            raise AlreadyCalibratedError(msg)
    found = zeropoint_columns(table)
    contained = found or CONTAINED in table.meta
    if contained and not sources.columns.fluxes:
        record = [key for key in (_MAP, CONTAINED) if key in table.meta]
        where = [f"column {name}" for name in found]
        where += [f"{key} in its meta" for key in record]
        msg = (
            "the catalog was calibrated before: expected instrumental magnitudes, "
            f"found {', '.join(where)}. A second zero point is never added. If the "
            "magnitudes contain these zero points, subtract them; then remove or "
            "rename these columns and keywords"
        )
        raise AlreadyCalibratedError(msg)
    recorded = calibration_in(table.meta)
    if recalibrate or not (found or recorded):
        return
    if recorded:
        msg = f"the catalog or its image was calibrated before, {recorded}"
    else:
        msg = f"the catalog was calibrated before: it has {', '.join(found)}"
    msg += "; use recalibrate=True (--recalibrate) to calibrate it again"
    raise AlreadyCalibratedError(msg)


def _is_physical(unit: object) -> bool:
    """Return whether a unit is one of physical fluxes or of their magnitudes."""
    if isinstance(unit, u.MagUnit):
        unit = unit.physical_unit
    if not isinstance(unit, u.UnitBase):
        return False
    try:
        return bool({u.kg, u.mgy} & set(unit.decompose().bases))
    except ValueError:
        # Not a valid astropy unit.
        return False


def refuse_second_correction(meta: Mapping) -> None:
    """Raise `AlreadyCalibratedError` if positions were corrected."""
    if is_corrected(meta):
        msg = (
            "the positions of the catalog were corrected before, by "
            f'{meta[_OFFSET_MAP]} ({_OFFSET_MAP}): use offsets="ignore" to leave them '
            "unchanged"
        )
        raise AlreadyCalibratedError(msg)


def write(
    meta: MutableMapping,
    maps: Iterable[ZeroPointMap],
    method: str,
    error_kind: str | None,
    offsets: OffsetMap | None,
    contained: float | None,
) -> None:
    """
    Record a calibration in the meta of a table, in place.

    Parameters
    ----------
    meta : mapping
    maps : iterable of `~ks4_ccd.ZeroPointMap`
    method : str
    error_kind : str or `None`
        The kind of zero-point uncertainty that was propagated into the magnitudes.
    offsets : `~ks4_ccd.OffsetMap` or `None`
        The map that corrected the positions.
    contained : float or `None`
        The zero point that the magnitudes contained before, `None` for fluxes.
    """
    maps = list(maps)
    times = next_time(meta)
    meta[_MAP] = ", ".join(zpmap.name for zpmap in maps)
    meta["KS4ZPSUM"] = ", ".join(checksum_of(zpmap) for zpmap in maps)
    meta.pop("KS4ZPDOI", None)
    dois = {doi for doi in map(doi_of, maps) if doi}
    if dois:
        meta["KS4ZPDOI"] = ", ".join(dois)
    meta.pop(COLOR, None)
    if colors := reference_colors(maps):
        meta[COLOR] = colors
    meta["KS4ZPMTH"] = method
    meta["KS4ZPERR"] = error_kind or "ignore"
    meta[TIMES] = times
    meta["KS4ZPVER"] = version("ks4_ccd")
    if contained is not None:
        meta[CONTAINED] = contained
        # These keywords describe the magnitudes before the calibration.
        for keyword in (MATCHED, SEXTRACTOR):
            meta.pop(keyword, None)
    if offsets is not None:
        record_sources(meta, offsets)
