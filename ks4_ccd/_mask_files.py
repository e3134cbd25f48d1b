# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Mask files beside images: NAME.mask.fits of NAME.fits."""

import glob

from ks4_ccd.exceptions import KS4Error

__all__ = ["mask_beside", "refuse_mask"]

_COMPRESSED = (".gz", ".fz", ".bz2", ".xz")
_FITS = (".fits", ".fit", ".fts")


def mask_beside(path):
    """Return the mask file beside an image, `None` if there is none."""
    stem = path.name
    for suffixes in (_COMPRESSED, _FITS):
        for suffix in suffixes:
            if stem.lower().endswith(suffix):
                stem = stem[: -len(suffix)]
    for suffix in ("", *_COMPRESSED):
        companion = path.with_name(f"{stem}.mask.fits{suffix}")
        if companion != path and companion.exists():
            return companion
    return None


def refuse_mask(path):
    """Raise `KS4Error` if a file is the mask file beside an image."""
    stem, is_mask, _ = path.name.rpartition(".mask.fits")
    if not is_mask:
        return
    for image in sorted(path.parent.glob(f"{glob.escape(stem)}.*")):
        if ".mask." not in image.name[len(stem) :] and mask_beside(image) == path:
            msg = (
                f"{path} is the mask of {image}, which is calibrated with it: give the "
                "image alone, or rename the file if it is an image itself"
            )
            raise KS4Error(msg)
