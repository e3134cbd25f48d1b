# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of grids: cells, edges and stencils."""

import numpy as np
import pytest
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import zoom

from ks4_ccd import (
    GeometryError,
    KS4Error,
    MapGrid,
    apply_zeropoint,
    calibrate_catalog,
)
from ks4_ccd.maps import base
from ks4_ccd.maps import grid as grid_module
from ks4_ccd.maps.grid import Stencil, corners
from ks4_ccd.photometry import _record, options


def test_cells_are_those_of_dr1():
    """Cell k spans k * size <= X_IMAGE < (k + 1) * size, as in numpy.digitize."""
    grid = MapGrid((55, 55), 400)
    x = np.arange(22000)
    i, _ = grid.cell_of(x, 0)
    edges = np.arange(1, 55) * 400
    np.testing.assert_array_equal(i, np.digitize(x + 1, edges))


def test_the_last_pixel_is_in_the_last_cell():
    """X_IMAGE = 22000, the upper edge of the last cell, is assigned to this cell."""
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
    """The extent equals the first and last cell edges along x and y."""
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
    """The grid contains all pixels of its image and no others."""
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
    method=st.sampled_from(["bilinear", "nearest", "stretched"]),
)
def test_weights_are_within_the_grid(n, size, x, method):
    """At any position, cells exist and weights add up to 1."""
    grid, x = MapGrid((n, 1), size), np.array([x])
    found = (
        grid.stretched(0, x) if method == "stretched" else grid.stencil(0, x, method)
    )
    assert found.index.shape == found.weight.shape == (1 + (method != "nearest"), 1)
    assert ((found.index >= 0) & (found.index < n)).all()
    assert (np.diff(found.index, axis=0) >= 0).all()
    assert ((found.weight >= 0) & (found.weight <= 1)).all()
    assert found.weight.sum() == pytest.approx(1, abs=1e-15)


def test_a_stretched_map_is_that_of_zoom():
    """Stretched maps agree with scipy.ndimage.zoom."""
    nodes = np.random.default_rng(0).normal(size=6)
    stencil = MapGrid((6, 1), 20).stretched(0, np.arange(120))
    np.testing.assert_allclose(
        stencil.along(nodes), zoom(nodes, 20, order=1), rtol=1e-13, atol=1e-13
    )


