# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""gWCS: the inverse of every pixel, at any declination, and gWCS of any kind."""

import io

import asdf
import gwcs
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import FK4, FK5, ICRS, Galactic, SkyCoord
from astropy.modeling import models
from astropy.time import Time
from astropy.wcs import WCS, DistortionLookupTable, Sip
from gwcs import coordinate_frames as frames

from ks4_ccd import (
    GeometryError,
    KS4Warning,
    MapGrid,
    OffsetMap,
    add_lookup_tables,
    apply_offsets,
)

SIZE = 22000
DECLINATIONS = (0, -30, -62, -72, -85, -89.5, 89, -90)


def offsets_of(shape, cells=11, seed=1):
    """Return offsets of 0.1 arcsec RMS on an image."""
    dra, ddec = np.random.default_rng(seed).normal(0, 0.1, (2, cells, cells))
    return OffsetMap(dra, ddec, grid=MapGrid.for_image((cells, cells), shape))


def fits_wcs(dec, projection="TAN", size=SIZE, ra=359.9, scale=0.4):
    """Return the WCS of a square image, with distortions of up to 3 percent."""
    wcs = WCS(naxis=2)
    kind = {"SIP": "TAN-SIP"}.get(projection, projection)
    wcs.wcs.ctype = f"RA---{kind}", f"DEC--{kind}"
    wcs.wcs.crval = ra, dec
    wcs.wcs.crpix = [(size + 1) / 2] * 2
    # wcslib applies TPV before CDELT: the matrix has the scale in it.
    wcs.wcs.cd = np.diag([-scale, scale]) / 3600
    if projection == "SIP":
        a, b = np.zeros((2, 4, 4))
        half = size / 2
        a[2, 0], a[1, 1], a[3, 0] = 120 / half**2, -60 / half**2, 80 / half**3
        b[0, 2], b[0, 3] = 100 / half**2, 60 / half**3
        wcs.sip = Sip(a, b, None, None, wcs.wcs.crpix)
    elif projection == "TPV":
        terms = (1, 1, 1.0), (1, 7, 1e-2), (2, 1, 1.0), (2, 7, -1e-2), (2, 5, 5e-3)
        wcs.wcs.set_pv(terms)
    wcs.array_shape = size, size
    wcs.wcs.set()
    return wcs


def all_over(size, count=60):
    """Return positions on an image and along its edge, half a pixel outside."""
    edge = np.linspace(-0.5, size - 0.5, count)
    return np.meshgrid(edge, edge)


def through_asdf(wcs):
    """Return what a file gives back."""
    file = io.BytesIO()
    asdf.AsdfFile({"wcs": wcs}).write_to(file)
    with asdf.open(io.BytesIO(file.getvalue())) as opened:
        return opened["wcs"]


def assert_inverted(corrected, x, y, boxed=True):
    """Assert that each way back from the sky returns the pixels."""
    sky = corrected(x, y, with_bounding_box=boxed)
    for back in (
        corrected.invert(*sky, with_bounding_box=boxed),
        corrected.world_to_pixel_values(*corrected.pixel_to_world_values(x, y)),
        corrected.world_to_pixel(corrected.pixel_to_world(x, y)),
    ):
        back = [getattr(p, "value", p) for p in back]
        np.testing.assert_allclose(back, (x, y), rtol=0, atol=1e-8)


@pytest.mark.parametrize("projection", ["TAN", "SIP", "TPV"])
@pytest.mark.parametrize("dec", DECLINATIONS)
def test_every_pixel_of_a_stack_is_inverted(dec, projection):
    """Pixels beyond the RA and Dec of the corners, and at the pole, are inverted."""
    wcs = fits_wcs(dec, projection)
    corrected = apply_offsets(wcs, offsets_of((SIZE, SIZE)))
    x, y = all_over(SIZE)
    assert_inverted(corrected, x, y)
    assert_inverted(corrected, x[::9], y[::9], boxed=False)
    for place in ((SIZE / 2, -0.5), (-0.5, SIZE / 3), (SIZE - 0.5, SIZE - 1.0)):
        assert_inverted(corrected, *place)


