# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The errors and warnings of the package.

Every error names the file or the argument that caused it, what was expected,
what was found, and what to do. Catch `KS4Error` to catch them all.
"""

import math
from collections.abc import Collection
from typing import TypeVar

import numpy as np
from astropy.utils.exceptions import AstropyUserWarning

__all__ = [
    "AlreadyCalibratedError",
    "BrokenArchiveError",
    "DirectionlessMapError",
    "DownloadError",
    "FileWriteError",
    "GeometryError",
    "KS4Error",
    "KS4Warning",
    "MapFormatError",
    "MapMismatchError",
    "MapNotFoundError",
    "OptionError",
    "SeveralImagesError",
    "StoreError",
    "finite",
    "one_of",
    "reason_of",
]

Name = TypeVar("Name", bound=str | None)


class KS4Warning(AstropyUserWarning):
    """Issued where data are usable, but probably not what the user expects."""


class KS4Error(Exception):
    """The base class of all errors that the package raises deliberately."""


class OptionError(KS4Error, ValueError):
    """Raised if an option is not one of its allowed values, or not a finite number."""


class MapFormatError(KS4Error):
    """
    Raised if a map, or a file or archive of maps, is not in a supported format.

    Parameters
    ----------
    message : str
        The text of the error.
    part : str, optional
        The name of the array that is wrong: ``"values"``, ``"error"``, ``"count"`` or
        a component. `None` if the error is not in one array.
    """

    def __init__(self, message: str, *, part: str | None = None) -> None:
        super().__init__(message)
        self.part = part


class BrokenArchiveError(MapFormatError):
    """
    Raised if an archive cannot be read to its end.

    Parameters
    ----------
    message : str
        The text of the error.
    is_corrupt : bool
        Whether a checksum of the archive is wrong, so that any of its members
        may be damaged. Otherwise the archive is truncated.
    """

    def __init__(self, message: str, is_corrupt: bool) -> None:
        super().__init__(message)
        self.is_corrupt = is_corrupt


class MapNotFoundError(KS4Error, LookupError):
    """Raised if a library contains no map of the field, band, mode and aperture."""


class MapMismatchError(KS4Error):
    """Raised if a map does not belong to the image or the catalog."""


class DirectionlessMapError(KS4Error, TypeError, AttributeError):
    """
    Raised if a misalignment map is used as a correction of positions.

    A misalignment map contains separations, which have no direction. The error
    is also an `AttributeError`, so that ``hasattr(map, "dra")`` is false.
    """


class AlreadyCalibratedError(KS4Error):
    """Raised if an image or a catalog has been calibrated before."""


class GeometryError(KS4Error, ValueError):
    """Raised if a grid, an image, a WCS or a position does not fit its use."""


class SeveralImagesError(KS4Error):
    """Raised if a file contains several images, and none of them was chosen."""


class StoreError(KS4Error):
    """Raised if a map store cannot be read or written."""


class DownloadError(KS4Error, OSError):
    """Raised if a file cannot be downloaded."""


class FileWriteError(KS4Error, OSError):
    """Raised if a file cannot be written, or already exists."""


def reason_of(error: BaseException) -> str:
    r"""
    Return the line of an error's message that states its reason.

    Parameters
    ----------
    error : `BaseException`
        An error of another library, whose message may have several lines.

    Returns
    -------
    reason : str
        The first line, without those in which wcslib names its own functions; the
        class of the error if it has no message.

    Examples
    --------
    >>> from ks4_ccd.exceptions import reason_of
    >>> reason_of(ValueError("no such unit\nDid you mean m?"))
    'no such unit'
    """
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith("ERROR")]
    return lines[0] if lines else type(error).__name__


def one_of(name: str, value: Name, allowed: Collection[Name]) -> Name:
    """
    Return an option that has one of its allowed values.

    Parameters
    ----------
    name : str
        The name of the option, for the message.
    value : str or None
        Its value.
    allowed : collection of str or None
        The allowed values.

    Returns
    -------
    value : str or None
        The value, unchanged.

    Raises
    ------
    OptionError
        If the value is not among the allowed ones.

    Examples
    --------
    >>> from ks4_ccd.exceptions import one_of
    >>> one_of("method", "nearest", ("bilinear", "nearest"))
    'nearest'
    """
    if not isinstance(value, str | None) or value not in allowed:
        msg = f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}"
        raise OptionError(msg)
    return value


def finite(name: str, value: object) -> float:
    """
    Return an option that is one finite number.

    Parameters
    ----------
    name : str
        The name of the option, for the message.
    value : float or scalar array_like
        Its value.

    Returns
    -------
    value : float
        The value.

    Raises
    ------
    OptionError
        If the value is an array, not a number or not finite.

    Examples
    --------
    >>> from ks4_ccd.exceptions import finite
    >>> finite("zeropoint", 30)
    30.0
    """
    try:
        number = float(value) if np.ndim(value) == 0 else math.nan  # type: ignore[arg-type]  # TypeError is handled
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        msg = f"{name} must be a finite number, got {value!r}"
        raise OptionError(msg)
    return number
