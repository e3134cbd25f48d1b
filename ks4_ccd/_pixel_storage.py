# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How FITS stores pixels: the cards about it, and integers that mean no value."""

from numbers import Integral, Real

import numpy as np

__all__ = ["SCALING_CARDS", "Scaling", "blank_value"]

# They hold for the numbers in the file, and not for an image in memory.
SCALING_CARDS = ("BSCALE", "BZERO", "BLANK")


def blank_value(header, dtype):
    """
    Return the value of pixels without a value, `None` if there is none.

    Parameters
    ----------
    header : mapping
        The header of the file, with BLANK.
    dtype : `~numpy.dtype`
        That of the pixels as astropy reads them. Blank pixels of signed
        integers are NaN by then; those of unsigned ones are left as they are.

    Returns
    -------
    value : int or `None`
    """
    blank = header.get("BLANK")
    if dtype.kind not in "iu" or isinstance(blank, bool) or not isinstance(blank, Real):
        return None
    if blank % 1:
        # Neither NaN nor a fraction is a value of integers.
        return None
    # Unsigned integers are stored as signed ones, from the middle of their range.
    shift = 2 ** (8 * dtype.itemsize - 1) if dtype.kind == "u" else 0
    shift = shift if dtype.itemsize > 1 else 0
    value = int(blank) + shift
    limits = np.iinfo(dtype)
    return value if limits.min <= value <= limits.max else None


class Scaling:
    """
    The conversion of stored pixels by BSCALE, BZERO and BLANK.

    The values are those of astropy, except that BLANK is NaN in every image of
    integers, those of unsigned integers and a BLANK of 0 included.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        The header of the file.
    """

    def __init__(self, header):
        self._scale, self._zero = header.get("BSCALE", 1), header.get("BZERO", 0)
        blank = header.get("BLANK") if header["BITPIX"] > 0 else None
        self._blank = blank if isinstance(blank, Integral) else None

    def applied(self, stored):
        """Return stored values converted to those that they stand for."""
        scale, zero, blank = self._scale, self._zero, self._blank
        if (scale, zero, blank) == (1, 0, None):
            return stored
        values, bits = stored, 8 * stored.itemsize
        if stored.dtype.kind != "f":
            if scale == 1 and zero == 2 ** (bits - 1) and bits > 8:
                # Unsigned integers are stored as signed ones: their first bit differs.
                values = stored.astype(f"u{stored.itemsize}")
                values ^= values.dtype.type(zero)
                zero = 0
                if blank is None:
                    return values
            elif blank is None and scale == 1 and (bits, zero) == (8, -128):
                return (stored ^ np.uint8(128)).view(np.int8)
            values = values.astype(np.float32 if bits <= 16 else np.float64)
        if scale != 1:
            values *= scale
        if zero != 0:
            values += zero
        if blank is not None:
            values[stored == blank] = np.nan
        return values

    def blanked(self, values):
        """Return values that astropy converted with those left as numbers blanked."""
        if self._blank is None or (values.dtype.kind == "f" and self._blank != 0):
            return values
        number = self._blank * self._scale + self._zero
        is_blank = values == number
        if values.dtype.kind != "f":
            values = values.astype(np.float32 if values.itemsize <= 2 else np.float64)
        values[is_blank] = np.nan
        return values
