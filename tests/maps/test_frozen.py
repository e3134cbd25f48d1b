# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of immutability, equality and changed copies of maps."""

import contextlib
import copy
import dataclasses
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ks4_ccd import (
    KS4Error,
    MapFormatError,
    MapGrid,
    MapKey,
    MisalignmentMap,
    OffsetMap,
    ZeroPointMap,
)

GRID = MapGrid((3, 2), 10)
ZP_KEY = MapKey("zp", "1", "R", aperture="AUTO")
EMPTY = np.array([[0, 0], [0, 1], [0, 0]], bool)


def arrays(number):
    """Return arrays with an empty cell; the last array is the numbers of stars."""
    rng = np.random.default_rng(number)
    values = [np.where(EMPTY, np.nan, rng.uniform(0.1, 1, (3, 2))) for _ in range(3)]
    return *values[:number], np.where(EMPTY, 0.0, rng.integers(2, 9, (3, 2)))


def zeropoint(**options):
    """Return a zero-point map with an empty cell."""
    return ZeroPointMap(*arrays(2), grid=GRID, **options)


def offset(**options):
    """Return an offset map with an empty cell."""
    return OffsetMap(*arrays(3), grid=GRID, **options)


def misalignment(**options):
    """Return a misalignment map with an empty cell."""
    return MisalignmentMap(*arrays(2), grid=GRID, **options)


@pytest.fixture(params=[zeropoint, offset, misalignment])
def make(request):
    """A function that returns a map, for each class."""
    return request.param


def parts_of(map_):
    """Return all arrays of a map."""
    return [getattr(map_, name) for name in (*map_.components, "error", "count")] + [
        map_.valid
    ]


