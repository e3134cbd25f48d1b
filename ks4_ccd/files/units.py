# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Read units of pixels from BUNIT, and convert them to those of zero-point maps."""

import os
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from astropy.io.fits.card import Undefined

from ks4_ccd.exceptions import (
    AlreadyCalibratedError,
    KS4Error,
    MapMismatchError,
    OptionError,
)

if TYPE_CHECKING:
    from ks4_ccd.maps.zeropoint import ZeroPointMap

__all__ = [
    "as_gain",
    "bunit_of",
    "conversion",
    "count_unit",
    "factor_to_counts",
    "parse_unit",
    "refuse_other_bunit",
]

# Other names of ADU.
_COUNTS = {u.DN: u.adu, u.ct: u.adu}

# Spellings that astropy does not accept, in lower case.
_WORDS = {
    word: unit
    for unit, words in {
        "adu": "adu adus",
        "DN": "dn dns",
        "ct": "ct cts count counts",
        "electron": "e el electron electrons",
        "ph": "ph phot photon photons",
        "s": "s sec secs second seconds",
        "pix": "pix pixel pixels px",
        "Jy": "jy jansky",
        "nJy": "njy",
        "uJy": "ujy mujy",
        "MJy": "mjy",
        "sr": "sr steradian ster",
        "erg": "erg ergs",
        "nmgy": "nmgy nmaggy nanomaggy nanomaggies",
        "mgy": "mgy maggy maggies",
        "mag": "mag mags abmag",
    }.items()
    for word in words.split()
}
_ELECTRONS = re.compile(r"(?<![a-z])e-(?!\d)", re.IGNORECASE)

# Bases of fluxes, magnitudes and temperatures, which no unit of counts contains.
_PHYSICAL = {u.kg, u.dex, u.mgy, u.K}


def parse_unit(text: str) -> u.UnitBase | u.FunctionUnitBase:
    """
    Read a unit in any of the spellings found in headers.

    Parameters
    ----------
    text : str
        Such as ``"ADU"``, ``"counts"``, ``"e-/s"`` or ``"MJY/SR"``.

    Returns
    -------
    unit : `~astropy.units.UnitBase` or `~astropy.units.FunctionUnitBase`

    Raises
    ------
    ValueError
        If it is not a unit in any of them.
    """
    text = text.strip().strip("[]")
    words = re.sub(r"\s+per\s+", "/", _ELECTRONS.sub("electron", text))
    words = re.sub(
        "[A-Za-z]+", lambda word: _WORDS.get(word[0].lower(), word[0]), words
    )
    for spelling in (text, words):
        # Several slashes, of which astropy warns, are read from left to right.
        first, *rest = spelling.split("/")
        if len(rest) > 1 and "(" not in spelling:
            spelling = f"{first}/({' '.join(rest)})"
        try:
            return u.Unit(spelling)
        except (ValueError, TypeError) as error:
            reason = error
    raise ValueError(str(reason)) from None


_CORRECT = (
    "correct it; if the pixels are counts, with "
    "astropy.io.fits.setval(file, 'BUNIT', value='adu')"
)


def bunit_of(
    header: Mapping, path: str | os.PathLike[str], remedy: str = _CORRECT
) -> u.UnitBase | u.FunctionUnitBase | None:
    """
    Return the unit that BUNIT records, `None` without one.

    Parameters
    ----------
    header : mapping
    path : path-like
        The file, for the message.
    remedy : str, optional
        How to correct the unit, for the message.

    Raises
    ------
    KS4Error
        If it is not a unit.
    """
    text = header.get("BUNIT")
    if text is None or isinstance(text, Undefined):
        return None
    try:
        return parse_unit(str(text))
    except ValueError:
        msg = (
            f"{path}: BUNIT: expected a unit such as adu, electron or nJy, found "
            f"{text!r}: {remedy}"
        )
        raise KS4Error(msg) from None


def count_unit(name: str, unit: str | u.UnitBase) -> u.UnitBase:
    """
    Check the unit of the pixels that a map applies to, and return it.

    Raises
    ------
    KS4Error
        If it is not a unit, or a unit of fluxes or magnitudes.
    """
    if isinstance(unit, str) and unit == "adu":
        # Libraries load thousands of maps.
        return u.adu
    try:
        unit = parse_unit(unit) if isinstance(unit, str) else u.Unit(unit)
    except (ValueError, TypeError) as error:
        msg = f"{name} must be a unit such as adu or electron, got {unit!r}: {error}"
        raise OptionError(msg) from None
    if _is_physical(unit) or not _plain(unit)[1]:
        msg = f"{name} must be a unit of counts, such as adu or electron, got {unit!r}"
        raise OptionError(msg)
    return unit


def as_gain(gain: u.Quantity | None) -> u.Quantity | None:
    """
    Check a gain and return it as a `~astropy.units.Quantity`, `None` unchanged.

    Raises
    ------
    KS4Error
        If it is not one positive number with a unit such as electron / adu.
    """
    if gain is None:
        return None
    try:
        number = u.Quantity(gain)
        bases = _plain(number.unit)[1]
        known = bases in ({u.electron: 1, u.adu: -1}, {u.ph: 1, u.adu: -1})
        known &= number.ndim == 0 and 1e-6 < number.value < 1e6
    except (TypeError, ValueError, AttributeError):
        known = False
    if not known:
        msg = (
            "gain must be a positive Quantity in electron / adu, such as "
            f"4.8 * u.electron / u.adu, got {gain!r}"
        )
        raise OptionError(msg)
    return number


