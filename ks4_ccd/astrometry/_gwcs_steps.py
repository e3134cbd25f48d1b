# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Split a WCS into steps of a gWCS, and check the gWCS made of them."""

import copy
import warnings
from typing import Any

import gwcs
import numpy as np
from astropy.modeling import Model
from astropy.wcs import WCS
from gwcs import coordinate_frames as frames

from ks4_ccd.astrometry._fits_models import FITSPixelToSky
from ks4_ccd.astrometry._offset_pixels import celestial_frame
from ks4_ccd.exceptions import (
    AlreadyCalibratedError,
    GeometryError,
    KS4Warning,
    reason_of,
)

__all__ = ["ALIGNED", "check_inverse", "steps_of_fits", "steps_of_gwcs"]

# A frame and the transform to the next frame. (For astropy, `|` composes models.)
_Step = tuple[Any, Any]

ALIGNED = "aligned"
"""The name of the frame of pixels after the correction of positions."""

# Largest error in pixels of gwcs's numerical inverse that is accepted.
_LARGEST_MISS = 1e-3


def steps_of_fits(wcs: WCS) -> tuple[FITSPixelToSky, list[_Step]]:
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


def steps_of_gwcs(wcs: gwcs.WCS) -> tuple[Model, list[_Step]]:
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
        If the gWCS is not celestial or does not have two pixel axes.
    AlreadyCalibratedError
        If it has an ``aligned`` frame.
    """
    if wcs.pixel_n_dim != 2 or not isinstance(wcs.output_frame, frames.CelestialFrame):
        msg = (
            "expected a celestial gWCS with two pixel axes, found "
            f"{wcs.pixel_n_dim} pixel axes and the frame {wcs.output_frame}"
        )
        raise GeometryError(msg)
    if ALIGNED in wcs.available_frames:
        msg = (
            "the gWCS already has an 'aligned' frame: its positions were corrected; "
            "start from the gWCS without the correction"
        )
        raise AlreadyCalibratedError(msg)
    (_, transform), *rest = [
        (step.frame, copy.deepcopy(step.transform)) for step in wcs.pipeline
    ]
    if transform is None:
        msg = "the gWCS has only one frame: expected a transform to the sky"
        raise GeometryError(msg)
    transform.bounding_box = None
    return transform, rest


def check_inverse(corrected: gwcs.WCS) -> None:
    """
    Refuse a gWCS whose inverse fails at the corners or the centre of its image.

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
        # gwcs and its transforms raise errors of many kinds.
        msg = (
            f"the gWCS cannot be evaluated and inverted ({reason_of(error)}): "
            "correct its transforms, their units and their inverses"
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
        corrected.backward_transform  # noqa: B018 (a computed property)
    except NotImplementedError:
        msg = (
            "the gWCS has a transform without an inverse: sky positions are converted "
            "to pixels by the numerical inverse of gwcs, which can fail near a pole "
            "and for rotated images; set the inverse of the transform"
        )
        warnings.warn(msg, KS4Warning, stacklevel=3)
