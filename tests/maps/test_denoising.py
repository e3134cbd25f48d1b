# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of denoised maps: grids, uncertainties, and maps that cannot be denoised."""

import numpy as np
import pytest

from ks4_ccd import (
    GeometryError,
    MapFormatError,
    MapGrid,
    MapKey,
    MisalignmentMap,
    OffsetMap,
    OptionError,
    ZeroPointMap,
    simulate_field,
)
from ks4_ccd.maps.denoising import NoiseReduction

EDGES = [1499.0, 2599.0], [1849.0]
SCATTER = 0.01


def true_field(x, y):
    """Return a smooth field with steps at `EDGES`."""
    i, j = (
        np.searchsorted(e, p, side="right") for e, p in zip(EDGES, (x, y), strict=True)
    )
    steps = np.array([[0.03, -0.02], [-0.04, 0.01], [0.02, 0.0]])
    return 30 + 0.02 * np.sin(x / 900) * np.cos(y / 700) + steps[i, j]


def make_arrays(seed=0, number=30, offset=0.0):
    """Return values, errors and counts of cells of 4000 x 4000 pixels."""
    rng = np.random.default_rng(seed)
    count = rng.poisson(3, (number, number))
    grid = MapGrid.for_image((number, number), (4000, 4000))
    x, y = grid.centers()
    fine = (np.arange(10) + 0.5) / 10 - 0.5
    x, y = ((p[:, None] + 4000 / number * fine).ravel() for p in (x, y))
    mean = true_field(x[:, None], y[None, :])
    mean = mean.reshape(number, 10, number, 10).mean(axis=(1, 3)) + offset
    noise = SCATTER * rng.normal(size=mean.shape) / np.sqrt(np.maximum(count, 1))
    error = np.where(count > 1, SCATTER * np.sqrt(rng.chisquare(3, mean.shape) / 3), 0)
    return np.where(count > 0, mean + 1.25 * noise, np.nan), error, count, grid


@pytest.fixture
def zpmap():
    """Return a map with steps, some of whose cells are empty."""
    values, error, count, grid = make_arrays()
    key = MapKey("zp", "0403", "R", "single", "APER5")
    return ZeroPointMap(values, error, count, grid=grid, key=key)


def positions():
    """Return positions between the centres of cells, away from edges."""
    x = np.linspace(20, 3980, 67)
    near = [np.abs(x[:, None] - np.array(e)).min(axis=1) < 25 for e in EDGES]
    x, y = np.meshgrid(x[~near[0]], x[~near[1]], indexing="ij")
    return x.ravel(), y.ravel()


def test_steps_stay_and_noise_goes(zpmap):
    """A denoised map is closer to the truth than others, steps included."""
    x, y = positions()
    residual = {
        name: np.std(map_.at(x, y) - true_field(x, y))
        for name, map_ in (
            ("map", zpmap),
            ("smoothed", zpmap.smoothed()),
            ("no edges", zpmap.denoised(None)),
            ("edges", zpmap.denoised(EDGES)),
        )
    }
    assert residual["edges"] < 0.002
    assert residual["edges"] < 0.4 * min(residual["map"], residual["smoothed"])
    assert residual["no edges"] < residual["map"]


def test_uncertainty_at_nodes_and_between():
    """Residuals are those quoted; stars that are not in the map scatter as quoted."""
    x, y = positions()
    pulls, stars = [], []
    for seed in range(8):
        values, error, count, grid = make_arrays(seed)
        denoised = ZeroPointMap(values, error, count, grid=grid).denoised(EDGES)
        residual = denoised.at(x, y) - true_field(x, y)
        pulls.append(residual / denoised.error_at(x, y, error_kind="median"))
        star = residual + SCATTER * np.random.default_rng(seed).normal(size=x.size)
        stars.append(star / denoised.error_at(x, y))
    assert 0.85 < np.sqrt(np.mean(np.square(pulls))) < 1.12
    assert 0.9 < np.sqrt(np.mean(np.square(stars))) < 1.1


