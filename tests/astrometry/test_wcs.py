# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Offset maps in a gWCS and in a FITS WCS: right, invertible, and in place."""

import copy
import itertools
import pickle

import gwcs
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.modeling.models import Identity
from astropy.nddata import Cutout2D
from astropy.table import Table
from astropy.wcs import WCS, Sip

from ks4_ccd import (
    AlreadyCalibratedError,
    DirectionlessMapError,
    GeometryError,
    KS4Error,
    LookupDistortion,
    MapGrid,
    MisalignmentMap,
    OffsetMap,
    add_lookup_tables,
    apply_offsets,
    correct_wcs,
)
from ks4_ccd.exceptions import OptionError

SHAPE = (800, 1000)
GRID = MapGrid.for_image((10, 8), SHAPE)


@pytest.fixture
def offsets():
    """Offsets of 0.08 arcsec RMS on an 800 x 1000 image, one cell empty."""
    rng = np.random.default_rng(1)
    count = np.full(GRID.shape, 5)
    count[3, 4] = 0
    dra, ddec = rng.normal(0, 0.08, (2, *GRID.shape))
    return OffsetMap(dra, ddec, count=count, grid=GRID)


def make_wcs(dec=-62.0, rotation=0.0, parity=1, projection="TAN", shape=SHAPE):
    """Return a WCS of 0.4-arcsec pixels, east left for a parity of 1."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = f"RA---{projection}", f"DEC--{projection}"
    wcs.wcs.crval = 30.0, dec
    wcs.wcs.crpix = [(n + 1) / 2 for n in reversed(shape)]
    angle = np.radians(rotation)
    turn = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    wcs.wcs.cd = np.array(turn) @ np.diag([-parity, 1]) * 0.4 / 3600
    wcs.array_shape = shape
    wcs.wcs.set()
    return wcs


def with_sip(wcs):
    """Return the WCS with a distortion of some pixels."""
    wcs.wcs.ctype = "RA---TAN-SIP", "DEC--TAN-SIP"
    a, b = np.zeros((2, 4, 4))
    a[2, 0], a[1, 1], b[0, 2], b[3, 0] = 2e-6, -1e-6, 3e-6, 1e-9
    wcs.sip = Sip(a, b, None, None, wcs.wcs.crpix)
    return wcs


def with_tpv(wcs):
    """Return the WCS with SCAMP's kind of distortion, radial term included."""
    header = wcs.to_header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TPV", "DEC--TPV"
    header["PV1_1"], header["PV1_3"], header["PV1_4"] = 1.0, 1e-3, 2e-3
    header["PV2_1"], header["PV2_5"] = 1.0, -1e-3
    distorted = WCS(header)
    distorted.array_shape = wcs.array_shape
    return distorted


def places(shape=SHAPE):
    """Return positions on an image, at its corners, and 1 pixel off its edge."""
    rows, columns = shape
    x, y = np.random.default_rng(2).uniform(-0.5, 1, (2, 2000)) * [[columns], [rows]]
    edges = [
        (a, b)
        for a, b in itertools.product(
            (-1, 0, columns - 1, columns), (-1, 0, rows - 1, rows)
        )
    ]
    corner_x, corner_y = np.transpose(edges)
    return np.append(np.abs(x), corner_x), np.append(np.abs(y), corner_y)


def separation(one, other):
    """Return the largest distance of positions (lon, lat in degrees), in arcsec."""
    one, other = (SkyCoord(*p, unit="deg") for p in (one, other))
    return one.separation(other).arcsec.max()


@pytest.mark.parametrize("parity", [1, -1])
@pytest.mark.parametrize("rotation", [0, 30, 45, 90, 180])
@pytest.mark.parametrize("dec", [-62, -85, -89.5])
def test_both_agree_and_invert(offsets, dec, rotation, parity):
    """A gWCS and a FITS WCS agree to 1e-6 arcsec, their inverses to 1e-9 pixels."""
    wcs = make_wcs(dec, rotation, parity)
    x, y = places()
    corrected = apply_offsets(wcs, offsets)
    sky = corrected(x, y, with_bounding_box=False)
    tables = add_lookup_tables(wcs, offsets)
    assert separation(sky, tables.all_pix2world(x, y, 0)) < 1e-6
    back = corrected.invert(*sky, with_bounding_box=False)
    np.testing.assert_allclose(back, (x, y), rtol=0, atol=1e-9)


@pytest.mark.parametrize("distort", [with_sip, with_tpv])
def test_distorted_wcs_stay_what_they_are(offsets, distort):
    """So do WCS with SIP and TPV."""
    wcs = distort(make_wcs(rotation=30))
    x, y = places()
    corrected = apply_offsets(wcs, offsets)
    sky = corrected(x, y, with_bounding_box=False)
    tables = add_lookup_tables(wcs, offsets)
    assert separation(sky, tables.all_pix2world(x, y, 0)) < 1e-6
    back = corrected.invert(*sky, with_bounding_box=False)
    np.testing.assert_allclose(back, (x, y), rtol=0, atol=1e-9)


