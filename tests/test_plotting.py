# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures: plotted data, orientation and labels."""

import builtins

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ks4_ccd.exceptions import KS4Error
from ks4_ccd.maps.grid import MapGrid
from ks4_ccd.maps.key import MapKey
from ks4_ccd.maps.misalignment import MisalignmentMap
from ks4_ccd.maps.offset import OffsetMap
from ks4_ccd.maps.zeropoint import ZeroPointMap
from ks4_ccd.plotting import plot_calibration, plot_map, plot_offsets

pytest.importorskip("matplotlib")

# Four cells along x, three along y.
GRID = MapGrid((4, 3), (100, 50))
VALUES = 30 + 0.01 * np.arange(12.0).reshape(4, 3)
COUNT = np.full((4, 3), 5)
COUNT[3, 0] = 0


@pytest.fixture
def zpmap():
    """Return a map with a different value in every cell, one of them empty."""
    key = MapKey("zp", "0403", "R", "single", "APER5")
    return ZeroPointMap(VALUES, np.full((4, 3), 0.02), COUNT, grid=GRID, key=key)


@pytest.fixture
def residuals():
    """Return three residual maps of an image, each half of the one before."""
    before = np.random.default_rng(0).normal(0, 0.03, (15, 40))
    before[3, 4] = np.nan
    return {"no map": before, "published": before / 2, "best": before / 4}


@pytest.fixture
def offsets():
    """Return offsets that differ in every cell, one of them empty."""
    dra, ddec = 0.01 * np.arange(1.0, 25.0).reshape(2, 4, 3)
    key = MapKey("dra", "0403", "R")
    return OffsetMap(dra, ddec, dra / 9, COUNT, grid=GRID, key=key)


def arrows_of(ax):
    """Return the arrows in axes."""
    from matplotlib.quiver import Quiver

    (arrows,) = [c for c in ax.collections if isinstance(c, Quiver)]
    return arrows


def collections(ax):
    """Return the hatched cells of a map's axes."""
    return [c for c in ax.collections if c.get_hatch()]


def test_map_has_the_orientation_of_the_image(zpmap):
    """In a plot, x increases to the right and y upwards; rows are cells along y."""
    (image,) = plot_map(zpmap).images
    assert image.origin == "lower"
    assert_array_equal(image.get_array().data, VALUES.T)


def test_map_is_in_pixel_coordinates(zpmap):
    """The centre of a cell in the plot is that of the grid."""
    (image,) = plot_map(zpmap).images
    left, right, bottom, top = image.get_extent()
    x, y = GRID.centers()
    assert_allclose(left + (np.arange(4) + 0.5) * (right - left) / 4, x)
    assert_allclose(bottom + (np.arange(3) + 0.5) * (top - bottom) / 3, y)


def test_empty_cells_are_hatched(zpmap):
    """A cell without stars is transparent and hatched."""
    ax = plot_map(zpmap)
    assert_array_equal(ax.images[0].get_array().mask, (COUNT == 0).T)
    (hatched,) = collections(ax)
    (path,) = hatched.get_paths()
    assert_allclose(path.get_extents().extents, [299, -1, 399, 49])


def test_map_without_empty_cells():
    """If every cell has stars, nothing is hatched."""
    zpmap = ZeroPointMap(VALUES, count=np.ones((4, 3)), grid=GRID)
    assert not collections(plot_map(zpmap))


def test_labels_have_units(zpmap):
    """Axes, colour bar and title have labels."""
    ax = plot_map(zpmap)
    bar = ax.images[0].colorbar
    assert ax.get_xlabel() == "x [pixel]"
    assert ax.get_ylabel() == "y [pixel]"
    assert bar.ax.get_ylabel() == "zero point [mag]"
    assert ax.get_title() == str(zpmap.key)