def test_corners_are_all_pairs_of_nodes():
    """The weights of corners are products, and add up to 1."""
    grid, (x, y) = MapGrid((6, 5), 20), np.random.default_rng(0).uniform(0, 99, (2, 50))
    nodes = np.random.default_rng(1).normal(size=grid.shape)
    around = corners(grid.stencil(0, x), grid.stencil(1, y, "nearest"))
    assert len(around) == 2
    found = sum(nodes[cell] * weight for cell, weight in around)
    rows = nodes[:, grid.cell_of(x, y)[1]]
    expected = [
        grid.stencil(0, x[k : k + 1]).along(rows[:, k]).item() for k in range(50)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


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
def test_wrong_grids(arguments, words):
    """Shapes, sizes and origins that are not valid numbers are refused."""
    with pytest.raises(GeometryError, match=words):
        MapGrid(*arguments)


def test_cells_smaller_than_a_pixel_are_refused():
    """Cells smaller than a pixel are refused."""
    with pytest.raises(GeometryError, match="does not fit an image of 50 x 50"):
        MapGrid.for_image((55, 55), (50, 50))


def test_rows_are_compared_with_cells_along_y():
    """The map shape is (x, y), and that of the image (rows, columns)."""
    assert MapGrid.for_image((10, 4), (5, 20)).cell_size == (2, 1.25)
    assert MapGrid.for_image((4, 10), (20, 5)).cell_size == (1.25, 2)
    for shape, image_shape in (((4, 10), (5, 20)), ((10, 4), (20, 5))):
        with pytest.raises(GeometryError, match="does not fit an image"):
            MapGrid.for_image(shape, image_shape)


def test_cell_of_refuses_nan():
    """The cell of a position that is not finite is not defined."""
    with pytest.raises(GeometryError, match="y must be finite"):
        MapGrid((5, 5), 10).cell_of(1, np.nan)


def test_unknown_method():
    """The message for a wrong method lists the allowed ones."""
    with pytest.raises(KS4Error, match="bilinear, nearest, got 'cubic'"):
        MapGrid((5, 5), 10).stencil(0, np.array([1.0]), "cubic")


@pytest.mark.parametrize(
    "value", [True, (True, True), np.True_, np.array([True, True])]
)
def test_bools_are_not_numbers(value):
    """Boolean values are not accepted as numbers."""
    with pytest.raises(GeometryError, match="shape must be numbers"):
        MapGrid(value, 50)
    with pytest.raises(GeometryError, match="cell_size must be numbers"):
        MapGrid((2, 2), value)
    with pytest.raises(GeometryError, match="image_shape must be numbers"):
        MapGrid.for_image((1, 1), value)


def _cubic(grid, axis, position):
    """Return the stencil of Catmull-Rom splines through the centres."""
    n = grid.shape[axis]
    node = (position - grid.origin[axis]) / grid.cell_size[axis] - 0.5
    node = np.clip(node, 0, n - 1)
    lower = np.minimum(node.astype(int), n - 2)
    f = node - lower
    index = np.clip(lower + np.arange(-1, 3)[:, np.newaxis], 0, n - 1)
    weight = [
        (-(f**3) + 2 * f**2 - f) / 2,
        (3 * f**3 - 5 * f**2 + 2) / 2,
        (-3 * f**3 + 4 * f**2 + f) / 2,
        (f**3 - f**2) / 2,
    ]
    return Stencil(index, np.array(weight))


def _cosine(grid, axis, position):
    """Return a stencil of two nodes whose weights are not linear."""
    linear = grid_module._bilinear(grid, axis, position)
    upper = (1 - np.cos(np.pi * linear.weight[1])) / 2
    return Stencil(linear.index, np.array([1 - upper, upper]))


@pytest.fixture(params=[_cubic, _cosine])
def own(request, monkeypatch):
    """Additional methods of interpolation, with four or two nodes along an axis."""
    monkeypatch.setitem(grid_module._STENCILS, "own", request.param)
    methods = (*grid_module.METHODS, "own")
    for module in (grid_module, base, _record, options):
        monkeypatch.setattr(module, "METHODS", methods)
    return request.param


@pytest.mark.parametrize("error_kind", ["scatter", "median"])
@pytest.mark.parametrize("smooth", [False, True])
def test_additional_interpolation(make_map, own, error_kind, smooth):
    """Maps, images and catalogs support an additional stencil and its uncertainties."""
    zpmap = make_map((6, 5), 20, empty=0.1)
    zpmap = zpmap.smoothed() if smooth else zpmap
    y, x = np.indices(zpmap.grid.image_shape)
    nodes, weights = zpmap.filled().values, []
    for axis, position in enumerate((x[0], y[:, 0])):
        found = own(zpmap.grid, axis, position)
        matrix = np.zeros((zpmap.grid.shape[axis], position.size))
        np.add.at(matrix, (found.index, np.arange(position.size)), found.weight)
        weights.append(matrix)
    expected = weights[1].T @ nodes.T @ weights[0]
    value = zpmap.at(x, y, "own")
    np.testing.assert_allclose(value, expected, rtol=1e-13)

    ccd = CCDData(np.full(x.shape, 7.0), unit="adu")
    ccd.uncertainty = StdDevUncertainty(np.zeros(x.shape))
    result = apply_zeropoint(ccd, zpmap, method="own", error_kind=error_kind)
    np.testing.assert_allclose(result.data, 7 * 10 ** (0.4 * (30 - value)), rtol=1e-12)
    error = zpmap.error_at(x, y, method="own", error_kind=error_kind)
    relative = result.uncertainty.array / result.data
    np.testing.assert_allclose(relative, 0.4 * np.log(10) * error, rtol=1e-12)

    columns = {"X_IMAGE": x.ravel() + 1, "Y_IMAGE": y.ravel() + 1}
    columns |= {"MAG_AUTO": np.full(x.size, -9.0), "MAGERR_AUTO": np.full(x.size, 0.1)}
    table = calibrate_catalog(
        Table(columns), {"AUTO": zpmap}, method="own", error_kind=error_kind
    )
    good = ~np.ma.getmaskarray(table["ZP_AUTO"])
    for name, found in (("ZP_AUTO", value), ("ZPERR_AUTO", error)):
        column = np.ma.getdata(table[name])[good]
        np.testing.assert_allclose(column, found.ravel()[good], rtol=1e-12)


def test_the_variance_of_independent_cells_adds_up(make_map, own):
    """Uncertainties equal the sum of squared weights times variances."""
    zpmap = make_map((6, 5), 20, empty=0)
    x, y = np.random.default_rng(0).uniform(0, 100, (2, 300))
    variance = zpmap.cell_error("median") ** 2
    along_x, along_y = own(zpmap.grid, 0, x), own(zpmap.grid, 1, y)
    weights = []
    for axis, found in enumerate((along_x, along_y)):
        matrix = np.zeros((zpmap.grid.shape[axis], x.size))
        np.add.at(matrix, (found.index, np.arange(x.size)), found.weight)
        weights.append(matrix**2)
    expected = np.einsum("ik,jk,ij->k", *weights, variance)
    error = zpmap.error_at(x, y, method="own", error_kind="median")
    np.testing.assert_allclose(error, np.sqrt(expected), rtol=1e-12)