def test_the_pole_itself_is_inverted():
    """A pole at the centre of an image, where RA is undefined, is inverted."""
    corrected = apply_offsets(fits_wcs(-90), offsets_of((SIZE, SIZE)))
    pole = SkyCoord([0, 77, 300], -90, unit="deg")
    x, y = corrected.world_to_pixel(pole)
    np.testing.assert_allclose(x, x[0], rtol=0, atol=1e-8)
    assert corrected.pixel_to_world(x, y).separation(pole).mas.max() < 1e-5


@pytest.mark.parametrize("dec", [-62, -89.5])
def test_the_inverse_survives_a_file(dec):
    """A gWCS read from ASDF has its inverse and the shape of the image."""
    corrected = apply_offsets(fits_wcs(dec, "SIP"), offsets_of((SIZE, SIZE)))
    back = through_asdf(corrected)
    assert back.array_shape == (SIZE, SIZE)
    assert_inverted(back, *all_over(SIZE, 20))


@pytest.mark.parametrize("projection", ["TAN", "SIP", "TPV"])
def test_the_rest_of_the_sky_is_not_on_the_image(projection):
    """Positions far from the image have no pixel, or one that maps back to them."""
    corrected = apply_offsets(fits_wcs(-72, projection), offsets_of((SIZE, SIZE)))
    lon, lat = np.meshgrid(np.linspace(0, 359, 60), np.linspace(-90, 90, 60))
    x, y = corrected.invert(lon, lat)
    found = np.isfinite(x) & np.isfinite(y)
    near = SkyCoord(lon, lat, unit="deg").separation(corrected.pixel_to_world(x, y))
    assert found.any()
    assert not found.all()
    assert near[found].arcsec.max() < 1e-3


@pytest.mark.parametrize("dec", [-72, -89.5])
def test_reprojection_leaves_no_strip_empty(dec):
    """After reprojection no pixel of the image is empty, along curved edges, too."""
    reproject = pytest.importorskip("reproject")
    shape = 100, 100
    grid = MapGrid.for_image((2, 2), shape)
    nothing = OffsetMap(np.zeros((2, 2)), np.zeros((2, 2)), grid=grid)
    wcs = fits_wcs(dec, size=100, scale=60)
    corrected = apply_offsets(wcs, nothing)
    data = np.arange(10000.0).reshape(shape)
    image, footprint = reproject.reproject_interp((data, corrected), wcs, shape)
    np.testing.assert_allclose(image, data, rtol=0, atol=1e-5)
    assert footprint.all()
    image, _ = reproject.reproject_interp((data, wcs), corrected, shape)
    np.testing.assert_allclose(image, data, rtol=0, atol=1e-5)


def test_tables_of_the_detector_are_inverted():
    """D2IM tables of HST are inverted like SIP."""
    wcs = fits_wcs(-62, size=100)
    tables = np.random.default_rng(3).normal(0, 0.3, (2, 5, 5)).astype(np.float32)
    wcs.det2im1, wcs.det2im2 = (
        DistortionLookupTable(table, (1, 1), (10, 10), (20, 20)) for table in tables
    )
    corrected = apply_offsets(wcs, offsets_of((100, 100), cells=5))
    assert_inverted(corrected, *all_over(100))


@pytest.mark.parametrize("projection", ["CAR", "ZEA", "SIN", "ARC", "STG"])
@pytest.mark.parametrize("rotation", [0, 40])
def test_other_projections(projection, rotation):
    """Both forms of the correction agree for projections with other LONPOLE."""
    wcs = fits_wcs(-62 if projection != "CAR" else 0, projection, size=100)
    wcs.wcs.lonpole = 180 - rotation
    corrected = apply_offsets(wcs, offsets_of((100, 100), cells=5))
    tables = add_lookup_tables(wcs, offsets_of((100, 100), cells=5))
    x, y = all_over(100)
    one, other = corrected.pixel_to_world(x, y), tables.pixel_to_world(x, y)
    assert one.separation(other).arcsec.max() < 1e-6
    assert_inverted(corrected, x, y)


DETECTOR = frames.Frame2D(name="detector", axes_order=(0, 1), unit=(u.pix, u.pix))


