# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Placement of images on a map, and whether they belong together."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.wcs import WCS, DistortionLookupTable, Sip

from ks4_ccd import (
    GeometryError,
    MapGrid,
    MapKey,
    MapMismatchError,
    OffsetMap,
    add_lookup_tables,
    apply_offsets,
)
from ks4_ccd.astrometry.placement import check_belongs, find_origin
from ks4_ccd.astrometry.wcs import lookup_distortion

GRID = MapGrid((55, 55), 400)
WHOLE = (22000, 22000)


def header(**cards):
    """Return a header of field 0000, whose centre is RA 0, Dec -62."""
    return fits.Header({"FIELD1": "0000", "FILTER": "R"} | cards)


def place(wcs, shape=WHOLE, origin=None, **cards):
    """Return the origin of an image of field 0000."""
    return find_origin(header(**cards), wcs, shape, GRID, origin, field="0000")


def test_a_whole_stack_begins_at_its_corner(tan_wcs):
    """An image of the shape of the stack needs no keywords, and its WCS agrees."""
    assert find_origin(fits.Header(), None, WHOLE, GRID) == (0, 0)
    assert place(tan_wcs(WHOLE)) == (0, 0)


@pytest.mark.parametrize("origin", [(0, 0), (321, 15000), (21000, 21200)])
@pytest.mark.parametrize("field", ["0000", "0403", "0345", "0695"])
def test_the_wcs_of_a_slice_gives_the_origin(tan_wcs, origin, field):
    """The WCS determines the origin in any field, also at the pole and across RA 0."""
    x, y = origin
    wcs = tan_wcs(WHOLE, field=field)[y : y + 800, x : x + 1000]
    assert find_origin({}, wcs, (800, 1000), GRID, field=field) == origin
    assert find_origin({"FIELD1": field}, wcs, (800, 1000), GRID) == origin


def test_a_new_solution_of_the_same_pixels_gives_the_origin(tan_wcs):
    """Reference pixel, frame and form of the matrix do not affect the origin."""
    wcs = tan_wcs(WHOLE)[10100:10900, 10200:11200]
    corner = wcs.wcs_pix2world(0, 0, 0)
    new = WCS(naxis=2)
    new.wcs.ctype = "RA---TAN", "DEC--TAN"
    new.wcs.crpix, new.wcs.crval = (1, 1), corner
    step = np.array(wcs.wcs_pix2world([[1, 0], [0, 1]], 0)) - corner
    step[:, 0] *= np.cos(np.radians(corner[1]))
    new.wcs.cd = step.T
    assert place(new, (800, 1000)) == (10200, 10100)


def test_half_a_pixel_is_well(tan_wcs):
    """The WCS has to agree to one pixel; the placement is in whole pixels."""
    wcs = tan_wcs(WHOLE)
    wcs.wcs.crpix += 0.6
    assert place(wcs) == (0, 0)
    assert place(wcs[100:200, 100:200], (100, 100)) == (99, 99)
    assert place(wcs[100:200, 100:200], (100, 100), (100, 100)) == (100, 100)
    wcs.wcs.crpix += 0.5
    with pytest.raises(GeometryError, match="the shape of the full stack and the WCS"):
        place(wcs)


def changed(wcs, how):
    """Return a WCS of the same or of other pixels on the same sky."""
    wcs = wcs.deepcopy()
    middle = np.array(wcs.wcs.crpix)
    turns = {"rotated by 90": 90, "rotated by 180": 180, "rotated by 0.01": 0.01}
    if how in turns:
        angle = np.radians(turns[how])
        wcs.wcs.pc = [
            [np.cos(angle), -np.sin(angle)],
            [np.sin(angle), np.cos(angle)],
        ]
    elif how == "mirrored":
        wcs.wcs.cdelt[0] *= -1
    elif how == "of pixels of 0.26 x 0.26":
        wcs.wcs.cdelt = -0.26 / 3600, 0.26 / 3600
    elif how == "begins there":
        wcs.wcs.crpix = np.add(middle, (30, -20))
    elif how == "0.4001":
        wcs.wcs.ctype = "RA---ZEA", "DEC--ZEA"
    elif how == "from the centre of field 0000":
        wcs.wcs.crval = 10, -62
    wcs.wcs.set()
    return wcs