def test_grid_is_finer_with_edges_and_the_same_without(zpmap):
    """Edges, the given ones and those of the grid, are those of the new grid."""
    assert zpmap.denoised(None).grid == zpmap.grid
    assert zpmap.denoised(((), ())).grid == zpmap.grid
    grid = zpmap.denoised(EDGES).grid
    assert grid.shape == (120, 120)
    assert grid.extent == zpmap.grid.extent
    assert grid.edges == tuple(map(tuple, EDGES))
    with_edge = zpmap.replace(
        grid=MapGrid.for_image((30, 30), (4000, 4000), ([1499.0], []))
    )
    assert with_edge.denoised(None).grid.edges == ((1499.0,), ())
    assert with_edge.denoised(([2599, 1499], [1849])).grid.edges == grid.edges


def test_cells_of_few_pixels_and_many_cells_are_divided_less():
    """No cell is smaller than a pixel, and no map has more than 440 along an axis."""
    values, error, count, _ = make_arrays()
    grid = MapGrid((30, 30), (2.5, 1), edges=([40], []))
    small = ZeroPointMap(values, error, count, grid=grid).denoised(None)
    assert small.grid.shape == (60, 30)
    rng = np.random.default_rng(0)
    row = 30 + 0.01 * rng.normal(size=(250, 1))
    grid = MapGrid((250, 1), 10, edges=([1000], []))
    ones = np.ones((250, 1))
    long = ZeroPointMap(row, 0.01 * ones, ones, grid=grid).denoised(None)
    assert long.grid.shape == (250, 4)
    assert np.abs(long.values - 30).max() < 0.005


def test_what_is_kept_and_recorded(zpmap):
    """Key and unit stay, the name records the surface, the map is not changed."""
    before = zpmap.values.copy()
    denoised = zpmap.denoised(EDGES)
    np.testing.assert_array_equal(zpmap.values, before)
    assert denoised.key == zpmap.key
    assert denoised.name == f"{zpmap.name} denoised(edges=2+1)"
    assert denoised.errors_add()
    assert not denoised.values.flags.writeable
    # Cells that are next to one with stars have values, and count 0 is empty.
    np.testing.assert_array_equal(denoised.valid, denoised.count > 0)
    hole = zpmap.count.copy()
    hole[10:17, 12:19] = 0
    holed = zpmap.replace(count=hole).denoised(None)
    assert not holed.valid[11:16, 13:18].any()
    assert holed.valid.sum() == 900 - 25


def test_denoised_maps_are_saved_and_read(zpmap, tmp_path):
    """A map that is read has the same values and uncertainties."""
    from ks4_ccd import MapLibrary

    denoised = zpmap.denoised(EDGES)
    denoised.save(tmp_path)
    with MapLibrary(tmp_path, image_shape=(4000, 4000)) as library:
        read = library.zeropoint("0403", "R", "single", "APER5")
    x, y = positions()
    np.testing.assert_allclose(read.at(x, y), denoised.at(x, y))
    for kind in ("scatter", "median"):
        expected = denoised.error_at(x, y, error_kind=kind)
        np.testing.assert_allclose(read.error_at(x, y, error_kind=kind), expected)
    with pytest.raises(MapFormatError, match="stars of their own"):
        read.denoised(None)


def test_offsets_are_denoised_component_by_component():
    """Both components of an offset map are surfaces; errors are along one axis."""
    values, error, count, grid = make_arrays(1)
    other = make_arrays(2, offset=-60)[0]
    values, other = (np.where(count > 0, part, np.nan) for part in (values, other))
    other[np.isnan(other) & (count > 0)] = -30.0
    offsets = OffsetMap(values, other, error, count, grid=grid).denoised(EDGES)
    x, y = positions()
    dra, ddec = offsets.at(x, y)
    single = ZeroPointMap(values, error, count, grid=grid).denoised(EDGES)
    assert np.std(dra - true_field(x, y)) < 0.002
    assert np.std(ddec - true_field(x, y)) < 0.003
    ratio = offsets.error_at(x, y, error_kind="median") / single.error_at(
        x, y, error_kind="median"
    )
    assert 0.7 < np.median(ratio) < 1.5


