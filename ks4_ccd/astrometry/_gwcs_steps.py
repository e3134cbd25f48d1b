# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The steps of a gWCS: taken from a WCS, and checked when they are put together."""

import copy
import warnings

import numpy as np
from gwcs import coordinate_frames as frames

from ks4_ccd.astrometry._fits_models import FITSPixelToSky
from ks4_ccd.astrometry._offset_pixels import celestial_frame
from ks4_ccd.exceptions import (
    AlreadyCalibratedError,
    GeometryError,
    KS4Warning,
)

__all__ = ["ALIGNED", "check_inverse", "steps_of_fits", "steps_of_gwcs"]

ALIGNED = "aligned"
"""The frame of pixels whose positions have been corrected."""

# Pixels that gwcs's numerical inverse may be off, for a gWCS without its own.
_LARGEST_MISS = 1e-3


def steps_of_fits(wcs):
    """
    Return a FITS WCS as a transform and the steps after it.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`

    Returns
    -------
    transform : `~ks4_ccd.astrometry._fits_models.FITSPixelToSky`
    rest : list of tuple
        The frame and transform of each of the following steps.
    """
    frame = celestial_frame(wcs)
    sky = frames.CelestialFrame(reference_frame=frame, name=frame.name)
    return FITSPixelToSky(wcs), [(sky, None)]


def steps_of_gwcs(wcs):
    """
    Return the first transform of a gWCS and the steps after it, as copies.

    Parameters
    ----------
    wcs : `~gwcs.wcs.WCS`

    Returns
    -------
    transform : `~astropy.modeling.Model`
        Without a bounding box.
    rest : list of tuple
        The frame and transform of each of the following steps.

    Raises
    ------
    GeometryError
        If the gWCS is not celestial or has not two pixel axes.
    AlreadyCalibratedError
        If it has an ``aligned`` frame.
    """
    if wcs.pixel_n_dim != 2 or not isinstance(wcs.output_frame, frames.CelestialFrame):
        msg = (
            "a celestial gWCS of two pixel axes is needed, got "
            f"{wcs.pixel_n_dim} and the frame {wcs.output_frame}"
        )
        raise GeometryError(msg)
    if ALIGNED in wcs.available_frames:
        msg = "the gWCS has an 'aligned' frame already: positions are corrected once"
        raise AlreadyCalibratedError(msg)
    (_, transform), *rest = [
        (step.frame, copy.deepcopy(step.transform)) for step in wcs.pipeline
    ]
    if transform is None:
        msg = "the gWCS has only one frame: there is no transform to the sky"
        raise GeometryError(msg)
    transform.bounding_box = None
    return transform, rest


def check_inverse(corrected):
    """
    Refuse a gWCS that does not return the corners and the centre of its image.

    Parameters
    ----------
    corrected : `~gwcs.wcs.WCS`
        With the shape of its image.

    Raises
    ------
    GeometryError
        If it cannot be evaluated there, or its inverse returns other pixels.

    Warns
    -----
    KS4Warning
        If it has no inverse of its own.
    """
    x, y = np.meshgrid(*([-0.5, (n - 1) / 2, n - 0.5] for n in corrected.pixel_shape))
    try:
        sky = corrected(x, y)
        back = corrected.invert(*sky)
    except Exception as error:
        # Those of gwcs and of the transforms in it are of many kinds.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        msg = (
            f"the gWCS cannot be evaluated and inverted ({reason}): correct its "
            "transforms, their units and their inverses"
        )
        raise GeometryError(msg) from error
    lon, lat, back_x, back_y = (np.asarray(getattr(p, "value", p)) for p in sky + back)
    missed = np.hypot(back_x - x, back_y - y)[np.isfinite(lon) & np.isfinite(lat)]
    if not np.all(missed < _LARGEST_MISS):
        msg = (
            "expected the inverse of the gWCS to return the pixel that a sky position "
            f"was computed for, found one {np.max(missed):.3g} pixels from it: set the "
            "inverse of its transforms"
        )
        raise GeometryError(msg)
    try:
        corrected.backward_transform  # noqa: B018 (it is computed when asked for)
    except NotImplementedError:
        msg = (
            "the gWCS has a transform without an inverse: sky positions become pixels "
            "by the numerical inverse of gwcs, which can fail near a pole and for "
            "rotated images; set the inverse of the transform"
        )
        warnings.warn(msg, KS4Warning, stacklevel=3)