@pytest.mark.parametrize("rotation", [0, 77])
@pytest.mark.parametrize("dec", [-62, -89.9])
def test_a_position_moves_by_the_offset(offsets, dec, rotation):
    """At the centre of a cell a position moves by the offset along RA cos(dec), Dec."""
    wcs = make_wcs(dec, rotation)
    x, y = np.meshgrid(*GRID.centers())
    before = wcs.pixel_to_world(x, y)
    after = apply_offsets(wcs, offsets).pixel_to_world(x, y)
    filled = offsets.filled()
    for moved, expected in zip(
        before.spherical_offsets_to(after), (filled.dra, filled.ddec), strict=True
    ):
        np.testing.assert_allclose(moved.arcsec, expected.T, rtol=0, atol=1e-5)


def test_it_is_a_complete_gwcs(offsets):
    """Frames, shape, footprint and high-level calls work on and off the image."""
    wcs = make_wcs()
    corrected = apply_offsets(wcs, offsets)
    assert corrected.available_frames == ["detector", "aligned", "icrs"]
    assert isinstance(corrected.pipeline[0].transform, LookupDistortion)
    assert corrected.pixel_shape == (1000, 800)
    assert corrected.array_shape == SHAPE
    assert corrected.bounding_box is None
    box = (-0.5, 999.5), (-0.5, 799.5)
    corners = corrected.footprint(bounding_box=box)
    np.testing.assert_array_equal(corners[2], corrected(999.5, 799.5))
    np.testing.assert_allclose(corrected.invert(*corrected(-5, 3)), (-5, 3), atol=1e-9)
    sky = corrected.pixel_to_world(12.5, 700.25)
    np.testing.assert_allclose(corrected.world_to_pixel(sky), (12.5, 700.25), atol=1e-9)


def test_the_input_is_untouched(offsets):
    """The input is not changed, and shares nothing with the result."""
    wcs = with_sip(make_wcs())
    before = copy.deepcopy(wcs)
    corrected = add_lookup_tables(wcs, offsets)
    apply_offsets(wcs, offsets)
    corrected.wcs.crpix = 0, 0
    assert wcs.cpdis1 is None
    assert wcs.wcs.compare(before.wcs)


def test_a_gwcs_takes_the_step_behind_its_detector(offsets):
    """The rest of the pipeline is unchanged, except for its bounding box."""
    wcs = make_wcs()
    flat = OffsetMap(
        np.zeros((10, 8)), np.zeros((10, 8)), grid=GRID, count=np.ones((10, 8))
    )
    plain = apply_offsets(wcs, flat)
    base = gwcs.WCS(
        [(plain.input_frame, plain.pipeline[1].transform), (plain.output_frame, None)]
    )
    base.bounding_box = (-0.5, 999.5), (-0.5, 799.5)
    corrected = apply_offsets(base, offsets, image_shape=SHAPE)
    x, y = np.random.default_rng(3).uniform(0, 799, (2, 500))
    np.testing.assert_array_equal(corrected(x, y), apply_offsets(wcs, offsets)(x, y))
    assert base.available_frames == ["detector", "icrs"]
    assert base.bounding_box is not None
    assert corrected.bounding_box is None


def part_of(wcs, rows, columns):
    """Return a slice of a WCS, its shape known."""
    part = wcs[rows, columns]
    part.array_shape = (rows.stop - rows.start, columns.stop - columns.start)
    return part


def test_the_tables_follow_cut_outs(offsets):
    """Tables follow an origin, a slice of the corrected WCS, and a Cutout2D."""
    wcs = make_wcs()
    rows, columns = slice(200, 500), slice(50, 450)
    corrected = add_lookup_tables(wcs, offsets)
    x, y = np.random.default_rng(3).uniform(0, 299, (2, 500))
    expected = corrected.all_pix2world(x + 50, y + 200, 0)
    cut = Cutout2D(np.zeros(SHAPE), (250, 350), (300, 400), wcs=wcs)
    assert cut.origin_original == (50, 200)
    corrected_cut = Cutout2D(np.zeros(SHAPE), (250, 350), (300, 400), wcs=corrected)
    for part in (
        corrected[rows, columns],
        corrected_cut.wcs,
        add_lookup_tables(part_of(wcs, rows, columns), offsets, origin=(50, 200)),
        add_lookup_tables(cut.wcs, offsets, origin=cut),
    ):
        assert separation(part.all_pix2world(x, y, 0), expected) < 1e-8
    gcut = apply_offsets(cut.wcs, offsets, origin=cut)
    assert separation(gcut(x, y), expected) < 1e-6


