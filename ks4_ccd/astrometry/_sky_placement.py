# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Locate an image on a KS4 stack through its positions on the sky."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import ConvertError, SkyCoord
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame
from astropy.wcs.wcsapi import BaseHighLevelWCS, BaseLowLevelWCS, HighLevelWCSWrapper

from ks4_ccd.exceptions import GeometryError, reason_of
from ks4_ccd.ks4.frame import STACK_SHAPE, StackFrame

__all__ = ["SkyPlacement", "sky_positions"]

# RA and declination in degrees.
_Position = tuple[np.ndarray, np.ndarray]

# Largest difference in pixels between placements that agree.
_TOLERANCE = 1
# Largest additional difference by SIP, in cells: the zero point does not change over
# a tenth of a cell.
_SIP_TOLERANCE = 0.1
# Pixels along a side of the image that are compared, the corners among them.
_POINTS = 5


class SkyPlacement:
    """
    The pixels of an image on a stack, according to the WCS of the image.

    Parameters
    ----------
    positions : list of tuple of 1D `~numpy.ndarray`
        The sky positions of some pixels, as `sky_positions` returns them.
    own : 2D `~numpy.ndarray`
        The 0-based coordinates of these pixels in the image, ``[i, (x, y)]``: a
        regular array of points, row by row, that includes the corners.
    frame : `~ks4_ccd.ks4.frame.StackFrame`
        The frame of the stack.
    """

    def __init__(
        self, positions: Sequence[_Position], own: np.ndarray, frame: StackFrame
    ) -> None:
        self.frame, self.own = frame, own
        self._sky = positions[-1]
        self.reached = [np.stack(frame.pixels(*sky), axis=1) for sky in positions]
        self._shifts = [there - own for there in self.reached]

    @classmethod
    def of(
        cls, wcs: object, image_shape: Sequence[int], frame: StackFrame | None
    ) -> "SkyPlacement | None":
        """
        Return the placement of an image, `None` without a frame or celestial WCS.

        Parameters
        ----------
        wcs : `~astropy.wcs.WCS`, `~gwcs.wcs.WCS` or `None`
        image_shape : tuple of int
            The shape ``(rows, columns)`` of the image.
        frame : `~ks4_ccd.ks4.frame.StackFrame` or `None`

        Raises
        ------
        GeometryError
            If the WCS cannot be evaluated at all pixels.
        """
        if frame is None:
            return None
        y, x = (np.linspace(0, n - 1, _POINTS) for n in image_shape)
        own = np.stack([p.ravel() for p in np.meshgrid(x, y)], axis=1)
        positions = sky_positions(wcs, *own.T)
        if not positions:
            return None
        if not np.isfinite(positions).all():
            msg = (
                "the WCS of the image has no position on the sky for some of its "
                "pixels: correct it, or remove it (ccd.wcs = None)"
            )
            raise GeometryError(msg)
        return cls(positions, own, frame)

    @property
    def is_elsewhere(self) -> bool:
        """Whether the image is entirely outside the stack."""
        return not self.frame.is_near_stack(*self.reached[-1].T).any()

    @property
    def is_binned_stack(self) -> bool:
        """Whether the image is a full, binned stack of DR1."""
        columns, rows = self.own[-1] + 1
        binning = np.array([STACK_SHAPE[1] / columns, STACK_SHAPE[0] / rows])
        expected = (self.own - self.own[-1] / 2) * binning
        off = np.abs(self.reached[0] - self.frame.middle - expected)
        return bool((off <= _TOLERANCE * binning).all())

    @property
    def origin(self) -> tuple[float, float] | None:
        """
        The 0-based pixel position ``(x, y)`` of the image's first pixel on the stack.

        It is a whole number of pixels from the first pixel of the stack; `None`
        for an image that is not, pixel by pixel, a part of the stack.
        """
        first = np.array(self.frame.first_pixel)
        for shifts in self._shifts:
            if np.isfinite(shifts).all():
                x, y = (first + np.rint(shifts.mean(axis=0) - first)).tolist()
                place = x, y
                if self.agrees(place):
                    return place
        return None

    def agrees(self, place: Sequence[float]) -> bool:
        """Return whether the WCS confirms that the first pixel is at ``place``."""
        off = [np.abs(shifts - place).max() for shifts in self._shifts]
        cell = min(self.frame.grid.cell_size)
        # Comparisons with NaN are false.
        within = all(one <= max(_TOLERANCE, _SIP_TOLERANCE * cell) for one in off)
        return bool(within and min(off) <= _TOLERANCE)

    def distance(self, place: Sequence[float]) -> float:
        """Return the largest distance of a pixel from a placement, in pixels."""
        return np.hypot(*(self._shifts[-1] - place).T).max()

    def described(self) -> str:
        """Describe position and orientation of the image for messages."""
        if self.is_elsewhere:
            lon, lat = (angle[len(angle) // 2] for angle in self._sky)
            center = self.frame.center
            away = SkyCoord(lon, lat, unit="deg").separation(center).deg
            return (
                f"centres it at RA, Dec {lon:.4f} {lat:+.4f} deg, {away:.3g} deg from "
                f"the centre of field {self.frame.field} at {center.ra.deg:.4f} "
                f"{center.dec.deg:+.4f}"
            )
        first, last = (self.reached[-1][i] for i in (0, -1))
        return (
            f"puts its first pixel at ({first[0]:.1f}, {first[1]:.1f}) and its last at "
            f"({last[0]:.1f}, {last[1]:.1f}): {self._change()}"
        )

    def _change(self) -> str:
        if self.origin is not None:
            return "the image is a part of the stack that begins there"
        corners = self.reached[-1][[0, _POINTS - 1, -_POINTS]]
        width, height = np.maximum(self.own[-1], 1)
        along_x = (corners[1] - corners[0]) / width
        along_y = (corners[2] - corners[0]) / height
        changes = []
        if along_x[0] * along_y[1] < along_x[1] * along_y[0]:
            changes.append("mirrored")
        angle = np.degrees(np.arctan2(along_x[1], along_x[0]))
        if abs(angle) > 179.995:
            angle = 180
        if abs(angle) > 0.005:
            changes.append(f"rotated by {angle:.4g} deg")
        scales = np.hypot(*along_x), np.hypot(*along_y)
        if np.abs(np.subtract(scales, 1)).max() > 2e-4:
            sizes = (f"{scale * self.frame.pixel_scale:.4g}" for scale in scales)
            changes.append(f"of pixels of {' x '.join(sizes)} arcsec")
        return f"the image is {' and '.join(changes) or 'resampled'}"


def sky_positions(wcs: object, x: np.ndarray, y: np.ndarray) -> list[_Position]:
    """
    Return the positions of pixels on the sky according to a celestial WCS.

    A WCS with SIP has two for each pixel: without and with SIP.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`, `~gwcs.wcs.WCS` or `None`
        The WCS of an image, of any projection and celestial frame. Lookup
        tables (CPDIS, D2IM) are ignored: they contain the correction by an
        offset map.
    x, y : 1D `~numpy.ndarray`
        0-based pixel coordinates.

    Returns
    -------
    positions : list of tuple of 1D `~numpy.ndarray`
        RA and declination (ICRS) in degrees: one pair, or two with SIP; none
        without a celestial WCS.

    Raises
    ------
    GeometryError
        If the WCS cannot be evaluated.
    """
    try:
        if not isinstance(wcs, WCS):
            found = [_of_any(wcs, x, y)]
        elif wcs.has_celestial:
            found = [_of_fits(wcs, sip, x, y) for sip in dict.fromkeys([None, wcs.sip])]
        else:
            found = []
    except (ValueError, ArithmeticError, TypeError, u.UnitsError) as error:
        msg = (
            f"the WCS of the image cannot be evaluated ({reason_of(error)}): correct "
            "it, or remove it (ccd.wcs = None)"
        )
        raise GeometryError(msg) from error
    return [position for position in found if position is not None]


def _of_fits(wcs: WCS, sip: Any, x: np.ndarray, y: np.ndarray) -> _Position | None:
    bare = WCS(naxis=wcs.naxis)
    # A copy, because the first evaluation modifies it.
    bare.wcs, bare.sip = copy.deepcopy(wcs.wcs), sip
    pixels = np.tile(bare.wcs.crpix - 1, (len(x), 1))
    pixels[:, 0], pixels[:, 1] = x, y
    evaluate = bare.all_pix2world if bare.naxis == 2 else bare.wcs_pix2world
    sky = evaluate(pixels, 0)
    lon, lat = sky[:, bare.wcs.lng], sky[:, bare.wcs.lat]
    try:
        frame = wcs_to_celestial_frame(bare)
    except ValueError:
        # Coordinates of a planet, or of a private frame.
        return None
    if frame.name == "icrs":
        return lon, lat
    return _icrs(SkyCoord(lon, lat, unit="deg", frame=frame))


def _of_any(wcs: Any, x: np.ndarray, y: np.ndarray) -> _Position | None:
    if isinstance(wcs, BaseLowLevelWCS) and not isinstance(wcs, BaseHighLevelWCS):
        wcs = HighLevelWCSWrapper(wcs)
    if not isinstance(wcs, BaseHighLevelWCS) or wcs.low_level_wcs.pixel_n_dim != 2:
        return None
    if getattr(wcs, "bounding_box", None) is not None:
        # The bounding box of a full image does not apply to a part of it.
        wcs = copy.deepcopy(wcs)
        wcs.bounding_box = None
    world = wcs.pixel_to_world(x, y)
    for one in world if isinstance(world, list | tuple) else [world]:
        if isinstance(one, SkyCoord):
            return _icrs(one)
    return None


def _icrs(coordinates: SkyCoord) -> _Position | None:
    try:
        icrs = coordinates.icrs
    except (ConvertError, ValueError, AttributeError):
        # The frame does not transform to ICRS, such as an AltAz without a time.
        return None
    return icrs.ra.deg, icrs.dec.deg
