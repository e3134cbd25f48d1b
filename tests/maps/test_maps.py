# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of maps: interpolation, filling, smoothing and files."""

import copy
import pickle

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator
from scipy.stats import binned_statistic_2d

from ks4_ccd import (
    GeometryError,
    KS4Error,
    MapFormatError,
    MapGrid,
    MapKey,
    MapLibrary,
    MapMismatchError,
    MisalignmentMap,
    OptionError,
    ZeroPointMap,
)
from ks4_ccd.maps.fill import gaussian_sum


def test_bilinear_is_scipy_between_centres_and_clamped_outside(make_map):
    """Bilinear values agree with scipy's interpolator on the cell centres."""
    zpmap = make_map((7, 6), 10, empty=0)
    x, y = np.random.default_rng(0).uniform(-20, 90, (2, 500))
    centers = zpmap.grid.centers()
    oracle = RegularGridInterpolator(centers, zpmap.values)
    clamped = [np.clip(p, c[0], c[-1]) for p, c in zip((x, y), centers, strict=True)]
    np.testing.assert_allclose(
        zpmap.at(x, y), oracle(np.transpose(clamped)), rtol=1e-13
    )


def test_nearest_is_the_value_of_the_cell(make_map):
    """Each pixel has the filled value of its cell."""
    zpmap = make_map((5, 4), 20)
    x, y = np.indices((100, 80))
    filled = zpmap.filled().values
    np.testing.assert_array_equal(
        zpmap.at(x, y, "nearest"), filled[zpmap.grid.cell_of(x, y)]
    )


def test_dr1_is_not_a_method_of_maps(make_map):
    """The message for "dr1" contains the functions that repeat DR1's calibration."""
    zpmap = make_map()
    for method in (zpmap.at, zpmap.error_at):
        with pytest.raises(KS4Error, match=r'use apply_zeropoint\(..., method="dr1"'):
            method(1, 1, method="dr1")
        with pytest.raises(ValueError, match="bilinear, nearest, got 'cubic'"):
            method(1, 1, method="cubic")


def test_empty_cells_do_not_affect_their_neighbours(make_map):
    """The content of empty cells does not affect results."""
    plain = make_map()
    values = np.where(plain.valid, plain.values, 99)
    other = ZeroPointMap(values, plain.error, plain.count, grid=plain.grid)
    x, y = np.indices((100, 80))
    assert not plain.valid.all()
    np.testing.assert_array_equal(other.at(x, y), plain.at(x, y))
    np.testing.assert_array_equal(other.smoothed().at(x, y), plain.smoothed().at(x, y))