@pytest.mark.parametrize(
    ("part", "label"),
    [("error", "scatter of zero points [mag]"), ("count", "stars in a cell")],
)
def test_parts(zpmap, part, label):
    """Errors and numbers of stars are plotted like values."""
    (image,) = plot_map(zpmap, part=part).images
    assert_array_equal(image.get_array().data, getattr(zpmap, part).T)
    assert image.colorbar.ax.get_ylabel() == label


def test_misalignment_map():
    """A misalignment is plotted in arcsec."""
    key = MapKey("align", "0403", "R")
    map_ = MisalignmentMap(VALUES - 29, grid=GRID, key=key)
    (image,) = plot_map(map_).images
    assert image.colorbar.ax.get_ylabel() == "median separation [arcsec]"


def test_offsets_are_drawn_over_their_length(offsets):
    """Colours are the lengths in mas, in the orientation of the image."""
    ax = plot_offsets(offsets)
    (image,) = ax.images
    length = 1000 * np.hypot(offsets.dra, offsets.ddec)
    assert_allclose(image.get_array().data, length.T)
    assert image.colorbar.ax.get_ylabel() == "length of the offset [mas]"
    assert ax.get_title() == "offset of field 0403 R single"


def test_arrows_point_along_the_offset(offsets):
    """East is left: +RA is -x and +Dec is +y, from the centre of each cell."""
    arrows = arrows_of(plot_offsets(offsets))
    valid = COUNT > 0
    x, y = np.meshgrid(*GRID.centers(), indexing="ij")
    assert_allclose(arrows.get_offsets(), np.column_stack([x[valid], y[valid]]))
    assert_allclose(arrows.U, -offsets.dra[valid])
    assert_allclose(arrows.V, offsets.ddec[valid])
    assert arrows.angles == arrows.scale_units == "xy"


def test_empty_cells_of_offsets_are_hatched(offsets):
    """A cell without stars is transparent and hatched."""
    ax = plot_offsets(offsets)
    assert_array_equal(ax.images[0].get_array().mask, (COUNT == 0).T)
    (hatched,) = collections(ax)
    assert len(hatched.get_paths()) == 1


def test_many_cells_share_an_arrow():
    """In a fine map, an arrow is the mean of the cells with stars in a block."""
    shape = (60, 31)
    dra, ddec = np.random.default_rng(0).normal(0, 0.1, (2, *shape))
    count = np.ones(shape)
    count[0, 1] = count[3:6, 3:6] = 0
    grid = MapGrid(shape, 10)
    arrows = arrows_of(plot_offsets(OffsetMap(dra, ddec, count=count, grid=grid)))
    assert arrows.N == 20 * 11 - 1
    first = count[:3, :3] > 0
    assert arrows.U[0] == pytest.approx(-dra[:3, :3][first].mean(), rel=1e-12)


@pytest.mark.parametrize(
    ("size", "key"),
    [(0.13, "100 mas"), (0.3, "200 mas"), (0.006, "5 mas"), (2.1, "2 arcsec")],
)
def test_arrows_have_a_key(size, key):
    """The key has a round length in a suitable unit and states the sky orientation."""
    flat = np.full((4, 3), size)
    ax = plot_offsets(OffsetMap(flat, 0 * flat, grid=GRID))
    (drawn,) = [artist for artist in ax.artists if hasattr(artist, "labelpos")]
    assert drawn.text.get_text() == f"{key} to add (north up, east left)"
    unit = 1000 if key.endswith("mas") else 1
    assert drawn.U * unit == pytest.approx(float(key.split()[0]))


