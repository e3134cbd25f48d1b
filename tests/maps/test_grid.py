# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Cells, their edges, and the weights of interpolation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ks4_ccd import GeometryError, KS4Error, MapGrid


def test_cell_of_follows_the_release():
    """Cell k spans k * size <= X_IMAGE < (k + 1) * size, as digitize has it."""
    grid = MapGrid((55, 55), 400)
    x = np.arange(22000)
    i, _ = grid.cell_of(x, 0)
    edges = np.arange(1, 55) * 400
    np.testing.assert_array_equal(i, np.digitize(x + 1, edges))


def test_the_last_pixel_is_in_the_last_cell():
    """X_IMAGE = 22000 is the upper edge of the last cell, and clipped into it."""
    grid = MapGrid.for_image((55, 55), (22000, 22000))
    assert grid.cell_of(21999, 21999) == (54, 54)
    assert grid.cell_of(-50, 1e6) == (0, 54)


def test_centers_are_those_of_the_cells():
    """A centre is at (k + 1/2) * size - 1 in 0-based pixels."""
    x, y = MapGrid((3, 2), (400, 200)).centers()
    assert x.tolist() == [199, 599, 999]
    assert y.tolist() == [99, 299]


def test_a_non_square_image_has_non_square_cells():
    """image_shape is (rows, columns), shape (cells along x, cells along y)."""
    grid = MapGrid.for_image((10, 4), (200, 300))
    assert grid.cell_size == (30, 50)
    assert grid.image_shape == (200, 300)


def test_an_origin_shifts_the_cells():
    """The origin is the 0-based position of the lower edges of cell (0, 0)."""
    assert MapGrid((2, 2), 10).origin == (-1, -1)
    grid = MapGrid((2, 2), 10, origin=(99, 49))
    assert grid.cell_of(98, 49) == (0, 0)
    assert grid.cell_of(109, 59) == (1, 1)
    assert grid.centers()[0].tolist() == [104, 114]


def test_the_extent_is_that_of_the_cells():
    """Lower and upper edges along x and y, the first and last of `cell_edges`."""
    grid = MapGrid((3, 2), (400, 200), origin=(99, 49))
    assert grid.extent == ((99, 1299), (49, 449))
    for edges, limits in zip(grid.cell_edges(), grid.extent, strict=True):
        assert (edges[0], edges[-1]) == limits
    x, y = grid.cell_edges()
    centers = [(edges[1:] + edges[:-1]) / 2 for edges in (x, y)]
    for own, expected in zip(grid.centers(), centers, strict=True):
        np.testing.assert_array_equal(own, expected)
    i, j = grid.cell_of(x[:-1, None], y[:-1])
    np.testing.assert_array_equal((i * 2 + j).ravel(), np.arange(6))


def test_contained_positions():
    """All pixels of the image are on its grid, no others, and NaN is not."""
    grid = MapGrid.for_image((6, 5), (100, 120))
    x, y = np.arange(-3.0, 124), np.arange(-3.0, 104)
    inside = grid.contains(x[:, None], y)
    expected = ((x >= -1) & (x <= 119))[:, None] & ((y >= -1) & (y <= 99))
    np.testing.assert_array_equal(inside, expected)
    assert grid.contains(np.nan, 5) is False
    assert grid.contains(5, 5) is True
    with pytest.raises(GeometryError, match="y must be numbers"):
        grid.contains(1, "a")


@given(
    n=st.integers(1, 60),
    size=st.floats(1, 500),
    x=st.floats(-100, 40000),
    method=st.sampled_from(["bilinear", "nearest", "dr1"]),
)
def test_weights_are_within_the_grid(n, size, x, method):
    """Whatever the position, both cells exist and the fraction is 0 to 1."""
    lower, upper, fraction = MapGrid((n, 1), size).stencil(0, np.array([x]), method)
    assert 0 <= lower[0] <= upper[0] < n
    assert 0 <= fraction[0] <= 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((0, 5), 10), "shape must be positive"),
        (((5, 5), -1), "cell_size must be positive"),
        (((5, 5), np.nan), "finite"),
        (((5.5, 5), 10), "shape must be finite int"),
        (((5, 5, 5), 10), "pair"),
        (("a", 10), "pair"),
        (((5, 5), 10, (np.inf, 0)), "origin must be finite"),
    ],
)
def test_nonsense_is_refused(arguments, words):
    """A grid needs positive, finite numbers."""
    with pytest.raises(GeometryError, match=words):
        MapGrid(*arguments)


def test_cells_smaller_than_a_pixel_are_refused():
    """A map of 55 cells does not fit an image of 50 pixels."""
    with pytest.raises(GeometryError, match="does not fit an image of 50 x 50"):
        MapGrid.for_image((55, 55), (50, 50))


def test_rows_are_compared_with_cells_along_y():
    """A map of 10 x 4 cells fits an image of 5 rows and 20 columns, 4 x 10 does not."""
    assert MapGrid.for_image((10, 4), (5, 20)).cell_size == (2, 1.25)
    assert MapGrid.for_image((4, 10), (20, 5)).cell_size == (1.25, 2)
    for shape, image_shape in (((4, 10), (5, 20)), ((10, 4), (20, 5))):
        with pytest.raises(GeometryError, match="does not fit an image"):
            MapGrid.for_image(shape, image_shape)


def test_cell_of_refuses_nan():
    """A position that is not finite is in no cell."""
    with pytest.raises(GeometryError, match="y must be finite"):
        MapGrid((5, 5), 10).cell_of(1, np.nan)


def test_an_unknown_method_is_named():
    """The message lists the methods there are."""
    with pytest.raises(KS4Error, match="bilinear, nearest, dr1, got 'cubic'"):
        MapGrid((5, 5), 10).stencil(0, np.array([1.0]), "cubic")


@pytest.mark.parametrize(
    "value", [True, (True, True), np.True_, np.array([True, True])]
)
def test_bools_are_not_numbers(value):
    """A shape of (True, True) is not one by one."""
    with pytest.raises(GeometryError, match="shape must be numbers"):
        MapGrid(value, 50)
    with pytest.raises(GeometryError, match="cell_size must be numbers"):
        MapGrid((2, 2), value)
    with pytest.raises(GeometryError, match="image_shape must be numbers"):
        MapGrid.for_image((1, 1), value)
