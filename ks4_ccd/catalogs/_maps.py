# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Find the maps that calibrate a catalog, and compare them with it."""

import os
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, TypeVar

from ks4_ccd.astrometry.placement import check_belongs
from ks4_ccd.catalogs.sources import Sources
from ks4_ccd.exceptions import (
    KS4Warning,
    MapMismatchError,
    MapNotFoundError,
    OptionError,
)
from ks4_ccd.ks4.header import band_of, field_in, frame_shape, has_value
from ks4_ccd.ks4.names import APERTURES
from ks4_ccd.library.library import MapLibrary
from ks4_ccd.maps.base import CalibrationMap
from ks4_ccd.maps.denoising import NoiseReduction
from ks4_ccd.maps.key import MapKey
from ks4_ccd.maps.misalignment import MisalignmentMap
from ks4_ccd.maps.offset import OffsetMap, require_offsets
from ks4_ccd.maps.zeropoint import ZeroPointMap
from ks4_ccd.photometry.options import require_zeropoints

__all__ = ["CatalogMaps", "find_maps"]

_Map = TypeVar("_Map", bound=CalibrationMap)

_IGNORE = "ignore"
_KINDS = {MisalignmentMap: "misalignment", OffsetMap: "offsets"}


class CatalogMaps(NamedTuple):
    """
    The maps for a catalog.

    Attributes
    ----------
    zeropoints : dict
        A `~ks4_ccd.ZeroPointMap` for each aperture to calibrate.
    misalignment : `~ks4_ccd.MisalignmentMap` or `None`
    offsets : `~ks4_ccd.OffsetMap` or `None`
    """

    zeropoints: dict[str, ZeroPointMap]
    misalignment: MisalignmentMap | None = None
    offsets: OffsetMap | None = None

    @property
    def key(self) -> MapKey | None:
        """The key of a zero-point map, `None` if none has one."""
        return next((m.key for m in self.zeropoints.values() if m.key), None)


class _Wanted(NamedTuple):
    """The names of maps to look up in a library."""

    field: str | int
    band: str
    mode: str
    image_shape: tuple[int, int] | None

    def find(self, load: Callable[..., _Map], *more: str) -> _Map | None:
        """Return the map that a method of a library loads, `None` if none exists."""
        names = self.field, self.band, self.mode, *more
        try:
            return load(*names, image_shape=self.image_shape)
        except MapNotFoundError:
            return None


def find_maps(
    given: object,
    sources: Sources,
    *,
    field: str | int | None,
    band: str | None,
    mode: str,
    misalignment: MisalignmentMap | None,
    offsets: OffsetMap | MapLibrary | str | os.PathLike | None,
    reduction: NoiseReduction,
    use_offsets: bool,
) -> CatalogMaps:
    """
    Return the maps that calibrate a catalog.

    Parameters
    ----------
    given : `~ks4_ccd.MapLibrary`, path-like, map, mapping or iterable
        As in `~ks4_ccd.calibrate_catalog`.
    sources : `~ks4_ccd.catalogs.sources.Sources`
    field, band, mode, misalignment, offsets
        As in `~ks4_ccd.calibrate_catalog`.
    reduction : `~ks4_ccd.maps.denoising.NoiseReduction`
        How the zero-point maps are smoothed or denoised.
    use_offsets : bool
        Whether an offset map of the library is used if ``offsets`` is `None`.

    Returns
    -------
    maps : `CatalogMaps`

    Raises
    ------
    KS4Error
        If no aperture of the catalog has a map, or maps do not belong together or
        to the catalog.

    Warns
    -----
    KS4Warning
        If some apertures have no map.
    """
    meta = sources.table.meta
    if isinstance(given, Iterator):
        given = list(given)
    if _are_maps(given):
        found = _by_kind(given, sources.apertures)
    else:
        wanted = _wanted(meta, field, band, mode)
        found = _from_library(given, sources, wanted)
        if not use_offsets:
            found = found._replace(offsets=None)
    if misalignment is not None:
        found = found._replace(misalignment=_require_misalignment(misalignment))
    if isinstance(offsets, str) and offsets == _IGNORE:
        found = found._replace(offsets=None)
    elif offsets is not None:
        offset_map = _find_offsets(offsets, lambda: _wanted(meta, field, band, mode))
        found = found._replace(offsets=offset_map)
    _refuse_contradictions(found, meta, field, band)
    prepared = {a: reduction.of(zpmap) for a, zpmap in found.zeropoints.items()}
    found = found._replace(zeropoints=prepared)
    _warn_without_map(sources.apertures, found.zeropoints)
    return found


def _are_maps(given: object) -> bool:
    """Return whether the argument contains maps, not a library or paths."""
    if isinstance(given, Mapping | CalibrationMap):
        return True
    # `_by_kind` reports a path among maps as an error.
    return isinstance(given, Collection) and any(
        isinstance(member, CalibrationMap) for member in given
    )


