# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The errors and warnings of the package.

Every error names the file or the argument that caused it, what was
expected and what came instead. Catch `KS4Error` to catch them all.
"""

import math

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
    "StoreError",
    "finite",
    "one_of",
]


class KS4Warning(AstropyUserWarning):
    """A warning about data that are usable, yet not what they seem."""


class KS4Error(Exception):
    """The base of every error that this package raises on purpose."""


class MapFormatError(KS4Error):
    """
    A map, or the file or archive that holds it, is not as documented.

    ``part`` is the name of the array that is wrong ("values", "error", "count" or a
    component), `None` if the error is not in one array.
    """

    def __init__(self, message: str, *, part: str | None = None) -> None:
        super().__init__(message)
        self.part = part


class MapNotFoundError(KS4Error, LookupError):
    """No map with the wanted field, band, mode and aperture is there."""


class MapMismatchError(KS4Error):
    """A map and an image do not belong together."""


class DirectionlessMapError(KS4Error, TypeError):
    """A misalignment map, which has no direction, was to correct positions."""


class AlreadyCalibratedError(KS4Error):
    """The image or the catalog was calibrated before."""


class GeometryError(KS4Error, ValueError):
    """A grid, an image or a position does not fit where it was to be used."""


class StoreError(KS4Error):
    """A map store cannot be read or written."""


class DownloadError(KS4Error, OSError):
    """A file of the release could not be fetched."""


def one_of(name, value, allowed):
    """Return ``value`` if it is one of the allowed ones, else raise `KS4Error`."""
    known = isinstance(value, str | None) and value in allowed
    if not known:
        msg = f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}"
        raise KS4Error(msg)
    return value


def finite(name, value):
    """Return ``value`` as a float if it is one finite number, else raise `KS4Error`."""
    try:
        number = float(value) if np.ndim(value) == 0 else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        msg = f"{name} must be a finite number, got {value!r}"
        raise KS4Error(msg)
    return number


class FileWriteError(KS4Error, OSError):
    """A file cannot be written, or already exists."""


class BrokenArchiveError(MapFormatError):
    """
    An archive cannot be read to its end.

    ``is_corrupt`` is whether its checksums are wrong, so that any of its
    members may be; otherwise it was cut off.
    """

    def __init__(self, message, is_corrupt):
        super().__init__(message)
        self.is_corrupt = is_corrupt