CHANGES = [
    "rotated by 90",
    "rotated by 180",
    "rotated by 0.01",
    "mirrored",
    "of pixels of 0.26 x 0.26",
    "begins there",
    "from the centre of field 0000",
]


@pytest.mark.parametrize("how", [*CHANGES, "0.4001"])
def test_a_whole_image_on_other_sky_is_refused(tan_wcs, how):
    """The message names the shape, the WCS, and the change of the image."""
    with pytest.raises(GeometryError, match=f"shape of the full stack.*{how}"):
        place(changed(tan_wcs(WHOLE), how))


@pytest.mark.parametrize("how", [how for how in CHANGES if "0.01" not in how])
@pytest.mark.parametrize("by", ["origin", "LTV", "nothing"])
def test_a_cutout_on_other_sky_is_refused(tan_wcs, how, by):
    """A cut-out with other pixels is refused for any source of the placement."""
    wcs = changed(tan_wcs(WHOLE), how)[10000:12000, 9000:12000]
    if by == "origin":
        with pytest.raises(GeometryError, match=f"origin= and the WCS.*{how}"):
            place(wcs, (2000, 3000), (9000, 10000))
        return
    cards = {"LTV1": -9000.0, "LTV2": -10000.0} if by == "LTV" else {}
    if how == "begins there":
        # LTV1 and LTV2 are not updated when a cut-out is cut, the WCS is.
        assert place(wcs, (2000, 3000), **cards) == (8970, 10020)
        return
    words = "LTV1 and LTV2 and the WCS" if by == "LTV" else "not have the pixels"
    with pytest.raises(GeometryError, match=f"{words}.*{how}"):
        place(wcs, (2000, 3000), **cards)


@pytest.mark.parametrize("frame", ["galactic", "FK5", "SIN", "swapped axes", "CROTA"])
def test_other_coordinates_are_read(tan_wcs, frame):
    """Any celestial WCS of the same pixels is accepted; others are refused."""
    wcs = tan_wcs(WHOLE)
    if frame == "galactic":
        center = SkyCoord(0, -62, unit="deg").galactic
        north = SkyCoord(0, -61.99, unit="deg").galactic
        angle = center.position_angle(north).rad
        wcs.wcs.ctype = "GLON-TAN", "GLAT-TAN"
        wcs.wcs.crval = center.l.deg, center.b.deg
        wcs.wcs.pc = [
            [np.cos(angle), -np.sin(angle)],
            [np.sin(angle), np.cos(angle)],
        ]
    elif frame == "FK5":
        wcs.wcs.radesys, wcs.wcs.equinox = "FK5", 2000.0
    elif frame == "SIN":
        # Near its centre it is TAN, to a fraction of a pixel.
        wcs.wcs.ctype = "RA---SIN", "DEC--SIN"
        part = wcs[10900:11100, 10900:11100]
        assert place(part, (200, 200)) == (10900, 10900)
        with pytest.raises(GeometryError, match="of pixels of 0.4002"):
            place(wcs)
        return
    elif frame == "swapped axes":
        wcs.wcs.ctype = "DEC--TAN", "RA---TAN"
        wcs.wcs.crval = -62, 0
        wcs.wcs.cdelt = 1, 1
        wcs.wcs.pc = np.array([[0, 0.4], [-0.4, 0]]) / 3600
    elif frame == "CROTA":
        cards = header(CRPIX1=11000.5, CRPIX2=11000.5, CRVAL1=0.0, CRVAL2=-62.0)
        cards.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"})
        cards.update({"CDELT1": -0.4 / 3600, "CDELT2": 0.4 / 3600, "CROTA2": 90.0})
        with pytest.raises(GeometryError, match="rotated by"):
            place(WCS(cards))
        cards["CROTA2"] = 0.0
        wcs = WCS(cards)
    assert place(wcs) == (0, 0)
    assert place(wcs[100:200, 300:400], (100, 100)) == (300, 100)


