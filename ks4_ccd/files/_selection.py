# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Choose the image of a FITS file and the extensions that belong to it."""

import re
from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from astropy.io import fits

from ks4_ccd.exceptions import GeometryError, KS4Error, OptionError, SeveralImagesError

__all__ = [
    "HDU",
    "PLANES",
    "as_hdu",
    "choose_image",
    "first_image",
    "is_carried_over",
    "label_of",
    "left_out",
    "names_a_plane",
    "owned_plane",
    "owned_psf",
]

HDU = int | str | tuple[str, int] | None
"""How an HDU is chosen: number, EXTNAME, EXTNAME and EXTVER, or by default."""

# Extensions of an image, as CCDData names them.
PLANES = ("UNCERT", "MASK", "PSFIMAGE")

# Extensions that a calibration writes; those of an earlier one are not carried over.
_MAP_EXTENSIONS = ("ZPMAP", "ZPERRMAP", "ZPCOUNT")

# The lookup tables of a WCS are image extensions in FITS.
_TABLE_EXTENSIONS = ("WCSDVARR", "D2IMARR")

# Beginnings of the names that pipelines give to planes of an image.
_PLANE_NAME = re.compile(
    "ERR|SIG|RMS|STD|UNC|I?VAR|INV|WEI|WGT|WHT|DQ|FLAG|QUAL|BPM|BAD|MASK"
)


def as_hdu(hdu: HDU) -> HDU:
    """
    Check the argument ``hdu`` of a function, and return it with upper-case names.

    Raises
    ------
    KS4Error
        If it is not a number, EXTNAME, or tuple of EXTNAME and EXTVER, or `None`.
    """
    if hdu is None:
        return None
    if isinstance(hdu, Integral) and not isinstance(hdu, bool) and int(hdu) >= 0:
        return int(hdu)
    name: object
    version: object
    name, version = hdu if isinstance(hdu, tuple) and len(hdu) == 2 else (hdu, 1)
    if isinstance(name, str) and name.strip() and type(version) is int:
        name = name.strip().upper()
        return (name, version) if isinstance(hdu, tuple) else name
    msg = (
        "hdu must be the number of an HDU (from 0), an EXTNAME, or a tuple of EXTNAME "
        f"and EXTVER, got {hdu!r}"
    )
    raise OptionError(msg)


def first_image(hdus: fits.HDUList, planes: Sequence[str] = PLANES) -> Any:
    """Return the first HDU that may be the image, `None` without one."""
    return next(_candidates(hdus, planes), None)


def choose_image(
    hdus: fits.HDUList, hdu: HDU, path: Path, planes: Sequence[str] = PLANES
) -> Any:
    """
    Return the HDU of the image to read.

    Parameters
    ----------
    hdus : `~astropy.io.fits.HDUList`
    hdu : int, str, tuple of (str, int) or `None`
        Its number, EXTNAME, or EXTNAME and EXTVER. `None` is the only image,
        or the first one if the others have other shapes.
    path : `~pathlib.Path`
        The file, for messages.
    planes : tuple of str, optional
        The names of extensions that are planes of an image.

    Raises
    ------
    KS4Error
        If the HDU does not exist or is not an image, or several images are possible.
    GeometryError
        If the image is not 2D.
    """
    if hdu is None:
        image = first_image(hdus, planes)
        if image is None:
            msg = f"{path} contains no image"
            raise KS4Error(msg)
        others = left_out(hdus, image, planes)
        if others:
            msg = (
                f"{path} contains several images of {_size(image)}: "
                f"{_listed(hdus, [image, *others])}. Choose one with hdu= (--hdu), "
                "which leaves out the others; planes of an image are calibrated with "
                "it if their EXTNAME is UNCERT (with UTYPE) or MASK"
            )
            raise SeveralImagesError(msg)
    else:
        image = _find(hdus, as_hdu(hdu), path)
        if not any(image is candidate for candidate in _candidates(hdus, planes)):
            msg = (
                f"{path}: hdu={hdu!r} must be an image other than a mask, an "
                "uncertainty or a map; the images are "
                f"{_listed(hdus, list(_candidates(hdus, planes))) or 'none'}"
            )
            raise OptionError(msg)
    if len(image.shape) != 2 or 0 in image.shape:
        msg = (
            f"{path}: expected a 2D image, found the shape {tuple(image.shape)} in "
            f"HDU {label_of(hdus, image)}; another one is chosen with hdu= (--hdu)"
        )
        raise GeometryError(msg)
    return image


def left_out(
    hdus: fits.HDUList, image: Any, planes: Sequence[str] = PLANES
) -> list[Any]:
    """Return the other images of the same shape."""
    return [
        candidate
        for candidate in _candidates(hdus, planes)
        if candidate is not image and _covers(candidate, image)
    ]


