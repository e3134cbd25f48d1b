# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the names of the release's files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ks4_ccd.exceptions import KS4Error
from ks4_ccd.release.names import (
    APERTURES,
    BANDS,
    FAMILIES,
    MODES,
    MapKey,
    normalize_field,
)


@st.composite
def keys(draw):
    """Draw any key that the release could have."""
    family = draw(st.sampled_from(sorted(FAMILIES)))
    photometric = FAMILIES[family][0] == "zeropoint"
    return MapKey(
        family,
        draw(st.integers(0, 9999)),
        draw(st.sampled_from(BANDS)),
        draw(st.sampled_from(MODES)),
        draw(st.sampled_from(APERTURES)) if photometric else None,
        draw(st.sampled_from([None, "122-72", "000+04"])),
    )


@given(keys())
def test_name_and_back(key):
    """Reading the file name of a key gives the key, its tile included."""
    again = MapKey.from_filename(key.filename)
    assert again == key
    assert again.tile == key.tile


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
    """The names that the release documents are read and written unchanged."""
    assert MapKey.from_filename(name).filename == name


@pytest.mark.parametrize(
    "name",
    [
        "README.npy",
        "._zp_map_0403_R_single_APER5.npy",
        "zp_map_0403_R_single.npy",
        "align_map_0403_R_single_APER5.npy",
        "zp_map_403_R_single_APER5.npy",
        "zp_map_0403_G_single_APER5.npy",
        "zp_map_0403_R_triple_APER5.npy",
        "zp_map_0403_R_single_APER7.npy",
        "zp_map_0403_R_single_APER5.npy.part",
        "zp_map_0403_R_single_APER5.npy\n",
        "folder/zp_map_0403_R_single_APER5.npy",
    ],
)
def test_other_names_are_refused(name):
    """A name that is not quite a map's is an error."""
    with pytest.raises(KS4Error):
        MapKey.from_filename(name)


def test_both_names_of_dual():
    """`dual` and `Idual` are the same mode."""
    assert MapKey("align", 1, "R", "Idual") == MapKey("align", 1, "R", "dual")


def test_tile_is_no_part_of_the_identity():
    """Keys of a field with and without its tile are equal, and hash so."""
    with_tile, without = (
        MapKey("align", field, "R") for field in ("0403.122-72", "0403")
    )
    assert with_tile == without
    assert hash(with_tile) == hash(without)
    assert with_tile.tile == "122-72"


def test_family_changes_alone():
    """The key of another array of the map keeps all else."""
    key = MapKey("zp", "0403.122-72", "R", "dual", "AUTO")
    error_key = key.with_family("zperr")
    assert error_key == MapKey("zperr", "0403", "R", "dual", "AUTO")
    assert error_key.tile == "122-72"
    assert (error_key.kind, error_key.part) == ("zeropoint", "error")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("family", "zpt"),
        ("field", "M31"),
        ("field", ""),
        ("field", -1),
        ("field", 40310),
        ("field", 403.0),
        ("band", "r"),
        ("mode", "both"),
        ("aperture", "APER7"),
        ("aperture", None),
    ],
)
def test_bad_part_is_named(part, value):
    """An error about a part of a key quotes the part and what it was."""
    parts = {"family": "zp", "field": "0403", "band": "R", "aperture": "AUTO"}
    with pytest.raises(KS4Error, match=part) as caught:
        MapKey(**{**parts, part: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0403", ("0403", None)),
        (403, ("0403", None)),
        (" 7 ", ("0007", None)),
        ("0403.122-72", ("0403", "122-72")),
    ],
)
def test_normalize_field(name, expected):
    """A field's number has four digits however it was written."""
    assert normalize_field(name) == expected
