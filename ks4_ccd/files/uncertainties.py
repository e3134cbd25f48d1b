# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Read the kind and the unit of uncertainties from the header of an extension."""

import os
import re
from collections.abc import Mapping

from astropy import units as u

from ks4_ccd.exceptions import KS4Error
from ks4_ccd.files.units import bunit_of, conversion

__all__ = ["UTYPES", "uncertainty_factor", "uncertainty_kind"]

# Kinds of uncertainties by the values of UTYPE, in lower case and without spaces.
_KINDS = {
    "std": "std stddev stdev standarddeviation stddevuncertainty",
    "var": "var variance varianceuncertainty",
    "ivar": "ivar invvar inversevariance",
}

# As astropy writes them.
UTYPES = {
    "std": "StdDevUncertainty",
    "var": "VarianceUncertainty",
    "ivar": "InverseVariance",
}

# The unit of an uncertainty is that of its image to this power.
_POWERS = {"std": 1, "var": 2, "ivar": -2}


def uncertainty_kind(header: Mapping, path: str | os.PathLike[str]) -> str:
    """
    Return the kind of uncertainties that UTYPE of an extension records.

    Parameters
    ----------
    header : mapping
        Without UTYPE, as written by old versions of astropy, the extension
        contains standard deviations.
    path : path-like
        The file, for the message.

    Returns
    -------
    kind : {"std", "var", "ivar"}

    Raises
    ------
    KS4Error
        If UTYPE is another kind.
    """
    text = header.get("UTYPE", "std")
    word = re.sub("[ _-]", "", str(text)).lower()
    for kind, words in _KINDS.items():
        if word in words.split():
            return kind
    msg = (
        f"{path}: expected UTYPE of the extension UNCERT to be StdDevUncertainty, "
        f"VarianceUncertainty or InverseVariance, found {text!r}; correct it (std, var "
        "and ivar are accepted), or remove the extension"
    )
    raise KS4Error(msg)


def uncertainty_factor(
    header: Mapping, kind: str, unit: u.UnitBase, path: str | os.PathLike[str]
) -> float:
    """
    Return the factor that converts stored uncertainties to the unit of their image.

    Parameters
    ----------
    header : mapping
        Without BUNIT, or with a blank one, the uncertainties are in the unit of
        the image.
    kind : {"std", "var", "ivar"}
    unit : `~astropy.units.UnitBase`
        The unit of the image.
    path : path-like
        The file, for the message.

    Raises
    ------
    KS4Error
        If the unit of the uncertainties does not convert to that of the image.
    """
    own = bunit_of(header, f"{path}[UNCERT]")
    if own is None or not str(header["BUNIT"]).strip():
        return 1.0
    expected = unit ** _POWERS[kind]
    factor = 1.0 if own == expected else conversion(own, expected)
    if factor is None:
        msg = (
            f"{path}: expected BUNIT of the extension UNCERT ({kind}) to be a unit "
            f"that converts to {expected}, found {own}; correct its BUNIT or UTYPE, or "
            "remove the extension"
        )
        raise KS4Error(msg)
    return factor