def test_a_corrected_wcs_survives_what_is_done_to_it(offsets):
    """Tables follow slices of cut-outs, copies and pickles."""
    corrected = add_lookup_tables(make_wcs(), offsets)
    x, y = np.random.default_rng(3).uniform(0, 99, (2, 500))
    expected = corrected.all_pix2world(x + 90, y + 270, 0)
    cut = Cutout2D(np.zeros(SHAPE), (250, 350), (300, 400), wcs=corrected)
    again = Cutout2D(cut.data, (140, 170), (200, 200), wcs=cut.wcs).wcs
    assert isinstance(again, WCS)
    for part in (
        again,
        cut.wcs[70:270, 40:240],
        copy.copy(again),
        copy.deepcopy(again),
        pickle.loads(pickle.dumps(again)),
    ):
        assert separation(part.all_pix2world(x, y, 0), expected) < 1e-7
        np.testing.assert_allclose(part.all_world2pix(*expected, 0), (x, y), atol=1e-7)


def test_the_tables_follow_binned_images(offsets):
    """A pixel of a 2 x 2 binned image is between four pixels of the stack."""
    # astropy bins CDELT, and does not if there is a CD matrix.
    wcs = WCS(make_wcs().to_header())
    wcs.array_shape = SHAPE
    binned = wcs[::2, ::2]
    binned.array_shape = (400, 500)
    x, y = np.random.default_rng(3).uniform(0, 399, (2, 500))
    expected = add_lookup_tables(wcs, offsets).all_pix2world(
        2 * x + 0.5, 2 * y + 0.5, 0
    )
    result = add_lookup_tables(binned, offsets, binning=2).all_pix2world(x, y, 0)
    assert separation(result, expected) < 1e-6
    assert separation(apply_offsets(binned, offsets, binning=2)(x, y), expected) < 1e-6


def test_reprojection_moves_stars_to_their_true_pixels():
    """reproject_interp onto a plain TAN moves a star by two pixels to its true one."""
    reproject = pytest.importorskip("reproject")
    shape, grid = (100, 120), MapGrid.for_image((3, 2), (100, 120))
    wcs = make_wcs(shape=shape)
    flat = np.ones(grid.shape)
    offsets = OffsetMap(0.8 * flat, -0.4 * flat, grid=grid)
    y, x = np.indices(shape)
    star = np.exp(-0.5 * ((x - 60) ** 2 + (y - 40) ** 2) / 2.0**2)
    for corrected in (apply_offsets(wcs, offsets), add_lookup_tables(wcs, offsets)):
        image, _ = reproject.reproject_interp(
            (star, corrected), wcs, shape_out=shape, order="bicubic"
        )
        image = np.nan_to_num(image)
        centroid = (image * x).sum() / image.sum(), (image * y).sum() / image.sum()
        np.testing.assert_allclose(centroid, (58, 39), atol=0.02)


@pytest.mark.parametrize("correct", [apply_offsets, add_lookup_tables])
def test_misalignments_have_no_direction(correct):
    """The astrometric maps of DR1 cannot correct positions."""
    misalignment = MisalignmentMap(np.ones(GRID.shape), grid=GRID)
    with pytest.raises(DirectionlessMapError):
        correct(make_wcs(), misalignment)


def bad_wcs(kind):
    """Return a WCS that cannot be corrected."""
    if kind == "linear":
        return WCS(naxis=2)
    if kind in ("1-D", "3-D"):
        return WCS(naxis=int(kind[0]))
    wcs = make_wcs()
    if kind == "NaN":
        wcs = WCS(wcs.to_header())
        wcs.wcs.pc = [[np.nan, 0], [0, 1]]
    elif kind == "no position":
        wcs.wcs.crval = np.nan, -62
    elif kind == "singular":
        wcs.wcs.cd = [[1e-4, 1e-4], [1e-4, 1e-4]]
    elif kind == "galactic":
        wcs.wcs.ctype = "GLON-TAN", "GLAT-TAN"
    elif kind == "TAB":
        header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"})
        wcs = WCS(header)
        wcs.wcs.ctype = "RA---TAB", "DEC--TAB"
    return wcs


@pytest.mark.parametrize("correct", [apply_offsets, add_lookup_tables])
@pytest.mark.parametrize(
    "kind",
    ["linear", "1-D", "3-D", "NaN", "no position", "singular", "galactic", "TAB"],
)
def test_wrong_wcs_are_refused(offsets, correct, kind):
    """Only a celestial, regular WCS with two axes can be corrected."""
    with pytest.raises(GeometryError):
        correct(bad_wcs(kind), offsets)


