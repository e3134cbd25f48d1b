# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Colour terms of zero points."""

import tarfile

import numpy as np
import pytest

from ks4_ccd import (
    ColorTerm,
    KS4Error,
    MapGrid,
    MapKey,
    MapLibrary,
    ZeroPointMap,
    ingest,
)
from ks4_ccd.exceptions import MapFormatError, OptionError
from ks4_ccd.maps.identity import checksum_of

GRID = MapGrid.for_image((2, 2), (100, 100))
NAMES = "0403", "R", "single", "APER5"
KEY = MapKey("zp", *NAMES)
TERMS = [
    ColorTerm(("V", "I"), 0.8, []),
    ColorTerm(("V", "I"), 0.8, [0.1], [[4e-6]]),
    ColorTerm(("BP", "RP"), 1.1, [0.1, -0.02], [[4e-6, 1e-6], [1e-6, 9e-6]]),
]


def make_map(term, key=KEY):
    """Return a map with a colour term."""
    values = [[29.9, 30.0], [30.1, 30.2]]
    return ZeroPointMap(
        values,
        np.full((2, 2), 0.03),
        np.full((2, 2), 9),
        grid=GRID,
        key=key,
        color_term=term,
    )


@pytest.mark.parametrize("term", TERMS)
def test_polynomial(term):
    """The difference is a polynomial without a constant (numpy's evaluation)."""
    color = np.linspace(-0.5, 3, 8)
    difference = color - term.reference_color
    coefficients = [0.0, *term.coefficients]
    expected = np.polynomial.polynomial.polyval(difference, coefficients)
    np.testing.assert_allclose(term.at(color), expected, atol=1e-15)
    assert term.at(term.reference_color) == 0


def test_uncertainty_is_that_of_random_coefficients():
    """The uncertainty is the scatter of the difference (Monte Carlo)."""
    term = TERMS[2]
    rng = np.random.default_rng(1)
    random = rng.multivariate_normal(term.coefficients, term.covariance, 100_000)
    difference = 2.3 - term.reference_color
    scatter = np.std(random @ [difference, difference**2])
    assert term.error_at(2.3) == pytest.approx(scatter, rel=0.02)
    np.testing.assert_allclose(term.uncertainties, np.std(random, axis=0), rtol=0.02)


@pytest.mark.parametrize("term", TERMS)
def test_kept_in_files(term, tmp_path):
    """Folder and store return the colour term of a map."""
    map_ = make_map(term)
    map_.save(tmp_path / "maps")
    with MapLibrary(tmp_path / "maps") as library:
        loaded = library.zeropoint(*NAMES, image_shape=GRID.image_shape)
    assert loaded == map_
    assert loaded.color_term == term
    archive = tmp_path / "maps.tar"
    with tarfile.open(archive, "w") as file:
        file.add(tmp_path / "maps", "maps")
    store = tmp_path / "maps.ks4maps"
    ingest(archive, store)
    with MapLibrary(store) as library:
        stored = library.zeropoint(*NAMES, image_shape=GRID.image_shape)
    assert stored.color_term == term


def test_replaced_by_a_map_without(tmp_path):
    """A map without a colour term does not get that of the map before."""
    make_map(TERMS[1]).save(tmp_path)
    make_map(None).save(tmp_path)
    with MapLibrary(tmp_path) as library:
        loaded = library.zeropoint(*NAMES, image_shape=GRID.image_shape)
    assert loaded.color_term is None


@pytest.mark.parametrize("step", ["filled", "smoothed", "replace"])
def test_kept_by_other_maps(step):
    """Maps derived from a map have its colour term."""
    map_ = make_map(TERMS[1])
    derived = map_.replace(error=None) if step == "replace" else getattr(map_, step)()
    assert derived.color_term == TERMS[1]


def test_is_part_of_the_identity():
    """Maps of different colour terms differ, and so do their checksums."""
    maps = [make_map(term) for term in (None, *TERMS)]
    maps.append(make_map(ColorTerm(("V", "I"), 0.8, [0.10000001], [[4e-6]])))
    assert len({checksum_of(map_) for map_ in maps}) == len(maps)
    assert all(one != other for one in maps for other in maps if one is not other)


@pytest.mark.parametrize(
    "arguments",
    [
        ("V-I", 0.8, []),
        (("V",), 0.8, []),
        (("V", "V"), 0.8, []),
        (("V", ""), 0.8, []),
        (("V", 3), 0.8, []),
        (("V", "I" * 40), 0.8, []),
        (("V", "I"), np.nan, []),
        (("V", "I"), "red", []),
        (("V", "I"), 0.8, [np.inf]),
        (("V", "I"), 0.8, [0.1], [[1, 2], [3, 4]]),
        (("V", "I"), 0.8, [0.1], [[-1e-6]]),
    ],
)
def test_impossible_terms_are_refused(arguments):
    """A colour is a pair of different bands, and all numbers are finite."""
    with pytest.raises(OptionError):
        ColorTerm(*arguments)


def test_other_objects_are_no_color_term():
    """A map refuses a colour term of another type."""
    with pytest.raises(OptionError, match="color_term must be a ColorTerm, got float"):
        make_map(0.1)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2)),
        np.zeros(3),
        np.array([(("V", "I"), 0.8)], dtype=[("bands", "U8", (2,)), ("c", "f8")]),
        np.repeat(TERMS[1].to_array(), 2),
    ],
)
def test_other_arrays_in_files_are_refused(array, tmp_path):
    """A file that contains no colour term is named."""
    make_map(TERMS[1]).save(tmp_path)
    path = tmp_path / KEY.with_family("zpcolor").filename
    np.save(path, array)
    with (
        MapLibrary(tmp_path) as library,
        pytest.raises(MapFormatError, match=path.name),
    ):
        library.zeropoint(*NAMES, image_shape=GRID.image_shape)


def test_records_with_wrong_numbers_are_refused(tmp_path):
    """Numbers of a colour term in a file are checked."""
    make_map(TERMS[1]).save(tmp_path)
    path = tmp_path / KEY.with_family("zpcolor").filename
    array = np.load(path)
    array["coefficients"] = np.nan
    np.save(path, array)
    with MapLibrary(tmp_path) as library, pytest.raises(KS4Error, match="finite"):
        library.zeropoint(*NAMES, image_shape=GRID.image_shape)
