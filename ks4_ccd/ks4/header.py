# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Read the field, band and size of a stack from the header of an image."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any

from astropy.io import fits
from astropy.io.fits.card import Undefined

from ks4_ccd.exceptions import KS4Error, MapMismatchError, OptionError
from ks4_ccd.ks4.names import BANDS, normalize_field
from ks4_ccd.ks4.tiling import field_number, tile_name

__all__ = ["band_of", "field_in", "frame_shape", "has_value"]


def _value(header: fits.Header | Mapping[str, Any], keyword: str) -> Any:
    if not hasattr(header, "get"):
        msg = f"header must be a FITS header or a mapping, got {type(header).__name__}"
        raise OptionError(msg)
    value = header.get(keyword)
    if isinstance(value, str):
        value = value.strip() or None
    return None if isinstance(value, Undefined) else value


def has_value(header: fits.Header | Mapping[str, Any], *keywords: str) -> bool:
    """Return whether a header has a value for any of these keywords."""
    return any(_value(header, keyword) is not None for keyword in keywords)


def field_in(header: fits.Header | Mapping[str, Any]) -> str:
    """
    Return the field that a header names: its number in KS4, or its name.

    Raises
    ------
    MapMismatchError
        If FIELD1 and FIELD2 are missing or contradict each other, FIELD1 is not a
        name, or FIELD2 (without FIELD1) is not a tile of KS4.
    """
    number, tile = _value(header, "FIELD1"), _value(header, "FIELD2")
    if number is None and tile is None:
        msg = (
            "expected FIELD1 or FIELD2 in the header, found neither: set FIELD1 to the "
            "number of the field, such as '0403'"
        )
        raise MapMismatchError(msg)
    keyword = "FIELD2" if number is None else "FIELD1"
    try:
        if number is None:
            return field_number(tile)
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        field, own_tile = normalize_field(number)
    except KS4Error as error:
        if isinstance(number, str):
            # A field of another survey.
            return number
        msg = f"the header's {keyword} does not name a field: {error}"
        raise MapMismatchError(msg) from error
    _check_tiles(field, FIELD1=own_tile, FIELD2=tile)
    return field


def _check_tiles(field: str, **tiles: str | None) -> None:
    try:
        expected = tile_name(field)
    except KS4Error:
        # Fields of other surveys have no tiles to compare with.
        return
    for keyword, tile in tiles.items():
        if tile not in (None, expected):
            msg = (
                f"FIELD1 and FIELD2 of the header contradict each other: field {field} "
                f"is tile {expected!r}, {keyword} contains {tile!r}"
            )
            raise MapMismatchError(msg)


def band_of(header: fits.Header | Mapping[str, Any]) -> str:
    """
    Return the band that a header names.

    Raises
    ------
    MapMismatchError
        If FILTER is missing, or is not a name.
    """
    band = _value(header, "FILTER")
    if band is None:
        msg = (
            "expected FILTER in the header, found none: set it to the band, in KS4 one "
            f"of {', '.join(BANDS)}"
        )
        raise MapMismatchError(msg)
    if not isinstance(band, str):
        msg = f"the header's FILTER must be the name of a band, got {band!r}"
        raise MapMismatchError(msg)
    return band


def frame_shape(header: fits.Header | Mapping[str, Any]) -> tuple[int, int] | None:
    """
    Return the shape of the whole image, `None` if the header does not record it.

    Raises
    ------
    MapMismatchError
        If KS4NAX1 or KS4NAX2 is not a positive integer.
    """
    size = {keyword: _value(header, keyword) for keyword in ("KS4NAX2", "KS4NAX1")}
    if None in size.values():
        return None
    for keyword, value in size.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            msg = (
                f"the header's {keyword} must be the size of the whole image in "
                f"pixels, a positive integer, got {value!r}"
            )
            raise MapMismatchError(msg)
    rows, columns = size.values()
    return int(rows), int(columns)