def _by_kind(maps: Any, apertures: Sequence[str]) -> CatalogMaps:
    """Sort maps by kind and aperture."""
    if isinstance(maps, Mapping):
        given = {name: require_zeropoints(zpmap) for name, zpmap in maps.items()}
        return CatalogMaps(_of_the_catalog(given, apertures))
    zeropoints: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for map_ in [maps] if isinstance(maps, CalibrationMap) else maps:
        name = _KINDS.get(type(map_))
        chosen = zeropoints if name is None else others
        if name is None:
            name = _aperture_of(require_zeropoints(map_), apertures)
        if name in chosen:
            msg = f"expected one map of {name}, found two: leave one of them out"
            raise OptionError(msg)
        chosen[name] = map_
    return CatalogMaps(_of_the_catalog(zeropoints, apertures), **others)


def _aperture_of(zpmap: ZeroPointMap, apertures: Sequence[str]) -> str:
    if zpmap.key is not None and zpmap.key.aperture is not None:
        return zpmap.key.aperture
    if len(apertures) == 1:
        return apertures[0]
    msg = (
        f"expected maps whose keys specify their apertures, found {zpmap!r}: give a "
        f"dict of maps, such as {{{(apertures or APERTURES)[-1]!r}: zpmap}}"
    )
    raise OptionError(msg)


def _of_the_catalog(
    zeropoints: Mapping[str, ZeroPointMap], apertures: Sequence[str]
) -> dict[str, ZeroPointMap]:
    """Return the maps of the catalog's apertures, in its order."""
    chosen = {a: zeropoints[a] for a in apertures if a in zeropoints}
    if not chosen:
        msg = (
            f"expected maps of apertures of the catalog "
            f"({', '.join(apertures) or 'none'}), found maps of "
            f"{', '.join(map(str, zeropoints)) or 'none'}"
        )
        raise MapNotFoundError(msg)
    return chosen


def _wanted(
    meta: Mapping, field: str | int | None, band: str | None, mode: str
) -> _Wanted:
    missing = {}
    if field is None and not has_value(meta, "FIELD1", "FIELD2"):
        missing["field="] = "FIELD1"
    if band is None and not has_value(meta, "FILTER"):
        missing["band="] = "FILTER"
    if missing:
        names = [option.rstrip("=") for option in missing]
        options, keywords = " and ".join(missing), " and ".join(missing.values())
        msg = (
            f"the catalog does not record its {' and '.join(names)}: give {options}, "
            f"or set {keywords} in its meta"
        )
        raise MapMismatchError(msg)
    return _Wanted(
        field_in(meta) if field is None else field,
        band_of(meta) if band is None else band,
        mode,
        frame_shape(meta),
    )


def _from_library(given: Any, sources: Sources, wanted: _Wanted) -> CatalogMaps:
    is_open = isinstance(given, MapLibrary)
    with nullcontext(given) if is_open else MapLibrary(given) as library:
        named = [a for a in sources.apertures if a in APERTURES]
        found = {a: wanted.find(library.zeropoint, a) for a in named}
        zeropoints = {a: zpmap for a, zpmap in found.items() if zpmap is not None}
        if not zeropoints and named:
            # The message lists the maps that exist.
            library.zeropoint(wanted.field, wanted.band, wanted.mode, named[0])
        return CatalogMaps(
            _of_the_catalog(zeropoints, sources.apertures),
            wanted.find(library.misalignment),
            wanted.find(library.offset),
        )


def _find_offsets(offsets: Any, wanted: Callable[[], _Wanted]) -> OffsetMap:
    if isinstance(offsets, CalibrationMap):
        return require_offsets(offsets)
    is_open = isinstance(offsets, MapLibrary)
    with nullcontext(offsets) if is_open else MapLibrary(offsets) as library:
        field, band, mode, image_shape = wanted()
        return library.offset(field, band, mode, image_shape=image_shape)


def _require_misalignment(map_: object) -> MisalignmentMap:
    if not isinstance(map_, MisalignmentMap):
        msg = f"misalignment must be a MisalignmentMap, got {type(map_).__name__}"
        raise OptionError(msg)
    return map_


def _refuse_contradictions(
    found: CatalogMaps, meta: Mapping, field: str | int | None, band: str | None
) -> None:
    given = {"FIELD1": field, "FILTER": band}
    others = [map_ for map_ in (found.misalignment, found.offsets) if map_]
    first = next(iter(found.zeropoints.values()))
    frame = first.grid.image_shape, first.grid.origin
    for map_ in [*found.zeropoints.values(), *others]:
        for header in (meta, given):
            check_belongs(header, map_.key)
        if (map_.grid.image_shape, map_.grid.origin) != frame:
            msg = (
                f"expected maps of one image, found two: {first.name} covers "
                f"{frame[0]} (rows, columns) from {frame[1]}, {map_.name} covers "
                f"{map_.grid.image_shape} from {map_.grid.origin}"
            )
            raise MapMismatchError(msg)
        if found.key is None or map_.key is None:
            continue
        for part in ("field", "band", "mode"):
            own, expected = getattr(map_.key, part), getattr(found.key, part)
            # Both modes have the astrometry of mode single.
            if own != expected and (part != "mode" or map_ not in others):
                msg = f"expected maps of one {part}, found {found.key} and {map_.key}"
                raise MapMismatchError(msg)


def _warn_without_map(apertures: Sequence[str], zeropoints: Collection[str]) -> None:
    without = [aperture for aperture in apertures if aperture not in zeropoints]
    if without:
        msg = (
            f"no map exists for the apertures {', '.join(without)} of the catalog: "
            "their magnitudes are left unchanged"
        )
        warnings.warn(msg, KS4Warning, stacklevel=4)