def test_filled_cells_are_the_mean_of_their_neighbours(make_map):
    """Filling solves the discrete Laplace equation and keeps the valid cells."""
    zpmap = make_map((12, 9), 10, empty=0.5)
    filled = zpmap.filled().values
    np.testing.assert_array_equal(filled[zpmap.valid], zpmap.values[zpmap.valid])
    padded = np.pad(filled, 1, constant_values=np.nan)
    around = [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
    mean = np.nanmean(around, axis=0)
    np.testing.assert_allclose(filled[~zpmap.valid], mean[~zpmap.valid], rtol=1e-12)


def test_single_cell_fills_the_map():
    """A single cell with stars fills the map with its value."""
    count = np.zeros((6, 5))
    count[2, 3] = 4
    values = np.where(count > 0, 29.8, 30)
    zpmap = ZeroPointMap(values, count=count, grid=MapGrid((6, 5), 10))
    np.testing.assert_allclose(zpmap.filled().values, 29.8, rtol=1e-12)


def test_filled_cells_stay_marked(make_map):
    """`valid` and `count` of a filled map mark the cells with stars."""
    zpmap = make_map()
    np.testing.assert_array_equal(zpmap.filled().valid, zpmap.valid)


def test_smoothing_is_the_count_weighted_mean():
    """A smoothed cell is the mean weighted by counts and the Gaussian."""
    values, count = np.array([[29.9], [30.1]]), np.array([[4.0], [1.0]])
    zpmap = ZeroPointMap(values, None, count, grid=MapGrid((2, 1), 10))
    weight = np.exp(-0.5 / 0.8**2)
    smoothed = zpmap.smoothed(0.8)
    first = (4 * 29.9 + weight * 30.1) / (4 + weight)
    assert smoothed.values[0, 0] == pytest.approx(first, rel=1e-14)
    assert smoothed.count[0, 0] == pytest.approx((4 + weight) ** 2 / (4 + weight**2))


@pytest.mark.parametrize("lag", [None, (0, 0), (1, 0), (0, 1), (1, 1)])
def test_truncation_of_the_gaussian(lag):
    """Smoothing equals the sum over all pairs of cells, to a truncation of 4e-6."""
    values = np.random.default_rng(8).uniform(1, 2, (31, 23))
    weights = []
    for axis, length in enumerate(values.shape):
        distance = np.subtract.outer(*2 * [np.arange(length)])
        weight = np.exp(-0.5 * (distance / 1.7) ** 2)
        if lag is not None:
            weight *= np.exp(-0.5 * ((distance + lag[axis]) / 1.7) ** 2)
        weights.append(weight)
    expected = weights[0] @ values @ weights[1].T
    np.testing.assert_allclose(gaussian_sum(values, 1.7, lag), expected, rtol=1e-5)


def test_the_effective_count_gives_the_error_of_a_smoothed_map():
    """Means of cells scatter by the pooled scatter over sqrt(count)."""
    rng = np.random.default_rng(5)
    count = rng.integers(1, 9, (15, 15))
    grid = MapGrid((15, 15), 10)
    smoothed = []
    for _ in range(400):
        values = 30 + rng.normal(0, 0.05, count.shape) / np.sqrt(count)
        smoothed.append(ZeroPointMap(values, count=count, grid=grid).smoothed())
    expected = 0.05 / np.sqrt(smoothed[0].count)
    pull = np.std([one.values for one in smoothed], axis=0) / expected
    assert pull.mean() == pytest.approx(1, abs=0.02)


def test_positions_may_be_scalars_arrays_or_nan(make_map):
    """Scalars give a float, arrays broadcast, and NaN affects its own result only."""
    zpmap = make_map()
    assert isinstance(zpmap.at(3, 4), float)
    values = zpmap.at(np.array([[1.0], [np.nan]]), np.array([5.0, 6.0]))
    assert values.shape == (2, 2)
    assert np.isfinite(values[0]).all()
    assert np.isnan(values[1]).all()


def test_the_arrays_are_copies_and_read_only(make_map):
    """Arrays of a map are read-only, and independent of those passed."""
    values = np.full((2, 2), 29.9)
    zpmap = ZeroPointMap(values, grid=MapGrid((2, 2), 10))
    values[0, 0] = 25
    assert zpmap.values[0, 0] == 29.9
    with pytest.raises(ValueError, match="read-only"):
        zpmap.values[0, 0] = 25
    with pytest.raises(ValueError, match="read-only"):
        zpmap.smoothed().values[0, 0] = 25


def test_marks_of_dr1_are_valid_values():
    """DR1's marks, 30 mag, 0 arcsec and (0, 0), are valid values in new maps."""
    grid = MapGrid((2, 1), 10)
    for error in (None, [[0.02], [0.0]]):
        assert ZeroPointMap([[30.0], [29.9]], error, grid=grid).valid.all()
        assert MisalignmentMap([[0.0], [0.1]], error, grid=grid).valid.all()
    zpmap = ZeroPointMap([[30.0], [30.2]], grid=grid)
    assert zpmap.at([4, 9, 14], 4) == pytest.approx([30.0, 30.1, 30.2])


@pytest.mark.parametrize("with_count", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_nan_and_masked_values_mark_empty_cells(make_map, with_count, masked):
    """NaN marks empty cells without counts; error and count may be NaN there, too."""
    plain = make_map((7, 6), 10)
    assert not plain.valid.all()
    arrays = [plain.values, plain.error, plain.count if with_count else None]
    if masked:
        given = [
            None if a is None else np.ma.array(a, mask=~plain.valid) for a in arrays
        ]
    else:
        given = [
            None if a is None else np.where(plain.valid, a, np.nan) for a in arrays
        ]
    zpmap = ZeroPointMap(*given, grid=plain.grid)
    np.testing.assert_array_equal(zpmap.valid, plain.valid)
    x, y = np.indices((70, 60))
    for method in ("bilinear", "nearest"):
        np.testing.assert_array_equal(zpmap.at(x, y, method), plain.at(x, y, method))
    assert np.isfinite(zpmap.smoothed().at(x, y)).all()
    assert np.isfinite(zpmap.error_at(x, y)).all()
    for array in (zpmap.error, zpmap.count):
        assert array is None or not array[~plain.valid].any()


def test_empty_bins_of_scipy_are_empty_cells():
    """Cells with NaN and a count of 0 are empty."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 100, (2, 30))
    stars = 30 + 0.01 * rng.normal(size=30)
    median, scatter, count = (
        binned_statistic_2d(
            x, y, stars, statistic, bins=(6, 5), range=[(0, 100), (0, 100)]
        ).statistic
        for statistic in ("median", "std", "count")
    )
    zpmap = ZeroPointMap(median, scatter, count, grid=MapGrid((6, 5), (100 / 6, 20)))
    np.testing.assert_array_equal(zpmap.valid, count > 0)
    assert not zpmap.valid.all()


def test_a_value_without_a_number_of_stars_is_refused():
    """A NaN error or count in a cell with a value is refused."""
    grid = MapGrid((2, 1), 10)
    with pytest.raises(MapFormatError, match=r"count must be finite.*cell \[1, 0\]"):
        ZeroPointMap([[29.9], [29.8]], None, [[3], [np.nan]], grid=grid)
    with pytest.raises(MapFormatError, match=r"error must .*0 means unknown.*\[1, 0\]"):
        ZeroPointMap([[29.9], [29.8]], [[0.1], [np.nan]], grid=grid)
    # A masked error is an unknown one, a masked count that of an empty cell.
    masked = np.ma.array([[0.1], [0.2]], mask=[[False], [True]])
    assert ZeroPointMap([[29.9], [29.8]], masked, grid=grid).error[1, 0] == 0
    with_count = ZeroPointMap([[29.9], [29.8]], None, masked * 10, grid=grid)
    assert with_count.valid.ravel().tolist() == [True, False]


def test_cells_without_stars_are_empty():
    """Cells with a count of 0 are empty, and NaN cells have a count of 0."""
    values, count = [[29.9], [-np.inf], [np.nan]], [[2], [0], [5]]
    zpmap = ZeroPointMap(values, None, count, grid=MapGrid((3, 1), 10))
    assert zpmap.valid.ravel().tolist() == [True, False, False]
    assert zpmap.count.ravel().tolist() == [2, 0, 0]
    assert np.isfinite(zpmap.at([4, 14, 24], 4)).all()


def test_copies_and_pickles_are_equal(make_map, make_key):
    """Maps can be pickled."""
    zpmap = make_map(key=make_key(), source="somewhere").smoothed()
    for other in (copy.deepcopy(zpmap), pickle.loads(pickle.dumps(zpmap))):
        np.testing.assert_array_equal(other.values, zpmap.values)
        assert (other.name, other.grid, other.key) == (
            zpmap.name,
            zpmap.grid,
            zpmap.key,
        )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), with_count=st.booleans(), with_error=st.booleans())
def test_saving_and_reading_is_the_identity(
    tmp_path_factory, seed, with_count, with_error
):
    """A library reads saved maps unchanged, including empty cells."""
    rng = np.random.default_rng(seed)
    count = rng.integers(0, 4, (6, 5))
    count[0, 0] = 3
    values = np.where(count > 0, rng.normal(29.9, 0.1, (6, 5)), np.nan)
    error = np.where(count > 1, 0.02, 0)
    zpmap = ZeroPointMap(
        values,
        error if with_error else None,
        count if with_count else None,
        grid=MapGrid((6, 5), 10),
        key=MapKey("zp", "0403", "R", "dual", "AUTO"),
    )
    folder = tmp_path_factory.mktemp("maps")
    zpmap.save(folder)
    with MapLibrary(folder, image_shape=(50, 60)) as library:
        read = library.zeropoint("0403", "R", "dual", "AUTO")
    assert (read.key, read.grid) == (zpmap.key, zpmap.grid)
    for part in ("values", "error", "count", "valid"):
        one, other = getattr(read, part), getattr(zpmap, part)
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one[zpmap.valid], other[zpmap.valid])
    np.testing.assert_array_equal(read.valid, zpmap.valid)


@pytest.mark.parametrize("error", [None, 0.0, 0.02])
@pytest.mark.parametrize("count", [None, 3])
@pytest.mark.parametrize("values", [[30.0, 29.9, np.nan], [30.0, 30.0, 30.0]])
def test_a_value_of_30_survives_its_file(tmp_path, make_key, values, count, error):
    """A value equal to DR1's mark of an empty cell is still valid after reading."""
    values = np.array([values])
    arrays = [None if a is None else np.full((1, 3), a) for a in (error, count)]
    zpmap = ZeroPointMap(values, *arrays, grid=MapGrid((1, 3), 10), key=make_key())
    zpmap.save(tmp_path)
    with MapLibrary(tmp_path, image_shape=(30, 10)) as library:
        read = library.zeropoint("0403", "R")
    np.testing.assert_array_equal(read.valid, zpmap.valid)
    valid = zpmap.valid
    np.testing.assert_allclose(read.values[valid], values[valid], rtol=1e-15)


def test_saving_replaces_all_files_of_a_map(tmp_path, make_map, make_key):
    """Errors and counts of a replaced map are removed."""
    plain = make_map(key=make_key())
    plain.save(tmp_path)
    ZeroPointMap(plain.values + 0.1, grid=plain.grid, key=plain.key).save(tmp_path)
    with MapLibrary(tmp_path, image_shape=plain.grid.image_shape) as library:
        read = library.zeropoint("0403", "R")
    assert read.error is None
    assert read.count is None


def test_names_of_saved_files(make_map, make_key, tmp_path):
    """Files are named after the key, and no other files are written."""
    paths = make_map(key=make_key()).save(tmp_path / "new")
    names = {f"{f}_map_0403_R_single_APER5.npy" for f in ("zp", "zperr", "pstar")}
    assert {p.name for p in paths} == names
    assert {p.name for p in (tmp_path / "new").iterdir()} == names


def test_saving_needs_a_key_and_a_folder(make_map, make_key, tmp_path):
    """A map without a key, or a folder that is a file, is refused."""
    with pytest.raises(KS4Error, match="without a key"):
        make_map().save(tmp_path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(KS4Error, match=r"cannot write the map to .*file"):
        make_map(key=make_key()).save(tmp_path / "file")


@pytest.mark.parametrize(
    ("part", "bad", "words"),
    [
        ("values", np.inf, "values must be finite"),
        ("error", -1, "error must be finite and >= 0"),
        ("error", np.nan, "error must be finite"),
        ("count", -2, "count must be finite and >= 0"),
    ],
)
def test_bad_numbers_are_refused(part, bad, words):
    """The message contains the first bad cell."""
    arrays = {name: np.ones((3, 2)) for name in ("values", "error", "count")}
    arrays[part][2, 1] = bad
    with pytest.raises(MapFormatError, match=rf"{words}.*cell \[2, 1\]"):
        ZeroPointMap(**arrays, grid=MapGrid((3, 2), 10))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.ones((2, 3)), r"shape \(3, 2\)"),
        (np.ones(6), "2D"),
        (np.ones((3, 2, 2)), "2D"),
        (np.ones((3, 2), bool), "real numbers"),
        (np.ones((3, 2), complex), "real numbers"),
        (np.full((3, 2), "a"), "real numbers"),
    ],
)
def test_wrong_arrays_are_refused(values, words):
    """Arrays of a wrong shape or dtype are refused."""
    with pytest.raises(MapFormatError, match=words):
        ZeroPointMap(values, grid=MapGrid((3, 2), 10))


