# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Test the comparison of pixel positions and sky positions of catalogs."""

import warnings

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.nddata import Cutout2D
from astropy.table import Table

from ks4_ccd import (
    GeometryError,
    KS4Warning,
    MapGrid,
    MapMismatchError,
    ZeroPointMap,
    calibrate_catalog,
)

SHAPE = (1000, 1200)
GRID = MapGrid.for_image((12, 10), SHAPE)
CUT = slice(550, 900), slice(700, 1100)
ORIGIN = (700, 550)


@pytest.fixture
def make_zpmap(make_key):
    """Return a factory of maps with a different value in each pixel."""

    def make(field="0403", grid=GRID, keyed=True):
        x, y = np.indices(grid.shape)
        key = make_key(field, aperture="AUTO") if keyed else None
        values = 29.1 + 0.1 * x + 0.003 * y**2
        return ZeroPointMap(values, 0.01 + 0 * values, grid=grid, key=key)

    return make


@pytest.fixture
def zpmap(make_zpmap):
    """Return a map of field 0403."""
    return make_zpmap()


@pytest.fixture
def make_sources(tan_wcs):
    """Return a factory of catalogs of a full stack, with true pixels TRUE_X, TRUE_Y."""

    def make(number=200, *, field="0403", shape=SHAPE, rows=None, columns=None, seed=1):
        rng = np.random.default_rng(seed)
        rows, columns = rows or slice(0, shape[0]), columns or slice(0, shape[1])
        x = rng.uniform(columns.start, columns.stop - 1, number)
        y = rng.uniform(rows.start, rows.stop - 1, number)
        ra, dec = tan_wcs(shape, field=field).wcs_pix2world(x, y, 0)
        table = Table({"X_IMAGE": x + 1, "Y_IMAGE": y + 1, "TRUE_X": x, "TRUE_Y": y})
        table["ALPHA_J2000"], table["DELTA_J2000"] = ra % 360, dec
        table["MAG_AUTO"] = np.full(number, -10.0)
        return table

    return make


@pytest.fixture
def cut(make_sources):
    """Return the catalog of a cut-out, with pixel coordinates relative to it."""
    table = make_sources(rows=CUT[0], columns=CUT[1])
    table["X_IMAGE"] -= ORIGIN[0]
    table["Y_IMAGE"] -= ORIGIN[1]
    return table


