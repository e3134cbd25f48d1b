# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Where an image lies on a map, and whether they belong together."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import Cutout2D

from ks4_ccd import GeometryError, MapGrid, MapMismatchError
from ks4_ccd.footprint import check_belongs, find_origin

GRID = MapGrid((55, 55), 400)
WHOLE = (22000, 22000)


def header(**cards):
    """Return a header of field 0000, whose centre is RA 0, Dec -62."""
    return fits.Header({"FIELD1": "0000", "FILTER": "R"} | cards)


def test_a_whole_stack_begins_at_its_corner():
    """An image of the shape of the stack needs to say nothing."""
    assert find_origin(fits.Header(), None, WHOLE, GRID) == (0, 0)


def test_ltv_tells_the_origin():
    """IRAF's convention: physical = image - LTV."""
    cards = {"LTV1": -10200.0, "LTV2": -10100.0}
    assert find_origin(cards, None, (1600, 1600), GRID) == (10200, 10100)


@pytest.mark.parametrize("place", [(0, 0), (321, 15000), (21000, 20900)])
def test_the_wcs_of_a_slice_tells_the_origin(tan_wcs, place):
    """The reference pixel moves with the slice."""
    x, y = place
    wcs = tan_wcs(WHOLE)[y : y + 800, x : x + 1000]
    assert find_origin(header(), wcs, (800, 1000), GRID) == place


def test_the_wcs_outdoes_a_stale_ltv(tan_wcs):
    """A slice of a cut-out shifts its WCS, not the LTV of its header."""
    wcs = tan_wcs(WHOLE)[10100:, 10200:][50:150, 30:230]
    old = header(LTV1=-10200.0, LTV2=-10100.0)
    assert find_origin(old, wcs, (100, 200), GRID) == (10230, 10150)


def test_a_whole_stack_whose_wcs_says_otherwise_is_refused(tan_wcs):
    """A shifted or reprojected image of the stack's shape; half a pixel is well."""
    wcs = tan_wcs(WHOLE)
    wcs.wcs.crpix += 0.5
    assert find_origin(header(), wcs, WHOLE, GRID) == (0, 0)
    wcs.wcs.crpix += 50
    with pytest.raises(GeometryError, match="-50, -50 pixels from where"):
        find_origin(header(), wcs, WHOLE, GRID)
    assert find_origin(header(), wcs, WHOLE, GRID, (0, 0)) == (0, 0)


def test_a_whole_image_may_have_other_pixels(tan_wcs):
    """The map of another camera: its shape is all that is known."""
    grid = MapGrid.for_image((55, 55), (2200, 2200))
    wcs = tan_wcs((2200, 2200), scale=4.0)
    assert find_origin(header(), wcs, (2200, 2200), grid) == (0, 0)


def test_the_field_of_the_map_serves_where_the_header_has_none(tan_wcs):
    """The WCS of a slice is then of use, too."""
    wcs = tan_wcs(WHOLE)[200:, 100:]
    shift = {"LTV1": 0.0, "LTV2": 0.0}
    assert find_origin(shift, wcs, (50, 60), GRID) == (0, 0)
    assert find_origin(shift, wcs, (50, 60), GRID, field="0000") == (100, 200)


def test_a_wcs_centred_elsewhere_tells_nothing(tan_wcs):
    """A new astrometric solution has a reference pixel of its own."""
    wcs = tan_wcs((1600, 1600), center=(0.3, -61.8))
    with pytest.raises(GeometryError, match="neither LTV1 and LTV2 nor a WCS"):
        find_origin(header(), wcs, (1600, 1600), GRID)


def test_a_binned_image_is_refused(tan_wcs):
    """The pixels of a map's grid are those of the stack."""
    with pytest.raises(GeometryError, match="0.8"):
        find_origin(header(), tan_wcs((500, 500), scale=0.8), (500, 500), GRID)
    with pytest.raises(GeometryError, match="binned"):
        find_origin({"LTV1": 0, "LTV2": 0, "LTM1_1": 0.5}, None, (11000, 11000), GRID)


def test_a_cutout_tells_its_own_origin():
    """Cutout2D knows where it was cut, beyond the edge of the image too."""
    whole = np.broadcast_to(np.float32(0), WHOLE)
    cut = Cutout2D(whole, (500, 700), (100, 200))
    assert find_origin({}, None, cut.shape, GRID, cut) == (400, 650)
    assert find_origin({}, None, cut.shape, GRID, cut.origin_original) == (400, 650)
    beyond = Cutout2D(whole, (0, 700), (100, 200), mode="partial", fill_value=0)
    with pytest.raises(GeometryError, match="-100 to 100 along x"):
        find_origin({}, None, beyond.shape, GRID, beyond)


@pytest.mark.parametrize("origin", [(21000, 0), (0, -5), (0, 21500)])
def test_an_image_beyond_the_map_is_refused(origin):
    """All its pixels must be on the stack."""
    with pytest.raises(GeometryError, match="not part of the stack"):
        find_origin({}, None, (1600, 1600), GRID, origin)


@pytest.mark.parametrize("origin", [3, (1, 2, 3), ("a", 1), (np.nan, 0)])
def test_nonsense_origins_are_refused(origin):
    """An origin is two numbers."""
    with pytest.raises(GeometryError, match="origin must be two pixel coordinates"):
        find_origin({}, None, (16, 16), GRID, origin)


@pytest.mark.parametrize("shape", [(4, 5, 6), (10,), (0, 10)])
def test_only_2d_images_have_a_place(shape):
    """A cube or an empty image is refused."""
    with pytest.raises(GeometryError, match="2D image"):
        find_origin({}, None, shape, GRID)


def test_ltv_must_be_numbers():
    """A header that says nonsense is not guessed at."""
    with pytest.raises(GeometryError, match="LTV1 and LTV2"):
        find_origin({"LTV1": "left", "LTV2": 0}, None, (16, 16), GRID)


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"FIELD1": "0404"}, "field 0404, the map of field 0403"),
        ({"FIELD2": "000-62"}, "field 0000, the map of field 0403"),
        ({"FILTER": "I"}, "band I, the map of band R"),
    ],
)
def test_another_field_or_band_is_refused(make_key, cards, words):
    """Image and map name what they are of."""
    with pytest.raises(MapMismatchError, match=words):
        check_belongs(cards, make_key())


@pytest.mark.parametrize(
    "cards",
    [{}, {"FIELD1": "0403", "FILTER": "R"}, {"FIELD1": 403}, {"FIELD1": "0403.122-72"}],
)
def test_what_is_not_said_does_not_disagree(make_key, cards):
    """A header that agrees or is silent passes, and so does a map without key."""
    assert check_belongs(cards, make_key()) is None
    assert check_belongs(cards | {"FILTER": "I"}, None) is None