@pytest.mark.parametrize("part", ["error", "count", "both"])
def test_maps_without_errors_or_counts(zpmap, part):
    """What is known of the cells is used; what is not known is not made up."""
    changes = {p: None for p in ("error", "count") if part in (p, "both")}
    valid = np.where(zpmap.valid, zpmap.values, np.nan)
    map_ = zpmap.replace(values=valid, **changes).denoised(EDGES)
    x, y = positions()
    residual = map_.at(x, y) - true_field(x, y)
    assert residual.std() < 0.0025
    if part == "both":
        assert map_.error is None
        assert map_.count is None
        return
    pull = residual / map_.error_at(x, y, error_kind="median")
    assert 0.8 < np.sqrt(np.mean(pull**2)) < 1.2
    scatter = np.median(map_.error)
    assert 0.7 * SCATTER < scatter < 1.6 * SCATTER


@pytest.mark.parametrize(
    "treated",
    [
        lambda zpmap: zpmap.smoothed(),
        lambda zpmap: zpmap.denoised(None),
        lambda zpmap: zpmap.denoised(EDGES).replace(source="x"),
        lambda zpmap: zpmap.replace(count=zpmap.count + 0.5),
    ],
)
def test_cells_that_share_stars_are_refused(zpmap, treated):
    """A smoothed, denoised or built map has no cells with errors of their own."""
    with pytest.raises(MapFormatError, match="stars of their own.*apply this one"):
        treated(zpmap).denoised(None)


def test_filled_maps_have_the_same_surface(zpmap):
    """Values that were filled in are no measurements."""
    filled = zpmap.filled().denoised(EDGES)
    np.testing.assert_array_equal(filled.values, zpmap.denoised(EDGES).values)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (([5000.0], []), "between -1 and 3999 along x, found 5000"),
        (([], [-1.0]), "between -1 and 3999 along y, found -1"),
        (([100.0],), "two sequences"),
        ((["a"], []), "two sequences"),
        (([np.nan], []), "finite"),
        ((np.arange(1, 40) * 100.0, np.arange(1, 40) * 100.0), "1600: give fewer"),
    ],
)
def test_wrong_edges(zpmap, edges, message):
    """Edges that are not two sequences of positions on the image are refused."""
    with pytest.raises(GeometryError, match=message):
        zpmap.denoised(edges)


def test_edges_are_found_by_default(zpmap):
    """Steps are found in the map itself; their uncertain positions are quoted."""
    denoised = zpmap.denoised()
    for found, edges in zip(denoised.grid.edges, EDGES, strict=True):
        np.testing.assert_allclose(found, edges, atol=60)
    x, y = positions()
    residual = denoised.at(x, y) - true_field(x, y)
    far = np.abs(x[:, None] - EDGES[0]).min(axis=1) > 100
    far &= np.abs(y - EDGES[1][0]) > 100
    assert residual[far].std() < 0.002
    error = denoised.error_at([1499, 700], 700, error_kind="median")
    assert error[0] > 3 * error[1]
    with pytest.raises(OptionError, match="edges must be 'auto', a pair"):
        zpmap.denoised("all")
    assert zpmap.denoised("auto") == denoised


def test_edges_of_the_grid_are_not_looked_for(zpmap):
    """A grid with edges has those, and "auto" adds none."""
    grid = MapGrid.for_image((30, 30), (4000, 4000), ([1499.0], []))
    assert zpmap.replace(grid=grid).denoised().grid.edges == ((1499.0,), ())


def test_edges_of_offsets_are_those_of_both_components():
    """An edge that one component has is one of the map."""
    values, error, count, grid = make_arrays(1)
    rng = np.random.default_rng(0)
    flat = np.where(count > 0, 0.005 * rng.normal(size=values.shape), np.nan)
    offsets = OffsetMap(flat, values - 30, error, count, grid=grid).denoised()
    for found, edges in zip(offsets.grid.edges, EDGES, strict=True):
        np.testing.assert_allclose(found, edges, atol=60)


