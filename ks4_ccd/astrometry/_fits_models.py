# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Model a FITS WCS, as a step of a gWCS."""

from typing import Any

import numpy as np
from astropy.modeling import Model, Parameter
from astropy.wcs import WCS

from ks4_ccd.astrometry.distortion import undo

__all__ = ["FITSPixelToSky", "FITSSkyToPixel"]


class _FITSModel(Model):
    n_inputs = 2
    n_outputs = 2
    _separable = False
    # Without these, astropy interprets the annotations of `evaluate` as units.
    input_units = None
    return_units = None

    # Without plain parameters, gWCS assumes that a model requires quantities.
    x_0 = Parameter(default=0.0, description="x of pixel 0 of the FITS WCS")
    y_0 = Parameter(default=0.0, description="y of pixel 0 of the FITS WCS")

    def __init__(
        self, wcs: WCS, x_0: float = 0.0, y_0: float = 0.0, **kwargs: object
    ) -> None:
        self._wcs = wcs
        super().__init__(x_0, y_0, **kwargs)

    @property
    def wcs(self) -> WCS:
        """The `~astropy.wcs.WCS`."""
        return self._wcs

    @property
    def _order(self) -> tuple[int, int]:
        # Longitude first, as in the frames of gWCS.
        return (self._wcs.wcs.lng, self._wcs.wcs.lat)


class FITSPixelToSky(_FITSModel):
    """
    Convert pixel to celestial coordinates by a FITS WCS of astropy.

    All projections and distortions of astropy are supported, and evaluated by its
    own code.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        A celestial WCS of two axes. Pixel coordinates are 0-based, sky
        coordinates are longitude and latitude in degrees.
    x_0, y_0 : float, optional
        The pixel coordinates of pixel (0, 0) of ``wcs``.
    **kwargs
        Passed to `~astropy.modeling.Model`.
    """

    def evaluate(self, x: Any, y: Any, x_0: Any, y_0: Any) -> tuple[Any, ...]:
        """Return longitude and latitude in degrees."""
        sky = self._wcs.all_pix2world(x - x_0, y - y_0, 0)
        return tuple(sky[axis] for axis in self._order)

    @property
    def inverse(self) -> "FITSSkyToPixel":
        """The model of the opposite direction."""
        return FITSSkyToPixel(self._wcs, self.x_0.value, self.y_0.value)


class FITSSkyToPixel(_FITSModel):
    """
    Convert celestial to pixel coordinates, the inverse of `FITSPixelToSky`.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
    x_0, y_0 : float, optional
        As in `FITSPixelToSky`.
    **kwargs
        Passed to `~astropy.modeling.Model`.

    Notes
    -----
    SIP and lookup tables are inverted by iteration until each point has converged
    to 1e-10 pixels. Points that do not converge are NaN, such as those far outside
    the image, where a polynomial has no meaning.
    """

    def evaluate(self, lon: Any, lat: Any, x_0: Any, y_0: Any) -> tuple[Any, ...]:
        """Return 0-based pixel coordinates."""
        sky: list[Any] = [None, None]
        for axis, coordinate in zip(self._order, (lon, lat), strict=True):
            sky[axis] = coordinate
        x, y = self._wcs.wcs_world2pix(*sky, 0)
        distortions = (self._wcs.sip, self._wcs.det2im1, self._wcs.det2im2)
        if any(distortion is not None for distortion in distortions):
            x, y = np.broadcast_arrays(x, y)
            pixels = undo(self._distort, x.ravel(), y.ravel())
            x, y = (pixel.reshape(x.shape) for pixel in pixels)
        return x + x_0, y + y_0

    def _distort(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        focal_x, focal_y = self._wcs.pix2foc(x, y, 0)
        return focal_x - x, focal_y - y

    @property
    def inverse(self) -> FITSPixelToSky:
        """The model of the opposite direction."""
        return FITSPixelToSky(self._wcs, self.x_0.value, self.y_0.value)