def make_gwcs(kind="plain", size=100, dec=-62.0, boxed=True, **frame):
    """Return a TAN gWCS of 0.4-arcsec pixels, of numbers or of quantities."""
    middle = -(size - 1) / 2
    if kind == "plain":
        steps = models.Shift(middle) & models.Shift(middle)
        steps |= models.Scale(-0.4 / 3600) & models.Scale(0.4 / 3600)
        rotation = 30, dec, 180
    else:
        middle *= u.pix
        steps = models.Shift(middle) & models.Shift(middle)
        steps |= multiply() if kind == "multiply" else affine()
        rotation = 30 * u.deg, dec * u.deg, 180 * u.deg
    steps |= models.Pix2Sky_TAN() | models.RotateNative2Celestial(*rotation)
    if frame.get("axes_order") == (1, 0):
        steps |= models.Mapping((1, 0))
    frame = {"reference_frame": ICRS(), "name": "sky"} | frame
    wcs = gwcs.WCS([(DETECTOR, steps), (frames.CelestialFrame(**frame), None)])
    if boxed:
        unit = 1 if kind == "plain" else u.pix
        wcs.bounding_box = [(-0.5 * unit, (size - 0.5) * unit)] * 2
    wcs.pixel_shape = size, size
    return wcs


def multiply():
    """Return a scale with units."""
    scale = 0.4 * u.arcsec / u.pix
    return models.Multiply(-scale) & models.Multiply(scale)


def affine():
    """Return a matrix with units, as gwcs's documentation has it."""
    matrix = np.diag([-0.4, 0.4]) / 3600
    there = models.AffineTransformation2D(matrix * u.deg, translation=[0, 0] * u.deg)
    back = models.AffineTransformation2D(
        np.linalg.inv(matrix) * u.pix, translation=[0, 0] * u.pix
    )
    for model, scale in ((there, u.deg / u.pix), (back, u.pix / u.deg)):
        model.input_units_equivalencies = dict.fromkeys("xy", u.pixel_scale(1 * scale))
    there.inverse = back
    return there


@pytest.mark.parametrize("boxed", [True, False])
@pytest.mark.parametrize("kind", ["plain", "multiply", "affine"])
def test_a_gwcs_with_units_is_the_one_without(kind, boxed):
    """Models of quantities give the same positions, also after reading from a file."""
    offsets = offsets_of((100, 100), cells=5)
    x, y = all_over(100, 12)
    expected = apply_offsets(fits_wcs(-62, size=100, ra=30), offsets)(x, y)
    corrected = apply_offsets(make_gwcs(kind, boxed=boxed), offsets)
    for wcs in (corrected, through_asdf(corrected)):
        for found in (
            wcs(x, y),
            wcs(x * u.pix, y * u.pix),
            wcs.pixel_to_world_values(x, y),
        ):
            found = [getattr(p, "value", p) for p in found]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
        assert_inverted(wcs, x, y)
        assert_inverted(wcs, 99.5, -0.5)
    back = corrected.invert(*(p * u.deg for p in expected))
    back = [getattr(p, "value", p) for p in back]
    np.testing.assert_allclose(back, (x, y), rtol=0, atol=1e-8)


def test_a_gwcs_with_a_bounding_box_is_inverted_at_its_edges():
    """The bounding box is removed, because it excludes pixels at the edges."""
    wcs = make_gwcs(size=SIZE, dec=-72.0)
    corrected = apply_offsets(wcs, offsets_of((SIZE, SIZE)))
    assert_inverted(corrected, *all_over(SIZE, 30))
    assert wcs.bounding_box is not None


def test_the_bounding_box_of_a_gwcs_is_the_shape_of_its_image():
    """Without a shape, the bounding box is the shape of the image."""
    wcs = make_gwcs(size=100)
    wcs.pixel_shape = None
    offsets = offsets_of((200, 200), cells=10)
    with pytest.raises(GeometryError, match="100 x 100 pixels"):
        apply_offsets(wcs, offsets)
    assert apply_offsets(wcs, offsets, origin=(30, 40)).array_shape == (100, 100)


