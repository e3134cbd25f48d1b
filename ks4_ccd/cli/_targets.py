# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Where the command writes what it makes of an image."""

from pathlib import Path

from ks4_ccd.exceptions import KS4Error

__all__ = ["targets_of"]


def targets_of(images, out):
    """
    Return the file to write for each image.

    Parameters
    ----------
    images : list of `~pathlib.Path`
    out : str or `None`
        A file for one image, or a folder; `None` is beside each image.

    Returns
    -------
    targets : list of `~pathlib.Path`

    Raises
    ------
    KS4Error
        If two images would be written to one file, or to a compressed one.
    """
    stems = [image.name.split(".fit")[0].split(".fts")[0] for image in images]
    if out is None:
        return [
            image.with_name(f"{stem}_cal.fits")
            for image, stem in zip(images, stems, strict=True)
        ]
    out = Path(out)
    if out.suffix.lower() in (".gz", ".fz", ".bz2"):
        msg = f"-o {out}: files are written uncompressed, to names that end in .fits"
        raise KS4Error(msg)
    if out.suffix.lower() in (".fits", ".fit", ".fts") and not out.is_dir():
        if len(images) > 1:
            msg = f"-o {out} is one file for {len(images)} images: give a folder"
            raise KS4Error(msg)
        return [out]
    targets = [out / f"{stem}_cal.fits" for stem in stems]
    if len(set(targets)) < len(targets):
        msg = f"images of the same name cannot all be written to {out}"
        raise KS4Error(msg)
    return targets