@pytest.mark.parametrize("count", [0, 1])
def test_offsets_without_a_length(count, tmp_path):
    """Offsets that are all 0, or all unknown, are plotted without a warning."""
    flat = np.zeros((4, 3))
    map_ = OffsetMap(flat, flat, count=flat + count, grid=GRID)
    plot_offsets(map_).figure.savefig(tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 1000


def test_offsets_in_given_axes(offsets):
    """Offsets are plotted in given axes, with given limits and title."""
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    options = {"limits": (0, 0.2), "title": "mine", "colorbar": False}
    assert offsets.plot(ax, **options) is ax
    assert (ax.images[0].norm.vmin, ax.images[0].norm.vmax) == (0, 200)
    assert (ax.get_title(), len(ax.figure.axes)) == ("mine", 1)


@pytest.mark.parametrize(
    ("part", "label"),
    [
        ("error", "scatter of offsets along an axis [arcsec]"),
        ("count", "stars in a cell"),
    ],
)
def test_parts_of_offsets(offsets, part, label):
    """`plot` plots the error and the count of offsets like those of any map."""
    (image,) = offsets.plot(part=part).images
    assert_array_equal(image.get_array().data, getattr(offsets, part).T)
    assert image.colorbar.ax.get_ylabel() == label


def test_only_offsets_have_arrows(zpmap):
    """Zero points and misalignments have no direction."""
    for map_ in (zpmap, MisalignmentMap(VALUES, grid=GRID)):
        with pytest.raises(KS4Error, match="expected an OffsetMap to draw"):
            plot_offsets(map_)


def test_map_without_a_key():
    """A map without a field has no title."""
    ax = plot_map(ZeroPointMap(VALUES, grid=GRID))
    assert ax.get_title() == ""


def test_limits_are_robust():
    """One outlying cell does not determine the colour limits."""
    values = np.random.default_rng(1).normal(30, 0.01, (30, 30))
    values[3, 3] = 35
    grid = MapGrid((30, 30), 10)
    (image,) = plot_map(ZeroPointMap(values, grid=grid)).images
    assert image.norm.vmax < 30.1
    assert image.colorbar.extend == "both"


def test_limits_can_be_given(zpmap):
    """Given limits are the colour limits."""
    (image,) = plot_map(zpmap, limits=(29.9, 30.2)).images
    assert (image.norm.vmin, image.norm.vmax) == (29.9, 30.2)
    assert image.colorbar.extend == "neither"


@pytest.mark.parametrize("value", [0.0, 30.0])
def test_flat_map(value):
    """The colour range of a flat map is centred on its value."""
    values = np.full((4, 3), value)
    map_ = ZeroPointMap(values, count=np.ones((4, 3)), grid=GRID)
    (image,) = plot_map(map_).images
    assert image.norm.vmin < value < image.norm.vmax


def test_map_without_stars():
    """A map without stars is hatched everywhere."""
    map_ = ZeroPointMap(VALUES, count=np.zeros((4, 3)), grid=GRID)
    (hatched,) = collections(plot_map(map_))
    assert len(hatched.get_paths()) == 12


def test_given_axes_are_used(zpmap):
    """A map is plotted in given axes, which are returned."""
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert plot_map(zpmap, ax, colorbar=False) is ax
    assert len(ax.figure.axes) == 1


def test_method_of_the_map(zpmap):
    """The method `plot` of a map plots it."""
    assert zpmap.plot(part="count").images[0].get_array().max() == 5


@pytest.mark.parametrize("name", ["zpmap", "offsets"])
def test_maps_are_drawn_in_the_current_axes(name, request):
    """A map is plotted in the current axes of pyplot, or in a new figure."""
    import matplotlib.pyplot as plt

    map_ = request.getfixturevalue(name)
    assert plt.get_fignums() == []
    assert map_.plot().figure.number in plt.get_fignums()
    _, (_, right) = plt.subplots(1, 2)
    assert map_.plot() is right


def test_calibration_figure_is_not_left_open(zpmap, residuals):
    """The figure of a calibration is returned and not registered with pyplot."""
    import matplotlib.pyplot as plt

    plot_calibration(zpmap, np.ones((150, 400)), residuals)
    assert plt.get_fignums() == []


def test_figure_can_be_saved(zpmap, tmp_path):
    """A figure that the function creates needs no display."""
    plot_map(zpmap).figure.savefig(tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 1000


def test_calibration_figure_panels(zpmap, residuals):
    """The figure has the map, the image, histograms and residual maps."""
    figure = plot_calibration(zpmap, np.ones((150, 400)), residuals, title="Field 0403")
    assert figure.get_suptitle() == "Field 0403"
    panels = [ax for ax in figure.axes if ax.get_xlabel()]
    assert [len(ax.images) for ax in panels] == [1, 1, 0, 1, 1, 1]
    for ax in panels:
        assert ax.get_xlabel().endswith("]")


def test_residual_maps_share_their_colours(zpmap, residuals):
    """Before and after are plotted in mmag on one scale, in image orientation."""
    figure = plot_calibration(zpmap, np.ones((150, 400)), residuals)
    images = [ax.images[0] for ax in figure.axes if "RMS" in ax.get_title()]
    assert len({(image.norm.vmin, image.norm.vmax) for image in images}) == 1
    assert_allclose(images[-1].get_array().data, 1000 * residuals["best"])
    assert images[0].norm.vmin == -images[0].norm.vmax


def test_legend_has_the_rms(zpmap, residuals):
    """The legend of the histograms contains the RMS of each in mmag."""
    figure = plot_calibration(zpmap, np.ones((150, 400)), residuals)
    (legend,) = [ax.get_legend() for ax in figure.axes if ax.get_legend()]
    rms = {n: 1000 * np.sqrt(np.nanmean(r**2)) for n, r in residuals.items()}
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == [f"{name}: {value:.1f}" for name, value in rms.items()]


def test_two_residual_maps_are_enough(zpmap, residuals):
    """With one map before and one after, no panel has empty axes."""
    del residuals["published"]
    figure = plot_calibration(zpmap, np.ones((150, 400)), residuals)
    titles = [ax.get_title() for ax in figure.axes if "RMS" in ax.get_title()]
    assert [title.partition(":")[0] for title in titles] == ["no map", "best"]


def test_bad_pixels_of_the_image(zpmap, residuals):
    """Bad and non-finite pixels are transparent."""
    image = np.ones((150, 400))
    image[10, 20] = np.nan
    mask = np.zeros(image.shape, dtype=bool)
    mask[:, 7] = True
    figure = plot_calibration(zpmap, image, residuals, mask=mask)
    (ax,) = [ax for ax in figure.axes if "image" in ax.get_title()]
    expected = mask.copy()
    expected[10, 20] = True
    assert_array_equal(np.ma.getmaskarray(ax.images[0].get_array()), expected)


def test_input_is_untouched(zpmap, residuals):
    """Residuals and image are not modified."""
    image = np.random.default_rng(0).normal(size=(150, 400)).astype(np.float32)
    copies = image.copy(), residuals["no map"].copy()
    plot_calibration(zpmap, image, residuals)
    assert_array_equal(image, copies[0])
    assert_array_equal(residuals["no map"], copies[1])


def test_one_residual_map_is_refused(zpmap, residuals):
    """A comparison needs two residual maps."""
    with pytest.raises(KS4Error, match="residuals must be two or more maps"):
        plot_calibration(zpmap, np.ones((150, 400)), {"no map": residuals["no map"]})


def test_unknown_part(zpmap):
    """A part that maps do not have is refused."""
    with pytest.raises(KS4Error, match="part must be one of values, error, count"):
        plot_map(zpmap, part="median")


def test_missing_part():
    """The errors of a map without errors cannot be plotted."""
    with pytest.raises(KS4Error, match="has no error to plot"):
        plot_map(ZeroPointMap(VALUES, grid=GRID), part="error")


def test_without_matplotlib(zpmap, monkeypatch):
    """Without matplotlib, the message contains the command that installs it."""
    real_import = builtins.__import__

    def no_matplotlib(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(KS4Error, match=r"pip install 'ks4_ccd\[plot\]'"):
        plot_map(zpmap)
