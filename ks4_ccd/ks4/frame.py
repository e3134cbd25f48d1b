# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Place the pixels of a KS4 stack on the sky."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from ks4_ccd.exceptions import KS4Error
from ks4_ccd.ks4.tangent import project
from ks4_ccd.ks4.tiling import PIXEL_SCALE, field_center, field_number

if TYPE_CHECKING:
    from ks4_ccd.maps.grid import MapGrid

__all__ = ["STACK_SHAPE", "StackFrame", "first_pixel"]

STACK_SHAPE = (22000, 22000)
"""The shape ``(rows, columns)`` of a stack of DR1."""

# Pixels beyond the edges of a stack that are accepted, to allow for bad pointing.
_MARGIN = 500


def first_pixel(grid: MapGrid, binning: float = 1) -> tuple[float, float]:
    """
    Return the coordinates of the first pixel of the image that a grid covers.

    Parameters
    ----------
    grid : `~ks4_ccd.MapGrid`
    binning : float, optional
        The number of pixels of the stack along a side of a pixel of the grid.

    Returns
    -------
    x, y : float
        0-based pixel coordinates.
    """
    (x, _), (y, _) = grid.extent
    return x + 0.5 + 0.5 / binning, y + 0.5 + 0.5 / binning


@dataclass(frozen=True)
class StackFrame:
    """
    The pixels of a KS4 stack on the sky: TAN, north up, east left, 0.4 arcsec.

    The centre of the field is the centre of the image that a grid covers:
    CRPIX is ``(n + 1) / 2`` for any size n (simulated stacks are small).

    Parameters
    ----------
    field : str
        The number of the field.
    center : `~astropy.coordinates.SkyCoord`
        The centre of the field.
    grid : `~ks4_ccd.MapGrid`
        The grid of a map of the stack.
    binning : float, optional
        The number of pixels of the stack along a side of one pixel of the
        grid, if that is the grid of a binned image.
    """

    field: str
    center: SkyCoord
    grid: MapGrid
    binning: float = 1

    @classmethod
    def of(
        cls, field: str | int | None, grid: MapGrid, binning: float = 1
    ) -> StackFrame | None:
        """
        Return the frame of a field, `None` if it is not a KS4 field.

        Parameters
        ----------
        field : str, int or `None`
        grid : `~ks4_ccd.MapGrid`
        binning : float, optional

        Returns
        -------
        frame : `StackFrame` or `None`
        """
        if field is None:
            return None
        try:
            return cls(field_number(field), field_center(field), grid, binning)
        except KS4Error:
            # The field of a map may be one of another survey.
            return None

    @property
    def first_pixel(self) -> tuple[float, float]:
        """The coordinates ``(x, y)`` of the first pixel of the full stack."""
        return first_pixel(self.grid, self.binning)

    @property
    def middle(self) -> tuple[float, float]:
        """The coordinates ``(x, y)`` of the centre of the field."""
        (left, right), (bottom, top) = self.grid.extent
        x, y = self.first_pixel
        return x + (right - left - 1) / 2, y + (top - bottom - 1) / 2

    @property
    def pixel_scale(self) -> float:
        """The size of a pixel in arcsec."""
        return PIXEL_SCALE.to_value(u.arcsec) * self.binning

    def pixels(self, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Return the pixels at which positions on the sky lie.

        Parameters
        ----------
        ra, dec : `~numpy.ndarray`
            ICRS, in degrees.

        Returns
        -------
        x, y : `~numpy.ndarray`
            0-based pixel coordinates on the stack; NaN where a position is
            not finite or 90 deg or more from the centre of the field.
        """
        xi, eta = project(ra, dec, self.center.ra.deg, self.center.dec.deg)
        pixel = np.radians(self.pixel_scale / 3600)
        x, y = self.middle
        return x - xi / pixel, y + eta / pixel

    def is_near_stack(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """
        Return which pixels are on a stack of DR1, or close to it.

        Parameters
        ----------
        x, y : `~numpy.ndarray`
            0-based pixel coordinates, as `pixels` returns them.

        Returns
        -------
        near : `~numpy.ndarray` of bool
            False where a coordinate is NaN.
        """
        near = np.ones(np.shape(x), dtype=bool)
        for position, middle, length in zip(
            (x, y), self.middle, reversed(STACK_SHAPE), strict=True
        ):
            reach = (length / 2 + _MARGIN) / self.binning
            near &= np.abs(position - middle) <= reach
        return near
