# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Placement of an image on a KS4 stack through the sky."""

import copy

import numpy as np
from astropy import units as u
from astropy.coordinates import ConvertError, SkyCoord
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame
from astropy.wcs.wcsapi import BaseHighLevelWCS, BaseLowLevelWCS, HighLevelWCSWrapper

from ks4_ccd.exceptions import GeometryError
from ks4_ccd.ks4.frame import STACK_SHAPE

__all__ = ["SkyPlacement", "sky_positions"]

# Pixels between two placements that still agree.
_TOLERANCE = 1
# What SIP may add to a linear part that agrees, in cells: the zero point of a
# tenth of a cell away is the same.
_SIP_TOLERANCE = 0.1
# Pixels along a side of the image that are compared, the corners among them.
_POINTS = 5


class SkyPlacement:
    """
    The pixels of a stack at which the WCS of an image puts its pixels.

    Parameters
    ----------
    positions : list of tuple of 1D `~numpy.ndarray`
        The sky positions of some pixels, as `sky_positions` returns them.
    own : 2D `~numpy.ndarray`
        The 0-based coordinates of these pixels in the image, ``[i, (x, y)]``:
        a square array of them, row by row, the corners included.
    frame : `~ks4_ccd.ks4.frame.StackFrame`
        The frame of the stack.
    """

    def __init__(self, positions, own, frame):
        self.frame, self.own = frame, own
        self._sky = positions[-1]
        self.reached = [np.stack(frame.pixels(*sky), axis=1) for sky in positions]
        self._shifts = [there - own for there in self.reached]

    @classmethod
    def of(cls, wcs, image_shape, frame):
        """
        Return the placement of an image, `None` without a frame or celestial WCS.

        Parameters
        ----------
        wcs : `~astropy.wcs.WCS`, `~gwcs.wcs.WCS` or `None`
        image_shape : tuple of int
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
                "the WCS of the image gives no position on the sky for some of its "
                "pixels: correct it, or remove it (ccd.wcs = None)"
            )
            raise GeometryError(msg)
        return cls(positions, own, frame)

    @property
    def is_elsewhere(self):
        """Whether the image is nowhere near the stack."""
        return not self.frame.is_near_stack(*self.reached[-1].T).any()

    @property
    def is_binned_stack(self):
        """Whether the image is a whole stack of the release in larger pixels."""
        columns, rows = self.own[-1] + 1
        binning = np.array([STACK_SHAPE[1] / columns, STACK_SHAPE[0] / rows])
        expected = (self.own - self.own[-1] / 2) * binning
        off = np.abs(self.reached[0] - self.frame.middle - expected)
        return bool((off <= _TOLERANCE * binning).all())

    @property
    def origin(self):
        """
        The coordinates ``(x, y)`` of the image's first pixel on the stack.

        In whole pixels from the first one of the stack; `None` for an image
        that is not a part of the stack, pixel by pixel.
        """
        first = np.array(self.frame.first_pixel)
        for shifts in self._shifts:
            if np.isfinite(shifts).all():
                place = tuple((first + np.rint(shifts.mean(axis=0) - first)).tolist())
                if self.agrees(place):
                    return place
        return None

    def agrees(self, place):
        """Return whether an image whose first pixel is at ``place`` is here."""
        off = [np.abs(shifts - place).max() for shifts in self._shifts]
        cell = min(self.frame.grid.cell_size)
        # NaN agrees with nothing.
        within = all(one <= max(_TOLERANCE, _SIP_TOLERANCE * cell) for one in off)
        return bool(within and min(off) <= _TOLERANCE)

    def distance(self, place):
        """Return how far in pixels the farthest pixel is from a placement."""
        return np.hypot(*(self._shifts[-1] - place).T).max()

    def described(self):
        """Return in words where the WCS puts the image, and how it was changed."""
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

    def _change(self):
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
            scales = (f"{scale * self.frame.pixel_scale:.4g}" for scale in scales)
            changes.append(f"of pixels of {' x '.join(scales)} arcsec")
        return f"the image is {' and '.join(changes) or 'resampled'}"


def sky_positions(wcs, x, y):
    """
    Return the positions of pixels on the sky according to a celestial WCS.

    A WCS with SIP has two: by its linear part, and by all of it.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`, `~gwcs.wcs.WCS` or `None`
        The WCS of an image, of any projection and celestial frame. Lookup
        tables (CPDIS, D2IM) are left out: they hold the correction by an
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
        # wcslib's own errors are ValueErrors of several lines.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        msg = (
            f"the WCS of the image cannot be evaluated ({reason}): correct it, or "
            "remove it (ccd.wcs = None)"
        )
        raise GeometryError(msg) from error
    return [position for position in found if position is not None]


def _of_fits(wcs, sip, x, y):
    bare = WCS(naxis=wcs.naxis)
    # A copy, because its first evaluation completes it.
    bare.wcs, bare.sip = copy.deepcopy(wcs.wcs), sip
    pixels = np.tile(bare.wcs.crpix - 1, (len(x), 1))
    pixels[:, 0], pixels[:, 1] = x, y
    evaluate = bare.all_pix2world if bare.naxis == 2 else bare.wcs_pix2world
    sky = evaluate(pixels, 0)
    lon, lat = sky[:, bare.wcs.lng], sky[:, bare.wcs.lat]
    try:
        frame = wcs_to_celestial_frame(bare)
    except ValueError:
        # Coordinates of a planet, or of a frame of somebody's own.
        return None
    if frame.name == "icrs":
        return lon, lat
    return _icrs(SkyCoord(lon, lat, unit="deg", frame=frame))


def _of_any(wcs, x, y):
    if isinstance(wcs, BaseLowLevelWCS) and not isinstance(wcs, BaseHighLevelWCS):
        wcs = HighLevelWCSWrapper(wcs)
    if not isinstance(wcs, BaseHighLevelWCS) or wcs.low_level_wcs.pixel_n_dim != 2:
        return None
    if getattr(wcs, "bounding_box", None) is not None:
        # That of a whole image does not hold for a part of it.
        wcs = copy.deepcopy(wcs)
        wcs.bounding_box = None
    world = wcs.pixel_to_world(x, y)
    for one in world if isinstance(world, list | tuple) else [world]:
        if isinstance(one, SkyCoord):
            return _icrs(one)
    return None


def _icrs(coordinates):
    try:
        icrs = coordinates.icrs
    except (ConvertError, ValueError, AttributeError):
        # Nothing is known of where such a frame is, an AltAz without a time say.
        return None
    return icrs.ra.deg, icrs.dec.deg
