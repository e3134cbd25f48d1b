# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Finding and loading of DR1 maps."""

import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.card import Undefined
from numpy.testing import assert_array_equal

from ks4_ccd.exceptions import (
    GeometryError,
    KS4Error,
    MapFormatError,
    MapMismatchError,
    MapNotFoundError,
)
from ks4_ccd.ks4.names import APERTURES
from ks4_ccd.library import _archive
from ks4_ccd.library._sources import MAX_ARRAY_BYTES
from ks4_ccd.library.library import MapLibrary
from ks4_ccd.maps.grid import MapGrid
from ks4_ccd.maps.key import MapKey
from ks4_ccd.maps.misalignment import MisalignmentMap
from ks4_ccd.maps.offset import OffsetMap
from ks4_ccd.maps.zeropoint import ZeroPointMap

ZP = "zp_map_0403_R_single_APER5.npy"
ZPERR = "zperr_map_0403_R_single_APER5.npy"
PSTAR = "pstar_map_0403_R_single_APER5.npy"
ALIGN = "align_map_0403_R_single.npy"
ALERR = "alerr_map_0403_R_single.npy"
ASTAR = "astar_map_0403_R_single.npy"
DRA = "dra_map_0403_R_single.npy"
DDEC = "ddec_map_0403_R_single.npy"


