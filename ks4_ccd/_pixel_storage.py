# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How FITS stores pixels: the cards about it, and integers that mean no value."""

from numbers import Real

import numpy as np

__all__ = ["SCALING_CARDS", "blank_value", "without_blanks"]

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
    # Unsigned integers are stored as signed ones, from the middle of their range.
    shift = 2 ** (8 * dtype.itemsize - 1) if dtype.kind == "u" else 0
    shift = shift if dtype.itemsize > 1 else 0
    value = int(blank) + shift
    limits = np.iinfo(dtype)
    return value if limits.min <= value <= limits.max else None


def without_blanks(pixels, header):
    """
    Return pixels as floats with NaN where they have no value.

    Parameters
    ----------
    pixels : `~numpy.ndarray`
        Returned unchanged if all of them have a value by their type.
    header : mapping
        The header of the file, with BLANK.

    Returns
    -------
    pixels : `~numpy.ndarray`
        Of the float type that astropy gives signed integers with BLANK.
    """
    blank = blank_value(header, pixels.dtype)
    if blank is None:
        return pixels
    dtype = np.float32 if pixels.dtype.itemsize <= 2 else np.float64
    blanks = pixels == blank
    pixels = pixels.astype(dtype)
    pixels[blanks] = np.nan
    return pixels
