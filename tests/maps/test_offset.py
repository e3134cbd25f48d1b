# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of offset maps, their files, and misalignment maps in their place."""

import copy
import inspect
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.interpolate import RegularGridInterpolator

from ks4_ccd import (
    DirectionlessMapError,
    KS4Error,
    MapFormatError,
    MapGrid,
    MapKey,
    MapLibrary,
    MisalignmentMap,
    OffsetMap,
    OptionError,
    ZeroPointMap,
)
from ks4_ccd.maps.offset import require_offsets

PARTS = ("dra", "ddec", "error", "count")
KEY = MapKey("dra", "0403", "R")


def random_offsets(shape=(7, 6), cell_size=10, *, seed=1, empty=0.2, **options):
    """Return a map with some empty cells, and some with one star."""
    rng = np.random.default_rng(seed)
    count = rng.integers(1, 9, shape)
    count[rng.random(shape) < empty] = 0
    dra, ddec = np.where(count > 0, rng.normal(0, 0.08, (2, *shape)), 0)
    error = np.where(count > 1, rng.uniform(0.005, 0.02, shape), 0)
    options = {"grid": MapGrid(shape, cell_size)} | options
    return OffsetMap(dra, ddec, error, count, **options)


@pytest.fixture
def misalignment():
    """A misalignment map of two by two cells."""
    values = [[0.1, 0.2], [0.3, 0.4]]
    return MisalignmentMap(
        values, grid=MapGrid((2, 2), 10), key=MapKey("align", 1, "R")
    )


def test_bilinear_is_scipy_between_centres_and_clamped_outside():
    """Both components agree with scipy's interpolator on the cell centres."""
    offsets = random_offsets(empty=0)
    x, y = np.random.default_rng(0).uniform(-20, 90, (2, 500))
    centers = offsets.grid.centers()
    clamped = [np.clip(p, c[0], c[-1]) for p, c in zip((x, y), centers, strict=True)]
    for found, part in zip(offsets.at(x, y), (offsets.dra, offsets.ddec), strict=True):
        oracle = RegularGridInterpolator(centers, part)
        assert_allclose(found, oracle(np.transpose(clamped)), rtol=1e-12, atol=1e-15)


def test_nearest_is_the_value_of_the_cell():
    """Each pixel has the filled offset of its cell."""
    offsets = random_offsets()
    x, y = np.indices((70, 60))
    cells = offsets.grid.cell_of(x, y)
    dra, ddec = offsets.at(x, y, "nearest")
    assert_array_equal(dra, offsets.filled().dra[cells])
    assert_array_equal(ddec, offsets.filled().ddec[cells])


def test_components_are_treated_like_values():
    """Filling and smoothing equal those of a map with one of the components."""
    offsets = random_offsets()
    x, y = np.random.default_rng(2).uniform(-5, 75, (2, 50))
    for axis, name in enumerate(("dra", "ddec")):
        alone = ZeroPointMap(
            getattr(offsets, name), offsets.error, offsets.count, grid=offsets.grid
        )
        assert_array_equal(getattr(offsets.filled(), name), alone.filled().values)
        smoothed = offsets.smoothed(1.5)
        assert_array_equal(getattr(smoothed, name), alone.smoothed(1.5).values)
        assert_array_equal(offsets.at(x, y)[axis], alone.at(x, y))


def test_filled_cells_are_the_mean_of_their_neighbours():
    """Filling solves the discrete Laplace equation for each component."""
    offsets = random_offsets((12, 9), empty=0.5)
    filled = offsets.filled()
    for name in ("dra", "ddec"):
        array = getattr(filled, name)
        padded = np.pad(array, 1, constant_values=np.nan)
        around = (
            padded[:-2, 1:-1],
            padded[2:, 1:-1],
            padded[1:-1, :-2],
            padded[1:-1, 2:],
        )
        mean = np.nanmean(around, axis=0)
        assert_allclose(array[~offsets.valid], mean[~offsets.valid], atol=1e-15)
        assert_array_equal(array[offsets.valid], getattr(offsets, name)[offsets.valid])
    assert_array_equal(filled.valid, offsets.valid)


def test_rotations_of_offsets():
    """Filling and smoothing are invariant under rotations of the offsets."""
    offsets = random_offsets()
    parts = offsets.error, offsets.count
    turned = OffsetMap(-offsets.ddec, offsets.dra, *parts, grid=offsets.grid)
    x, y = np.random.default_rng(2).uniform(-5, 75, (2, 50))
    dra, ddec = offsets.smoothed().at(x, y)
    assert_array_equal(turned.smoothed().at(x, y), (-ddec, dra))