def test_a_wrong_gwcs_is_refused(offsets):
    """A gWCS that is not celestial is refused, and other classes."""
    frame = gwcs.coordinate_frames.Frame2D(name="detector")
    other = gwcs.coordinate_frames.Frame2D(name="plane")
    linear = gwcs.WCS([(frame, Identity(2)), (other, None)])
    with pytest.raises(GeometryError, match="celestial gWCS"):
        apply_offsets(linear, offsets)
    with pytest.raises(KS4Error, match="got builtins.str"):
        apply_offsets("RA---TAN", offsets)
    with pytest.raises(KS4Error, match="use apply_offsets"):
        add_lookup_tables(linear, offsets)


def test_a_second_correction_is_refused(offsets):
    """A second correction of positions is refused."""
    wcs = make_wcs()
    tables, corrected = add_lookup_tables(wcs, offsets), apply_offsets(wcs, offsets)
    for again, correct in (
        (tables, add_lookup_tables),
        (tables, apply_offsets),
        (corrected, apply_offsets),
    ):
        with pytest.raises(AlreadyCalibratedError):
            correct(again, offsets)


def test_offsets_that_cannot_be_inverted_are_refused():
    """The message names the largest gradient."""
    steep = OffsetMap(
        np.where(np.indices(GRID.shape)[0] % 2, 60.0, -60.0),
        np.zeros(GRID.shape),
        grid=GRID,
    )
    with pytest.raises(GeometryError, match="up to 3 pixels per pixel"):
        apply_offsets(make_wcs(), steep)


def test_a_grid_that_does_not_cover_the_image_is_refused(offsets):
    """So is a grid at an unknown position."""
    with pytest.raises(GeometryError, match="not part of the stack"):
        apply_offsets(make_wcs(), offsets, origin=(300, 0))
    with pytest.raises(GeometryError, match="which part of it the image is"):
        apply_offsets(make_wcs(shape=(300, 300)), offsets)


def test_the_position_residual_on_real_stars(ks4_data):
    """For matched stars in 1000-pixel windows, 83 mas are reduced to at most 10."""
    stars = Table.read(ks4_data / "catalogs" / "matched.0000.R.single.fits")
    measured = SkyCoord(stars["ALPHA_J2000"], stars["DELTA_J2000"], unit="deg")
    reference = SkyCoord(stars["RAJ2000"], stars["DEJ2000"], unit="deg")
    dra, ddec = (p.arcsec for p in measured.spherical_offsets_to(reference))
    star_x, star_y = stars["X_IMAGE"], stars["Y_IMAGE"]
    grid = MapGrid((110, 110), 200)
    maps = np.zeros((2, 110, 110))
    count = np.zeros((110, 110))
    for i, j in np.ndindex(110, 110):
        near = (np.abs(star_x - (i + 0.5) * 200) < 500) & (
            np.abs(star_y - (j + 0.5) * 200) < 500
        )
        count[i, j] = near.sum()
        if count[i, j]:
            maps[:, i, j] = np.median(dra[near]), np.median(ddec[near])
    wcs = WCS(fits.Header.fromtextfile(ks4_data / "images" / "stack_0000_R.hdr"))
    corrected = apply_offsets(
        wcs, OffsetMap(*maps, count=count, grid=grid), image_shape=(22000, 22000)
    )
    with np.load(ks4_data / "truth" / "truth_0000_R.npz") as file:
        x, y = np.meshgrid(file["grid"] - 1, file["grid"] - 1, indexing="ij")
        true_error = file["offset"]  # measured minus true, arcsec
    moved = wcs.pixel_to_world(x, y).spherical_offsets_to(
        corrected.pixel_to_world(x, y)
    )
    residual = np.hypot(*(m.arcsec + e for m, e in zip(moved, true_error, strict=True)))
    assert np.sqrt(np.mean(np.hypot(*true_error) ** 2)) > 0.080
    assert np.sqrt(np.mean(residual**2)) < 0.010


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda wcs, offsets: apply_offsets(None, offsets), "wcs"),
        (lambda wcs, offsets: apply_offsets(wcs, offsets, binning=0), "binning"),
        (lambda wcs, offsets: apply_offsets(wcs, offsets, binning=np.nan), "binning"),
        (lambda wcs, offsets: correct_wcs(np.ones(SHAPE), offsets), "ccd"),
        (lambda wcs, offsets: LookupDistortion.from_wcs(wcs, "sip"), "tables"),
    ],
)
def test_wrong_options(offsets, call, name):
    """A wrong option is named; the error is also a ValueError."""
    with pytest.raises(OptionError, match=f"^{name} must be") as caught:
        call(make_wcs(), offsets)
    assert isinstance(caught.value, ValueError)