def test_lookup_tables_do_not_count(tan_wcs):
    """Lookup tables are ignored, because they contain the correction of positions."""
    wcs = tan_wcs(WHOLE)
    shift = np.full((2, 2), 5, np.float32)
    wcs.cpdis1 = DistortionLookupTable(shift, (1, 1), (1, 1), (2e4, 2e4))
    assert place(wcs) == (0, 0)
    offsets = np.full((110, 110), 1.5)
    offset_map = OffsetMap(offsets, -offsets, grid=MapGrid((110, 110), 200))
    corrected = add_lookup_tables(tan_wcs(WHOLE), offset_map)
    assert place(corrected[100:200, 300:400], (100, 100)) == (300, 100)


def test_a_gwcs_is_evaluated(tan_wcs):
    """A gWCS is evaluated beyond its bounding box, and before it is corrected."""
    flat = np.zeros((110, 110))
    grid = MapGrid((110, 110), 200)
    offsets = OffsetMap(flat, flat, grid=grid)
    assert place(apply_offsets(tan_wcs(WHOLE), offsets)) == (0, 0)
    part = tan_wcs(WHOLE)[100:200, 300:400]
    gwcs = apply_offsets(part, offsets, origin=(300, 100), image_shape=(10, 10))
    assert place(gwcs, (100, 100)) == (300, 100)
    turned = apply_offsets(changed(tan_wcs(WHOLE), "rotated by 90"), offsets)
    with pytest.raises(GeometryError, match="rotated by 90"):
        place(turned)