def test_quantities_and_ragged_arrays_are_refused():
    """Quantities and ragged rows are refused."""
    grid = MapGrid((2, 2), 10)
    for values, words in (
        (np.full((2, 2), 29900) * u.mmag, "quantity in mmag"),
        ([[1, 2], [3]], "2D array of cells"),
    ):
        with pytest.raises(MapFormatError, match=words):
            ZeroPointMap(values, grid=grid)
    with pytest.raises(GeometryError, match="plain numbers"):
        MapGrid((2, 2), 400 * u.arcsec)


def test_wrong_types_of_arguments(make_map):
    """Grids, keys, positions and folders of a wrong type or kind are refused."""
    with pytest.raises(OptionError, match="grid must be a MapGrid, got NoneType"):
        ZeroPointMap(np.ones((2, 2)), grid=None)
    with pytest.raises(OptionError, match="key must be a MapKey, got str"):
        make_map(key="0403")
    with pytest.raises(MapMismatchError, match="zeropoint map for a ZeroPointMap"):
        make_map(key=MapKey("align", "0403", "R"))
    with pytest.raises(GeometryError, match="must be numbers"):
        make_map().at("a", 1)
    with pytest.raises(KS4Error, match="must be a folder, got None"):
        make_map(key=MapKey("zp", "0403", "R", aperture="AUTO")).save(None)
    assert np.isfinite(make_map().smoothed(1e9).values).all()


def test_map_of_empty_cells():
    """A map of empty cells cannot be interpolated, filled or smoothed."""
    grid = MapGrid((2, 2), 10)
    zpmap = ZeroPointMap(np.full((2, 2), 30), count=np.zeros((2, 2)), grid=grid)
    for use in (lambda: zpmap.at(1, 1), zpmap.filled, zpmap.smoothed):
        with pytest.raises(MapFormatError, match="no cell with stars"):
            use()


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf, "wide", [1, 2]])
def test_wrong_scale(make_map, scale):
    """A scale that is not a positive number is refused."""
    with pytest.raises(OptionError, match="scale must be a (positive|finite) number"):
        make_map().smoothed(scale)


def test_misalignment_is_a_separation():
    """Negative separations are refused."""
    grid = MapGrid((2, 1), 10)
    with pytest.raises(MapFormatError, match="separations >= 0, got -0.1"):
        MisalignmentMap([[0.1], [-0.1]], grid=grid)
    with pytest.raises(MapFormatError, match="separations >= 0, got -0.1"):
        MisalignmentMap([[np.nan], [-0.1]], grid=grid)
