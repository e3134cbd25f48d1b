# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the keys of maps and the names of their files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ks4_ccd import MapGrid, MapLibrary, MisalignmentMap, ZeroPointMap
from ks4_ccd.exceptions import KS4Error, OptionError
from ks4_ccd.maps.key import FAMILIES, MapKey

NAMES = st.text(min_size=1).filter(str.strip)


@st.composite
def keys(draw):
    """Draw any key."""
    family = draw(st.sampled_from(sorted(FAMILIES)))
    photometric = FAMILIES[family][0] == "zeropoint"
    return MapKey(
        family,
        draw(NAMES | st.integers(0, 9999)),
        draw(NAMES),
        draw(NAMES),
        draw(NAMES) if photometric else None,
        draw(st.sampled_from([None, "122-72", "000+04"])),
        draw(st.none() | NAMES),
    )


@given(keys())
def test_filename_round_trip(key):
    """The file name of any key identifies it, its tile included."""
    again = MapKey.from_filename(key.filename)
    assert again == key
    assert again.tile == key.tile
    assert hash(again) == hash(key)


@given(keys(), keys())
def test_different_keys_have_different_files(one, other):
    """File names of different keys differ."""
    if one != other:
        assert one.filename != other.filename
        assert (one.place, one.band) != (other.place, other.band) or (
            (one.field, one.detector, one.band)
            == (other.field, other.detector, other.band)
        )


@given(keys())
def test_place_round_trip(key):
    """Field and detector can be recovered from `place`."""
    assert MapKey.split_place(key.place) == (key.field, key.detector)


@given(keys())
def test_names_are_safe(key):
    """A file name is plain ASCII without separators of folders."""
    name = key.filename
    assert name.isascii()
    assert not set(name) & set('/\\ \n\t:*?"<>|')


def test_keys_of_other_cameras():
    """Underscores and other characters do not make a file name ambiguous."""
    key = MapKey("zp", "M31_north", "g_p", "PSF fit", "r = 5", detector="ccd_3")
    assert key.filename == (
        "zp_map_M31%5Fnorth@ccd%5F3_g%5Fp_PSF%20fit_r%20%3D%205.npy"
    )
    assert str(key) == "zeropoint of field M31_north@ccd_3 g_p PSF fit r = 5"


@pytest.mark.parametrize(
    "name",
    [
        "zp_map_0403_R_single_APER5.npy",
        "zperr_map_0403.122-72_R_dual_FWHM.npy",
        "pstar_map_2748_B_dual_AUTO.npy",
        "align_map_0403.122-72_I_single.npy",
        "alerr_map_0000_V_single.npy",
        "astar_map_0000.000-62_V_dual.npy",
    ],
)
def test_documented_names(name):
    """The file names of DR1 are read and written unchanged."""
    assert MapKey.from_filename(name).filename == name


@pytest.mark.parametrize(
    "name",
    [
        "README.npy",
        "._zp_map_0403_R_single_APER5.npy",
        "zp_map_0403_R_single.npy",
        "zpt_map_0403_R_single_APER5.npy",
        "align_map_0403_R_single_APER5.npy",
        "zp_map__R_single_APER5.npy",
        "zp_map_0403@_R_single_APER5.npy",
        "zp_map_0403_R_single_APER5.npy.part",
        "zp_map_0403_R_single_APER5.npy\n",
        "zp_map_0403_R_single_APER 5.npy",
        "zp_map_0403_%FF_single_APER5.npy",
        "folder/zp_map_0403_R_single_APER5.npy",
    ],
)
def test_other_names_are_refused(name):
    """Names that are not those of maps are refused."""
    with pytest.raises(KS4Error):
        MapKey.from_filename(name)


def test_tile_is_not_compared():
    """Keys with and without a tile are equal, and so are their hashes."""
    with_tile, without = (
        MapKey("align", field, "R") for field in ("0403.122-72", "0403")
    )
    assert with_tile == without
    assert hash(with_tile) == hash(without)
    assert with_tile.tile == "122-72"


def test_with_family():
    """`with_family` changes the family only."""
    key = MapKey("zp", "0403.122-72", "R", "dual", "AUTO", detector="N")
    error_key = key.with_family("zperr")
    assert error_key == MapKey("zperr", "0403", "R", "dual", "AUTO", detector="N")
    assert error_key.tile == "122-72"
    assert (error_key.kind, error_key.part) == ("zeropoint", "error")


@pytest.mark.parametrize(
    ("family", "other", "message"),
    [
        ("zp", "align", "aperture must be None .* misalignment maps .* got 'AUTO'"),
        ("align", "zp", "aperture must be a string that is not empty, got None"),
        ("align", "zpt", "family must be one of zp, .*, got 'zpt'"),
    ],
)
def test_with_a_family_of_another_kind(family, other, message):
    """Families with and without an aperture cannot be exchanged."""
    key = MapKey(family, "0403", "R", aperture="AUTO" if family == "zp" else None)
    with pytest.raises(OptionError, match=message):
        key.with_family(other)


def test_keys_can_be_sorted():
    """Keys with and without a detector can be sorted."""
    names = [("b", None), ("a", "2"), ("a", None), ("a", "1")]
    keys = [MapKey("align", field, "R", detector=one) for field, one in names]
    places = [key.place for key in sorted(keys)]
    assert places == ["a", "a@1", "a@2", "b"]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("family", "zpt"),
        ("field", ""),
        ("field", -1),
        ("field", True),
        ("field", 403.0),
        ("band", None),
        ("mode", " "),
        ("aperture", None),
        ("tile", "122"),
        ("detector", ""),
        ("band", "\ud800"),
    ],
)
def test_wrong_part(part, value):
    """A wrong part is an OptionError, whose message contains the part and its value."""
    parts = {"family": "zp", "field": "0403", "band": "R", "aperture": "AUTO"}
    with pytest.raises(OptionError, match=part) as caught:
        MapKey(**{**parts, part: value})
    assert repr(value) in str(caught.value)


def test_maps_that_differ_in_case_are_kept_apart(tmp_path):
    """Maps whose names differ only in case are not saved to the same folder."""
    for band in ("R", "r"):
        key = MapKey("zp", "1", band, aperture="AUTO")
        zpmap = ZeroPointMap([[27.0]], grid=MapGrid((1, 1), 10), key=key)
        if band == "R":
            zpmap.save(tmp_path)
            zpmap.save(tmp_path)
        else:
            with pytest.raises(KS4Error, match="do not distinguish"):
                zpmap.save(tmp_path)


def test_a_map_with_another_origin_is_not_saved(tmp_path):
    """Maps with an origin that files cannot record are not saved."""
    grid = MapGrid((1, 1), 10, origin=(5, 5))
    key = MapKey("zp", "1", "R", aperture="AUTO")
    with pytest.raises(KS4Error, match="found the origin"):
        ZeroPointMap([[27.0]], grid=grid, key=key).save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_edges_of_a_misalignment_map_are_kept(tmp_path):
    """Edges of misalignment maps are saved and read."""
    grid = MapGrid.for_image((2, 1), (10, 20), edges=([10], []))
    key = MapKey("align", "1", "R")
    MisalignmentMap([[0.1], [0.3]], grid=grid, key=key).save(tmp_path)
    with MapLibrary(tmp_path, image_shape=(10, 20)) as library:
        found = library.misalignment("1", "R")
    assert found.grid == grid
    assert found.at(9, 5) == 0.1
