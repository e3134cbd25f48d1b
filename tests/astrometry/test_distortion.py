# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""LookupDistortion against astropy's C code, and its inverse against itself."""

import copy
import pickle

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.modeling.models import Shift
from astropy.utils.data import get_pkg_data_filename
from astropy.wcs import WCS, DistortionLookupTable
from hypothesis import given, settings
from hypothesis import strategies as st

from ks4_ccd import (
    GeometryError,
    KS4Warning,
    LookupDistortion,
    MapFormatError,
)

STEP, FIRST = (20.0, 30.0), (9.0, 14.0)


def tables(shape=(7, 11), amplitude=0.5, seed=0):
    """Return two tables of displacements."""
    return np.random.default_rng(seed).normal(0, amplitude, (2, *shape))


@pytest.fixture
def distortion():
    """A distortion of a 220 x 210 image."""
    return LookupDistortion(*tables(), step=STEP, first=FIRST)


def as_fits(distortion):
    """Return a FITS WCS with the same tables."""
    wcs = WCS(naxis=2)
    first = [p + 1 for p in distortion.first]
    wcs.cpdis1, wcs.cpdis2 = (
        DistortionLookupTable(t.astype("f4"), (1.0, 1.0), first, distortion.step)
        for t in (distortion.dx, distortion.dy)
    )
    return wcs


def test_it_is_astropys_own_lookup(distortion):
    """The model equals astropy's lookup on the image, at its edges and beyond."""
    x, y = np.random.default_rng(1).uniform(-40, 260, (2, 20000))
    oracle = as_fits(distortion).pix2foc(x, y, 0)
    # The tables of FITS are float32.
    np.testing.assert_allclose(distortion(x, y), oracle, rtol=0, atol=2e-7)
    rounded = LookupDistortion.from_wcs(as_fits(distortion))
    np.testing.assert_allclose(rounded(x, y), oracle, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_it_is_astropys_lookup_of_hubbles_tables():
    """It equals astropy for NPOL and D2IM in astropy's test file, to 1e-8 pixels."""
    name = get_pkg_data_filename("tests/data/dist_lookup.fits.gz", "astropy.wcs")
    with fits.open(name) as hdus:
        wcs = WCS(hdus[1].header, hdus)
        x, y = np.random.default_rng(2).uniform(-50, 4200, (2, 10000))
        npol = LookupDistortion.from_wcs(wcs)
        np.testing.assert_allclose(
            npol(x, y), wcs.p4_pix2foc(x, y, 0), rtol=0, atol=1e-8
        )
        detector = LookupDistortion.from_wcs(wcs, "det2im")
        np.testing.assert_allclose(
            detector(x, y), wcs.det2im(x, y, 0), rtol=0, atol=1e-8
        )


def test_it_is_exact_at_nodes(distortion):
    """At a node the displacement is exact, to the rounding of its coordinate."""
    rows, columns = distortion.dx.shape
    x, y = np.meshgrid(
        FIRST[0] + STEP[0] * np.arange(columns), FIRST[1] + STEP[1] * np.arange(rows)
    )
    new_x, new_y = distortion(x, y)
    np.testing.assert_allclose(new_x - x, distortion.dx, rtol=0, atol=1e-13)
    np.testing.assert_allclose(new_y - y, distortion.dy, rtol=0, atol=1e-13)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    amplitude=st.floats(0, 3),
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
)
def test_the_inverse_is_the_inverse(seed, amplitude, rows, columns):
    """The inverse is exact where the gradient is below 1, on the image and beyond."""
    distortion = LookupDistortion(
        *tables((rows, columns), amplitude, seed), step=STEP, first=FIRST
    )
    if distortion.largest_gradient > 0.9:
        return
    x, y = np.random.default_rng(seed).uniform(-50, 250, (2, 300))
    np.testing.assert_allclose(
        distortion.inverse(*distortion(x, y)), (x, y), rtol=0, atol=1e-9
    )


def test_the_inverse_of_the_inverse_is_the_distortion(distortion):
    """The inverse of the inverse is the model, and both can be combined."""
    again = distortion.inverse.inverse
    assert isinstance(again, LookupDistortion)
    assert again(3.0, 4.0) == distortion(3.0, 4.0)
    both = Shift(1) & Shift(2) | distortion
    np.testing.assert_allclose(both.inverse(*both(30.0, 40.0)), (30, 40), atol=1e-10)


