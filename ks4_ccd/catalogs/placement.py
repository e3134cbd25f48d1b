# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Pixel positions of a catalog, compared with its positions on the sky."""

import numpy as np

from ks4_ccd.exceptions import MapMismatchError

__all__ = ["PixelsAndSky"]

# Pixels that the positions of a source may differ by, in the median.
_TOLERANCE = 3
# Pixels that they scatter by, in the median, about a shift that all have.
_SCATTER = 1
# The part of the sources that may be far from where the others are.
_FEW = 0.1
# Sources that show a shift.
_FEWEST = 3
# How likely the sources of a whole stack are all in a part of it.
_UNLIKELY = 1e-3
_SAMPLE = 1000


class PixelsAndSky:
    """
    Where sources are on a KS4 stack: by their pixels, and by the sky.

    Parameters
    ----------
    x, y : 1D `~numpy.ndarray`
        0-based pixel coordinates in the image of the catalog.
    ra, dec : 1D `~numpy.ndarray`
        ICRS, in degrees.
    frame : `~ks4_ccd.ks4.frame.StackFrame`
        The frame of the stack.
    is_sized : bool, optional
        Whether the size of the stack that the catalog is of is known.

    Notes
    -----
    A thousand sources show as much as a million. Those without one of the
    positions are left out.
    """

    def __init__(self, x, y, ra, dec, frame, *, is_sized=False):
        self.frame, self._is_sized = frame, is_sized
        # Chosen among those that have positions: any pattern of the others is possible.
        on_sky = np.isfinite(ra) & np.isfinite(dec)
        rows = _some_of(on_sky)
        self._sky = np.stack([ra[rows], dec[rows]], axis=1)
        rows = _some_of(on_sky & np.isfinite(x) & np.isfinite(y))
        there = np.stack(frame.pixels(ra[rows], dec[rows]), axis=1)
        # NaN on the far side of the sky.
        known = np.isfinite(there).all(axis=1)
        self.own = np.stack([x[rows], y[rows]], axis=1)[known]
        self.there = there[known]

    def __len__(self):
        return len(self.own)

    @property
    def is_in_field(self):
        """Whether most of the sources that have a sky position are in the field."""
        sky, near = self._near()
        return np.count_nonzero(near) >= len(sky) / 2

    def check_field(self):
        """
        Refuse a catalog whose sources are not in the field.

        Raises
        ------
        MapMismatchError
            If most of those that have a sky position are off the stack.
        """
        if self.is_in_field:
            return
        sky, near = self._near()
        ra, dec = sky[np.flatnonzero(~near)[0]]
        center = self.frame.center
        msg = (
            f"the sources are not in field {self.frame.field} that the map is of: "
            f"one is at {ra:.4f} {dec:+.4f} deg, the field's centre at "
            f"{center.ra.deg:.4f} {center.dec.deg:+.4f}"
        )
        raise MapMismatchError(msg)

    def _near(self):
        sky = self._sky[np.isfinite(self._sky).all(axis=1)]
        return sky, self.frame.is_near_stack(*self.frame.pixels(*sky.T))

    def distances(self, origin):
        """
        Return how far pixel positions are from those on the sky, in pixels.

        Parameters
        ----------
        origin : tuple of float
            The coordinates ``(x, y)`` of the image's first pixel on the stack.
        """
        return np.hypot(*(self.there - self.own - origin).T)

    def agree(self, origin):
        """Return whether both kinds of positions agree, with an origin."""
        return not len(self) or np.median(self.distances(origin)) <= _TOLERANCE

    @property
    def shift(self):
        """The ``(x, y)`` that all sources are shifted by, `None` if they are not."""
        if len(self) < _FEWEST:
            return None
        shift = np.median(self.there - self.own, axis=0)
        distances = self.distances(shift)
        alike = np.count_nonzero(distances <= _TOLERANCE) >= (1 - _FEW) * len(self)
        if not alike or np.median(distances) > _SCATTER:
            return None
        return tuple(np.rint(shift).tolist())

    @property
    def origin(self):
        """
        The origin that the sky positions determine, `None` if they do not.

        They do if all sources are shifted alike and lie on the stack then,
        and if the image cannot be a whole stack of another size.
        """
        shift = self.shift
        if shift is None or self.other_stack is not None:
            return None
        low, high = np.transpose(self.frame.grid.extent)
        place = self.own + shift
        # One pixel beyond the first and the last one.
        inside = ((place >= low) & (place <= high + 1)).all(axis=1)
        few = np.count_nonzero(~inside) <= _FEW * len(self)
        return shift if few else None

    @property
    def other_stack(self):
        """
        The shape ``(rows, columns)`` of another stack that the image may be.

        The centre of the field is in the middle of a whole stack of any size.
        `None` if the sources reach farther than that, or not as far as those
        of a whole stack do.
        """
        shift = self.shift
        if shift is None or self._is_sized:
            return None
        size = 2 * (np.array(self.frame.middle) - shift) + 1
        reach = self.own.max(axis=0) + 1
        least = size * min(0.5, _UNLIKELY ** (1 / len(self)))
        columns, rows = np.rint(size).astype(int).tolist()
        if (
            (reach > size + 1).any()
            or (reach < least).any()
            or (rows, columns) == self.frame.grid.image_shape
        ):
            return None
        return rows, columns

    def described(self, origin):
        """Return in words how far apart both kinds of positions are."""
        distances = self.distances(origin)
        # A typical source, not the worst one.
        row = np.argsort(distances)[len(distances) // 2]
        by_pixels, by_sky = self.own[row] + origin, self.there[row]
        return (
            f"in the median they are {np.median(distances):.1f} pixels apart on the "
            f"stack of field {self.frame.field}: a source at "
            f"({by_pixels[0]:.1f}, {by_pixels[1]:.1f}) by its pixel position is at "
            f"({by_sky[0]:.1f}, {by_sky[1]:.1f}) by its sky position"
        )

    def far_apart(self, origin):
        """Return how many sources are exceptions, 0 if they are a few of many."""
        off = np.count_nonzero(self.distances(origin) > _TOLERANCE)
        return int(off) if off > _FEW * len(self) else 0


def _some_of(chosen):
    """Return the rows of a mask, or some thousand of them."""
    rows = np.flatnonzero(chosen)
    return rows[:: max(1, len(rows) // _SAMPLE)]
