# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The image in a FITS file, with the planes that belong to it."""

import threading
import warnings
from contextlib import contextmanager

from astropy.io import fits
from astropy.wcs import WCS

from ks4_ccd._image_units import uncertainty_kind
from ks4_ccd._pixel_storage import SCALING_CARDS, without_blanks
from ks4_ccd.exceptions import GeometryError, KS4Error

__all__ = ["TABLE_EXTENSIONS", "SourceImage"]

# Written by calibration; those of an earlier one are not carried on.
MAP_EXTENSIONS = ("ZPMAP", "ZPERRMAP", "ZPCOUNT")

# Lookup tables of the WCS are images to FITS, not to anybody else.
TABLE_EXTENSIONS = ("WCSDVARR", "D2IMARR")

# Cards that describe how the pixels were stored, not the image.
_STORAGE = (*SCALING_CARDS, "XTENSION", "PCOUNT", "GCOUNT", "EXTEND")
_STORAGE += ("CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM", "EXTNAME", "EXTVER")
_STORAGE += ("INHERIT",)

_WARNINGS = threading.RLock()


class SourceImage:
    """
    The image in a FITS file, with its uncertainty and mask extensions.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file, compressed or not. Rows are read when they are asked for.

    Raises
    ------
    KS4Error
        If the file cannot be read or is truncated, or has no image.
    GeometryError
        If the image is not 2D, or an extension has another shape.
    """

    def __init__(self, path):
        self.path = path
        with self._reading(), _caught_warnings() as caught:
            # Mapped pages of the file would count as memory of the process.
            self._hdus = fits.open(path, memmap=False)
            try:
                # Asking for the number of HDUs reads every header, to the end.
                len(self._hdus)
                self._refuse_truncated(caught)
                self._find_planes()
            except BaseException:
                self._hdus.close()
                raise

    def _refuse_truncated(self, caught):
        if any("truncated" in str(warning.message) for warning in caught):
            msg = f"{self.path} is truncated: it ends before its last image does"
            raise KS4Error(msg)

    def _find_planes(self):
        planes = [hdu for hdu in self._hdus if _is_image(hdu)]
        # Names may repeat, or be empty: the first of each counts.
        named = {hdu.name: hdu for hdu in reversed(planes)}
        self.uncertainty, self.mask = named.get("UNCERT"), named.get("MASK")
        self.psf = named.get("PSFIMAGE")
        others = ("UNCERT", "MASK", *MAP_EXTENSIONS, *TABLE_EXTENSIONS)
        images = [hdu for hdu in planes if hdu.name not in others]
        if not images:
            msg = f"{self.path} has no image in it"
            raise KS4Error(msg)
        self.image = images[0]
        self.shape = tuple(self.image.shape)
        if len(self.shape) != 2 or 0 in self.shape:
            msg = f"{self.path}: a 2D image is needed, got the shape {self.shape}"
            raise GeometryError(msg)
        for hdu in (self.uncertainty, self.mask):
            if hdu is not None and tuple(hdu.shape) != self.shape:
                msg = (
                    f"{self.path}: the extension {hdu.name} has the shape {hdu.shape}, "
                    f"its image has {self.shape}"
                )
                raise GeometryError(msg)

    @contextmanager
    def _reading(self):
        try:
            yield
        except KS4Error:
            raise
        except Exception as error:
            # astropy and its decompressors have many ways to stumble over a file.
            reason = str(error) or type(error).__name__
            msg = f"cannot read {self.path} as a FITS image: {reason}"
            raise KS4Error(msg) from error

    @property
    def header(self):
        """A copy of the image's header, with what the primary header adds."""
        header = self.image.header.copy()
        header.extend(self._hdus[0].header.copy(), unique=True)
        for keyword in _STORAGE:
            header.remove(keyword, ignore_missing=True, remove_all=True)
        return header

    @property
    def wcs(self):
        """The image's `~astropy.wcs.WCS`, `None` if it has no readable one."""
        with _caught_warnings():
            try:
                return WCS(self.header, fobj=self._hdus)
            except Exception:
                return None

    @property
    def hdus(self):
        """The open `~astropy.io.fits.HDUList`."""
        return self._hdus

    @property
    def uncertainty_kind(self):
        """What the uncertainty extension holds: "std", "var" or "ivar"."""
        return uncertainty_kind(self.uncertainty.header, self.path)

    def others(self):
        """Yield data and header of the extensions that are to be carried on."""
        used = [self.image, self.uncertainty, self.mask]
        for hdu in self._hdus[1:]:
            if not any(hdu is plane for plane in used) and (
                hdu.name not in MAP_EXTENSIONS
            ):
                with self._reading():
                    yield hdu.data, hdu.header

    def read(self, hdu, start, stop):
        """
        Return rows of one of the planes, in the byte order of the file.

        Integers that BLANK marks as without a value are NaN.
        """
        with self._reading():
            return without_blanks(hdu.section[start:stop], hdu.header)

    def dtype(self, hdu):
        """Return the dtype of the rows that `read` returns."""
        return self.read(hdu, 0, 1).dtype

    def close(self):
        """Close the file."""
        self._hdus.close()


@contextmanager
def _caught_warnings():
    """
    Collect warnings instead of showing them.

    Python keeps one list of filters for all threads: one at a time, please.
    """
    with _WARNINGS, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def _is_image(hdu):
    return hdu.is_image and hdu.shape != ()
