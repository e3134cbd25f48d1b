# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Find and load maps in folders, archives and stores."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from astropy.io import fits
from astropy.table import Table

from ks4_ccd.exceptions import KS4Error, MapFormatError, MapNotFoundError, OptionError
from ks4_ccd.files.tables import table_of
from ks4_ccd.ks4.frame import STACK_SHAPE
from ks4_ccd.ks4.header import band_of, field_in, frame_shape
from ks4_ccd.ks4.names import canonical_key, sort_key
from ks4_ccd.ks4.tiling import field_number, is_tile_name
from ks4_ccd.library._archive import ArchiveSource, archive_name
from ks4_ccd.library._arrays import (
    check_together,
    edges_of,
    read_once,
    without_marks,
)
from ks4_ccd.library._sources import Entry, FolderSource, Source, printable
from ks4_ccd.library._store_file import STORE_SUFFIX
from ks4_ccd.library._store_source import StoreSource
from ks4_ccd.maps.color import ColorTerm
from ks4_ccd.maps.grid import MapGrid
from ks4_ccd.maps.key import EMPTY_MARKS, FAMILIES, MapKey, parts_of
from ks4_ccd.maps.misalignment import MisalignmentMap
from ks4_ccd.maps.offset import OffsetMap
from ks4_ccd.maps.zeropoint import ZeroPointMap

__all__ = [
    "MapLibrary",
    "as_paths",
    "is_whole",
    "missing_map_message",
    "open_sources",
    "order",
]

