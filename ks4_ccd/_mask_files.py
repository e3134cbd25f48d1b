# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Mask files beside images: NAME.mask.fits of NAME.fits."""

from ks4_ccd.exceptions import KS4Error

__all__ = ["mask_beside", "refuse_mask"]


def mask_beside(path):
    """Return the mask file beside an image, `None` if there is none."""
    stem = path.name
    for suffixes in ((".gz", ".fz", ".bz2", ".xz"), (".fits", ".fit", ".fts")):
        for suffix in suffixes:
            stem = stem.removesuffix(suffix)
    for suffix in (".mask.fits", ".mask.fits.gz", ".mask.fits.fz"):
        companion = path.with_name(stem + suffix)
        if companion != path and companion.exists():
            return companion
    return None


def refuse_mask(path):
    """Raise `KS4Error` if a file is the mask file beside an image."""
    stem, is_mask, _ = path.name.rpartition(".mask.fits")
    for suffix in (".fits", ".fits.gz", ".fits.fz", ".fit", ".fts"):
        image = path.with_name(stem + suffix)
        if is_mask and image.exists() and mask_beside(image) == path:
            msg = (
                f"{path} is the mask of {image}, which is calibrated with it: give the "
                "image alone, or rename the file if it is an image itself"
            )
            raise KS4Error(msg)