COPIES = {
    "made": lambda map_: map_,
    "filled": lambda map_: map_.filled(),
    "smoothed": lambda map_: map_.smoothed(),
    "replaced": lambda map_: map_.replace(count=np.full((3, 2), 3)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda map_: pickle.loads(pickle.dumps(map_)),
}


@pytest.mark.parametrize("how", COPIES)
def test_attributes_cannot_be_set(make, how):
    """Attributes cannot be set; the message for arguments mentions replace."""
    map_ = COPIES[how](make())
    for name in (*map_.components, "error", "count", "grid", "key", "source"):
        with pytest.raises(
            dataclasses.FrozenInstanceError, match=rf"replace\({name}=\.\.\.\)"
        ):
            setattr(map_, name, None)
    for name in ("valid", "anything", "_steps"):
        with pytest.raises(AttributeError, match="cannot be changed$"):
            setattr(map_, name, None)
    with pytest.raises(AttributeError, match="cannot be changed"):
        del map_.grid
    assert map_.grid == GRID


@pytest.mark.parametrize("how", COPIES)
def test_arrays_are_read_only(make, how):
    """Arrays of maps and of their copies are read-only."""
    map_ = COPIES[how](make())
    map_.cell_error()
    for array in parts_of(map_):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1


@pytest.mark.parametrize("kind", ["scatter", "median"])
def test_returned_uncertainties_are_not_those_of_the_map(make, kind):
    """Returned arrays cannot be used to change a map."""
    map_ = make()
    before = map_.error_at(5, 5, error_kind=kind)
    with contextlib.suppress(ValueError):
        map_.cell_error(kind)[:] = 99
    assert map_.error_at(5, 5, error_kind=kind) == before


def test_arguments_are_copied():
    """Writing to the arrays from which a map was made does not change it."""
    given = arrays(2)
    before = [array.copy() for array in given]
    zpmap = ZeroPointMap(*given, grid=GRID)
    changed = zpmap.replace(error=given[1])
    for array, kept in zip(given, before, strict=True):
        assert array.flags.writeable
        assert_array_equal(array, kept)
        array[:] = 5
    assert zpmap == changed == zeropoint()


def test_equal_maps(make):
    """Maps with equal arrays, grid and key are equal; sources are not compared."""
    assert make() == make(source="a file")
    assert hash(make()) == hash(make(source="a file"))
    assert len({make(), make()}) == 1
    for how in ("copy", "deepcopy", "pickle"):
        assert COPIES[how](make()) == make()
        assert hash(COPIES[how](make())) == hash(make())
    assert make().smoothed() == make().smoothed()


def test_different_maps(make):
    """Maps that differ in an array, the grid, the key or the unit are not equal."""
    map_ = make()
    family = {ZeroPointMap: "zp", OffsetMap: "dra", MisalignmentMap: "align"}
    aperture = "AUTO" if type(map_) is ZeroPointMap else None
    key = MapKey(family[type(map_)], "1", "R", aperture=aperture)
    others = [
        map_.replace(grid=MapGrid((3, 2), 11)),
        map_.replace(key=key),
        map_.replace(error=None),
        map_.replace(count=None),
        map_.smoothed(),
        map_.filled(),
    ]
    for name in (*map_.components, "error", "count"):
        others.append(map_.replace(**{name: getattr(map_, name) + 1}))
    if type(map_) is ZeroPointMap:
        others.append(map_.replace(image_unit="electron"))
    for number, other in enumerate(others):
        assert map_ != other
        assert all(other != another for another in others[:number])
    assert map_ != "map"
    assert map_ != None  # noqa: E711 (it is the comparison that is tested)


def test_maps_of_other_classes_are_different():
    """Maps of different classes are not equal."""
    assert zeropoint() != misalignment()


def test_covariances_are_compared():
    """Maps with equal arrays and different covariances are not equal."""
    smoothed = zeropoint().smoothed()
    parts = smoothed.values, smoothed.error, smoothed.count
    assert ZeroPointMap(*parts, grid=GRID) != smoothed


def test_a_changed_copy():
    """Only the given arguments change, in a copy whose name lists the changes."""
    zpmap = zeropoint(source="a file", image_unit="electron")
    changed = zpmap.replace(values=zpmap.values + 0.1)
    assert zpmap == zeropoint(image_unit="electron")
    assert_array_equal(changed.values, zpmap.values + 0.1)
    for name in ("error", "count", "valid"):
        assert_array_equal(getattr(changed, name), getattr(zpmap, name))
    assert (changed.grid, changed.image_unit) == (zpmap.grid, zpmap.image_unit)
    assert changed.name == "a file replace(values)"
    renamed = zpmap.replace(source="another", key=None)
    assert renamed == zpmap
    assert renamed.name == "another"


def test_changes_are_checked(make):
    """The arguments of replace are checked as those of a new map."""
    map_ = make()
    with pytest.raises(MapFormatError, match="error must have the shape"):
        map_.replace(error=np.ones((2, 2)))
    with pytest.raises(MapFormatError, match="count must be finite and >= 0"):
        map_.replace(count=-np.ones((3, 2)))
    with pytest.raises(KS4Error, match="grid must be a MapGrid"):
        map_.replace(grid=None)
    wrong = MapKey("align", "1", "R") if make is zeropoint else ZP_KEY
    with pytest.raises(KS4Error, match="expected the key of|aperture must be"):
        map_.replace(key=wrong)
    with pytest.raises(ValueError, match="error, count, grid, key.*got 'valid'"):
        map_.replace(valid=map_.valid)


def test_cells_become_empty():
    """Cells are marked as empty by NaN or by a count of 0."""
    zpmap = zeropoint()
    values = zpmap.values.copy()
    values[0, 0] = np.nan
    assert not zpmap.replace(values=values).valid[0, 0]
    assert zpmap.replace(values=values).count[0, 0] == 0
    count = zpmap.count.copy()
    count[0, 0] = 0
    assert not zpmap.replace(count=count).valid[0, 0]


@pytest.mark.parametrize("counted", [True, False])
def test_filled_cells_stay_filled_and_empty(counted):
    """A filled cell stays empty in a changed copy."""
    values, error, count = arrays(2)
    zpmap = ZeroPointMap(values, error, count if counted else None, grid=GRID)
    filled = zpmap.filled()
    for changes in ({"source": "x"}, {"error": 2 * filled.error}):
        changed = filled.replace(**changes)
        assert_array_equal(changed.values, filled.values)
        assert_array_equal(changed.valid, zpmap.valid)


def test_covariances_of_a_changed_copy():
    """Covariances are kept unless errors or cells change."""
    smoothed = zeropoint().smoothed()
    quoted = smoothed.error_at(12, 7, error_kind="median")
    shifted = smoothed.replace(values=smoothed.values + 1, source="x")
    assert shifted.error_at(12, 7, error_kind="median") == quoted
    other = smoothed.replace(error=smoothed.error)
    parts = smoothed.values, smoothed.error, smoothed.count
    plain = ZeroPointMap(*parts, grid=GRID)
    assert other == plain.replace(error=plain.error)
    assert other.error_at(12, 7, error_kind="median") != quoted