def test_positions_may_be_scalars_arrays_or_nan():
    """Scalars give floats, arrays broadcast, and NaN affects its own result only."""
    offsets = random_offsets()
    assert [type(component) for component in offsets.at(3, 4)] == [float, float]
    dra, ddec = offsets.at(np.array([[1.0], [np.nan]]), np.array([5.0, 6.0]))
    assert dra.shape == ddec.shape == (2, 2)
    assert np.isfinite([dra[0], ddec[0]]).all()
    assert np.isnan([dra[1], ddec[1]]).all()


def test_empty_cells_with_counts():
    """A count of 0 marks an empty cell, whatever the offset."""
    offsets = OffsetMap(
        [[0.0], [0.1]], [[0.0], [0.1]], count=[[3], [0]], grid=MapGrid((2, 1), 10)
    )
    assert offsets.valid.tolist() == [[True], [False]]


def test_empty_cells_without_counts():
    """NaN in both components marks an empty cell; (0, 0) is a valid offset."""
    grid = MapGrid((3, 1), 10)
    marked = OffsetMap([[np.nan], [0.0], [0.1]], [[np.nan], [0.0], [0.0]], grid=grid)
    assert marked.valid.ravel().tolist() == [False, True, True]
    with pytest.raises(MapFormatError, match=r"dra must .* the other .*cell \[0, 0\]"):
        OffsetMap([[np.nan], [0.0], [0.1]], np.zeros((3, 1)), grid=grid)


def test_the_arrays_are_copies_and_read_only():
    """Arrays of a map are read-only, and independent of those passed."""
    dra, ddec = np.ones((2, 2, 2))
    offsets = OffsetMap(dra, ddec, grid=MapGrid((2, 2), 10))
    dra[0, 0] = ddec[0, 0] = 5
    for map_ in (offsets, offsets.smoothed(), offsets.filled()):
        for array in (map_.dra, map_.ddec, map_.valid):
            assert array[0, 0] == 1
            with pytest.raises(ValueError, match="read-only"):
                array[0, 0] = 5


def test_copies_and_pickles_are_equal():
    """Maps can be copied and pickled."""
    offsets = random_offsets(key=KEY, source="somewhere").smoothed()
    for other in (copy.deepcopy(offsets), pickle.loads(pickle.dumps(offsets))):
        for part in PARTS:
            assert_array_equal(getattr(other, part), getattr(offsets, part))
        assert other.name == offsets.name == f"{KEY.filename} smoothed(0.8)"


@pytest.mark.parametrize("family", ["align", "astar", "ddec", "dra"])
def test_the_key_becomes_that_of_an_offset(family):
    """The key of another astrometric map is accepted, and its family replaced."""
    offsets = random_offsets(key=MapKey(family, "0403", "R"))
    assert offsets.key == KEY
    assert "offset of field 0403 R single" in repr(offsets)


def test_a_key_with_an_aperture_is_refused():
    """The key of a zero-point map, and other types, are refused."""
    with pytest.raises(OptionError, match="aperture must be None .* got 'AUTO'"):
        random_offsets(key=MapKey("zp", "0403", "R", "single", "AUTO"))
    with pytest.raises(OptionError, match="key must be a MapKey, got str"):
        random_offsets(key="0403")


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), with_count=st.booleans(), with_error=st.booleans())
def test_saving_and_reading_is_the_identity(
    tmp_path_factory, seed, with_count, with_error
):
    """A library reads saved maps unchanged, including empty cells."""
    plain = random_offsets((6, 5), seed=seed)
    offsets = OffsetMap(
        np.where(plain.valid, plain.dra, np.nan),
        np.where(plain.valid, plain.ddec, np.nan),
        plain.error if with_error else None,
        plain.count if with_count else None,
        grid=plain.grid,
        key=MapKey("dra", "0403.122-72", "R", "dual"),
    )
    folder = tmp_path_factory.mktemp("maps")
    offsets.save(folder)
    with MapLibrary(folder, image_shape=(50, 60)) as library:
        read = library.offset("0403", "R", "dual")
    assert (read.key, read.key.tile, read.grid) == (offsets.key, "122-72", offsets.grid)
    for part in (*PARTS, "valid"):
        one, other = getattr(read, part), getattr(offsets, part)
        assert (one is None) == (other is None)
        if one is not None:
            assert_array_equal(one[plain.valid], other[plain.valid])
    assert_array_equal(read.valid, plain.valid)


def test_names_of_saved_files(tmp_path):
    """One file is written for each array, and no others."""
    paths = random_offsets(key=KEY).save(tmp_path / "new")
    names = [f"{f}_map_0403_R_single.npy" for f in ("dra", "ddec", "offerr", "offstar")]
    assert [path.name for path in paths] == names
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(names)