@pytest.mark.parametrize(
    "frame",
    [
        {"axes_order": (1, 0)},
        {"reference_frame": Galactic()},
        {"reference_frame": FK5(equinox="J2021.7")},
        {"reference_frame": FK4(equinox=Time("B1950"))},
    ],
    ids=["Dec first", "galactic", "FK5 of date", "FK4"],
)
def test_offsets_are_along_the_axes_of_icrs(frame):
    """Offsets are along the axes of ICRS in any frame of the gWCS."""
    flat = np.ones((5, 5))
    offsets = OffsetMap(0.3 * flat, -0.2 * flat, grid=MapGrid((5, 5), 20))
    wcs = make_gwcs(**frame)
    corrected = apply_offsets(wcs, offsets)
    before, after = (w.pixel_to_world(30, 60).icrs for w in (wcs, corrected))
    moved = [p.arcsec for p in before.spherical_offsets_to(after)]
    np.testing.assert_allclose(moved, (0.3, -0.2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("correct", [apply_offsets, add_lookup_tables])
@pytest.mark.parametrize("frame", [("FK5", 2021.7), ("FK4", 1950.0)])
def test_a_fits_wcs_of_another_equinox(frame, correct):
    """So they are near the pole, where north differs by degrees between equinoxes."""
    wcs = fits_wcs(-89, size=100, ra=30)
    wcs.wcs.radesys, wcs.wcs.equinox = frame
    flat = np.ones((5, 5))
    offsets = OffsetMap(0.3 * flat, -0.2 * flat, grid=MapGrid((5, 5), 20))
    corrected = correct(wcs, offsets)
    before, after = (w.pixel_to_world(30, 60).icrs for w in (wcs, corrected))
    moved = [p.arcsec for p in before.spherical_offsets_to(after)]
    np.testing.assert_allclose(moved, (0.3, -0.2), rtol=0, atol=1e-5)


def test_a_frame_of_nobody_is_refused():
    """A RADESYS that astropy does not have is refused."""
    wcs = fits_wcs(-62, size=100)
    wcs.wcs.radesys = "GAPPT"
    with pytest.raises(GeometryError, match="RADESYS = 'GAPPT'"):
        apply_offsets(wcs, offsets_of((100, 100)))


def without_inverse(**options):
    """Return a gWCS that starts with polynomials."""
    wcs = make_gwcs(**options)
    one = models.Polynomial2D(1, c1_0=1, c0_1=1e-3)
    other = models.Polynomial2D(1, c0_1=1, c1_0=-1e-3)
    transform = models.Mapping((0, 1, 0, 1)) | one & other | wcs.forward_transform
    transform.bounding_box = None
    return gwcs.WCS([(DETECTOR, transform), (wcs.output_frame, None)])


def test_a_gwcs_without_an_inverse_warns():
    """The numerical inverse of gwcs is used with a warning."""
    with pytest.warns(KS4Warning, match="transform without an inverse"):
        corrected = apply_offsets(
            without_inverse(), offsets_of((100, 100)), image_shape=(100, 100)
        )
    back = corrected.invert(*corrected(30.0, 60.0))
    np.testing.assert_allclose(back, (30, 60), rtol=0, atol=1e-4)


def test_a_gwcs_whose_inverse_fails_is_refused():
    """A numerical inverse near a pole, or a wrong inverse of the user, is refused."""
    offsets = offsets_of((100, 100))
    with pytest.raises(GeometryError, match="set the inverse of its transforms"):
        apply_offsets(without_inverse(dec=-89.5), offsets, image_shape=(100, 100))
    wrong = make_gwcs()
    wrong.pipeline[0].transform.inverse = models.Scale(1.0) & models.Scale(1.0)
    with pytest.raises(GeometryError, match="expected the inverse of the gWCS"):
        apply_offsets(wrong, offsets)


def test_units_that_do_not_fit_are_refused():
    """A gWCS that cannot be evaluated is refused, with the reason."""
    shift = models.Shift(3 * u.s) & models.Shift(3 * u.s)
    steps = shift | models.Pix2Sky_TAN() | models.RotateNative2Celestial(30, -62, 180)
    sky = frames.CelestialFrame(reference_frame=ICRS(), name="sky")
    wcs = gwcs.WCS([(DETECTOR, steps), (sky, None)])
    with pytest.raises(GeometryError, match="cannot be evaluated"):
        apply_offsets(wcs, offsets_of((100, 100)))
