# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Fields and tiles of KS4."""

import numpy as np
import pytest
from astropy.coordinates import AltAz, SkyCoord
from astropy.table import Table
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from ks4_ccd.exceptions import GeometryError, KS4Error
from ks4_ccd.ks4.tiling import (
    field_center,
    field_number,
    field_of,
    tile_name,
)

N_FIELDS = 2749
HALF_WIDTH = 11000 * 0.4 / 3600  # degrees in the tangent plane


@pytest.fixture(scope="module")
def centers():
    """Return the centres of all fields, in the order of their numbers."""
    centers = [field_center(number) for number in range(N_FIELDS)]
    return SkyCoord([c.ra for c in centers], [c.dec for c in centers])


@pytest.fixture(scope="module")
def grid(ks4_data):
    """Return the KS4 part of the table of tiles of the survey."""
    grid = Table.read(ks4_data / "kmtnet_grid.fits")[:N_FIELDS]
    grid.convert_bytestring_to_unicode()
    return grid


def sky(n, south_of, seed=0):
    """Return positions spread evenly over the sky south of a declination."""
    rng = np.random.default_rng(seed)
    sine = rng.uniform(-1, np.sin(np.radians(south_of)), n)
    return SkyCoord(rng.uniform(0, 360, n), np.degrees(np.arcsin(sine)), unit="deg")


def tile_wcs(center):
    """Return the WCS of a full stack."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = center.ra.deg, center.dec.deg
    wcs.wcs.crpix = 11000.5, 11000.5
    wcs.wcs.cdelt = -0.4 / 3600, 0.4 / 3600
    return wcs


def test_centers_of_the_survey_table(centers, grid):
    """All 2749 centres are those of the survey's table (which has float32)."""
    table = SkyCoord(grid["ra[deg]"], grid["dec[deg]"], unit="deg")
    assert np.array_equal(grid["field_name1"], np.arange(N_FIELDS))
    assert centers.separation(table).arcsec.max() < 0.1


def test_tile_names_of_the_survey_table(grid):
    """All 2749 tile names are those of the survey's table."""
    assert [tile_name(n) for n in range(N_FIELDS)] == list(grid["field_name2"])


@pytest.mark.parametrize(
    ("number", "ra", "tile"),
    [
        (670, 22.5, "023-86"),
        (672, 67.5, "068-86"),
        (1309, 2.5, "003-38"),
        (1311, 7.5, "008-38"),
        (1078, 164.503, "165-34"),
        (1091, 195.497, "195-34"),
        (2, 8.182, "008-62"),
        (0, 0, "000-62"),
        (695, 0, "000-90"),
        (2748, 356.129, "356-60"),
    ],
)
def test_tile_names_round_half_up(number, ra, tile):
    """The RA in a tile name is rounded half up, as in the survey's table."""
    assert field_center(number).ra.deg == pytest.approx(ra, abs=5e-4)
    assert tile_name(number) == tile
    assert field_number(tile) == f"{number:04d}"


def test_tile_names_are_unique_and_determine_fields():
    """A tile name determines its field."""
    numbers = [field_number(tile_name(number)) for number in range(N_FIELDS)]
    assert numbers == [f"{number:04d}" for number in range(N_FIELDS)]


@pytest.mark.parametrize(
    ("field", "ra", "dec"),
    [
        ("0000", 0, -62),
        ("0403", 122.033898, -72),
        (403, 122.033898, -72),
        ("122-72", 122.033898, -72),
        ("0403.122-72", 122.033898, -72),
        ("0695", 0, -90),
        ("0696", 0, -30),
        ("2748", 356.129032, -60),
    ],
)
def test_field_center(field, ra, dec):
    """Every name of a field yields its centre, an ICRS position."""
    center = field_center(field)
    assert center.isscalar
    assert center.frame.name == "icrs"
    assert (center.ra.deg, center.dec.deg) == pytest.approx((ra, dec), abs=1e-6)


@pytest.mark.parametrize(
    "field",
    ["2749", 9999, -1, "122-71", "0403.123-72", "0403.123", "", "M31", None, 4.5],
)
def test_unknown_fields_are_refused(field):
    """The message quotes a name that is not a KS4 field, or contradicts itself."""
    for function in (field_center, field_number, tile_name):
        with pytest.raises(KS4Error) as caught:
            function(field)
        assert repr(field) in str(caught.value)