def owned_plane(hdus: fits.HDUList, image: Any, name: str, path: Path) -> Any:
    """
    Return the extension of a given name that belongs to an image, or `None`.

    Among several images of one shape, an extension belongs to the only one of
    the same EXTVER, or else to that in the primary HDU.

    Raises
    ------
    GeometryError
        If the extension has a shape that no image has.
    KS4Error
        If it cannot be decided which extension belongs to the image.
    """
    named = [hdu for hdu in _images(hdus) if hdu.name == name]
    shapes = [candidate.shape for candidate in _candidates(hdus, PLANES)]
    for plane in named:
        if plane.shape not in shapes:
            msg = (
                f"{path}: the extension {name} has the shape {tuple(plane.shape)}, "
                f"its image has {tuple(image.shape)}"
            )
            raise GeometryError(msg)
    same = [image, *left_out(hdus, image)]
    named = [plane for plane in named if plane.shape == image.shape]
    owners = [_owner(hdus, plane, same) for plane in named]
    own = [p for p, owner in zip(named, owners, strict=True) if owner is image]
    if None in owners or len(own) > 1:
        msg = (
            f"{path}: expected one extension {name} for HDU {label_of(hdus, image)}, "
            f"found {_listed(hdus, named)}, of which any may belong to "
            f"{_listed(hdus, same)}: give each image its own, with the same EXTVER"
        )
        raise KS4Error(msg)
    return own[0] if own else None


def owned_psf(hdus: fits.HDUList, image: Any) -> Any:
    """Return the first extension PSFIMAGE that belongs to an image, or `None`."""
    same = [image, *left_out(hdus, image)]
    named = (hdu for hdu in _images(hdus) if hdu.name == "PSFIMAGE")
    return next((psf for psf in named if _owner(hdus, psf, same) is image), None)


def is_carried_over(hdus: fits.HDUList, hdu: Any, image: Any, tables: bool) -> bool:
    """
    Return whether an HDU is copied to the file of the calibrated image.

    Parameters
    ----------
    hdus : `~astropy.io.fits.HDUList`
    hdu, image : HDU
    tables : bool
        Whether the lookup tables of the WCS are copied.
    """
    if hdu is hdus[0] and not _is_image(hdu):
        return False
    if hdu.name in _MAP_EXTENSIONS or (not tables and hdu.name in _TABLE_EXTENSIONS):
        return False
    # Uncalibrated images of this shape would be mistaken for planes of the result.
    is_like_it = _is_image(hdu) and _covers(hdu, image)
    return not is_like_it or hdu.name in ("PSFIMAGE", *_TABLE_EXTENSIONS)


def names_a_plane(hdu: Any) -> bool:
    """Return whether an HDU has the name of a plane of an image."""
    return _PLANE_NAME.match(hdu.name) is not None


def label_of(hdus: fits.HDUList, hdu: Any) -> str:
    """Return the number and name of an HDU for messages."""
    number = next(number for number, other in enumerate(hdus) if other is hdu)
    version = f",{hdu.ver}" if hdu.ver != 1 else ""
    return f"{number} ({hdu.name}{version})" if hdu.name else f"{number}"


def _owner(hdus: fits.HDUList, plane: Any, images: Sequence[Any]) -> Any:
    if len(images) == 1:
        return images[0]
    versions = [image for image in images if image.ver == plane.ver]
    if len(versions) == 1:
        return versions[0]
    return hdus[0] if any(image is hdus[0] for image in images) else None


def _find(hdus: fits.HDUList, hdu: HDU, path: Path) -> Any:
    name, version = hdu if isinstance(hdu, tuple) else (hdu, None)
    found = [
        other
        for number, other in enumerate(hdus)
        if (other.name == name if isinstance(name, str) else number == name)
        and version in (None, other.ver)
    ]
    if len(found) != 1:
        listed = _listed(hdus, found or list(hdus))
        is_or_are = "several HDUs:" if found else "no HDU of the file, which contains"
        msg = f"{path}: hdu={hdu!r} is {is_or_are} {listed}"
        raise OptionError(msg)
    return found[0]


def _is_image(hdu: Any) -> bool:
    return hdu.is_image and hdu.shape != ()


def _images(hdus: fits.HDUList) -> Iterator[Any]:
    return (hdu for hdu in hdus if _is_image(hdu))


def _candidates(hdus: fits.HDUList, planes: Iterable[str]) -> Iterator[Any]:
    reserved = (*planes, *_MAP_EXTENSIONS, *_TABLE_EXTENSIONS)
    return (hdu for hdu in _images(hdus) if hdu.name not in reserved)


def _covers(hdu: Any, image: Any) -> bool:
    """Return whether two images have the same shape, except for axes of length 1."""
    one, other = ([n for n in each.shape if n != 1] for each in (hdu, image))
    return one == other


def _size(image: Any) -> str:
    return " x ".join(str(length) for length in reversed(image.shape)) + " pixels"


def _listed(hdus: fits.HDUList, some: Sequence[Any], most: int = 12) -> str:
    labels = [label_of(hdus, hdu) for hdu in some]
    more = ["..."] if len(labels) > most else []
    return ", ".join(labels[:most] + more)