def test_a_filled_map_without_counts_is_saved_with_its_empty_cells(tmp_path):
    """Components of empty cells are written as 0, the mark of DR1."""
    plain = random_offsets((6, 5))
    dra, ddec = (np.where(plain.valid, a, np.nan) for a in (plain.dra, plain.ddec))
    offsets = OffsetMap(dra, ddec, grid=plain.grid, key=KEY)
    offsets.filled().save(tmp_path)
    with MapLibrary(tmp_path, image_shape=(50, 60)) as library:
        assert_array_equal(library.offset("0403", "R").valid, plain.valid)


def test_saving_needs_a_key(tmp_path):
    """A map without a key is not saved."""
    with pytest.raises(KS4Error, match="without a key"):
        random_offsets().save(tmp_path)


@pytest.mark.parametrize(
    ("part", "bad", "words"),
    [
        ("dra", np.nan, "dra must be finite where the other .*, got nan"),
        ("ddec", np.inf, "ddec must be finite .*, got inf"),
        ("error", -1, "error must be finite and >= 0"),
        ("count", -2, "count must be finite and >= 0"),
    ],
)
def test_bad_numbers_are_refused(part, bad, words):
    """The message contains the component and the first bad cell."""
    arrays = {name: np.ones((3, 2)) for name in PARTS}
    arrays[part][2, 1] = bad
    with pytest.raises(MapFormatError, match=rf"{words}.*cell \[2, 1\]"):
        OffsetMap(**arrays, grid=MapGrid((3, 2), 10))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((2, 3)), r"shape \(3, 2\) of the grid, got \(2, 3\)"),
        (np.ones((3, 2, 2)), "2D"),
        (np.full((3, 2), "a"), "real numbers"),
    ],
)
def test_wrong_arrays_are_refused(part, array, words):
    """Arrays of a wrong shape or dtype are refused."""
    arrays = {name: np.ones((3, 2)) for name in PARTS} | {part: array}
    with pytest.raises(MapFormatError, match=f"{part} must .*{words}"):
        OffsetMap(**arrays, grid=MapGrid((3, 2), 10))


@pytest.mark.parametrize("use", ["at", "error_at"])
def test_unknown_methods_are_refused(use):
    """The message for a wrong method lists the allowed ones."""
    method = getattr(random_offsets(), use)
    with pytest.raises(KS4Error, match="method must be one of"):
        method(1, 1, method="cubic")


def test_map_of_empty_cells():
    """A map of empty cells cannot be interpolated, filled or smoothed."""
    empty = np.zeros((2, 2))
    offsets = OffsetMap(empty, empty, count=empty, grid=MapGrid((2, 2), 10))
    for use in (lambda: offsets.at(1, 1), offsets.filled, offsets.smoothed):
        with pytest.raises(MapFormatError, match="no cell with stars"):
            use()


# What has no direction


def test_the_positional_error_is_the_interpolated_separation(misalignment):
    """The error between four centres is their mean; at the edge it is constant."""
    assert misalignment.positional_error(9, 9) == pytest.approx(0.25, rel=1e-14)
    assert_allclose(misalignment.positional_error([-5, 30], 0), [0.1, 0.3])


@pytest.mark.parametrize(
    "attempt",
    [
        lambda map_: map_.dra,
        lambda map_: map_.ddec,
        lambda map_: OffsetMap(map_, map_, grid=map_.grid),
        lambda map_: OffsetMap(map_.values, map_, grid=map_.grid),
        require_offsets,
    ],
    ids=["dra", "ddec", "both", "one", "require_offsets"],
)
def test_misalignment_cannot_correct_positions(misalignment, attempt):
    """Misalignment maps are refused as offsets, with a reason and an alternative."""
    words = r"no direction.*build_offset_map.*positional_error\(x, y\)"
    with pytest.raises(DirectionlessMapError, match=words):
        attempt(misalignment)


def test_copies_of_misalignment_maps(misalignment):
    """Copies, pickles and inspection of misalignment maps are not affected."""
    assert not hasattr(misalignment, "dra")
    assert inspect.getmembers(misalignment)
    for other in (
        copy.deepcopy(misalignment),
        pickle.loads(pickle.dumps(misalignment)),
    ):
        assert_array_equal(other.values, misalignment.values)


def test_offsets_are_returned():
    """An OffsetMap is returned unchanged."""
    offsets = random_offsets()
    assert require_offsets(offsets) is offsets


@pytest.mark.parametrize("thing", [None, np.ones((2, 2)), "map.npy"])
def test_offsets_of_a_wrong_type(thing):
    """The message contains the type of the argument."""
    with pytest.raises(OptionError, match=f"an OffsetMap.*got {type(thing).__name__}"):
        require_offsets(thing)


def test_zero_points_cannot_correct_positions(make_map):
    """The message contains the type of the other map."""
    with pytest.raises(KS4Error, match="got ZeroPointMap"):
        require_offsets(make_map())