@pytest.mark.parametrize("binning", [1, 2, 8])
def test_offsets_are_those_of_the_pixels(tan_wcs, binning):
    """Binned images are placed with ``binning=`` only."""
    shape = tuple(n // binning for n in WHOLE)
    wcs = tan_wcs(shape, scale=0.4 * binning)
    offsets = OffsetMap(
        *np.random.default_rng(1).normal(0, 0.1, (2, 110, 110)),
        grid=MapGrid((110, 110), 200),
        key=MapKey("dra", "0000", "R", "single"),
    )
    options = {"binning": binning, "image_shape": shape}
    whole = lookup_distortion(wcs, offsets, **options)
    part = wcs[100:200, 300:400]
    options["image_shape"] = (100, 100)
    cut = lookup_distortion(part, offsets, **options)
    for ours, theirs, start in zip(cut.first, whole.first, (300, 100), strict=True):
        assert ours == theirs - start
    np.testing.assert_allclose(cut.dx, whole.dx, rtol=0, atol=1e-5)
    lookup_distortion(part, offsets, origin=(300, 100), **options)
    for how in ("rotated by 90", "of pixels of"):
        other = changed(wcs, "of pixels of 0.26 x 0.26" if "pixels" in how else how)
        with pytest.raises(GeometryError, match=how):
            lookup_distortion(other, offsets, binning=binning, image_shape=shape)
    with pytest.raises(GeometryError, match=r"give origin=\(300, 100\)"):
        lookup_distortion(part, offsets, origin=(0, 0), **options)


@pytest.mark.parametrize("shape", [(True, True), (10.5, 3), "ab", 0, (3, -1)])
def test_the_shape_of_an_image_is_two_whole_numbers(tan_wcs, shape):
    """Shapes other than two integers are refused, True included."""
    flat = np.zeros((110, 110))
    offsets = OffsetMap(flat, flat, grid=MapGrid((110, 110), 200))
    with pytest.raises(GeometryError, match="image"):
        apply_offsets(tan_wcs(WHOLE), offsets, image_shape=shape)


def test_sip_may_add_to_a_linear_part_that_agrees(tan_wcs):
    """SIP may displace pixels by a tenth of a cell."""
    a = np.zeros((3, 3))
    for corner, refused in ((30, False), (90, True)):
        a[2, 0] = corner / 11000**2
        wcs = tan_wcs(WHOLE)
        wcs.wcs.ctype = "RA---TAN-SIP", "DEC--TAN-SIP"
        wcs.sip = Sip(a, np.zeros((3, 3)), None, None, wcs.wcs.crpix)
        if refused:
            with pytest.raises(GeometryError, match="shape of the full stack"):
                place(wcs)
        else:
            assert place(wcs) == (0, 0)


def test_tpv_is_a_part_of_the_position(tan_wcs):
    """The third-order terms of TPV displace pixels of the image."""
    cards = tan_wcs(WHOLE).to_header()
    cards.update({"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV"})
    cards.update({"PV1_1": 1.0, "PV2_1": 1.0})
    assert place(WCS(cards)) == (0, 0)
    # 10 pixels at a distance of 11000.
    cards["PV1_7"] = 10 / 11000 / (11000 * 0.4 / 3600) ** 2
    with pytest.raises(GeometryError, match="shape of the full stack"):
        place(WCS(cards))


def test_a_wcs_that_cannot_be_evaluated_is_refused(tan_wcs):
    """A singular matrix and NaN are refused."""
    wcs = tan_wcs(WHOLE)
    wcs.wcs.cdelt = 0, 0
    with pytest.raises(GeometryError, match="cannot be evaluated"):
        place(wcs)
    wcs = tan_wcs(WHOLE)
    wcs.wcs.crval = np.nan, -62
    with pytest.raises(GeometryError, match="WCS of the image"):
        place(wcs)


def test_a_wcs_without_the_sky_is_none():
    """A WCS without CTYPE or with other axes is ignored."""
    for ctype in (("", ""), ("LINEAR", "LINEAR")):
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ctype
        assert place(wcs) == (0, 0)
        with pytest.raises(GeometryError, match="no celestial WCS"):
            place(wcs, (100, 100))


# Origins that are given


def test_a_cutout_records_its_own_origin():
    """Cutout2D records its origin, beyond the edge of the image, too."""
    whole = np.broadcast_to(np.float32(0), WHOLE)
    cut = Cutout2D(whole, (500, 700), (100, 200))
    assert find_origin({}, None, cut.shape, GRID, cut) == (400, 650)
    assert find_origin({}, None, cut.shape, GRID, cut.origin_original) == (400, 650)
    beyond = Cutout2D(whole, (0, 700), (100, 200), mode="partial", fill_value=0)
    with pytest.raises(GeometryError, match="-100 to 100 along x"):
        find_origin({}, None, beyond.shape, GRID, beyond)


@pytest.mark.parametrize("has_wcs", [True, False, None])
def test_a_cutout_of_a_cutout_is_not_on_the_stack(tan_wcs, has_wcs):
    """The origin of a second cut-out contradicts its WCS, or that of the image."""
    whole = np.broadcast_to(np.float32(0), WHOLE)
    first = Cutout2D(whole, (5000, 7000), (1000, 2000), wcs=tan_wcs(WHOLE))
    second = Cutout2D(first.data, (500, 700), (100, 200), wcs=first.wcs)
    wcs = {True: second.wcs, False: None, None: WCS(naxis=2)}[has_wcs]
    with pytest.raises(GeometryError, match=r"give origin=\(4400, 7150\)"):
        place(wcs, second.shape, second)
    assert place(second.wcs, second.shape) == (4400, 7150)
    assert place(first.wcs if has_wcs else None, first.shape, first) == (4000, 6500)


def test_an_image_of_another_shape_than_its_cutout(tan_wcs):
    """The image may be binned, so that its origin is requested."""
    whole = np.broadcast_to(np.float32(0), WHOLE)
    cut = Cutout2D(whole, (500, 700), (100, 200))
    with pytest.raises(GeometryError, match=r"\(50, 100\), the cut-out"):
        place(None, (50, 100), cut)
    cut = Cutout2D(whole, (500, 700), (100, 200), wcs=tan_wcs(WHOLE))
    # A file without a WCS has one without CTYPE.
    for wcs in (None, WCS(naxis=2)):
        with pytest.raises(GeometryError, match=r"\(50, 100\), the cut-out"):
            place(wcs, (50, 100), cut)
        assert place(wcs, (100, 200), cut) == (400, 650)


@pytest.mark.parametrize("origin", [(21000, 0), (0, -5), (0, 21500)])
def test_an_image_beyond_the_map_is_refused(origin):
    """All pixels of an image must be on the stack."""
    with pytest.raises(GeometryError, match="not part of the stack"):
        find_origin({}, None, (1600, 1600), GRID, origin)


@pytest.mark.parametrize("origin", [3, (1, 2, 3), ("a", 1), (np.nan, 0)])
def test_nonsense_origins_are_refused(origin):
    """An origin must be two finite numbers."""
    with pytest.raises(GeometryError, match="origin must be two pixel coordinates"):
        find_origin({}, None, (16, 16), GRID, origin)


@pytest.mark.parametrize("shape", [(4, 5, 6), (10,), (0, 10)])
def test_only_2d_images_have_a_place(shape):
    """A cube or an empty image is refused."""
    with pytest.raises(GeometryError, match="2D image"):
        find_origin({}, None, shape, GRID)


# LTV1, LTV2 and other keywords


def test_ltv_needs_a_wcs_that_confirms_it(tan_wcs):
    """IRAF's convention is physical = image - LTV, without keywords of value 0."""
    cards = {"LTV1": -10200.0, "LTV2": -10100.0}
    wcs = tan_wcs(WHOLE)[10100:11700, 10200:11800]
    assert place(wcs, (1600, 1600), **cards) == (10200, 10100)
    with pytest.raises(GeometryError, match=r"give origin=\(10200, 10100\)"):
        place(None, (1600, 1600), **cards)
    assert place(None, (1600, 1600), (10200, 10100), **cards) == (10200, 10100)
    with pytest.raises(GeometryError, match=r"give origin=\(10200, 0\)"):
        place(None, (1600, 1600), LTV1=-10200.0)


def test_ltv_of_another_survey(tan_wcs):
    """For an unknown field a celestial WCS is required."""
    cards = {"LTV1": -100.0, "LTV2": 0.0}
    assert find_origin(cards, tan_wcs(WHOLE), (50, 60), GRID) == (100, 0)
    assert find_origin(cards, tan_wcs(WHOLE), (50, 60), GRID, field="M31") == (100, 0)


def test_ltv_of_a_whole_image_of_another_camera():
    """LTV of a trimmed raw frame or of a mosaic do not apply to a full image."""
    cards = {"LTV1": -50.0, "LTV2": 2048.0}
    assert find_origin(cards, None, WHOLE, GRID) == (0, 0)
    with pytest.raises(GeometryError, match="no celestial WCS"):
        find_origin(cards, None, WHOLE, GRID, field="0403")


def test_ltv_must_be_numbers():
    """Invalid keywords are refused, and origin= takes precedence over them."""
    cards = {"LTV1": "left", "LTV2": 0}
    with pytest.raises(GeometryError, match="LTV1 and LTV2"):
        find_origin(cards, None, (16, 16), GRID)
    assert find_origin(cards, None, (16, 16), GRID, (3, 4)) == (3, 4)


@pytest.mark.parametrize("card", [("LTM1_1", 0.5), ("LTM2_1", 1.0), ("LTM2_2", -1)])
def test_a_binned_or_transposed_image_is_refused(tan_wcs, card):
    """Images with other LTM than the unit matrix are refused."""
    cards = dict([card])
    for options in ({}, {"origin": (0, 0)}):
        with pytest.raises(GeometryError, match=f"binned.*{card[0]} = {card[1]}"):
            place(tan_wcs(WHOLE), **options, **cards)


def test_the_stack_may_be_of_another_size(tan_wcs):
    """KS4NAX1 and KS4NAX2 of the image must agree with the map."""
    small = tan_wcs((660, 660))
    with pytest.raises(GeometryError, match="--image-size 660 660"):
        place(small, (660, 660), KS4NAX1=660, KS4NAX2=660)
    grid = MapGrid.for_image((33, 33), (660, 660))
    cards = header(KS4NAX1=660, KS4NAX2=660)
    assert find_origin(cards, small, (660, 660), grid, field="0000") == (0, 0)
    part = small[100:300, 400:600]
    assert find_origin(cards, part, (200, 200), grid, field="0000") == (400, 100)


def test_a_grid_may_begin_elsewhere(tan_wcs):
    """The first pixel of the image is one after the origin of the grid."""
    grid = MapGrid.for_image((33, 33), (660, 660))
    grid = MapGrid(grid.shape, grid.cell_size, (99, 199))
    wcs = tan_wcs((660, 660))
    assert find_origin({}, wcs, (660, 660), grid, field="0000") == (100, 200)
    part = wcs[100:300, 400:600]
    assert find_origin({}, part, (200, 200), grid, field="0000") == (500, 300)


# What is known of the field


def test_the_field_of_the_map_counts_without_one_in_the_header(tan_wcs):
    """A WCS that is elsewhere on the sky contradicts the key of the map."""
    wcs = tan_wcs(WHOLE)
    assert find_origin({}, wcs, WHOLE, GRID, field="0000") == (0, 0)
    with pytest.raises(GeometryError, match="40.3 deg from the centre of field 0403"):
        find_origin({}, wcs, WHOLE, GRID, field="0403")


@pytest.mark.parametrize("cards", [{}, {"FIELD1": "5000"}, {"FIELD1": "0403"}])
def test_images_of_other_surveys_are_placed_by_their_shape(tan_wcs, cards):
    """The shape is sufficient for a map without a key or of another survey."""
    wcs = changed(tan_wcs(WHOLE), "rotated by 90")
    assert find_origin(cards, wcs, WHOLE, GRID) == (0, 0)
    assert find_origin(cards, wcs, WHOLE, GRID, field="5000") == (0, 0)
    with pytest.raises(GeometryError, match="no celestial WCS"):
        find_origin(cards, wcs, (100, 100), GRID)


def test_a_map_without_key_of_an_image_of_ks4(tan_wcs):
    """FIELD1 determines the frame, unless the map is that of a binned full stack."""
    grid = MapGrid.for_image((55, 55), (2200, 2200))
    binned = tan_wcs((2200, 2200), scale=4.0)
    cards = header(KS4NAX1=22000, KS4NAX2=22000)
    assert find_origin(cards, binned, (2200, 2200), grid) == (0, 0)
    with pytest.raises(GeometryError, match="of pixels of 4 x 4 arcsec"):
        find_origin(header(), binned, (2200, 2200), grid, field="0000")
    for how in ("rotated by 90", "of pixels of 0.26 x 0.26", "begins there"):
        with pytest.raises(GeometryError, match=how):
            find_origin(header(), changed(tan_wcs(WHOLE), how), WHOLE, GRID)


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"FIELD1": "0404"}, "field 0404, the map of field 0403"),
        ({"FIELD2": "000-62"}, "field 0000, the map of field 0403"),
        ({"FILTER": "I"}, "band I, the map of band R"),
    ],
)
def test_another_field_or_band_is_refused(make_key, cards, words):
    """The message names field or band of image and map."""
    with pytest.raises(MapMismatchError, match=words):
        check_belongs(cards, make_key())


@pytest.mark.parametrize(
    "cards",
    [{}, {"FIELD1": "0403", "FILTER": "R"}, {"FIELD1": 403}, {"FIELD1": "0403.122-72"}],
)
def test_what_is_not_said_does_not_disagree(make_key, cards):
    """Missing keywords and maps without a key are not compared."""
    assert check_belongs(cards, make_key()) is None
    assert check_belongs(cards | {"FILTER": "I"}, None) is None
