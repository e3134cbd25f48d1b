# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of cell statistics against a loop over cells."""

import numpy as np
import pytest
from astropy.stats import sigma_clip
from numpy.testing import assert_allclose, assert_array_equal

from ks4_ccd.exceptions import GeometryError, OptionError
from ks4_ccd.mapmaking.cells import (
    cell_members,
    cell_statistics,
    clipped_statistics,
)
from ks4_ccd.maps.grid import MapGrid

GRID = MapGrid((7, 5), (40, 60))


def one_cell_after_the_other(x, y, values, grid, padding, sigma):
    """Return the statistics of DR1's loop: X_IMAGE edges, astropy's clipping."""
    median = np.full(grid.shape, np.nan)
    scatter = np.full(grid.shape, np.nan)
    count = np.zeros(grid.shape, dtype=int)
    x_image, y_image = x + 1, y + 1
    width, height = grid.cell_size
    for i, j in np.ndindex(*grid.shape):
        inside = (x_image >= i * width - padding) & (
            x_image < (i + 1) * width + padding
        )
        inside &= (y_image >= j * height - padding) & (
            y_image < (j + 1) * height + padding
        )
        sample = values[inside & np.isfinite(values)]
        if sigma is not None:
            clipped = sigma_clip(sample, sigma=sigma, maxiters=None, masked=True)
            sample = clipped.compressed()
        if len(sample):
            count[i, j] = len(sample)
            median[i, j] = np.median(sample)
            scatter[i, j] = np.std(sample)
    return median, scatter, count


def star_table(seed, n_stars=2000, *, decimals=None):
    """Return positions, some outside of the grid, and values with long tails."""
    rng = np.random.default_rng(seed)
    rows, columns = GRID.image_shape
    x = rng.uniform(-30, columns + 30, n_stars)
    y = rng.uniform(-30, rows + 30, n_stars)
    values = 30 + 0.03 * rng.standard_t(2, n_stars)
    return x, y, values if decimals is None else np.round(values, decimals)


