# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The maps of the release, wherever they lie."""

from collections import defaultdict
from contextlib import ExitStack
from functools import lru_cache, partial

import numpy as np
from astropy.table import Table

from ks4_ccd.exceptions import KS4Error, MapNotFoundError
from ks4_ccd.grid import MapGrid
from ks4_ccd.maps import MisalignmentMap, OffsetMap, ZeroPointMap
from ks4_ccd.release._array import check_together, edges_of, read_once, without_marks
from ks4_ccd.release._components import check_components, split_components
from ks4_ccd.release._listing import is_whole, order, what_is_there
from ks4_ccd.release._open import as_paths, open_sources
from ks4_ccd.release.header import band_of, field_in, frame_shape
from ks4_ccd.release.names import MapKey, normalize_field, parts_of
from ks4_ccd.release.tiling import field_number, is_tile_name

__all__ = ["MapLibrary"]

_PARTS = ("values", "error", "count")
# The maps of these kinds that have no star at all are of no use.
_EMPTY_VALUE = {"zeropoint": ZeroPointMap.empty_value}


class MapLibrary:
    """
    The calibration maps in folders, archives and stores.

    Maps are found by their file names, in any subfolder; other files are
    ignored. Archives are read in place: nothing is extracted to disk,
    nothing is unpickled. A .tar.gz is scanned once in a process,
    which takes seconds for a gigabyte; any map is then read in tens of
    milliseconds. A store, which `~ks4_ccd.ingest` makes of archives, opens
    at once and gives any map in a fraction of a millisecond.

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

    A file without star counts beside it marks its empty cells by a value of
    exactly 30 (zero points) or 0 (misalignments, offsets), and an error of 0
    if there are errors: these cells become NaN. Where there are counts, a
    count of 0 marks an empty cell.

    In an archive, a link to an earlier member is another name of its data. A
    member that cannot be read (a link that leads elsewhere, a device, more than
    64 MiB) is an error when its map is loaded, and leaves the others readable.

    The same array may exist more than once, in several sources or as
    ``dual`` and ``Idual``: equal ones count as one, different ones raise
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

    def __init__(self, path, *, image_shape=(22000, 22000)):
        self.image_shape = tuple(MapGrid.for_image((1, 1), image_shape).image_shape)
        self.paths = as_paths(path)
        with ExitStack() as opened:
            self._sources = []
            for source in open_sources(self.paths):
                opened.callback(source.close)
                self._sources.append(source)
            self._opened = opened.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __reduce__(self):
        self._open_sources()
        paths = [path.absolute() for path in self.paths]
        return partial(type(self), paths, image_shape=self.image_shape), ()

    def __repr__(self):
        return f"<MapLibrary: {', '.join(map(str, self.paths))}>"

    def close(self):
        """Close archives and stores; loading a map is an error from then on."""
        self._opened.close()
        self._sources = None

    def table(self):
        """
        List the maps that can be loaded.

        Returns
        -------
        table : `~astropy.table.Table`
            A row per map, sorted: ``kind`` (``"zeropoint"``,
            ``"misalignment"`` or ``"offset"``), ``field``, ``tile`` (``""``
            where no file name says it), ``band``, ``mode``, ``aperture``
            (``""`` where the kind has none), whether its ``values`` (both
            components of an offset), ``error`` and ``count`` are there, and
            ``source``, the path of the values or of the first component.
        """
        parts_there = self._parts_there()
        rows = []
        for key in sorted(parts_there, key=order):
            if is_whole(key.kind, parts_there[key]):
                own_key, path = _name_of(self._find(key))
                parts = [True, *(part in parts_there[key] for part in _PARTS[1:])]
                words = (key.kind, key.field, own_key.tile or "", key.band, key.mode)
                rows.append((*words, key.aperture or "", *parts, path))
        names = ("kind", "field", "tile", "band", "mode", "aperture", *_PARTS, "source")
        columns = list(zip(*rows, strict=True)) or [()] * len(names)
        return Table(
            [
                np.array(column, dtype=bool if name in _PARTS else str)
                for name, column in zip(names, columns, strict=True)
            ],
            names=names,
        )

    def zeropoint(
        self, field, band, mode="single", aperture="APER5", *, image_shape=None
    ):
        """
        Return the zero-point map of a field.

        Parameters
        ----------
        field : str or int
            ``"0403"``, ``403``, ``"122-72"`` or ``"0403.122-72"``.
        band : {"B", "V", "R", "I"}
            The filter.
        mode : {"single", "dual", "Idual"}, optional
            How the stars were detected; the last two are the same.
        aperture : {"FWHM", "APER3", "APER5", "APER10", "AUTO"}, optional
            The aperture of the photometry that the map is for.
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
            If there is no such map; the message says which there are.
        MapFormatError
            If an array of the map is not as documented, or is there twice
            with different contents.
        GeometryError
            If the map has more cells than the image has pixels.
        KS4Error
            If an argument is not one of the allowed values.
        """
        key = MapKey("zp", _field(field), band, mode, aperture)
        return self._load(ZeroPointMap, key, image_shape)

    def misalignment(self, field, band, mode="single", *, image_shape=None):
        """
        Return the misalignment map of a field.

        Parameters
        ----------
        field : str or int
            ``"0403"``, ``403``, ``"122-72"`` or ``"0403.122-72"``.
        band : {"B", "V", "R", "I"}
            The filter.
        mode : {"single", "dual", "Idual"}, optional
            How the stars were detected; the last two are the same.
        image_shape : tuple of int, optional
            The shape ``(rows, columns)`` of the whole image; by default that
            of the library.

        Returns
        -------
        misalignment : `~ks4_ccd.MisalignmentMap`
            Its ``error`` or ``count`` is `None` where the library has none.

        Raises
        ------
        MapNotFoundError
            If there is no such map; the message says which there are.
        MapFormatError
            If an array of the map is not as documented, or is there twice
            with different contents.
        GeometryError
            If the map has more cells than the image has pixels.
        KS4Error
            If an argument is not one of the allowed values.
        """
        key = MapKey("align", _field(field), band, mode)
        return self._load(MisalignmentMap, key, image_shape)

    def offset(self, field, band, mode="single", *, image_shape=None, components=None):
        """
        Return the offset map of a field.

        Parameters
        ----------
        field : str or int
            ``"0403"``, ``403``, ``"122-72"`` or ``"0403.122-72"``.
        band : {"B", "V", "R", "I"}
            The filter.
        mode : {"single", "dual", "Idual"}, optional
            How the stars were detected; the last two are the same.
        image_shape : tuple of int, optional
            The shape ``(rows, columns)`` of the whole image; by default that
            of the library.
        components : tuple of str, optional
            By default the map is read from the files that `OffsetMap.save`
            writes. With this, it is read from an `align` array with a third
            axis of length 2, which the release does not document: the
            components in the order of that axis, ``"dra"`` and ``"ddec"``
            (along RA cos(dec) and Dec, reference minus measured), or
            ``"-dra"`` and ``"-ddec"`` where it is measured minus reference.

        Returns
        -------
        offsets : `~ks4_ccd.OffsetMap`
            Its ``error`` or ``count`` is `None` where the library has none.

        Raises
        ------
        MapNotFoundError
            If there is no such map; the message says which there are.
        MapFormatError
            If an array of the map is not as documented, or is there twice
            with different contents.
        GeometryError
            If the map has more cells than the image has pixels.
        KS4Error
            If an argument is not one of the allowed values.
        """
        family = "dra"
        if components is not None:
            components, family = check_components(components), "align"
        key = MapKey(family, _field(field), band, mode)
        return self._load(OffsetMap, key, image_shape, components)

    def for_header(self, header, mode="single", aperture="APER5"):
        """
        Return the zero-point map that belongs to an image.

        Parameters
        ----------
        header : `~astropy.io.fits.Header` or mapping
            The header of the image. FIELD1 (the number of the field) or else
            FIELD2 (the name of its tile), and FILTER, say which map; KS4NAX1
            and KS4NAX2, if both are there, the size of the whole image in
            pixels along x and y.
        mode, aperture : str, optional
            As in `zeropoint`.

        Returns
        -------
        zpmap : `~ks4_ccd.ZeroPointMap`

        Raises
        ------
        MapMismatchError
            If a keyword is missing, or does not say what it should.
        MapNotFoundError
            If there is no such map; the message says which there are.
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

    def _open_sources(self):
        if self._sources is None:
            msg = f"{self!r} is closed: load maps before closing it"
            raise KS4Error(msg)
        return self._sources

    def _find(self, key):
        sources = self._open_sources()
        return [(source, entry) for source in sources for entry in source.find(key)]

    def _load(self, map_class, key, image_shape, components=None):
        needed, optional = parts_of(key.kind)
        arrays, paths = {}, {}
        first_found = self._find(key)
        for part, family in (needed | optional).items():
            is_first = family == key.family
            found = first_found if is_first else self._find(key.with_family(family))
            if found and part == "values" and components is not None:
                both, path = read_once(found, components=True)
                arrays |= split_components(both, components)
                paths |= dict.fromkeys(arrays, path)
            elif found:
                arrays[part], paths[part] = read_once(found)
            elif part in needed:
                raise MapNotFoundError(self._message_for(key))
        own_key, source = _name_of(first_found)
        edges = edges_of(arrays.pop("edges", None), paths.get("edges"))
        check_together(arrays, paths, _EMPTY_VALUE.get(key.kind))
        if "count" not in arrays:
            mark = map_class.empty_value
            arrays |= without_marks(arrays, map_class.components, mark)
        shape = next(iter(arrays.values())).shape
        try:
            if image_shape is None and "edges" not in paths:
                grid = _plain_grid(shape, self.image_shape)
            else:
                frame = self.image_shape if image_shape is None else image_shape
                grid = MapGrid.for_image(shape, frame, edges)
            return map_class(**arrays, grid=grid, key=own_key, source=source)
        except KS4Error as error:
            # Messages of the map classes begin with the part that is wrong.
            culprit = [paths[part] for part in paths if str(error).startswith(part)]
            msg = f"{(culprit or [source])[0]}: {error}"
            raise type(error)(msg) from error

    def _message_for(self, missing):
        return what_is_there(missing, self._parts_there(), self.paths)

    def _parts_there(self):
        # {key of the first array: names of the arrays that are there}
        parts_there = defaultdict(set)
        for source in self._open_sources():
            for key in source.keys():  # noqa: SIM118 (a source is no dict)
                needed, _ = parts_of(key.kind)
                first_key = key.with_family(next(iter(needed.values())))
                parts_there[first_key].add(key.part)
        return parts_there


def _field(field):
    # A number may be of another survey; the name of a tile is of the KS4 tiling.
    if is_tile_name(field) or normalize_field(field)[1] is not None:
        return field_number(field)
    return field


# Nearly all maps of a release have one grid: it need not be checked each time.
@lru_cache(maxsize=16)
def _plain_grid(shape, image_shape):
    return MapGrid.for_image(shape, image_shape)


def _name_of(found):
    # The key with the tile, if a file name says it, and the first path.
    keys = [entry.key for _, entry in found]
    with_tile = [own_key for own_key in keys if own_key.tile is not None]
    return (with_tile or keys)[0], found[0][1].path