def files_below(folder):
    """Return all files below a folder with their contents."""
    return {p: p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


@pytest.fixture
def load(tmp_path):
    """Load the zero-point map of field 0403 from the test's folder."""

    def load(kind="zeropoint", **options):
        with MapLibrary(tmp_path) as library:
            return getattr(library, kind)("0403", "R", **options)

    return load


@pytest.fixture(params=["folder", "maps.tar", "maps.tar.gz", "maps.tgz", "in folder"])
def maps_anywhere(request, tmp_path, write_map, write_archive, zeropoints):
    """Yield the path of a field's zero-point map in each kind of source."""
    contents = {
        f"deep/{ZP}": zeropoints(),
        f"deep/er/{ZPERR}": np.full((5, 4), 0.02),
        f"else/where/{PSTAR}": np.full((5, 4), 7),
        "README.txt": b"not a map",
        f"deep/._{ZP}": b"AppleDouble",
        "deep/zp_map_new_version.npy": b"not a name of DR1",
    }
    if request.param == "folder":
        for name, content in contents.items():
            write_map(f"maps/{name}", content)
        return tmp_path / "maps"
    if request.param == "in folder":
        (tmp_path / "maps" / "below").mkdir(parents=True)
        write_archive("maps/below/maps.tar.gz", contents)
        write_map("maps/below/._maps.tar.gz", b"AppleDouble")
        return tmp_path / "maps"
    return write_archive(request.param, contents)


# Finding maps


@pytest.mark.parametrize("as_type", [str, Path])
def test_maps_are_found_anywhere(maps_anywhere, zeropoints, as_type):
    """The three arrays of a map are found in folders and archives at any depth."""
    with MapLibrary(as_type(maps_anywhere)) as library:
        zpmap = library.zeropoint("0403", "R")
    assert isinstance(zpmap, ZeroPointMap)
    assert_array_equal(zpmap.values, zeropoints())
    assert_array_equal(zpmap.error, np.full((5, 4), 0.02))
    assert_array_equal(zpmap.count, np.full((5, 4), 7))
    assert zpmap.key == MapKey("zp", "0403", "R", "single", "APER5")
    assert zpmap.source.startswith(str(maps_anywhere))
    assert zpmap.source.endswith(f"deep/{ZP}")


def test_nothing_is_written(maps_anywhere, tmp_path, monkeypatch):
    """Reading maps creates no file, neither beside them nor in the temporary folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = files_below(tmp_path)
    with MapLibrary(maps_anywhere) as library:
        library.table()
        library.zeropoint("0403", "R")
    assert files_below(tmp_path) == before


def test_several_sources_are_one(tmp_path, write_map, write_archive, zeropoints):
    """The arrays of a map may be in different sources."""
    write_map(f"a/{ZP}")
    archives = [
        write_archive("errors.tar.gz", {ZPERR: np.full((5, 4), 0.02)}),
        write_archive("counts.tar", {PSTAR: np.full((5, 4), 7)}),
    ]
    with MapLibrary([str(tmp_path / "a"), *archives]) as library:
        zpmap = library.zeropoint("0403", "R")
    assert zpmap.error is not None
    assert zpmap.count is not None


def test_second_library_uses_the_index(write_archive, zeropoints, monkeypatch):
    """Opening an archive that was scanned in this process reads its index only."""
    path = write_archive("maps.tar.gz", {ZP: zeropoints()})
    MapLibrary(path).close()
    monkeypatch.delattr(_archive, "_scan")
    with MapLibrary(path) as library:
        assert_array_equal(library.zeropoint("0403", "R").values, zeropoints())


def test_errors_and_counts_are_optional(write_map, load):
    """A map without errors and counts is loaded."""
    write_map(ZP)
    zpmap = load()
    assert zpmap.error is None
    assert zpmap.count is None


@pytest.mark.parametrize("field", ["0403", 403, "0403.122-72", "122-72"])
def test_every_name_of_a_field(write_map, tmp_path, field):
    """A field is found under each of its names, with any file names."""
    write_map("zp_map_0403.122-72_R_dual_AUTO.npy")
    with MapLibrary(tmp_path) as library:
        zpmap = library.zeropoint(field, "R", "Idual", "AUTO")
    assert zpmap.key.tile == "122-72"
    assert zpmap.key.mode == "dual"


def test_arguments_choose_the_map(write_map, tmp_path, zeropoints):
    """Field, band, mode and aperture select one file."""
    wanted = ("0403", "I", "dual", "AUTO")
    names = [
        "0403_I_dual_AUTO",
        "0404_I_dual_AUTO",
        "0403_V_dual_AUTO",
        "0403_I_single_AUTO",
        "0403_I_dual_FWHM",
    ]
    for seed, name in enumerate(names):
        write_map(f"zp_map_{name}.npy", zeropoints(seed))
    with MapLibrary(tmp_path) as library:
        assert_array_equal(library.zeropoint(*wanted).values, zeropoints(0))


def test_misalignment(write_map, load):
    """A misalignment map is loaded with its errors and counts."""
    write_map(ALIGN, np.full((6, 6), 0.08))
    write_map("alerr_map_0403_R_single.npy", np.full((6, 6), 0.03))
    write_map("astar_map_0403_R_single.npy", np.full((6, 6), 30.0))
    misalignment = load("misalignment")
    assert isinstance(misalignment, MisalignmentMap)
    assert (misalignment.values[0, 0], misalignment.error[0, 0]) == (0.08, 0.03)
    assert misalignment.count[0, 0] == 30
    assert misalignment.source.endswith(ALIGN)


def test_cells_follow_from_the_image(write_map, tmp_path):
    """The size of the cells is the image shape divided by the map shape."""
    write_map(ZP)
    with MapLibrary(tmp_path) as library:
        assert library.zeropoint("0403", "R").grid.cell_size == (4400, 5500)
        zpmap = library.zeropoint("0403", "R", image_shape=(80, 50))
        assert zpmap.grid.cell_size == (10, 20)
    with MapLibrary(tmp_path, image_shape=(400, 500)) as library:
        assert library.zeropoint("0403", "R").grid.cell_size == (100, 100)


def test_image_smaller_than_the_map(write_map, load):
    """If the map does not fit the image, the message names the file."""
    write_map(ZP)
    with pytest.raises(GeometryError, match=ZP):
        load(image_shape=(3, 3))


@pytest.mark.parametrize("shape", [(0, 10), 0, "big", (1, 2, 3)])
def test_bad_image_shape(tmp_path, shape):
    """A shape that no image has is refused when the library is opened."""
    with pytest.raises(KS4Error):
        MapLibrary(tmp_path, image_shape=shape)


# Offsets


def components(seed=0, shape=(5, 4)):
    """Return both components of small offsets."""
    return np.random.default_rng(seed).normal(0, 0.08, (2, *shape))


def test_offset(write_map, load):
    """An offset map is loaded with its errors and counts."""
    dra, ddec = components()
    write_map(f"a/{DRA}", dra)
    write_map(f"b/{DDEC}", ddec)
    write_map("offerr_map_0403_R_single.npy", np.full((5, 4), 0.01))
    write_map("offstar_map_0403_R_single.npy", np.full((5, 4), 30))
    offsets = load("offset")
    assert isinstance(offsets, OffsetMap)
    assert_array_equal(offsets.dra, dra)
    assert_array_equal(offsets.ddec, ddec)
    assert (offsets.error[0, 0], offsets.count[0, 0]) == (0.01, 30)
    assert offsets.source.endswith(f"a/{DRA}")
    assert offsets.key == MapKey("dra", "0403", "R")


def test_offsets_in_the_table(write_map, tmp_path):
    """An offset is listed after the other kinds, if both components exist."""
    write_map(DRA, components()[0])
    write_map(DDEC, components()[1])
    write_map("offerr_map_0403_R_single.npy", np.ones((5, 4)))
    write_map("dra_map_0404_R_single.npy", components()[0])
    write_map("ddec_map_0405_R_single.npy", components()[0])
    write_map(ALIGN, np.ones((5, 4)))
    with MapLibrary(tmp_path) as library:
        table = library.table()
    assert [tuple(row)[:-1] for row in table] == [
        ("misalignment", "0403", "", "R", "single", "", True, False, False),
        ("offset", "0403", "", "R", "single", "", True, True, False),
    ]
    assert table["source"][1] == f"{tmp_path}/{DRA}"


@pytest.mark.parametrize(("there", "lacking"), [(DRA, "ddec_map"), (DDEC, "dra_map")])
def test_offset_of_one_component(write_map, load, there, lacking):
    """The message names the missing component."""
    write_map(there)
    with pytest.raises(MapNotFoundError, match=f"exists, its {lacking} file does not"):
        load("offset")


def test_dr1_has_no_offsets(write_map, load):
    """If only misalignments exist, the message states how to get offsets."""
    write_map(ALIGN, np.ones((5, 4)))
    with pytest.raises(
        MapNotFoundError, match="no offset map exists.*build_offset_map"
    ):
        load("offset")


def test_components_of_different_shapes(write_map, load):
    """If the components have different shapes, the message names both files."""
    write_map(DRA)
    write_map(DDEC, np.ones((4, 5)))
    with pytest.raises(MapFormatError, match=rf"{DDEC} .*\(4, 5\).*\(5, 4\).*{DRA}"):
        load("offset")


@pytest.mark.parametrize("name", [DRA, DDEC])
def test_offset_that_is_not_finite(write_map, load, name):
    """If a value is not finite, the message names the file of its component."""
    for path, content in zip((DRA, DDEC), components(), strict=True):
        content[2, 1] = np.nan if path == name else content[2, 1]
        write_map(path, content)
    with pytest.raises(MapFormatError, match=rf"[/\\]{name}: .*\[2, 1\]"):
        load("offset")


# The table


def test_table(write_map, write_archive, tmp_path):
    """The table has one sorted row per map and lists its arrays."""
    write_map("zp_map_0403.122-72_R_single_AUTO.npy")
    write_map("zp_map_0403_I_single_AUTO.npy")
    write_map("zperr_map_0403_R_single_AUTO.npy")
    write_map("align_map_0000_B_Idual.npy", np.ones((2, 2)))
    write_map("pstar_map_0001_R_single_AUTO.npy")  # no values: not a map
    write_map("zp_map_0403_B_dual_APER10.npy")
    write_archive("a.tar", {"x/zp_map_0403_B_dual_APER3.npy": np.ones((2, 2))})
    with MapLibrary(tmp_path) as library:
        table = library.table()
    assert table.colnames == [
        "kind",
        "field",
        "tile",
        "band",
        "mode",
        "aperture",
        "values",
        "error",
        "count",
        "source",
    ]
    assert [tuple(row)[:-1] for row in table] == [
        ("zeropoint", "0403", "", "B", "dual", "APER3", True, False, False),
        ("zeropoint", "0403", "", "B", "dual", "APER10", True, False, False),
        ("zeropoint", "0403", "122-72", "R", "single", "AUTO", True, True, False),
        ("zeropoint", "0403", "", "I", "single", "AUTO", True, False, False),
        ("misalignment", "0000", "", "B", "dual", "", True, False, False),
    ]
    assert table["source"][0] == f"{tmp_path}/a.tar:x/zp_map_0403_B_dual_APER3.npy"


def test_table_without_maps(tmp_path):
    """A folder without maps has a table of the same columns without rows."""
    with MapLibrary(tmp_path) as library:
        table = library.table()
    assert len(table) == 0
    assert table["values"].dtype == bool
    assert table["field"].dtype.kind == "U"


def test_every_row_can_be_loaded(ks4_data):
    """Each map of the acceptance archives is listed, complete, and can be loaded."""
    with MapLibrary(ks4_data / "archives") as library:
        table = library.table()
        for row in table:
            words = row["field"], row["band"], row["mode"]
            if row["kind"] == "zeropoint":
                loaded = library.zeropoint(*words, row["aperture"])
                assert loaded.grid.shape == (55, 55)
            else:
                loaded = library.misalignment(*words)
                assert loaded.grid.shape == (110, 110)
            assert loaded.source == row["source"]
            assert all(row[part] for part in ("values", "error", "count"))
    assert len(table) == 3 * len(APERTURES) + 3


def test_acceptance_header(ks4_data):
    """The header of the acceptance stack selects the map of its field."""
    header = fits.Header({"FIELD1": "0000", "FIELD2": "000-62", "FILTER": "I"})
    with MapLibrary(ks4_data / "archives") as library:
        zpmap = library.for_header(header, aperture="AUTO")
    assert zpmap.source.endswith("zp_map_0000_I_single_AUTO.npy")
    assert zpmap.grid.cell_size == (400, 400)


# Headers


@pytest.fixture
def library(write_map, tmp_path):
    """Return a library of one map, of field 0403 in R."""
    write_map(ZP)
    with MapLibrary(tmp_path) as library:
        yield library


@pytest.mark.parametrize("kind", [dict, fits.Header])
@pytest.mark.parametrize(
    "fields",
    [
        {"FIELD1": "0403", "FIELD2": "122-72"},
        {"FIELD1": 403},
        {"FIELD1": "403 ", "FIELD2": ""},
        {"FIELD1": "0403.122-72"},
        {"FIELD2": "122-72"},
    ],
)
def test_field_of_a_header(library, kind, fields):
    """A header contains the number of the field, its tile, or both."""
    zpmap = library.for_header(kind({**fields, "FILTER": "R"}))
    assert zpmap.key.field == "0403"


def test_frame_of_a_header(library):
    """A header may record the size of the full frame."""
    header = {"FIELD1": 403, "FILTER": "R", "KS4NAX1": 500, "KS4NAX2": 800}
    assert library.for_header(header).grid.image_shape == (800, 500)
    del header["KS4NAX2"]
    assert library.for_header(header).grid.image_shape == (22000, 22000)


def test_field_of_another_survey(write_map, tmp_path):
    """A number outside of the KS4 tiling is valid with any name of a tile."""
    write_map("zp_map_8000_R_single_APER5.npy")
    header = {"FIELD1": "8000", "FIELD2": "my-field", "FILTER": "R"}
    with MapLibrary(tmp_path) as library:
        assert library.for_header(header).key.field == "8000"


def test_header_of_another_camera(make_map, tmp_path):
    """Fields and bands of other cameras are found by their names in the header."""
    key = MapKey("zp", "M31 west", "g", "single", "APER5")
    make_map((10, 10), 2200, key=key).save(tmp_path)
    header = {"FIELD1": "M31 west", "FILTER": "g"}
    with MapLibrary(tmp_path) as library:
        assert library.for_header(header).key == key
        for changes in ({"FIELD1": "M31"}, {"FILTER": "r"}):
            with pytest.raises(MapNotFoundError, match=next(iter(changes.values()))):
                library.for_header(header | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"FIELD1": None}, "FIELD1"),
        ({"FIELD1": " "}, "FIELD2"),
        ({"FIELD1": Undefined()}, "FIELD1"),
        ({"FIELD1": 403.5}, "FIELD1 .*403.5"),
        ({"FIELD1": None, "FIELD2": "M31"}, "FIELD2 .*'M31'"),
        ({"FIELD2": "123-72"}, "FIELD2 contains '123-72'"),
        ({"FIELD1": "0403.123-72"}, "FIELD1 contains '123-72'"),
        ({"FILTER": None}, "FILTER"),
        ({"FILTER": 7}, "FILTER .*7"),
        ({"KS4NAX1": 0, "KS4NAX2": 10}, "KS4NAX1"),
        ({"KS4NAX1": 10, "KS4NAX2": 10.5}, "KS4NAX2"),
    ],
)
def test_incomplete_headers(library, changes, words):
    """The message names the missing or wrong keyword of a header."""
    header = {"FIELD1": "0403", "FILTER": "R", **changes}
    with pytest.raises(MapMismatchError, match=words):
        library.for_header(header)


def test_header_of_a_wrong_type(library):
    """A header that is not a mapping is refused."""
    with pytest.raises(KS4Error, match="header"):
        library.for_header("0403")


# Missing maps


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("0403", "R", "single", "AUTO"), r"R single \(APER5\)"),
        (("0403", "I"), r"R single \(APER5\)"),
        (("0404", "R"), "fields with such maps are 0403"),
    ],
)
def test_missing_map(library, arguments, words):
    """The message about a missing map lists the existing ones."""
    with pytest.raises(MapNotFoundError, match=words):
        library.zeropoint(*arguments)


def test_missing_kind(library):
    """If no map of the kind exists, the message states it."""
    with pytest.raises(MapNotFoundError, match="no misalignment map exists"):
        library.misalignment("0403", "R")


def test_missing_values(write_map, load):
    """The message about a map without values lists its existing arrays."""
    write_map(ZPERR)
    with pytest.raises(
        MapNotFoundError, match="error exists, its zp_map file does not"
    ):
        load()


def test_incomplete_maps_are_not_listed(write_map, load):
    """A map without values is not listed among the existing ones."""
    write_map("zperr_map_0403_R_single_AUTO.npy")
    with pytest.raises(MapNotFoundError, match="no zeropoint map exists"):
        load()


def test_missing_field_among_many(write_map, tmp_path):
    """A long list of fields is shortened."""
    for field in range(30):
        write_map(f"zp_map_{field:04d}_R_single_APER5.npy")
    with pytest.raises(MapNotFoundError, match=r"0000, .*0011 and 18 more"):
        MapLibrary(tmp_path).zeropoint("0403", "R")


@pytest.mark.parametrize(
    "arguments",
    [
        ("M31", "R"),
        ("0403.123-72", "R"),
        ("0403", "r"),
        ("0403", "R", "both"),
        ("0403", "R", "single", "APER7"),
    ],
)
def test_bad_arguments(library, arguments):
    """The message quotes an argument that no map can have."""
    with pytest.raises(KS4Error) as caught:
        library.zeropoint(*arguments)
    assert repr(arguments[-1]) in str(caught.value) or arguments[0] in str(caught.value)


# Paths


def test_missing_path(tmp_path):
    """The message names a path that does not exist."""
    with pytest.raises(MapNotFoundError, match="nowhere"):
        MapLibrary([tmp_path, tmp_path / "nowhere"])


@pytest.mark.parametrize("path", [[], 5, None, [5]])
def test_path_of_a_wrong_type(path):
    """Only a path or a list of paths is accepted."""
    with pytest.raises(KS4Error, match="path"):
        MapLibrary(path)


def test_single_array(write_map):
    """For the path of a single array, the message suggests its folder."""
    with pytest.raises(MapFormatError, match="give the folder that contains it"):
        MapLibrary(write_map(ZP))


def test_named_pipes_are_not_read(tmp_path):
    """A named pipe is not read and is not a map."""
    os.mkfifo(tmp_path / ZP)
    os.mkfifo(tmp_path / "maps.tar")
    assert len(MapLibrary(tmp_path).table()) == 0
    with pytest.raises(MapFormatError, match="neither"):
        MapLibrary(tmp_path / "maps.tar")


def test_unreadable_folder(tmp_path, monkeypatch):
    """The message names a folder that cannot be listed."""

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(KS4Error, match="Permission denied") as caught:
        MapLibrary(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_file_that_vanished(write_map, tmp_path):
    """The message names a file that was deleted after it was found."""
    path = write_map(ZP)
    with MapLibrary(tmp_path) as library:
        path.unlink()
        with pytest.raises(KS4Error, match=ZP):
            library.zeropoint("0403", "R")


def test_bad_archive_in_a_folder(write_map, tmp_path):
    """A folder with a damaged archive is refused, and the message names the archive."""
    write_map("broken.tar.gz", b"\x1f\x8bnot gzip")
    with pytest.raises(MapFormatError, match=r"broken\.tar\.gz"):
        MapLibrary(tmp_path)


def test_closed_library(maps_anywhere):
    """A closed library raises an error; closing it again has no effect."""
    library = MapLibrary(maps_anywhere)
    library.close()
    library.close()
    for call in (library.table, lambda: library.zeropoint("0403", "R")):
        with pytest.raises(KS4Error, match="is closed"):
            call()


@pytest.mark.parametrize(
    "name",
    [
        *("maps.tar.gz?download=1", "MAPS.TAR.GZ", "maps.Tar"),
        *("maps.tgz@download=1", "maps.tar.gz%3Fdownload=1"),
    ],
)
def test_names_of_downloaded_archives(write_archive, tmp_path, zeropoints, name):
    """An archive in a folder is read under any name of its download."""
    write_archive("x.tar.gz", {ZP: zeropoints()}).rename(tmp_path / name)
    with MapLibrary(tmp_path) as library:
        assert_array_equal(library.zeropoint("0403", "R").values, zeropoints())


def test_control_characters_in_names(write_map, write_archive, tmp_path, zeropoints):
    """Messages and tables contain no control characters from the names of files."""
    write_map(f"a\x1b[2J/{ZP}", b"no array")
    with MapLibrary(tmp_path) as library:
        with pytest.raises(MapFormatError) as caught:
            library.zeropoint("0403", "R")
        assert str(caught.value).isprintable()
        assert library.table()["source"][0].isprintable()
    write_map("b/\x1b[2J.tar.gz", b"no archive")
    with pytest.raises(MapFormatError) as caught:
        MapLibrary(tmp_path / "b")
    assert str(caught.value).isprintable()


# Duplicate maps


@pytest.mark.parametrize(
    "duplicate", [f"b/{ZP}", "b/zp_map_0403.122-72_R_single_APER5.npy"]
)
@pytest.mark.parametrize("dtype", ["<f8", ">f8"])
def test_equal_duplicates_are_one_map(write_map, load, zeropoints, duplicate, dtype):
    """Two files of a map with equal contents are one map."""
    write_map(f"a/{ZP}", zeropoints())
    write_map(duplicate, zeropoints().astype(dtype))
    assert_array_equal(load().values, zeropoints())


def test_tile_is_that_of_any_duplicate(write_map, load):
    """The name of the tile is known if any file of the map contains it."""
    write_map(f"a/{ZP}")
    write_map("b/zp_map_0403.122-72_R_single_APER5.npy")
    assert load().key.tile == "122-72"


def test_different_duplicates(write_map, write_archive, load, zeropoints):
    """If two files of a map differ, in any sources, the message names both."""
    write_map(f"a/{ZP}")
    write_archive("b.tar.gz", {f"deep/{ZP}": zeropoints(seed=1)})
    with pytest.raises(MapFormatError, match=rf"a/{ZP} and .*b.tar.gz:deep/{ZP}"):
        load()


def test_duplicates_of_the_dual_mode(write_map, tmp_path, zeropoints):
    """`dual` and `Idual` files of a map with different contents are refused."""
    for seed, mode in enumerate(["dual", "Idual"]):
        write_map(f"zp_map_0403_R_{mode}_APER5.npy", zeropoints(seed))
    with pytest.raises(MapFormatError, match=r"_dual_.*_Idual_"):
        MapLibrary(tmp_path).zeropoint("0403", "R", "dual")


def test_archive_given_twice_is_opened_once(write_archive, tmp_path, zeropoints):
    """An archive that is given and lies in a given folder is one source."""
    path = write_archive("maps.tar", {ZP: zeropoints()})
    with MapLibrary([path, tmp_path, path]) as library:
        assert len(library._sources) == 2


def test_different_duplicates_in_one_archive(write_archive, tmp_path, zeropoints):
    """Two members of one base name that differ are refused, in any order."""
    members = {f"{n}/{ZP}": zeropoints(seed=n) for n in range(2)}
    path = write_archive("maps.tar.gz", members)
    words = rf"0/{ZP} and .*1/{ZP} are the same map"
    with MapLibrary(path) as library, pytest.raises(MapFormatError, match=words):
        library.zeropoint("0403", "R")


@pytest.mark.parametrize(
    "edges", [np.ones((2, 3)), np.array([[2.0, 11000.0]]), np.array([[np.nan, 5.0]])]
)
def test_invalid_files_of_edges(write_map, load, edges):
    """The message names a file of edges without rows of an axis and a coordinate."""
    write_map(ZP)
    write_map("zpedge_map_0403_R_single_APER5.npy", edges)
    with pytest.raises(MapFormatError, match="zpedge_map.*must contain the edges"):
        load()


# Arrays that are not as documented


def npy_of_header(header):
    """Return a .npy file with a given header, followed by 64 bytes."""
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(64)


def claim(shape, descr="'<f8'"):
    """Return a .npy file that claims to have a shape."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"
    return npy_of_header(header)


BAD_FILES = {
    "empty": b"",
    "one byte": b"\x93",
    "text": b"29.9 29.9\n",
    "pickle": pickle.dumps([[29.9]]),
    "huge": claim((10**6, 10**6)),
    "overflowing": claim((10**18, 10**18)),
    "negative": claim((-2, -4)),
    "version 3": b"\x93NUMPY\x03\x00" + bytes(100),
    "version 4": b"\x93NUMPY\x04\x00" + bytes(100),
    "very negative": claim((-(2**70), 4)),
    "endless": npy_of_header(
        f"{{'descr': '<f8', 'fortran_order': False, 'shape': (0x{'f' * 5000}, 4)}}"
    ),
    "no header": b"\x93NUMPY\x01\x00\xff\xff",
    "not a header": npy_of_header("(" * 500),
    "odd header": npy_of_header("{'descr': '<f8'}"),
    "unclosed": npy_of_header("{'descr': '<f8', 'shape': ('''"),
    "no such type": claim((2, 4), "'<q99'"),
}


@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES)
def test_invalid_npy_files(write_map, load, content):
    """The message names a file that is not a complete .npy file."""
    write_map(ZP, content)
    with pytest.raises(MapFormatError, match=ZP):
        load()