def test_field_of_its_center(centers):
    """Each centre is in its own field."""
    fields = field_of(centers)
    assert fields.tolist() == [f"{number:04d}" for number in range(N_FIELDS)]


def test_field_of_is_the_nearest_that_contains_the_position(centers):
    """A brute-force search over all tiles returns the same fields."""
    coord = SkyCoord(
        [*sky(1500, -28.9).ra, *sky(1500, -80, seed=1).ra],
        [*sky(1500, -28.9).dec, *sky(1500, -80, seed=1).dec],
    )
    tile, position = centers[np.newaxis], coord[:, np.newaxis]
    distance = position.separation(tile)
    angle = tile.position_angle(position)
    radius = np.tan(np.minimum(distance.rad, 1.5))
    inside = np.maximum(abs(np.sin(angle)), abs(np.cos(angle))) * radius <= np.radians(
        HALF_WIDTH
    )
    assert inside.any(axis=1).all()
    nearest = np.argmin(np.where(inside, distance.deg, np.inf), axis=1)
    assert np.array_equal(field_of(coord).astype(int), nearest)


def test_there_are_no_gaps():
    """Every position south of -29 degrees is in a field."""
    assert field_of(sky(200_000, -29)).shape == (200_000,)


@given(
    number=st.integers(0, N_FIELDS - 1),
    x=st.floats(-0.5, 21999.5),
    y=st.floats(-0.5, 21999.5),
)
def test_every_pixel_is_in_a_field_at_least_as_near(number, x, y):
    """A pixel of a stack is in its field, or in one whose centre is nearer."""
    center = field_center(number)
    # Rounding can move a position at the edge out of the tile.
    shrunk = 10999.5 + (np.array([x, y]) - 10999.5) * (1 - 1e-9)
    position = tile_wcs(center).pixel_to_world(*shrunk)
    found = field_center(field_of(position))
    tolerance = 1e-9
    assert position.separation(found).deg <= position.separation(center).deg + tolerance


@pytest.mark.parametrize(("north", "field"), [(-1e-6, "0775"), (1e-6, None)])
def test_the_edge_is_that_of_the_tangent_plane(north, field):
    """The northern edge of the survey is the straight edge of the stacks."""
    wcs = tile_wcs(field_center("0775"))
    position = wcs.pixel_to_world(9000, 21999.5 + north)
    if field is None:
        with pytest.raises(GeometryError):
            field_of(position)
    else:
        assert field_of(position) == field


def test_scalar_and_array_results():
    """A scalar position returns a str; an array returns an array of its shape."""
    assert field_of(SkyCoord(0, -62, unit="deg")) == "0000"
    assert type(field_of(SkyCoord(0, -62, unit="deg"))) is str
    shaped = field_of(sky(24, -30).reshape(2, 3, 4))
    assert shaped.shape == (2, 3, 4)
    assert shaped[1, 2, 3] == field_of(sky(24, -30)[-1])
    assert field_of(sky(0, -30)).shape == (0,)


@pytest.mark.parametrize("frame", ["galactic", "fk5", "barycentrictrueecliptic"])
def test_any_frame(frame):
    """The result does not depend on the frame of a position."""
    coord = sky(500, -31)
    assert np.array_equal(field_of(coord.transform_to(frame)), field_of(coord))


@pytest.mark.parametrize("dec", [-28.77, 0, 45, 90])
def test_positions_outside_the_survey(dec):
    """The message quotes a position in no tile."""
    with pytest.raises(
        GeometryError, match=rf"12\.50000 {dec:+.5f}".replace("+", r"\+")
    ):
        field_of(SkyCoord(12.5, dec, unit="deg"))


def test_first_position_outside_the_survey_is_quoted():
    """The message quotes the first of many positions, and the number of the others."""
    coord = SkyCoord([0, 10, 20, 30], [-62, 5, -62, 6], unit="deg")
    with pytest.raises(GeometryError, match=r"10\.00000 \+5\.00000 .*1 more"):
        field_of(coord)


def test_position_that_is_not_finite():
    """NaN is in no tile."""
    with pytest.raises(GeometryError, match="nan"):
        field_of(SkyCoord(np.nan, np.nan, unit="deg"))


def test_invalid_positions():
    """Only coordinates that can be converted to ICRS are accepted."""
    with pytest.raises(KS4Error, match="SkyCoord"):
        field_of((12.0, -62.0))
    with pytest.raises(KS4Error, match="ICRS"):
        field_of(SkyCoord(0, 45, unit="deg", frame=AltAz()))