def assert_right(calibrated, zpmap):
    """Assert that the zero points are those of the true pixels."""
    expected = zpmap.at(*(np.asarray(calibrated[f"TRUE_{axis}"]) for axis in "XY"))
    np.testing.assert_allclose(calibrated["ZP_AUTO"], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("field", ["0403", "0000", "0345", "0695"])
def test_a_catalog_of_a_whole_stack(make_sources, make_zpmap, field):
    """Positions agree at RA 0 and near the pole, in spite of a few outliers."""
    sources, zpmap = make_sources(field=field), make_zpmap(field)
    sources["ALPHA_J2000"][:5] = np.nan
    sources["DELTA_J2000"][5:10] = 0
    sources["ALPHA_J2000"][10:15] += 0.01
    assert_right(calibrate_catalog(sources, zpmap), zpmap)
    assert_right(calibrate_catalog(sources, zpmap, origin=(0, 0)), zpmap)


def test_positions_may_differ_by_pixels(make_sources, zpmap):
    """Two pixels of all sources, or any distance of a few, are accepted."""
    sources = make_sources()
    for name in ("X_IMAGE", "TRUE_X"):
        sources[name] += 2
    assert_right(calibrate_catalog(sources, zpmap), zpmap)


@pytest.mark.parametrize("number", [3, 200, 5000])
def test_the_sky_places_the_catalog_of_a_cutout(make_sources, zpmap, number):
    """A common shift is corrected, with a warning that names the origin."""
    sources = make_sources(number, rows=CUT[0], columns=CUT[1])
    sources["X_IMAGE"] -= ORIGIN[0]
    sources["Y_IMAGE"] -= ORIGIN[1]
    before = sources.copy()
    with pytest.warns(KS4Warning, match=r"give origin=\(700, 550\)") as caught:
        assert_right(calibrate_catalog(sources, zpmap), zpmap)
    assert caught[0].filename == __file__
    assert (sources["X_IMAGE"] == before["X_IMAGE"]).all()
    assert_right(calibrate_catalog(sources, zpmap, origin=ORIGIN), zpmap)
    sources.meta |= {"LTV1": -700.0, "LTV2": -550.0}
    assert_right(calibrate_catalog(sources, zpmap), zpmap)


def test_an_origin_that_contradicts_the_sky_is_refused(cut, zpmap, tan_wcs):
    """The origin of a cut-out of a cut-out contradicts the sky positions."""
    whole = np.broadcast_to(np.float32(0), SHAPE)
    wcs = tan_wcs(SHAPE, field="0403")
    first = Cutout2D(whole, (700, 600), (800, 1000), wcs=wcs)
    second = Cutout2D(first.data, (700, 525), (350, 400))
    for origin in (second, second.origin_original, (0, 0)):
        with pytest.raises(GeometryError, match=r"origin=.*begins at \(700, 550\)"):
            calibrate_catalog(cut, zpmap, origin=origin)
    second = Cutout2D(first.data, (700, 525), (350, 400), wcs=first.wcs)
    cut.remove_columns(["ALPHA_J2000", "DELTA_J2000"])
    with pytest.raises(GeometryError, match=r"give origin=\(700, 550\)"):
        calibrate_catalog(cut, zpmap, origin=second)


def test_ltv_that_contradicts_the_sky_is_not_used(cut, zpmap):
    """LTV1 and LTV2 that remain after a second cut are not used."""
    cut.meta |= {"LTV1": -100.0, "LTV2": 0.0}
    with pytest.warns(KS4Warning, match=r"give origin=\(700, 550\)"):
        assert_right(calibrate_catalog(cut, zpmap), zpmap)


@pytest.mark.parametrize("given", [{}, {"origin": (0, 0)}, {"LTV1": -9.0, "LTV2": 0.0}])
@pytest.mark.parametrize("change", ["rotated", "mirrored", "binned", "half shifted"])
def test_a_catalog_of_other_pixels_is_refused(make_sources, zpmap, change, given):
    """Catalogs of other pixels are refused for any source of the placement."""
    sources = make_sources()
    x, y = (np.asarray(sources[name]) for name in ("X_IMAGE", "Y_IMAGE"))
    sources["X_IMAGE"], sources["Y_IMAGE"] = {
        "rotated": (y, 1201 - x),
        "mirrored": (1201 - x, y),
        "binned": (x / 2 + 0.25, y / 2 + 0.25),
        "half shifted": (x + 100 * (x > 500), y),
    }[change]
    options = {"origin": given["origin"]} if "origin" in given else {}
    sources.meta |= {k: v for k, v in given.items() if k != "origin"}
    with pytest.raises(GeometryError, match="contradict each other"):
        calibrate_catalog(sources, zpmap, **options)


def test_some_sources_of_another_image_result_in_a_warning(make_sources, zpmap):
    """A warning names sources that disagree although the median agrees."""
    sources = make_sources()
    sources["X_IMAGE"][::3] = 1201 - sources["X_IMAGE"][::3]
    with pytest.warns(KS4Warning, match="67 of 200 sources"):
        calibrate_catalog(sources, zpmap)


@pytest.mark.parametrize("number", [3, 10, 200])
def test_a_stack_of_another_size_is_not_a_cutout(make_sources, make_zpmap, number):
    """A cut-out at the centre of the field is ambiguous: the size is requested."""
    sources = make_sources(number, shape=(660, 620))
    zpmap = make_zpmap(grid=MapGrid.for_image((31, 33), (22000, 22000)))
    with pytest.raises(GeometryError, match="--image-size 620 660"):
        calibrate_catalog(sources, zpmap)
    sources.meta |= {"KS4NAX1": 620, "KS4NAX2": 660}
    with pytest.raises(GeometryError, match="KS4NAX1.*--image-size 620 660"):
        calibrate_catalog(sources, zpmap)


def test_a_cutout_may_have_the_centre_of_the_stack(make_sources, zpmap):
    """Its origin is given, or the meta contains the size of the stack."""
    sources = make_sources(rows=slice(100, 900), columns=slice(100, 1100))
    sources["X_IMAGE"] -= 100
    sources["Y_IMAGE"] -= 100
    with pytest.raises(GeometryError, match=r"larger stack origin=\(100, 100\)"):
        calibrate_catalog(sources, zpmap)
    assert_right(calibrate_catalog(sources, zpmap, origin=(100, 100)), zpmap)
    sources.meta |= {"KS4NAX1": 1200, "KS4NAX2": 1000}
    with pytest.warns(KS4Warning, match=r"give origin=\(100, 100\)"):
        assert_right(calibrate_catalog(sources, zpmap), zpmap)


def test_a_larger_stack_than_the_map(make_sources, zpmap):
    """The sources of a larger stack are beyond the map."""
    with pytest.raises(GeometryError, match="--image-size"):
        calibrate_catalog(make_sources(shape=(2000, 2400)), zpmap)


def test_without_sky_positions_the_placement_is_assumed(make_sources, make_zpmap):
    """Without sky positions a catalog of a KS4 field results in a warning."""
    sources, zpmap = make_sources(), make_zpmap()
    sources.remove_columns(["ALPHA_J2000", "DELTA_J2000"])
    with pytest.warns(KS4Warning, match=r"no sky positions.*origin=\(0, 0\)") as caught:
        assert_right(calibrate_catalog(sources, zpmap), zpmap)
    assert caught[0].filename == __file__
    assert_right(calibrate_catalog(sources, zpmap, origin=(0, 0)), zpmap)
    for other in (make_zpmap("5000"), make_zpmap(keyed=False)):
        assert_right(calibrate_catalog(sources, other), zpmap)
    sources.meta |= {"LTV1": -1.0, "LTV2": 0.0}
    with pytest.warns(KS4Warning, match=r"LTV1 and LTV2.*origin=\(1, 0\)"):
        calibrate_catalog(sources, zpmap)


@pytest.mark.parametrize("name", ["X_IMAGE", "ALPHA_J2000"])
def test_any_sources_may_lack_a_position(make_sources, zpmap, name):
    """Sources without positions are ignored, in any order of rows."""
    sources = make_sources(4000)
    sources[name][::4] = np.nan
    calibrated = calibrate_catalog(sources, zpmap)
    known = np.isfinite(sources["X_IMAGE"])
    expected = zpmap.at(sources["TRUE_X"][known], sources["TRUE_Y"][known])
    np.testing.assert_allclose(calibrated["ZP_AUTO"][known], expected, rtol=1e-12)
    sources["Y_IMAGE"] = SHAPE[0] + 1 - sources["Y_IMAGE"]
    with pytest.raises(GeometryError, match="contradict each other"):
        calibrate_catalog(sources, zpmap)


def test_the_field_may_be_given_or_in_the_meta(make_sources, make_zpmap):
    """For a map without a key, sources in another part of the sky are not compared."""
    zpmap = make_zpmap(keyed=False)
    mirrored = make_sources()
    mirrored["X_IMAGE"] = 1201 - mirrored["X_IMAGE"]
    calibrate_catalog(mirrored, zpmap)
    calibrate_catalog(mirrored, zpmap, field="0000")
    with pytest.raises(GeometryError, match="contradict each other"):
        calibrate_catalog(mirrored, zpmap, field="122-72")
    mirrored.meta["FIELD1"] = "0403"
    with pytest.raises(GeometryError, match="contradict each other"):
        calibrate_catalog(mirrored, zpmap)
    with pytest.raises(MapMismatchError, match="not in field 0000"):
        calibrate_catalog(make_sources(), make_zpmap("0000"))


@pytest.mark.parametrize("sky", ["SkyCoord", "galactic", "None"])
def test_tables_of_photutils(make_sources, zpmap, sky):
    """Sky positions are a SkyCoord column, or None if the image has no WCS."""
    sources = make_sources(rows=CUT[0], columns=CUT[1])
    coordinates = SkyCoord(sources["ALPHA_J2000"], sources["DELTA_J2000"], unit="deg")
    table = sources["TRUE_X", "TRUE_Y"]
    table["xcentroid"] = sources["TRUE_X"] - ORIGIN[0]
    table["ycentroid"] = sources["TRUE_Y"] - ORIGIN[1]
    table["kron_flux"] = np.full(len(table), 100.0)
    options = {"columns": "photutils"}
    if sky == "None":
        table["sky_centroid"] = [None] * len(table)
        with pytest.warns(KS4Warning, match="no sky positions"):
            calibrate_catalog(table, zpmap, **options)
        options["origin"] = ORIGIN
    else:
        name = "galactic" if sky == "galactic" else "icrs"
        table["sky_centroid"] = coordinates.transform_to(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KS4Warning)
        assert_right(calibrate_catalog(table, zpmap, **options), zpmap)


def test_a_binned_image_by_its_meta(make_sources, zpmap):
    """LTM1_1 and LTM2_2 of IRAF mark binned images."""
    sources = make_sources()
    sources.meta |= {"LTM1_1": 0.5, "LTM2_2": 0.5}
    with pytest.raises(GeometryError, match="binned"):
        calibrate_catalog(sources, zpmap)