@pytest.mark.parametrize("kept", [3, 9, 50, 128, 200, -1])
def test_truncated_npy_file(write_map, load, npy, zeropoints, kept):
    """The message names a .npy file that is cut at any position."""
    write_map(ZP, npy(zeropoints())[:kept])
    with pytest.raises(MapFormatError, match=rf"{ZP} is truncated"):
        load()


def test_bytes_after_the_array(write_map, load, npy, zeropoints):
    """The message names a .npy file with bytes after its array."""
    write_map(ZP, npy(zeropoints()) + b"\0")
    with pytest.raises(MapFormatError, match=f"{ZP} is damaged: expected 160 bytes"):
        load()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format(write_map, load, zeropoints, version):
    """A .npy file may have a header of any version."""
    file = io.BytesIO()
    np.lib.format.write_array(file, zeropoints(), version)
    write_map(ZP, file.getvalue())
    assert_array_equal(load().values, zeropoints())


def npy_with_header_of(length):
    """Return a .npy file whose header is padded to a length."""
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 4)}"
    return npy_of_header(header.ljust(length - 10))


@pytest.mark.parametrize("length", [1025, 20_000])
def test_long_header(write_map, load, length):
    """A header longer than that of any map is refused without the advice of numpy."""
    write_map(ZP, npy_with_header_of(length))
    words = f"{ZP}.*header has {length} bytes, expected about 128"
    with pytest.raises(MapFormatError, match=words) as caught:
        load()
    assert "allow_pickle" not in str(caught.value)


