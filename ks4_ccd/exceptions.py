# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The errors and warnings of the package.

Every error names the file or the argument that caused it, what was
expected and what came instead. Catch `KS4Error` to catch them all.
"""

from astropy.utils.exceptions import AstropyUserWarning

__all__ = [
    "AlreadyCalibratedError",
    "DirectionlessMapError",
    "DownloadError",
    "GeometryError",
    "KS4Error",
    "KS4Warning",
    "MapFormatError",
    "MapMismatchError",
    "MapNotFoundError",
    "StoreError",
]


class KS4Warning(AstropyUserWarning):
    """A warning about data that are usable, yet not what they seem."""


class KS4Error(Exception):
    """The base of every error that this package raises on purpose."""


class MapFormatError(KS4Error):
    """A map, or the file or archive that holds it, is not as documented."""


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
