# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Recognise images and catalogs that were calibrated before."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

from astropy.io import fits

from ks4_ccd.exceptions import KS4Error

__all__ = [
    "COLOR",
    "RECORD",
    "RELEASED",
    "TIMES",
    "calibration_in",
    "next_time",
    "times_in",
]

# The number of calibrations.
TIMES = "KS4ZPNUM"

# The reference colour of the zero points.
COLOR = "KS4ZPCLR"

# The keywords that record a calibration by this package.
RECORD = (
    *("KS4ZPMAP", "KS4ZPMTH", "KS4ZPTGT", "KS4ZPERR", "KS4ZPSCL", "KS4ZPUNI"),
    *("KS4ZPNEW", TIMES, "KS4ZPVER", "KS4ZPSUM", "KS4ZPDOI", COLOR),
)

# PHOTREF of images calibrated for DR1. No other step of the pipeline writes it.
RELEASED = "GAIA DR3"


def calibration_in(header: fits.Header | Mapping[str, Any]) -> str | None:
    """
    Describe the calibration that a header records.

    Parameters
    ----------
    header : `~astropy.io.fits.Header` or mapping

    Returns
    -------
    calibration : str or `None`
        A phrase for messages; `None` if the header records no calibration.
    """
    if "KS4ZPMAP" in header:
        # A catalog has a map for each aperture.
        first, *more = str(header["KS4ZPMAP"]).split(", ")
        return f"with {first}{f' and {len(more)} more' if more else ''} (KS4ZPMAP)"
    parts = [keyword for keyword in RECORD if keyword in header]
    if parts:
        return f"as {', '.join(parts)} record"
    reference = str(header.get("PHOTREF", "")).strip().upper()
    if reference == RELEASED and "EMAGZERO" in header:
        return f"by DR1 (PHOTREF {RELEASED}, EMAGZERO)"
    return None


def next_time(header: fits.Header | Mapping[str, Any]) -> int:
    """
    Return the number of calibrations, including the next one.

    Raises
    ------
    KS4Error
        If KS4ZPNUM is not a number of calibrations.
    """
    return times_in(header, 0) + 1


def times_in(header: fits.Header | Mapping[str, Any], default: int) -> int:
    """
    Return the number of calibrations that a header records.

    Parameters
    ----------
    header : `~astropy.io.fits.Header` or mapping
    default : int
        The number without a record, which is also the smallest possible one.

    Returns
    -------
    times : int

    Raises
    ------
    KS4Error
        If KS4ZPNUM is not a number of calibrations.
    """
    times = header.get(TIMES, default)
    is_number = isinstance(times, Real) and not isinstance(times, bool)
    if not is_number or times % 1 or times < default:
        msg = (
            f"expected a number of calibrations in {TIMES}, found {times!r}: the "
            "record of the calibration was changed"
        )
        raise KS4Error(msg)
    return int(times)