Paths: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""One path or several."""

_Map = TypeVar("_Map", ZeroPointMap, MisalignmentMap, OffsetMap)
_PARTS = ("values", "error", "count")
# The maps of these kinds that have no star at all are of no use.
_EMPTY_VALUE = {"zeropoint": EMPTY_MARKS["zp"]}


class MapLibrary:
    """
    The calibration maps in folders, archives and stores.

    Maps are found by their file names, in any subfolder; other files are
    ignored. Archives are read in place: nothing is extracted to disk or
    unpickled. A .tar.gz is scanned once per process, which takes seconds
    per gigabyte; any map is then read in tens of milliseconds. A store, written by
    `~ks4_ccd.ingest` from archives, opens immediately, and any of its maps is read in a
    fraction of a millisecond.

    Parameters
    ----------
    path : path-like or list of path-like
        A folder (with .npy files of maps, and .tar, .tar.gz or .tgz archives
        of them, in upper or lower case, also with the query of a download
        after it, as in ``X.tar.gz?download=1``), an archive, a store (a file
        named .ks4maps), or several of these together.
    image_shape : tuple of int, optional
        The shape ``(rows, columns)`` of the whole images that the maps
        cover; by default that of the KS4 stacks.

    Raises
    ------
    MapNotFoundError
        If ``path`` does not exist.
    MapFormatError
        If an archive is truncated, damaged or not an archive.
    StoreError
        If a store is damaged, locked or not a store, or was written by another
        version.
    KS4Error
        If a folder or a file cannot be read.

    Notes
    -----
    Threads may share a library. A pickled one is opened again, by its paths,
    where it is unpickled.

    Empty cells of a map without a file of star counts are those with a value of
    exactly 30 (zero points) or 0 (misalignments, offsets), and with an error of 0
    if the map has errors: they become NaN. With star counts, a count of 0 marks an
    empty cell.

    In an archive, a link to an earlier member is another name of its data. A
    member that cannot be read (a link that points elsewhere, a device, more than
    64 MiB) raises an error when its map is loaded; the others remain readable.

    The same array may exist more than once, in several sources or as
    ``dual`` and ``Idual``: equal arrays are accepted, different ones raise
    `MapFormatError` when their map is loaded.

    Examples
    --------
    >>> import numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> from ks4_ccd import MapLibrary
    >>> with TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/zp_map_0403_R_single_APER5.npy", np.full((55, 55), 29.9))
    ...     with MapLibrary(folder) as library:
    ...         zpmap = library.zeropoint("0403", "R")
    >>> zpmap.values.shape, zpmap.key.aperture
    ((55, 55), 'APER5')
    """

    def __init__(
        self,
        path: Paths,
        *,
        image_shape: tuple[int, int] = STACK_SHAPE,
    ) -> None:
        rows, columns = MapGrid.for_image((1, 1), image_shape).image_shape
        self.image_shape = rows, columns
        self.paths = as_paths(path)
        with ExitStack() as opened:
            sources: list[Source] = []
            for source in open_sources(self.paths):
                opened.callback(source.close)
                sources.append(source)
            self._sources: list[Source] | None = sources
            self._opened = opened.pop_all()

    def __enter__(self) -> "MapLibrary":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable, tuple]:
        self._open_sources()
        paths = [path.absolute() for path in self.paths]
        return partial(type(self), paths, image_shape=self.image_shape), ()

    def __repr__(self) -> str:
        return f"<MapLibrary: {', '.join(map(str, self.paths))}>"

    def close(self) -> None:
        """Close archives and stores; no map can be loaded afterwards."""
        self._opened.close()
        self._sources = None

    def table(self) -> Table:
        """
        List the maps that can be loaded.

        Returns
        -------
        table : `~astropy.table.Table`
            A row per map, sorted: ``kind`` (``"zeropoint"``,
            ``"misalignment"`` or ``"offset"``), ``field``, ``tile`` (``""``
            where no file name contains it), ``band``, ``mode``, ``aperture``
            (``""`` where the kind has none), ``detector`` if any map has one, whether
            its ``values`` (both components of an offset), ``error`` and ``count``
            exist, and ``source``, the path of the values or of the first component.
        """
        existing_parts = self._existing_parts()
        rows = []
        for key in sorted(existing_parts, key=order):
            if is_whole(key.kind, existing_parts[key]):
                own_key, path = _name_of(self._find(key))
                rows.append(
                    (
                        *(key.kind, key.field, own_key.tile or "", key.band, key.mode),
                        *(key.aperture or "", key.detector or "", True),
                        *(part in existing_parts[key] for part in _PARTS[1:]),
                        path,
                    )
                )
        names = ["kind", "field", "tile", "band", "mode", "aperture", "detector"]
        dtypes = dict.fromkeys(names, str) | dict.fromkeys(_PARTS, bool)
        table = table_of(rows, dtypes | {"source": str})
        if not any(table["detector"]):
            table.remove_column("detector")
        return table

    def zeropoint(
        self,
        field: str | int,
        band: str,
        mode: str = "single",
        aperture: str = "APER5",
        *,
        detector: str | None = None,
        image_shape: tuple[int, int] | None = None,
    ) -> ZeroPointMap:
        """
        Return the zero-point map of a field.

        Parameters
        ----------
        field : str or int
            The name of the field; for one of KS4 ``"0403"``, ``403``, ``"122-72"``
            or ``"0403.122-72"``.
        band : str
            The filter, such as ``"R"``.
        mode : str, optional
            How the stars were detected: ``"single"`` or ``"dual"`` (``"Idual"`` is
            the same) in KS4.
        aperture : str, optional
            The aperture of the photometry that the map is for: ``"FWHM"``,
            ``"APER3"``, ``"APER5"``, ``"APER10"`` or ``"AUTO"`` in KS4.
        detector : str, optional
            The detector, for maps of one detector of a camera.
        image_shape : tuple of int, optional
            The shape ``(rows, columns)`` of the whole image; by default that
            of the library.

        Returns
        -------
        zpmap : `~ks4_ccd.ZeroPointMap`
            Its ``error`` or ``count`` is `None` where the library has none.

        Raises
        ------
        MapNotFoundError
            If the map does not exist; the message lists those that do.
        MapFormatError
            If an array of the map is not as documented, or exists twice
            with different values.
        GeometryError
            If the map has more cells than the image has pixels.
        OptionError
            If an argument is not one of the allowed values.
        """
        key = self._key("zp", field, band, mode, aperture, detector)
        return self._load(ZeroPointMap, key, image_shape)

    def misalignment(
        self,
        field: str | int,
        band: str,
        mode: str = "single",
        *,
        detector: str | None = None,
        image_shape: tuple[int, int] | None = None,
    ) -> MisalignmentMap:
        """
        Return the misalignment map of a field.

        Parameters
        ----------
        field, band, mode, detector, image_shape
            As in `zeropoint`.

        Returns
        -------
        misalignment : `~ks4_ccd.MisalignmentMap`
            Its ``error`` or ``count`` is `None` where the library has none.

        Raises
        ------
        KS4Error
            As in `zeropoint`.
        """
        key = self._key("align", field, band, mode, None, detector)
        return self._load(MisalignmentMap, key, image_shape)

    def offset(
        self,
        field: str | int,
        band: str,
        mode: str = "single",
        *,
        detector: str | None = None,
        image_shape: tuple[int, int] | None = None,
    ) -> OffsetMap:
        """
        Return the offset map of a field.

        Parameters
        ----------
        field, band, mode, detector, image_shape
            As in `zeropoint`.

        Returns
        -------
        offsets : `~ks4_ccd.OffsetMap`
            Its ``error`` or ``count`` is `None` where the library has none.

        Raises
        ------
        KS4Error
            As in `zeropoint`.
        """
        key = self._key("dra", field, band, mode, None, detector)
        return self._load(OffsetMap, key, image_shape)

    def for_header(
        self,
        header: fits.Header | Mapping[str, Any],
        mode: str = "single",
        aperture: str = "APER5",
    ) -> ZeroPointMap:
        """
        Return the zero-point map that belongs to an image.

        Parameters
        ----------
        header : `~astropy.io.fits.Header` or mapping
            The header of the image. FIELD1 (the number of the field) or else
            FIELD2 (the name of its tile), and FILTER, specify the map; KS4NAX1
            and KS4NAX2, if both exist, the size of the whole image in
            pixels along x and y.
        mode, aperture : str, optional
            As in `zeropoint`.

        Returns
        -------
        zpmap : `~ks4_ccd.ZeroPointMap`

        Raises
        ------
        MapMismatchError
            If a keyword is missing or wrong.
        MapNotFoundError
            If the map does not exist; the message lists those that do.
        MapFormatError
            If an array of the map is not as documented.
        """
        return self.zeropoint(
            field_in(header),
            band_of(header),
            mode,
            aperture,
            image_shape=frame_shape(header),
        )

    def _open_sources(self) -> list[Source]:
        if self._sources is None:
            msg = f"{self!r} is closed: load maps before closing it"
            raise KS4Error(msg)
        return self._sources

    def _key(
        self,
        family: str,
        field: str | int,
        band: str,
        mode: str,
        aperture: str | None,
        detector: str | None,
    ) -> MapKey:
        names = _field(field), band, mode, aperture
        given = MapKey(family, *names, detector=detector)
        key = canonical_key(given)
        # Field numbers of other surveys need not have four digits.
        return key if key == given or self._find(key) else given

    def _find(self, *keys: MapKey) -> list[tuple[Source, Entry]]:
        sources = self._open_sources()
        return [(source, entry) for source in sources for entry in source.find(*keys)]

    def _load(
        self, map_class: type[_Map], key: MapKey, image_shape: tuple[int, int] | None
    ) -> _Map:
        needed, optional = parts_of(key.kind)
        arrays, paths = {}, {}
        families = needed | optional
        found = defaultdict(list)
        for each in self._find(*map(key.with_family, families.values())):
            found[each[1].key.family].append(each)
        for part, family in families.items():
            if found[family]:
                arrays[part], paths[part] = read_once(found[family])
            elif part in needed:
                raise MapNotFoundError(self._message_for(key))
        own_key, source = _name_of(found[key.family])
        edges = edges_of(arrays.pop("edges", None), paths.get("edges"))
        options: dict[str, Any] = {"key": own_key, "source": source}
        if "color_term" in arrays:
            color_term, path = arrays.pop("color_term"), paths["color_term"]
            options["color_term"] = ColorTerm.from_array(color_term, path)
        check_together(arrays, paths, _EMPTY_VALUE.get(key.kind))
        if "count" not in arrays:
            mark = EMPTY_MARKS[map_class.family]
            arrays |= without_marks(arrays, map_class.components, mark)
        shape = next(iter(arrays.values())).shape
        with _naming(paths | {None: source}):
            if image_shape is None:
                grid = _plain_grid(shape, self.image_shape)
            else:
                grid = MapGrid.for_image(shape, image_shape)
        if "edges" in paths:
            with _naming({None: paths["edges"]}):
                grid = MapGrid.for_image(shape, grid.image_shape, edges)
        with _naming(paths | {None: source}):
            return map_class(**arrays | options, grid=grid)

    def _message_for(self, missing: MapKey) -> str:
        return missing_map_message(missing, self._existing_parts(), self.paths)

    def _existing_parts(self) -> dict[MapKey, set[str]]:
        # {key of the first array: names of the existing arrays}
        existing_parts = defaultdict(set)
        for source in self._open_sources():
            for key in source.keys():  # noqa: SIM118 (a source is no dict)
                needed, _ = parts_of(key.kind)
                first_key = key.with_family(next(iter(needed.values())))
                existing_parts[first_key].add(key.part)
        return existing_parts


def _field(field: str | int) -> str:
    # A number may be that of another survey, a tile name is always one of KS4.
    name = str(field).strip() if isinstance(field, str | int) else field
    is_tile = isinstance(name, str) and is_tile_name(name.rpartition(".")[2])
    return field_number(name) if is_tile else name


@contextmanager
def _naming(paths: dict[str | None, str]) -> Iterator[None]:
    """Prefix the message of an error with the path of the wrong array."""
    try:
        yield
    except KS4Error as error:
        msg = f"{paths[getattr(error, 'part', None)]}: {error}"
        raise type(error)(msg) from error


# Nearly all maps of DR1 have the same grid, which is checked once.
@lru_cache(maxsize=16)
def _plain_grid(shape: tuple[int, int], image_shape: tuple[int, int]) -> MapGrid:
    return MapGrid.for_image(shape, image_shape)


def _name_of(found: list[tuple[Source, Entry]]) -> tuple[MapKey, str]:
    # The key with the tile, if a file name contains it, and the first path.
    keys = [entry.key for _, entry in found]
    with_tile = [own_key for own_key in keys if own_key.tile is not None]
    return (with_tile or keys)[0], found[0][1].path


_KINDS = tuple(dict.fromkeys(kind for kind, _ in FAMILIES.values()))
_MOST_FIELDS_LISTED = 12
_NO_OFFSETS = (
    "; DR1 has no offset maps, as its misalignment maps have no direction: build one "
    "from a star table with build_offset_map"
)


def order(key: MapKey) -> tuple:
    """Return a sort key: by kind, field, band (blue first), mode and aperture."""
    return (
        _KINDS.index(key.kind),
        *sort_key(key),
    )


def is_whole(kind: str, parts: set[str]) -> bool:
    """Return whether ``parts`` include all arrays that a map of that kind needs."""
    needed, _ = parts_of(kind)
    return parts >= set(needed)


def missing_map_message(
    missing: MapKey, existing_parts: dict[MapKey, set[str]], paths: Iterable[Path]
) -> str:
    """
    Return the message for a missing map, which lists the existing ones.

    Parameters
    ----------
    missing : `MapKey`
        The key of the values that do not exist.
    existing_parts : dict
        By the key of a map's first array, the names of the arrays that exist.
    paths : iterable of path-like
        The paths that were searched.

    Returns
    -------
    message : str
    """
    msg = f"no {missing} in {', '.join(map(printable, paths))}: "
    if missing in existing_parts:
        existing = " and ".join(sorted(existing_parts[missing]))
        needed, _ = parts_of(missing.kind)
        lacking = [needed[p] for p in needed if p not in existing_parts[missing]]
        files = " and ".join(f"{family}_map" for family in lacking)
        return msg + f"its {existing} exists, its {files} file does not"
    maps = [
        key
        for key in sorted(existing_parts, key=order)
        if key.kind == missing.kind and is_whole(key.kind, existing_parts[key])
    ]
    if not maps:
        msg += f"no {missing.kind} map exists there"
        return msg + _NO_OFFSETS if missing.kind == "offset" else msg
    of_field = [key for key in maps if key.place == missing.place]
    if of_field:
        return msg + f"maps of that field are {_variants(of_field)}"
    fields = list(dict.fromkeys(key.place for key in maps))
    more = len(fields) - _MOST_FIELDS_LISTED
    msg += f"fields with such maps are {', '.join(fields[:_MOST_FIELDS_LISTED])}"
    return f"{msg} and {more} more" if more > 0 else msg


def _variants(keys: list[MapKey]) -> str:
    # "R single (APER3, APER5), I single (AUTO)"
    apertures = defaultdict(list)
    for key in keys:
        apertures[f"{key.band} {key.mode}"].append(key.aperture or "")
    return ", ".join(
        f"{name} ({', '.join(kept)})" if any(kept) else name
        for name, kept in apertures.items()
    )


def as_paths(path: Paths) -> tuple[Path, ...]:
    """Return one path, or a list of them, as a tuple of `~pathlib.Path`."""
    several = [path] if isinstance(path, str | os.PathLike) else path
    try:
        paths = tuple(Path(one) for one in several)
    except TypeError as error:
        msg = f"path must be a path or a list of paths, got {path!r}"
        raise OptionError(msg) from error
    if not paths:
        msg = "path must name at least one folder, archive or store, got an empty list"
        raise OptionError(msg)
    return paths


def open_sources(paths: Iterable[Path]) -> Iterator[Source]:
    """
    Open the sources at paths, one after the other.

    Parameters
    ----------
    paths : iterable of `~pathlib.Path`
        Folders, archives and stores.

    Yields
    ------
    source : `FolderSource`, `ArchiveSource` or `StoreSource`
        An archive or a store to which two paths lead is opened once.
    """
    archives_seen = set()
    for path in paths:
        if path.is_dir():
            files = _files_in(path)
            yield FolderSource(path, files)
            archives = [file for file in files if _is_archive(file)]
        else:
            _check_file(path)
            archives = [os.fspath(path)]
        for archive in archives:
            real_path = os.path.realpath(archive)
            if real_path not in archives_seen:
                archives_seen.add(real_path)
                is_store = os.fspath(archive).endswith(STORE_SUFFIX)
                yield (StoreSource if is_store else ArchiveSource)(archive)


def _files_in(folder: Path) -> list[str]:
    def refuse(error: OSError) -> None:
        folder = printable(error.filename)
        msg = f"cannot read the folder {folder}: {error.strerror}"
        raise KS4Error(msg) from error

    return [
        os.path.join(parent, name)
        for parent, _, names in sorted(os.walk(folder, onerror=refuse))
        for name in sorted(names)
    ]


def _is_archive(file: str | os.PathLike[str]) -> bool:
    name = os.path.basename(file)
    # macOS puts files `._name` beside others.
    is_named_so = archive_name(name) is not None and not name.startswith(".")
    return is_named_so and os.path.isfile(file)


def _check_file(path: Path) -> None:
    name = printable(path)
    if not os.path.lexists(path):
        msg = f"{name} does not exist: expected a folder, an archive or a store of maps"
        raise MapNotFoundError(msg)
    if path.suffix == ".npy":
        msg = f"{name} is a single array: give the folder that contains it"
        raise MapFormatError(msg)
    if not path.is_file():
        msg = f"{name} is neither a folder nor an archive nor a store of maps"
        raise MapFormatError(msg)
