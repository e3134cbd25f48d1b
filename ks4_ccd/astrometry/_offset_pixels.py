# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Convert offsets on the sky to displacements of pixels by a WCS's derivatives."""

import copy
from collections.abc import Callable

import gwcs
import numpy as np
from astropy import units as u
from astropy.coordinates import BaseCoordinateFrame, ConvertError, SkyCoord
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame
from numpy.typing import NDArray

from ks4_ccd.exceptions import GeometryError, reason_of

__all__ = ["celestial_frame", "pixel_offsets"]


def celestial_frame(wcs: WCS) -> BaseCoordinateFrame:
    """
    Return the celestial frame of a FITS WCS.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`

    Returns
    -------
    frame : `~astropy.coordinates.BaseCoordinateFrame`

    Raises
    ------
    GeometryError
        If RADESYS or EQUINOX specify a frame that astropy does not have.
    """
    try:
        return wcs_to_celestial_frame(wcs)
    except ValueError as error:
        msg = (
            "expected a WCS in ICRS, FK5 or FK4, found RADESYS = "
            f"{wcs.wcs.radesys!r} and EQUINOX = {wcs.wcs.equinox}"
        )
        raise GeometryError(msg) from error


def pixel_offsets(
    wcs: WCS | gwcs.WCS, x: NDArray, y: NDArray, dra: NDArray, ddec: NDArray
) -> tuple[NDArray, NDArray]:
    """
    Convert offsets on the sky to displacements of pixels, to first order.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS` or `~gwcs.wcs.WCS`
    x, y : 1D `~numpy.ndarray`
        0-based pixel coordinates of the columns and rows of nodes.
    dra, ddec : 2D `~numpy.ndarray`
        The offsets at the nodes, indexed ``[row, column]``, in arcsec along
        RA cos(dec) and Dec (ICRS).

    Returns
    -------
    dx, dy : 2D `~numpy.ndarray`
        Displacements in pixels.

    Raises
    ------
    GeometryError
        If the WCS cannot be evaluated at a node or is singular there.
    """
    x, y = np.meshgrid(x, y)
    half = 0.5
    vectors = _unit_vectors_of(wcs)
    center = vectors(x, y)
    along_x = vectors(x + half, y) - vectors(x - half, y)
    along_y = vectors(x, y + half) - vectors(x, y - half)
    # Components along east and north are not singular near the pole.
    east = np.stack([-center[1], center[0], np.zeros_like(x)])
    length = np.hypot(center[0], center[1])
    if np.any(length == 0):
        msg = "the centre of a cell of the map is a pole, where east is not defined"
        raise GeometryError(msg)
    east /= length
    north = np.cross(center, east, axis=0)
    xe, xn, ye, yn = (
        np.sum(change * direction, axis=0)
        for change in (along_x, along_y)
        for direction in (east, north)
    )
    determinant = xe * yn - ye * xn
    if not np.all(np.abs(determinant) > 0):
        msg = (
            "the WCS is undefined or singular in some cells of the map: expected a "
            "celestial WCS that is defined and not singular on the whole map"
        )
        raise GeometryError(msg)
    arcsec = np.pi / 180 / 3600
    dra, ddec = dra * arcsec, ddec * arcsec
    return (yn * dra - ye * ddec) / determinant, (xe * ddec - xn * dra) / determinant


def _unit_vectors_of(wcs: WCS | gwcs.WCS) -> Callable[[NDArray, NDArray], NDArray]:
    """Return a function from pixels x, y to unit vectors in ICRS."""
    if isinstance(wcs, gwcs.WCS):
        unbounded = copy.deepcopy(wcs)
        unbounded.bounding_box = None

        def position(x: NDArray, y: NDArray) -> SkyCoord:
            # The high-level call handles units, the order of axes and the frame.
            try:
                return unbounded.pixel_to_world(x, y).icrs
            except (ValueError, TypeError, u.UnitsError, ConvertError) as error:
                raise _unusable(error) from error

    else:
        frame = celestial_frame(wcs)

        def position(x: NDArray, y: NDArray) -> SkyCoord:
            sky = wcs.all_pix2world(x, y, 0)
            lon, lat = sky[wcs.wcs.lng], sky[wcs.wcs.lat]
            return SkyCoord(lon, lat, unit="deg", frame=frame).icrs

    def vectors(x: NDArray, y: NDArray) -> NDArray:
        return position(x, y).cartesian.xyz.value

    return vectors


def _unusable(error: Exception) -> GeometryError:
    msg = (
        f"the gWCS cannot be evaluated at pixel coordinates ({reason_of(error)}): "
        "correct its transforms or their units; wcs.pixel_to_world(x, y) must return a "
        "SkyCoord"
    )
    return GeometryError(msg)