def assert_same_statistics(found, expected):
    """Assert that counts are equal, and medians and deviations to 1e-12."""
    assert_array_equal(found.count, expected[2])
    assert_allclose(found.median, expected[0], rtol=0, atol=1e-12)
    assert_allclose(found.scatter, expected[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("sigma", [2.0, 3.0, 1.5, None])
@pytest.mark.parametrize("padding", [0, 80, 17.5])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_loop(seed, padding, sigma):
    """Statistics agree with astropy's clipping cell by cell."""
    x, y, values = star_table(seed)
    found = cell_statistics(x, y, values, GRID, padding=padding, sigma=sigma)
    expected = one_cell_after_the_other(x, y, values, GRID, padding, sigma)
    assert_same_statistics(found, expected)


@pytest.mark.parametrize("n_stars", [0, 1, 10, 40, 120])
def test_sparse_cells(n_stars):
    """Statistics are correct in cells with no star, one, two or three."""
    x, y, values = star_table(5, n_stars)
    found = cell_statistics(x, y, values, GRID)
    assert_same_statistics(found, one_cell_after_the_other(x, y, values, GRID, 0, 2.0))


@pytest.mark.parametrize("decimals", [1, 2])
def test_ties(decimals):
    """Equal values are either all clipped or all kept."""
    x, y, values = star_table(6, decimals=decimals)
    found = cell_statistics(x, y, values, GRID)
    assert_same_statistics(found, one_cell_after_the_other(x, y, values, GRID, 0, 2.0))


def test_empty_cell_has_no_median():
    """A cell without stars has a count of 0, and median and scatter are NaN."""
    found = cell_statistics([5.0], [5.0], [30.0], GRID)
    assert found.count.sum() == 1
    assert np.isnan(found.median[1:]).all()
    assert np.isnan(found.scatter[1:]).all()


def test_one_star_has_no_scatter():
    """The scatter of a single star is 0."""
    found = cell_statistics([5.0], [5.0], [30.1], GRID)
    assert (found.median[0, 0], found.scatter[0, 0]) == (30.1, 0)


def test_values_that_are_not_finite_are_ignored():
    """NaN and infinite values are ignored."""
    values = [30.0, np.nan, np.inf, 30.2]
    found = clipped_statistics([0, 0, 0, 0], values, 1)
    assert found.count[0] == 2
    assert found.median[0] == pytest.approx(30.1, abs=1e-12)


def test_lower_edge_belongs_to_the_cell():
    """A cell spans k * size <= X_IMAGE < (k + 1) * size."""
    x_image = np.array([39.999, 40.0, 79.999, 80.0])
    star, cell = cell_members(x_image - 1, np.full(4, 10.0), GRID)
    assert_array_equal(star, range(4))
    assert_array_equal(cell // GRID.shape[1], [0, 1, 1, 2])


def test_window_of_a_cell():
    """A window extends beyond a cell by the padding."""
    grid = MapGrid((10, 1), 200)
    star, cell = cell_members([1000.0], [50.0], grid, padding=400)
    assert_array_equal(cell, [3, 4, 5, 6, 7])
    assert_array_equal(star, [0] * 5)


def test_origin_of_the_grid():
    """Cells start at the origin of the grid."""
    grid = MapGrid((3, 3), 10, origin=(99, 199))
    _, cell = cell_members([99.0, 98.9, 125.0], [199.0, 199.0, 215.0], grid)
    assert_array_equal(cell, [0, 7])


def test_stars_outside_of_the_grid_are_dropped():
    """A star beyond the last edge is in no cell, as in the loop of DR1."""
    width = GRID.image_shape[1]
    star, _ = cell_members([width - 1.0, 10.0], [10.0, -1.5], GRID)
    assert star.size == 0


def test_stars_outside_of_the_grid_are_clipped():
    """With "clip", outside stars are members of the cell returned by `cell_of`."""
    x, y = np.array([-9.0, 279.0, 1e9]), np.array([-0.5, -4.0, 1e9])
    star, cell = cell_members(x, y, GRID, outside="clip")
    i, j = GRID.cell_of(x, y)
    assert_array_equal(star, [0, 1, 2])
    assert_array_equal(cell, i * GRID.shape[1] + j)


def test_stars_without_a_position():
    """A position that is not finite is in no cell."""
    star, _ = cell_members([np.nan, 5.0, np.inf], [5.0, 5.0, 5.0], GRID, padding=99)
    assert_array_equal(np.unique(star), [1])


def test_input_is_not_modified():
    """Positions and values are not modified."""
    x, y, values = star_table(1)
    values[3] = np.nan
    copies = x.copy(), y.copy(), values.copy()
    cell_statistics(x, y, values, GRID, padding=10, outside="clip")
    for now, before in zip((x, y, values), copies, strict=True):
        assert_array_equal(now, before)


@pytest.mark.parametrize(
    ("keywords", "error", "culprit"),
    [
        ({"outside": "wrap"}, OptionError, "outside must be one of drop, clip"),
        ({"padding": -1}, GeometryError, "padding must not be negative"),
        ({"sigma": 0.5}, OptionError, "sigma must be 1 or more"),
    ],
)
def test_bad_options(keywords, error, culprit):
    """Options without an allowed value are refused."""
    with pytest.raises(error, match=culprit):
        cell_statistics([5.0], [5.0], [30.0], GRID, **keywords)


def test_lengths_must_agree():
    """The numbers of positions and values must be equal."""
    with pytest.raises(
        GeometryError, match=r"values must have the shape of x, \(1,\), got \(2,\)"
    ):
        cell_statistics([5.0], [5.0], [30.0, 30.1], GRID)


def test_cells_must_exist():
    """Cell numbers outside of the map are refused."""
    with pytest.raises(GeometryError, match="cell must lie between 0 and 3"):
        clipped_statistics([4], [30.0], 4)