def conversion(unit: object, target: u.UnitBase) -> float | None:
    """Return the factor from one unit to another, `None` if they do not convert."""
    if not isinstance(unit, u.UnitBase):
        return None
    (scale, bases), (target_scale, target_bases) = _plain(unit), _plain(target)
    factor = scale / target_scale
    return factor if bases == target_bases and 0 < factor < np.inf else None


def _plain(unit: u.UnitBase) -> tuple[float, dict[u.UnitBase, float | Fraction]]:
    """Return scale and powers of a unit, in which DN and counts are adu."""
    parts = unit.decompose()
    powers: dict[u.UnitBase, float | Fraction] = {}
    for base, power in zip(parts.bases, parts.powers, strict=True):
        base = _COUNTS.get(base, base)
        # Any pixel value is one per pixel.
        if base != u.pix or power > 0:
            powers[base] = powers.get(base, 0) + power
    return float(parts.scale), {base: power for base, power in powers.items() if power}


def _is_physical(unit: object) -> bool:
    if not isinstance(unit, u.UnitBase):
        return True
    return bool(_PHYSICAL & set(unit.decompose().bases))


def factor_to_counts(
    unit: u.UnitBase, zpmap: "ZeroPointMap", gain: u.Quantity | None = None
) -> float:
    """
    Return the factor from the pixels of an image to the unit of a map.

    Parameters
    ----------
    unit : `~astropy.units.UnitBase`
        The unit of the image.
    zpmap : `~ks4_ccd.ZeroPointMap`
    gain : `~astropy.units.Quantity`, optional
        As `as_gain` returns it.

    Raises
    ------
    AlreadyCalibratedError
        If the image is in physical units or magnitudes.
    MapMismatchError
        If it is in another unit than the map and ``gain`` does not convert it.
    KS4Error
        If ``gain`` is given and the image is in the unit of the map.
    """
    target = zpmap.image_unit
    if isinstance(unit, u.UnrecognizedUnit):
        try:
            unit = parse_unit(unit.to_string())
        except ValueError:
            msg = (
                f"{zpmap.name} applies to images in {target}, the image is in {unit}, "
                "which is not a valid astropy unit: set ccd.unit, to adu if its pixels "
                "are counts"
            )
            raise MapMismatchError(msg) from None
    if _is_physical(unit):
        msg = (
            f"the image is in {unit}, not in {target}: it is calibrated already; "
            "remove_zeropoint removes a calibration that its header records"
        )
        raise AlreadyCalibratedError(msg)
    factor = conversion(unit, target)
    if gain is None:
        if factor is None:
            raise MapMismatchError(_remedy(unit, zpmap))
        return factor
    if factor is not None:
        msg = (
            f"gain is for images in electrons, the image is in {unit}, as the map is: "
            "leave gain out; if the pixels are electrons, set the unit (BUNIT) of the "
            "image to electron"
        )
        raise OptionError(msg)
    for converted, scale in ((unit / gain.unit, 1 / gain), (unit * gain.unit, gain)):
        factor = conversion(converted, target)
        if factor is not None:
            return factor * float(scale.value)
    raise MapMismatchError(_remedy(unit, zpmap))


def refuse_other_bunit(
    header: Mapping, unit: u.UnitBase, zpmap: "ZeroPointMap"
) -> None:
    """
    Raise if BUNIT contradicts the unit of an image in memory.

    ``CCDData.read(path, unit="adu")`` gives pixels in nJy the unit adu. BUNIT
    may be in the unit of the map while the image is in electrons:
    `ccdproc.gain_correct` leaves the header unchanged.

    Raises
    ------
    MapMismatchError
        If BUNIT is a unit that converts to neither the unit of the image nor
        to that of the map.
    """
    text = header.get("BUNIT")
    if not isinstance(text, str) or not text.strip():
        return
    try:
        recorded = parse_unit(text)
    except ValueError:
        # Without a valid unit there is no contradiction.
        return
    if all(conversion(recorded, known) is None for known in (unit, zpmap.image_unit)):
        msg = (
            f"the header of the image records {text!r} (BUNIT), the image is in "
            f"{unit}: read it without unit=, or remove a wrong BUNIT from the header"
        )
        raise MapMismatchError(msg)


def _remedy(unit: u.UnitBase, zpmap: "ZeroPointMap") -> str:
    """Return the message for an image in a unit other than that of a map."""
    target, (_, bases) = zpmap.image_unit, _plain(unit)
    if not bases:
        found = "without a unit"
        do = f"set ccd.unit = {str(target)!r} (BUNIT) if its pixels are counts"
    elif any(bases.get(time, 0) < 0 for time in (u.s, u.min, u.h, u.d)):
        found = f"a rate, in {unit}"
        do = "calibrate before dividing by the exposure time, or multiply by it first"
    elif set(bases) <= {u.electron, u.ph}:
        found = f"in {unit}"
        do = (
            "calibrate before ccdproc.gain_correct, or give the gain that it used, "
            f"such as gain=4.8 * u.{next(iter(bases))} / u.adu (--gain 4.8)"
        )
    else:
        found = f"in {unit}"
        do = f"convert it to {target} first"
    return f"{zpmap.name} applies to images in {target}, the image is {found}: {do}"