def test_padded_header(write_map, load):
    """A header may be padded with more spaces than numpy writes."""
    write_map(ALIGN, npy_with_header_of(1024))
    assert_array_equal(load("misalignment").values, np.zeros((2, 4)))


@pytest.mark.parametrize(
    "shape", [(-1, -4, 2), (-8, -1), (2, -2, -2), (2**62, 4, 2), (True, 8)]
)
def test_impossible_shapes(write_map, load, shape):
    """A shape that no array has is refused."""
    write_map(ALIGN, claim(shape))
    with pytest.raises(MapFormatError, match=f"{ALIGN} is damaged: expected the shape"):
        load("misalignment")


def test_short_messages(write_map, load):
    """Quotations of damaged files are short, without control characters."""
    descr = [(f"\x1b{n}", "<f8") for n in range(40)]
    write_map(ZP, claim((2, 4), repr(descr)))
    with pytest.raises(MapFormatError, match="must contain real numbers") as caught:
        load()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


class Explosive:
    """Abort when unpickled."""

    def __reduce__(self):
        return os.abort, ()


def test_nothing_is_unpickled(write_map, load, npy):
    """An array of objects is refused, not unpickled."""
    write_map(ZP, npy(np.array([[Explosive()]], dtype=object), allow_pickle=True))
    with pytest.raises(MapFormatError, match=f"{ZP} contains pickled"):
        load()


@pytest.mark.parametrize(
    "array",
    [
        np.ones((5, 4), dtype=bool),
        np.ones((5, 4), dtype=complex),
        np.full((5, 4), "29.9"),
        np.full((5, 4), b"29.9"),
        np.ones((5, 4), dtype=[("zp", float)]),
        np.ones((5, 4), dtype="M8[s]"),
        np.float64(29.9),
        np.full(5, 29.9),
        np.full((5, 4, 2), 29.9),
        np.ones((0, 4)),
    ],
    ids=lambda array: f"{array.dtype.char}-{array.shape}",
)
def test_arrays_that_are_not_maps(write_map, load, array):
    """An array that is not 2D and real, or that is empty, is refused."""
    write_map(ZP, array)
    with pytest.raises(MapFormatError, match=ZP):
        load()


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">i2", "u1", "f2", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_real_type_and_order(write_map, load, dtype, order):
    """Any byte order, precision and memory order yields the same values."""
    array = np.arange(20).reshape(5, 4).astype(dtype, order=order)
    write_map(ZP, array)
    assert_array_equal(load().values, np.arange(20).reshape(5, 4))


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        *((name, np.inf) for name in (ZP, ZPERR, PSTAR)),
        *((name, np.nan) for name in (ZPERR, PSTAR)),
        (ZPERR, -1),
        (PSTAR, -1),
    ],
)
def test_bad_numbers(write_map, load, zeropoints, name, bad):
    """For a non-finite value or a negative error, the message names the file."""
    contents = {ZP: zeropoints(), ZPERR: np.ones((5, 4)), PSTAR: np.ones((5, 4))}
    contents[name][2, 1] = bad
    for path, content in contents.items():
        write_map(path, content)
    with pytest.raises(MapFormatError, match=rf"[/\\]{name}: .*\[2, 1\]"):
        load()


def test_the_mark_of_an_empty_cell(write_map, load, zeropoints):
    """Without counts, 30 with an error of 0 (if errors exist) is an empty cell."""
    values = zeropoints()
    values[2, 1] = values[3, 1] = 30
    values[0, 0] = np.nan
    expected = np.ones((5, 4), bool)
    expected[2, 1] = expected[3, 1] = expected[0, 0] = False
    write_map(ZP, values)
    assert_array_equal(load().valid, expected)
    error = np.zeros((5, 4))
    error[3, 1] = 0.02
    expected[3, 1] = True
    write_map(ZPERR, error)
    assert_array_equal(load().valid, expected)
    write_map(PSTAR, np.ones((5, 4)))
    expected[2, 1] = True
    zpmap = load()
    assert_array_equal(zpmap.valid, expected)
    assert zpmap.values[2, 1] == 30


@pytest.mark.parametrize("name", [ZPERR, PSTAR])
def test_shapes_that_differ(write_map, load, name):
    """If arrays have different shapes, the message names both files."""
    write_map(ZP)
    write_map(name, np.ones((4, 5)))
    with pytest.raises(MapFormatError, match=rf"{name} .*\(4, 5\).*\(5, 4\).*{ZP}"):
        load()


def test_map_of_30s(write_map, load):
    """A zero-point map of 30 or NaN everywhere is empty; the message names it."""
    for value in (30.0, np.nan):
        write_map(ZP, np.full((5, 4), value))
        with pytest.raises(MapFormatError, match=f"{ZP} is an empty map"):
            load()


