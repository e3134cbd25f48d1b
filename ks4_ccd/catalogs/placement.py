# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Compare the pixel positions of a catalog with its sky positions."""

import numpy as np

from ks4_ccd.exceptions import MapMismatchError
from ks4_ccd.ks4.frame import StackFrame

__all__ = ["PixelsAndSky"]

# Largest median distance between pixel and sky positions that agree, in pixels.
_TOLERANCE = 3
# Largest median deviation from a common shift, in pixels.
_SCATTER = 1
# Largest accepted fraction of outliers.
_FEW = 0.1
# Smallest number of sources that determines a shift.
_FEWEST = 3
# Smallest probability that all sources of a full stack are in a part of it.
_UNLIKELY = 1e-3
_SAMPLE = 1000


class PixelsAndSky:
    """
    Positions of sources on a KS4 stack by pixel and by sky coordinates.

    Parameters
    ----------
    x, y : 1D `~numpy.ndarray`
        0-based pixel coordinates in the image of the catalog.
    ra, dec : 1D `~numpy.ndarray`
        Sky coordinates (ICRS) in degrees.
    frame : `~ks4_ccd.ks4.frame.StackFrame`
        The frame of the stack.
    is_sized : bool, optional
        Whether the catalog records the size of its stack.

    Notes
    -----
    About a thousand of the sources that have both positions are compared.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        ra: np.ndarray,
        dec: np.ndarray,
        frame: StackFrame,
        *,
        is_sized: bool = False,
    ) -> None:
        self.frame, self._is_sized = frame, is_sized
        # Sources without positions may follow any pattern, so that the sample is
        # drawn from those with positions.
        on_sky = np.isfinite(ra) & np.isfinite(dec)
        rows = _some_of(on_sky)
        self._sky = np.stack([ra[rows], dec[rows]], axis=1)
        rows = _some_of(on_sky & np.isfinite(x) & np.isfinite(y))
        there = np.stack(frame.pixels(ra[rows], dec[rows]), axis=1)
        # NaN on the far side of the sky.
        known = np.isfinite(there).all(axis=1)
        self.own = np.stack([x[rows], y[rows]], axis=1)[known]
        self.there = there[known]

    def __len__(self) -> int:
        return len(self.own)

    @property
    def is_in_field(self) -> bool:
        """Whether most sources with a sky position are in the field."""
        sky, near = self._near()
        return bool(np.count_nonzero(near) >= len(sky) / 2)

    def check_field(self) -> None:
        """
        Refuse a catalog whose sources are not in the field.

        Raises
        ------
        MapMismatchError
            If most sources with a sky position are off the stack.
        """
        if self.is_in_field:
            return
        sky, near = self._near()
        ra, dec = sky[np.flatnonzero(~near)[0]]
        center = self.frame.center
        msg = (
            f"most of the sources are not in field {self.frame.field} of the map "
            f"(centre at RA, Dec {center.ra.deg:.4f} {center.dec.deg:+.4f} deg): one "
            f"is at {ra:.4f} {dec:+.4f}; use the map of their field"
        )
        raise MapMismatchError(msg)

    def _near(self) -> tuple[np.ndarray, np.ndarray]:
        sky = self._sky[np.isfinite(self._sky).all(axis=1)]
        return sky, self.frame.is_near_stack(*self.frame.pixels(*sky.T))

    def distances(self, origin: tuple[float, float]) -> np.ndarray:
        """
        Return the distances between pixel and sky positions on the stack, in pixels.

        Parameters
        ----------
        origin : tuple of float
            The 0-based pixel position ``(x, y)`` of the image's first pixel on the
            stack.
        """
        return np.hypot(*(self.there - self.own - origin).T)

    def agree(self, origin: tuple[float, float]) -> bool:
        """Return whether pixel and sky positions agree for an origin."""
        return not len(self) or bool(np.median(self.distances(origin)) <= _TOLERANCE)

    @property
    def shift(self) -> tuple[float, float] | None:
        """The common shift ``(x, y)`` of all sources, `None` if they have none."""
        if len(self) < _FEWEST:
            return None
        shift = np.median(self.there - self.own, axis=0)
        distances = self.distances(shift)
        alike = np.count_nonzero(distances <= _TOLERANCE) >= (1 - _FEW) * len(self)
        if not alike or np.median(distances) > _SCATTER:
            return None
        x, y = np.rint(shift).tolist()
        return x, y

    @property
    def origin(self) -> tuple[float, float] | None:
        """
        The origin of the image according to the sky positions, or `None`.

        It is determined if all sources have a common shift that brings them onto
        the stack, and if the image cannot be a full stack of another size.
        """
        shift = self.shift
        if shift is None or self.other_stack is not None:
            return None
        low, high = np.transpose(self.frame.grid.extent)
        place = self.own + shift
        # One pixel beyond the first and the last pixel.
        inside = ((place >= low) & (place <= high + 1)).all(axis=1)
        few = np.count_nonzero(~inside) <= _FEW * len(self)
        return shift if few else None

    @property
    def other_stack(self) -> tuple[int, int] | None:
        """
        The shape ``(rows, columns)`` of a full stack of another size, or `None`.

        The centre of the field is in the middle of a full stack of any size. `None`
        if the sources extend beyond that stack, or cover too small a part of it.
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

    def described(self, origin: tuple[float, float]) -> str:
        """Describe the difference between pixel and sky positions for messages."""
        distances = self.distances(origin)
        # A typical source, not the worst one.
        row = np.argsort(distances)[len(distances) // 2]
        by_pixels, by_sky = self.own[row] + origin, self.there[row]
        return (
            f"their median distance on the stack of field {self.frame.field} is "
            f"{np.median(distances):.1f} pixels: a source at "
            f"({by_pixels[0]:.1f}, {by_pixels[1]:.1f}) by its pixel position is at "
            f"({by_sky[0]:.1f}, {by_sky[1]:.1f}) by its sky position"
        )

    def far_apart(self, origin: tuple[float, float]) -> int:
        """Return the number of outliers, 0 if their fraction is small."""
        off = np.count_nonzero(self.distances(origin) > _TOLERANCE)
        return int(off) if off > _FEW * len(self) else 0


def _some_of(chosen: np.ndarray) -> np.ndarray:
    """Return regularly spaced rows of a mask, at most about two thousand."""
    rows = np.flatnonzero(chosen)
    return rows[:: max(1, len(rows) // _SAMPLE)]
