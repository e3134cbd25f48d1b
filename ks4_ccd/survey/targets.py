# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Name the files of calibrated images."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ks4_ccd.exceptions import OptionError

__all__ = ["targets_in", "targets_of"]


def targets_of(images: Sequence[Path], out: str | None) -> list[Path]:
    """
    Return the path of the calibrated file for each image.

    Parameters
    ----------
    images : sequence of `~pathlib.Path`
    out : str or `None`
        A file for one image, or a folder; `None` for files beside the images.

    Returns
    -------
    targets : list of `~pathlib.Path`

    Raises
    ------
    OptionError
        If two images would be written to the same file, or the name is that of
        a compressed file.
    """
    if out is None:
        return [image.with_name(_name_for(image)) for image in images]
    path = Path(out)
    suffix = path.suffix.lower()
    if suffix in (".gz", ".fz", ".bz2", ".xz", ".zip"):
        msg = f"-o {out}: expected an uncompressed file (.fits), found {suffix}"
        raise OptionError(msg)
    if suffix in (".fits", ".fit", ".fts") and not path.is_dir():
        if len(images) > 1:
            msg = f"-o {out}: expected a folder for {len(images)} images, found a file"
            raise OptionError(msg)
        return [path]
    return targets_in(images, path)


def targets_in(images: Sequence[Path], folder: Path) -> list[Path]:
    """
    Return the path of the calibrated file in a folder for each image.

    Parameters
    ----------
    images : sequence of `~pathlib.Path`
    folder : `~pathlib.Path`

    Returns
    -------
    targets : list of `~pathlib.Path`

    Raises
    ------
    OptionError
        If two images would be written to the same file.
    """
    names = [_name_for(image) for image in images]
    name, times = Counter(names).most_common(1)[0] if names else ("", 0)
    if times > 1:
        same = [str(image) for image in images if _name_for(image) == name]
        msg = (
            f"expected images with different names, found {same[0]} and {same[1]}, "
            f"which would both be written to {folder / name}"
        )
        raise OptionError(msg)
    return [folder / name for name in names]


def _name_for(image: Path) -> str:
    return f"{image.name.split('.fit')[0].split('.fts')[0]}_cal.fits"