def test_points_without_an_inverse_hurt_nobody_else():
    """Points without an inverse are NaN, with one warning that states their number."""
    # Between x = 100 and 110 the displacement rises by 3 pixels per pixel.
    dx = np.array([[0.0, 0.0, 30.0, 30.0]])
    distortion = LookupDistortion(dx, 0 * dx, step=(10, 10), first=(90, 0))
    assert distortion.largest_gradient == pytest.approx(3)
    x = np.array([0.0, 50.0, 120.0, 200.0])
    with pytest.warns(KS4Warning, match="for 1 of 4 points") as caught:
        inverse, _ = distortion.inverse(x, 0 * x)
    assert len(caught) == 1
    assert np.isnan(inverse).tolist() == [False, False, True, False]
    np.testing.assert_allclose(inverse[[0, 1, 3]], [0, 50, 170])


def test_positions_that_are_not_finite_stay_so(distortion):
    """Positions that are not finite remain so, without a warning."""
    x = np.array([1.0, np.nan, np.inf])
    y = np.array([2.0, 3.0, 4.0])
    for model in (distortion, distortion.inverse):
        result = model(x, y)[0]
        assert np.isfinite(result).tolist() == [True, False, False]


def test_all_kinds_of_positions(distortion):
    """Positions may be numbers, arrays that broadcast, or quantities in pixels."""
    x, y = distortion(30.0, 40.0)
    assert np.ndim(x) == 0
    grid_x, grid_y = distortion(np.full((3, 1), 30.0), np.full(4, 40.0))
    assert grid_x.shape == (3, 4)
    assert (grid_x[0, 0], grid_y[0, 0]) == (x, y)
    with_unit = distortion(30 * u.pix, 40 * u.pix)
    assert [p.unit for p in with_unit] == [u.pix, u.pix]
    assert [p.value for p in with_unit] == [x, y]


def test_chunks_join(distortion):
    """More points than one chunk are displaced like single points."""
    x, y = np.random.default_rng(4).uniform(0, 220, (2, 10001))
    whole = distortion(x, y)
    np.testing.assert_array_equal(whole[0][-5:], distortion(x[-5:], y[-5:])[0])


def test_copies_and_pickles_do_the_same(distortion):
    """Copies and pickles are equal, also after the first evaluation."""
    expected = distortion(30.0, 40.0)
    for other in (
        copy.deepcopy(distortion),
        distortion.copy(),
        pickle.loads(pickle.dumps(distortion)),
    ):
        assert other(30.0, 40.0) == expected
        assert (other.step, other.first) == (STEP, FIRST)


def test_the_tables_are_its_own(distortion):
    """The tables are read-only copies."""
    dx, dy = tables()
    own = LookupDistortion(dx, dy, step=STEP, first=FIRST)
    dx[:] = 99
    assert own(3.0, 4.0) == distortion(3.0, 4.0)
    with pytest.raises(ValueError, match="read-only"):
        own.dx[0, 0] = 1


def test_the_largest_gradient():
    """The largest gradient of a plane is the sum of its two slopes."""
    y, x = np.indices((5, 6)) * 10.0
    distortion = LookupDistortion(0.02 * x + 0.03 * y, 0.01 * x, step=10)
    assert distortion.largest_gradient == pytest.approx(0.05)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nodes_that_are_not_finite_are_refused(bad):
    """The message names the first node that is not finite."""
    dx, dy = tables()
    dy[2, 3] = bad
    with pytest.raises(MapFormatError, match=r"dy must be finite.*node \[2, 3\]"):
        LookupDistortion(dx, dy, step=STEP)


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((np.ones(5), np.ones(5)), {"step": 1}, "2D table"),
        ((np.ones((0, 5)), np.ones((0, 5))), {"step": 1}, "2D table"),
        ((np.ones((2, 3)), np.ones((3, 2))), {"step": 1}, "shape"),
        ((np.ones((2, 3)), np.ones((2, 3))), {"step": 0}, "step must be positive"),
        ((np.ones((2, 3)), np.ones((2, 3))), {"step": "a"}, "step must be two"),
        (
            (np.ones((2, 3)), np.ones((2, 3))),
            {"step": 1, "first": (0, np.nan)},
            "first must be two finite",
        ),
    ],
)
def test_nonsense_is_refused(arguments, options, words):
    """Wrong shapes and numbers are refused."""
    with pytest.raises(GeometryError, match=words):
        LookupDistortion(*arguments, **options)


def test_a_wcs_without_tables_is_refused(distortion):
    """A WCS without tables, or with tables of different nodes, is refused."""
    with pytest.raises(GeometryError, match="no lookup tables cpdis1"):
        LookupDistortion.from_wcs(WCS(naxis=2))
    wcs = as_fits(distortion)
    wcs.cpdis2.crval = 0.0, 0.0
    with pytest.raises(GeometryError, match="the same nodes"):
        LookupDistortion.from_wcs(wcs)
