# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The planes of a FITS image, read and written a band of rows at a time."""

import os
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from ks4_ccd.exceptions import GeometryError, KS4Error

__all__ = ["SourceImage", "TargetPlanes", "written_whole"]

_BLOCK = 2880
_SYNC_BYTES = 256 * 2**20

# Written by calibration; those of an earlier one are not carried on.
MAP_EXTENSIONS = ("ZPMAP", "ZPERRMAP", "ZPCOUNT")
_KINDS = {"StdDevUncertainty": "std", "VarianceUncertainty": "var"}
_KINDS["InverseVariance"] = "ivar"

# Cards that describe how the pixels were stored, not the image.
_STORAGE = ("BSCALE", "BZERO", "BLANK", "XTENSION", "PCOUNT", "GCOUNT", "EXTEND")
_STORAGE += ("CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM", "EXTNAME", "EXTVER")
_STORAGE += ("INHERIT",)


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
        with self._reading(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
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
        named = {hdu.name: hdu for hdu in self._hdus if _is_image(hdu)}
        self.uncertainty, self.mask = named.pop("UNCERT", None), named.pop("MASK", None)
        images = [hdu for hdu in named.values() if hdu.name not in MAP_EXTENSIONS]
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
        except (OSError, ValueError, TypeError, EOFError) as error:
            msg = f"cannot read {self.path} as a FITS image: {error}"
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            try:
                return WCS(self.header, fobj=self._hdus)
            except Exception:
                return None

    @property
    def uncertainty_kind(self):
        """What the uncertainty extension holds: "std", "var" or "ivar"."""
        return _KINDS.get(self.uncertainty.header.get("UTYPE"), "std")

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
        """Return rows of one of the planes, in the byte order of the file."""
        with self._reading():
            return hdu.section[start:stop]

    def dtype(self, hdu):
        """Return the dtype of the rows that `read` returns."""
        return self.read(hdu, 0, 1).dtype

    def close(self):
        """Close the file."""
        self._hdus.close()


def _is_image(hdu):
    return hdu.is_image and hdu.shape != ()


class TargetPlanes:
    """
    Image HDUs of a new FITS file, their rows written in any order.

    Parameters
    ----------
    file : file object
        Open for writing, empty.
    """

    def __init__(self, file):
        self._file = file
        self._planes = {}
        self._end = 0
        self._unsynced = 0

    def add(self, name, header, shape, dtype):
        """
        Append an image HDU; its rows are zeros until they are written.

        Parameters
        ----------
        name : str or `None`
            The name of the extension, `None` for the primary HDU.
        header : `~astropy.io.fits.Header`
        shape : tuple of int
        dtype : `~numpy.dtype`
        """
        # The array gives the header its shape; it takes up no memory.
        empty = np.broadcast_to(np.zeros((), dtype), shape)
        if name is None:
            hdu = fits.PrimaryHDU(empty, header)
            hdu.header.set("EXTEND", True, after="NAXIS2")
        else:
            hdu = fits.ImageHDU(empty, header, name=name)
        self._file.seek(self._end)
        text = hdu.header.tostring().encode("ascii")
        self._file.write(text)
        start = self._end + len(text)
        size = empty.size * empty.itemsize
        self._planes[name] = start, empty.dtype.newbyteorder(">"), shape
        self._end = start + -(-size // _BLOCK) * _BLOCK
        self._file.truncate(self._end)

    def rows(self, name, first, last):
        """Return an empty array for rows of an HDU, of the dtype of the file."""
        _, dtype, shape = self._planes[name]
        return np.empty((last - first, shape[1]), dtype)

    def write(self, name, first, rows):
        """Write rows of an HDU, as `rows` gave them, beginning with row ``first``."""
        start, dtype, shape = self._planes[name]
        self._file.seek(start + first * shape[1] * dtype.itemsize)
        self._file.write(rows.data)
        self._unsynced += rows.nbytes
        if self._unsynced > _SYNC_BYTES:
            # The disk works while the next rows are made, not all at the end.
            self._file.flush()
            os.fsync(self._file.fileno())
            self._unsynced = 0


@contextmanager
def written_whole(path, overwrite):
    """
    Give a path to write to; the file appears at ``path`` when all went well.

    Parameters
    ----------
    path : `~pathlib.Path`
    overwrite : bool
        Whether a file at ``path`` may be replaced.

    Raises
    ------
    KS4Error
        If ``path`` is there, or cannot be written.
    """
    if path.exists() and not overwrite:
        msg = f"{path} is there already: overwrite=True replaces it"
        raise KS4Error(msg)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        reason = error.strerror or error
        msg = f"cannot write {path}: {reason}"
        raise KS4Error(msg) from error
    finally:
        Path(partial).unlink(missing_ok=True)
