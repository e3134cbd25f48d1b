# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Define the names of fields, bands, modes and apertures in KS4.

Maps of other cameras have other names: these are required only for data of DR1.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from ks4_ccd.exceptions import OptionError
from ks4_ccd.maps.key import MapKey

__all__ = [
    "APERTURES",
    "BANDS",
    "MODES",
    "MODE_ALIASES",
    "canonical_key",
    "key_of_file",
    "normalize_field",
    "sort_key",
]

BANDS = ("B", "V", "R", "I")
MODES = ("single", "dual")
APERTURES = ("FWHM", "APER3", "APER5", "APER10", "AUTO")

# Files of DR1 use `Idual` for `dual`.
MODE_ALIASES = {"single": "single", "dual": "dual", "Idual": "dual"}

_FIELD = re.compile(r"(?P<number>[0-9]{1,4})(?:\.(?P<tile>[0-9]{3}[+-][0-9]{2}))?")


def normalize_field(name: str | int) -> tuple[str, str | None]:
    """
    Return the four-digit number of a field, and its tile name if given.

    Parameters
    ----------
    name : str or int
        A field as written in DR1 or in a header: ``"0403"``, ``403`` or
        ``"0403.122-72"``.

    Returns
    -------
    number : str
        The number of the field, four digits.
    tile : str or `None`
        The tile name (RA and declination in degrees), if ``name`` has it.

    Raises
    ------
    OptionError
        If ``name`` is not the name of a field.

    Examples
    --------
    >>> from ks4_ccd.ks4.names import normalize_field
    >>> normalize_field("0403.122-72")
    ('0403', '122-72')
    """
    match = _FIELD.fullmatch(str(name).strip())
    if match is None:
        msg = f"field {name!r} is not a field name: expected '0403' or '0403.122-72'"
        raise OptionError(msg)
    return f"{int(match['number']):04d}", match["tile"]


def canonical_key(key: MapKey) -> MapKey:
    """
    Return a key with the field and mode as written in KS4.

    Parameters
    ----------
    key : `~ks4_ccd.MapKey`

    Returns
    -------
    key : `~ks4_ccd.MapKey`
        With a number of four digits where the field is a number, and ``"dual"``
        for ``"Idual"``; unchanged if the names are not those of KS4.

    Examples
    --------
    >>> from ks4_ccd import MapKey
    >>> from ks4_ccd.ks4.names import canonical_key
    >>> canonical_key(MapKey("align", 403, "R", "Idual")).filename
    'align_map_0403_R_dual.npy'
    """
    field = normalize_field(key.field)[0] if _FIELD.fullmatch(key.field) else key.field
    mode = MODE_ALIASES.get(key.mode, key.mode)
    if (field, mode) == (key.field, key.mode):
        return key
    return replace(key, field=field, mode=mode)


def key_of_file(filename: str) -> MapKey:
    """
    Return the key of a file of DR1, or of a map with the same kind of name.

    Parameters
    ----------
    filename : str
        The base name, without folders.

    Returns
    -------
    key : `~ks4_ccd.MapKey`

    Raises
    ------
    KS4Error
        If the file is not named like a map.

    Examples
    --------
    >>> from ks4_ccd.ks4.names import key_of_file
    >>> key = key_of_file("zp_map_0403.122-72_R_Idual_APER5.npy")
    >>> key.field, key.band, key.mode, key.aperture
    ('0403', 'R', 'dual', 'APER5')
    """
    key = MapKey.from_filename(filename)
    mode = MODE_ALIASES.get(key.mode, key.mode)
    return key if mode == key.mode else replace(key, mode=mode)


def sort_key(key: MapKey) -> tuple:
    """Return a sort key: by field, band (blue first), mode and aperture."""
    return (
        key.place,
        _rank(key.band, BANDS),
        _rank(key.mode, MODES),
        _rank(key.aperture or "", ("", *APERTURES)),
    )


def _rank(name: str, known: Sequence[str]) -> tuple[int, str]:
    return (known.index(name), "") if name in known else (len(known), name)
