# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Names of the files of calibrated images."""

from collections import Counter
from pathlib import Path

from ks4_ccd.exceptions import KS4Error

__all__ = ["targets_in", "targets_of"]


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
    if out is None:
        return [image.with_name(_name_for(image)) for image in images]
    out = Path(out)
    if out.suffix.lower() in (".gz", ".fz", ".bz2", ".xz", ".zip"):
        msg = f"-o {out}: files are written uncompressed, to names that end in .fits"
        raise KS4Error(msg)
    if out.suffix.lower() in (".fits", ".fit", ".fts") and not out.is_dir():
        if len(images) > 1:
            msg = f"-o {out} is one file for {len(images)} images: give a folder"
            raise KS4Error(msg)
        return [out]
    return targets_in(images, out)


def targets_in(images, folder):
    """
    Return the file to write in a folder for each image.

    Parameters
    ----------
    images : list of `~pathlib.Path`
    folder : `~pathlib.Path`

    Returns
    -------
    targets : list of `~pathlib.Path`

    Raises
    ------
    KS4Error
        If two images would be written to one file.
    """
    names = [_name_for(image) for image in images]
    for name, times in Counter(names).most_common(1):
        if times == 1:
            break
        same = [str(image) for image in images if _name_for(image) == name]
        msg = (
            f"images of the same name cannot all be written to {folder}: "
            f"{same[0]} and {same[1]}"
        )
        raise KS4Error(msg)
    return [folder / name for name in names]


def _name_for(image):
    return f"{image.name.split('.fit')[0].split('.fts')[0]}_cal.fits"