def test_empty_and_tiny_maps():
    """A map needs three cells with stars, and an error that is known or derived."""
    grid = MapGrid((4, 4), 100)
    empty = ZeroPointMap(np.full((4, 4), np.nan), grid=grid)
    with pytest.raises(MapFormatError, match="no cell with stars"):
        empty.denoised(None)
    values = np.full((4, 4), np.nan)
    values[0, :2] = 30.0, 30.1
    two = ZeroPointMap(values, grid=grid)
    with pytest.raises(MapFormatError, match="at least 3 cells with stars.*found 2"):
        two.denoised(None)
    values[1, 1] = 30.05
    three = ZeroPointMap(values, grid=grid)
    with pytest.raises(MapFormatError, match="found neither"):
        three.denoised(None)
    ones = np.where(np.isnan(values), 0, 1)
    known = ZeroPointMap(values, 0.04 * ones, 3 * ones, grid=grid).denoised(None)
    assert 30 < known.at(100, 100) < 30.1
    rng = np.random.default_rng(2)
    full = ZeroPointMap(30 + 0.01 * rng.normal(size=(4, 4)), grid=grid)
    assert np.std(full.denoised(None).values) < 0.01


def test_misalignment_has_no_surface():
    """The separations of a misalignment map have no direction: it is not denoised."""
    assert not hasattr(MisalignmentMap, "denoised")


def test_calibrated_images_have_the_surface(zpmap):
    """A denoised map is applied as any other, and its steps are in the pixels."""
    from astropy.nddata import CCDData

    from ks4_ccd import apply_zeropoint

    denoised = zpmap.denoised(EDGES)
    ccd = CCDData(np.ones((4000, 4000), "f4"), unit="adu")
    result = apply_zeropoint(ccd, denoised, zp_error="ignore")
    x, y = np.array([1490, 1510, 2590]), np.array([1000, 2000, 3000])
    zeropoint = 30 - 2.5 * np.log10(result.data[y, x])
    np.testing.assert_allclose(zeropoint, denoised.at(x, y), atol=1e-4)
    assert "denoised(edges=2+1)" in result.header["KS4ZPMAP"]


def test_simulated_fields_with_the_release_recipe():
    """Maps of simulated fields, with known amplifiers, are close to the truth."""
    squares = []
    for seed in (1, 2):
        field = simulate_field((2200, 2200), map_shape=(44, 44), seed=seed)
        raw = field.maps["APER5"]
        denoised = raw.denoised(field.edges["amplifier"])
        x, y = np.meshgrid(np.arange(30, 2200, 33), np.arange(30, 2200, 33))
        ok = raw.valid[raw.grid.cell_of(x, y)]
        truth = field.zeropoint(x, y)
        residuals = [(m.at(x, y) - truth)[ok] for m in (raw, denoised)]
        squares.append([np.var(r) for r in residuals])
        error = denoised.error_at(x, y, error_kind="median")[ok]
        pull = (residuals[1] - np.median(residuals[1])) / error
        assert 0.75 < np.sqrt(np.mean(pull**2)) < 1.3
    before, after = np.sqrt(np.mean(squares, axis=0))
    assert after < 0.55 * before


@pytest.mark.parametrize(
    ("smooth", "denoise", "as_published", "message"),
    [
        (0.8, "none", False, "found both"),
        (None, "none", True, 'method="dr1"'),
        (None, "all", False, "denoise must be 'auto', 'none' or a pair"),
        ("x", None, False, "smooth must be"),
    ],
)
def test_wrong_noise_reduction(smooth, denoise, as_published, message):
    """Options that contradict each other are refused before anything is read."""
    with pytest.raises(OptionError, match=message):
        NoiseReduction(smooth, denoise, as_published)


def test_noise_reduction_of_a_map(zpmap):
    """One of the two treatments is applied, or none."""
    assert NoiseReduction().of(zpmap) is zpmap
    assert NoiseReduction(smooth=1).of(zpmap) == zpmap.smoothed(1)
    assert NoiseReduction(denoise="auto").of(zpmap) == zpmap.denoised()
    assert NoiseReduction(denoise="none").of(zpmap) == zpmap.denoised(None)
    assert NoiseReduction(denoise=EDGES).of(zpmap) == zpmap.denoised(EDGES)
    assert NoiseReduction(denoise=EDGES).denoise == tuple(map(tuple, EDGES))