def test_map_without_stars(write_map, load):
    """The message names a zero-point map without stars."""
    write_map(ZP)
    write_map(PSTAR, np.zeros((5, 4)))
    with pytest.raises(MapFormatError, match=f"{PSTAR} is an empty map"):
        load()


@pytest.mark.parametrize("shape", [(5, 4, 2), (2, 5, 4), (20,)])
def test_misalignment_of_two_components(write_map, load, shape):
    """An array without exactly one number per cell is not a map."""
    write_map(ALIGN, np.ones(shape))
    with pytest.raises(MapFormatError, match=f"{ALIGN} must be a 2D array of cells"):
        load("misalignment")


def test_signed_misalignment(write_map, load):
    """An `align` array with negative values is not as DR1 documents it."""
    write_map(ALIGN, np.array([[0.1, -0.2], [0.1, 0.1]]))
    with pytest.raises(MapFormatError, match=f"{ALIGN} .*numbers >= 0.*-0.2"):
        load("misalignment")


def test_file_above_the_limit(write_map, load):
    """A file larger than any map is refused before it is read completely."""
    path = write_map(ZP)
    os.truncate(path, 100 * MAX_ARRAY_BYTES)
    with pytest.raises(MapFormatError, match=f"{ZP}: expected at most"):
        load()


def test_maps_of_another_camera(tmp_path):
    """Maps with names that KS4 does not have are saved, listed and found."""
    grid = MapGrid.for_image((4, 3), (300, 400))
    places = [("M31_north", "ccd_1"), ("M31_north", "ccd_2"), ("7", None)]
    for level, (field, detector) in enumerate(places):
        key = MapKey("zp", field, "g'", "deep", "PSF", detector=detector)
        ZeroPointMap(np.full((4, 3), 25.0 + level), grid=grid, key=key).save(tmp_path)
    with MapLibrary(tmp_path, image_shape=(300, 400)) as library:
        for level, (field, detector) in enumerate(places):
            zpmap = library.zeropoint(field, "g'", "deep", "PSF", detector=detector)
            assert zpmap.at(5, 5) == 25 + level
            assert (zpmap.key.field, zpmap.key.detector) == (field, detector)
        table = library.table()
        with pytest.raises(MapNotFoundError, match="M31_north@ccd_3"):
            library.zeropoint("M31_north", "g'", "deep", "PSF", detector="ccd_3")
    assert list(table["detector"]) == ["", "ccd_1", "ccd_2"]
    assert list(table["field"]) == ["7", "M31_north", "M31_north"]
