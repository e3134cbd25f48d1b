# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Determine the zero point that the magnitudes of a catalog contain."""

import math
import re
from collections.abc import Mapping

from astropy import units as u
from astropy.table import Table

from ks4_ccd.exceptions import KS4Error, OptionError, finite

__all__ = [
    "CONTAINED",
    "MATCHED",
    "SEXTRACTOR",
    "contained_zeropoint",
    "zeropoint_columns",
]

# Keywords in the meta of a table: that of match_catalogs, and that of SExtractor
# (MAG_ZEROPOINT of its configuration; in FITS_LDAC, in the header of the image).
MATCHED, SEXTRACTOR = "MATCHMZP", "SEXMGZPT"
# Keyword of calibrate_catalog: the zero point that the magnitudes contained before
# that of a map replaced it.
CONTAINED = "KS4ZPMZP"
# ZP_AUTO and ZPERR_AUTO of the pipeline, zp_auto_r or R_ZP_AUTO of databases.
_COLUMN = re.compile(
    r"(.*_)?zp(err|flag)?((fwhm|aper\d*|auto)?_.*|fwhm|aper\d+|auto)?", re.IGNORECASE
)
# SExtractor writes four decimals.
_TOLERANCE = 1e-3


def contained_zeropoint(
    meta: Mapping, given: float | u.Quantity | None, fluxes: bool
) -> float:
    """
    Return the zero point that magnitudes contain.

    Parameters
    ----------
    meta : mapping
        The meta of the table.
    given : float, `~astropy.units.Quantity` or `None`
        The zero point that the caller specifies.
    fluxes : bool
        Whether the table has fluxes instead of magnitudes.

    Returns
    -------
    zeropoint : float

    Raises
    ------
    KS4Error
        If ``given`` is not a finite number, contradicts a recorded zero point, or
        is given for fluxes; or if SExtractor recorded one and none is given.
    """
    if given is not None:
        given = finite("mag_zeropoint", _plain(given))
    if fluxes:
        if given:
            msg = (
                f"mag_zeropoint={given:g}: expected magnitudes, found fluxes, which "
                "contain no zero point; leave it out"
            )
            raise OptionError(msg)
        return 0.0
    recorded = {key: _number(meta.get(key)) for key in (MATCHED, SEXTRACTOR)}
    recorded = {key: value for key, value in recorded.items() if math.isfinite(value)}
    if given is None:
        given = recorded.get(MATCHED)
    for keyword, value in recorded.items():
        if abs(value - (given or 0.0)) > _TOLERANCE:
            found = "none" if given is None else f"mag_zeropoint={given:g}"
            msg = (
                f"magnitudes of the catalog: {keyword} in its meta records that they "
                f"contain a zero point of {value:g}, found {found}; give mag_zeropoint="
                f"{value:g} (--mag-zeropoint), or remove {keyword} from the meta if "
                "they were changed since"
            )
            raise KS4Error(msg)
    return given or 0.0


def zeropoint_columns(table: Table) -> list[str]:
    """Return the names of the columns that contain the zero points of maps."""
    return list(filter(_COLUMN.fullmatch, table.colnames))


def _plain(given: object) -> object:
    """Return a number of magnitudes, instrumental or AB, without its unit."""
    if isinstance(given, bool):
        # True is not 1 mag.
        return math.nan
    if isinstance(given, u.Quantity) and given.unit in (u.mag, u.ABmag):
        return given.value
    return given


def _number(value: object) -> float:
    """Return a value of a header as a number, NaN for anything else."""
    try:
        # Anything else than a number raises TypeError.
        return math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan
