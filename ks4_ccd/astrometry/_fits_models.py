# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A FITS WCS as a model of astropy, to be a step of a gWCS."""

import numpy as np
from astropy.modeling import Model, Parameter

from ks4_ccd.astrometry import distortion as _displacement

__all__ = ["FITSPixelToSky", "FITSSkyToPixel"]


class _FITSModel(Model):
    n_inputs = 2
    n_outputs = 2
    _separable = False

    # gWCS takes a model for one of quantities unless it has plain parameters.
    x_0 = Parameter(default=0.0, description="where pixel 0 of the FITS WCS is, in x")
    y_0 = Parameter(default=0.0, description="where pixel 0 of the FITS WCS is, in y")

    def __init__(self, wcs, x_0=0.0, y_0=0.0, **kwargs):
        self._wcs = wcs
        super().__init__(x_0, y_0, **kwargs)

    @property
    def wcs(self):
        """The `~astropy.wcs.WCS`."""
        return self._wcs

    @property
    def _order(self):
        # Longitude first, as the frames of gWCS have it.
        return (self._wcs.wcs.lng, self._wcs.wcs.lat)


class FITSPixelToSky(_FITSModel):
    """
    Pixel to celestial coordinates, by astropy's FITS WCS.

    Any projection and distortion that astropy knows is there, evaluated by
    its own code.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        A celestial WCS of two axes. Pixel coordinates are 0-based, sky
        coordinates are longitude and latitude in degrees.
    x_0, y_0 : float, optional
        The pixel coordinates that are 0 in ``wcs``.
    **kwargs
        Passed to `~astropy.modeling.Model`.
    """

    def evaluate(self, x, y, x_0, y_0):
        """Return longitude and latitude in degrees."""
        sky = self._wcs.all_pix2world(x - x_0, y - y_0, 0)
        return tuple(sky[axis] for axis in self._order)

    @property
    def inverse(self):
        """The model of the other direction."""
        return FITSSkyToPixel(self._wcs, self.x_0.value, self.y_0.value)


class FITSSkyToPixel(_FITSModel):
    """
    Celestial to pixel coordinates, the inverse of `FITSPixelToSky`.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
    x_0, y_0 : float, optional
        As in `FITSPixelToSky`.
    **kwargs
        Passed to `~astropy.modeling.Model`.

    Notes
    -----
    SIP and lookup tables are undone by iteration, for each point until it
    has converged to 1e-10 pixels; points that do not are NaN, as far off the
    image, where a polynomial has no meaning.
    """

    def evaluate(self, lon, lat, x_0, y_0):
        """Return 0-based pixel coordinates."""
        sky = [None, None]
        for axis, coordinate in zip(self._order, (lon, lat), strict=True):
            sky[axis] = coordinate
        x, y = self._wcs.wcs_world2pix(*sky, 0)
        distortions = (self._wcs.sip, self._wcs.det2im1, self._wcs.det2im2)
        if any(distortion is not None for distortion in distortions):
            x, y = np.broadcast_arrays(x, y)
            pixels = _displacement.undo(self._distort, x.ravel(), y.ravel())
            x, y = (pixel.reshape(x.shape) for pixel in pixels)
        return x + x_0, y + y_0

    def _distort(self, x, y):
        focal_x, focal_y = self._wcs.pix2foc(x, y, 0)
        return focal_x - x, focal_y - y

    @property
    def inverse(self):
        """The model of the other direction."""
        return FITSPixelToSky(self._wcs, self.x_0.value, self.y_0.value)
