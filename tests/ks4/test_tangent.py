# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Comparison of the tangent projection with that of astropy.wcs."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from ks4_ccd.ks4.tangent import project, unproject


@pytest.mark.parametrize("dec_0", [-90.0, -72.0, 0.0, 37.5])
def test_standard_coordinates_are_those_of_astropy(dec_0):
    """Projected positions are those of a TAN WCS with the same tangent point."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = 122.0, dec_0
    rng = np.random.default_rng(20)
    pixels = rng.uniform(-60, 60, (2, 500))
    ra, dec = wcs.wcs_pix2world(*pixels, 1)
    assert np.allclose(
        np.degrees(project(ra, dec, 122.0, dec_0)), pixels, rtol=0, atol=1e-10
    )


def test_the_far_side_of_the_sky_is_not_projected():
    """Positions 90 deg or more from the tangent point have no coordinates."""
    xi, eta = project([10, 100.1, 190, np.nan], [0, 0, 0, 0], 10, 0)
    assert np.array_equal(np.isfinite(xi), [True, False, False, False])
    assert np.array_equal(np.isfinite(eta), [True, False, False, False])


@given(
    xi=st.floats(-2, 2),
    eta=st.floats(-2, 2),
    ra_0=st.floats(0, 360),
    dec_0=st.floats(-89.999, 89.999),
)
def test_projection_undoes_its_inverse(xi, eta, ra_0, dec_0):
    """Points in the plane are restored from the sky, also near the poles."""
    ra, dec = unproject(xi, eta, ra_0, dec_0)
    assert 0 <= ra <= 360
    assert np.allclose(project(ra, dec, ra_0, dec_0), (xi, eta), rtol=0, atol=1e-10)


def test_each_position_has_its_own_tangent_point():
    """Coordinates and tangent points broadcast."""
    ra_0, dec_0 = np.array([0.0, 200.0, 359.9]), np.array([-89.9, 0.0, -62.0])
    ra, dec = unproject(np.radians(0.5), np.radians(0.2), ra_0, dec_0)
    centers = SkyCoord(ra_0, dec_0, unit="deg")
    distance = centers.separation(SkyCoord(ra, dec, unit="deg"))
    assert np.allclose(np.tan(distance.rad), np.radians(np.hypot(0.5, 0.2)))
    for one in range(3):
        assert np.allclose(
            project(ra, dec, ra_0, dec_0)[0][one],
            project(ra[one], dec[one], ra_0[one], dec_0[one])[0],
            rtol=0,
            atol=1e-15,
        )
