# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The tangent (gnomonic) projection, with a tangent point for each position.

`astropy.wcs` has one tangent point for all positions. Here they broadcast:
tiles are compared with the nearest of many centres, and each star of a catalog
moves in the tangent plane at its own position.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["project", "unproject"]


def project(
    ra: ArrayLike, dec: ArrayLike, ra_0: ArrayLike, dec_0: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Project positions on the sky onto tangent planes.

    Parameters
    ----------
    ra, dec : float or array-like
        The positions in degrees.
    ra_0, dec_0 : float or array-like
        The tangent points in degrees; they broadcast with the positions.

    Returns
    -------
    xi, eta : `~numpy.ndarray`
        Standard coordinates in radians, towards east and north; NaN for positions
        90 deg or more from their tangent point.

    References
    ----------
    Calabretta & Greisen 2002, A&A 395, 1077, section 5.1.3.

    Examples
    --------
    >>> from ks4_ccd.ks4.tangent import project
    >>> xi, eta = project(10.0, 45.0, 10.0, 0.0)
    >>> print(f"{xi:.3f} {eta:.3f}")
    0.000 1.000
    """
    delta_ra = np.radians(np.subtract(ra, ra_0))
    dec, dec_0 = np.radians(dec), np.radians(dec_0)
    along = np.cos(dec) * np.cos(delta_ra)
    depth = np.sin(dec) * np.sin(dec_0) + along * np.cos(dec_0)
    depth = np.where(depth > 0, depth, np.nan)
    xi = np.cos(dec) * np.sin(delta_ra) / depth
    eta = (np.sin(dec) * np.cos(dec_0) - along * np.sin(dec_0)) / depth
    return xi, eta


def unproject(
    xi: ArrayLike, eta: ArrayLike, ra_0: ArrayLike, dec_0: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Return the positions on the sky of points in tangent planes.

    Parameters
    ----------
    xi, eta : float or array-like
        Standard coordinates in radians, towards east and north.
    ra_0, dec_0 : float or array-like
        The tangent points in degrees; they broadcast with the coordinates. The poles
        are not singular.

    Returns
    -------
    ra, dec : `~numpy.ndarray`
        In degrees, RA between 0 and 360.

    Examples
    --------
    >>> from ks4_ccd.ks4.tangent import unproject
    >>> ra, dec = unproject(0.0, 1.0, 10.0, 0.0)
    >>> print(f"{ra:.1f} {dec:.1f}")
    10.0 45.0
    """
    dec_0 = np.radians(dec_0)
    cosine, sine = np.cos(dec_0), np.sin(dec_0)
    # The vector to the position, its longitude counted from the tangent point.
    outward = cosine - np.multiply(eta, sine)
    ra = (ra_0 + np.degrees(np.arctan2(xi, outward))) % 360
    dec = np.arctan2(sine + np.multiply(eta, cosine), np.hypot(outward, xi))
    return ra, np.degrees(dec)
