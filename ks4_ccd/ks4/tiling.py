# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Compute the KS4 tiling of the sky: the field of a position, the centre of a field.

The 2,749 tiles lie on rings of constant declination, two degrees apart. A
ring at declination ``dec`` has ``ceil(180 cos(|dec| - 1 deg))`` tiles, the
first one at RA 0; the ring at the pole has one. Numbers run along each ring,
through the rings from -62 to -90 degrees first and from -30 to -60 then.
"""

import re
from functools import cache

import numpy as np
from astropy import units as u
from astropy.coordinates import BaseCoordinateFrame, ConvertError, SkyCoord
from numpy.typing import NDArray

from ks4_ccd.exceptions import GeometryError, OptionError
from ks4_ccd.ks4.names import normalize_field
from ks4_ccd.ks4.tangent import project

__all__ = [
    "PIXEL_SCALE",
    "field_center",
    "field_number",
    "field_of",
    "is_tile_name",
    "tile_name",
]

# The rings in the order of their field numbers.
_RING_DEC = np.concatenate([np.arange(-62, -91, -2), np.arange(-30, -61, -2)])
_RING_COUNT = np.where(
    _RING_DEC == -90, 1, np.ceil(180 * np.cos(np.radians(np.abs(_RING_DEC) - 1)))
).astype(int)
_RING_START = np.concatenate([[0], np.cumsum(_RING_COUNT)[:-1]])
_N_FIELDS = int(_RING_COUNT.sum())
_NORTHERNMOST, _SOUTHERNMOST = -30, -90
_RING_STEP = 2

PIXEL_SCALE = 0.4 * u.arcsec
"""The pixels of a stack: `~astropy.units.Quantity`."""

# Half of a stack of 22000 pixels, in the tangent plane.
_HALF_WIDTH = (11000 * PIXEL_SCALE).to_value(u.radian)

_TILE = re.compile(r"\d{3}[+-]\d{2}")


@cache
def _centers() -> tuple[np.ndarray, np.ndarray]:
    # RA and declination of all tiles in degrees, by field number.
    ra = np.concatenate([360 * np.arange(n) / n for n in _RING_COUNT])
    return ra, np.repeat(_RING_DEC, _RING_COUNT).astype(float)


@cache
def _tile_names() -> tuple[str, ...]:
    ra, dec = _centers()
    whole = np.floor(ra + 0.5).astype(int)
    return tuple(
        f"{a:03d}{d:+03d}" for a, d in zip(whole, dec.astype(int), strict=True)
    )


@cache
def _number_of_tile() -> dict[str, int]:
    return {tile: number for number, tile in enumerate(_tile_names())}


@cache
def _field_names() -> np.ndarray:
    return np.array([f"{number:04d}" for number in range(_N_FIELDS)])


def is_tile_name(field: str | int) -> bool:
    """Return whether a field is given by a tile name alone, such as ``"122-72"``."""
    return _TILE.fullmatch(str(field).strip()) is not None


def field_number(field: str | int) -> str:
    """
    Return the number of a KS4 field, given by its number or its tile.

    Parameters
    ----------
    field : str or int
        ``"0403"``, ``403``, ``"122-72"`` or ``"0403.122-72"``.

    Returns
    -------
    number : str
        Four digits.

    Raises
    ------
    KS4Error
        If the field does not exist, or if its number and its tile disagree.

    Examples
    --------
    >>> from ks4_ccd.ks4.tiling import field_number
    >>> field_number("122-72")
    '0403'
    """
    if is_tile_name(field):
        name = str(field).strip()
        if name not in _number_of_tile():
            msg = f"field {field!r}: expected the name of a KS4 tile, found another"
            raise OptionError(msg)
        return f"{_number_of_tile()[name]:04d}"
    number, tile = normalize_field(field)
    if int(number) >= _N_FIELDS:
        msg = (
            f"field {field!r} is not in the KS4 tiling: "
            f"expected 0000 to {_N_FIELDS - 1:04d}"
        )
        raise OptionError(msg)
    own_tile = _tile_names()[int(number)]
    if tile not in (None, own_tile):
        msg = (
            f"field {field!r}: expected the tile {own_tile!r} for the number {number}, "
            f"found {tile!r}"
        )
        raise OptionError(msg)
    return number


def tile_name(field: str | int) -> str:
    """
    Return the tile name of a KS4 field.

    Parameters
    ----------
    field : str or int
        The field: see `field_number`.

    Returns
    -------
    tile : str
        RA, rounded half up to whole degrees, and declination.

    Raises
    ------
    KS4Error
        If the field does not exist.

    Examples
    --------
    >>> from ks4_ccd.ks4.tiling import tile_name
    >>> tile_name("0403")
    '122-72'
    """
    return _tile_names()[int(field_number(field))]


def field_center(field: str | int) -> SkyCoord:
    """
    Return the centre of a KS4 field.

    Parameters
    ----------
    field : str or int
        The field: its number (``"0403"`` or ``403``), the name of its tile
        (``"122-72"``), or both (``"0403.122-72"``).

    Returns
    -------
    center : `~astropy.coordinates.SkyCoord`
        One ICRS position.

    Raises
    ------
    KS4Error
        If the field does not exist, or if its number and its tile disagree.

    Examples
    --------
    >>> from ks4_ccd import field_center
    >>> field_center("0403").to_string(precision=4)
    '122.0339 -72.0000'
    """
    number = int(field_number(field))
    ra, dec = _centers()
    return SkyCoord(ra[number], dec[number], unit="deg", frame="icrs")


def field_of(coord: SkyCoord) -> str | NDArray[np.str_]:
    """
    Return the KS4 field of a position.

    Neighbouring tiles overlap: the field is the tile with the nearest centre
    among those that contain the position.

    Parameters
    ----------
    coord : `~astropy.coordinates.SkyCoord`
        One position, or an array of any shape, in any frame that can be transformed
        to ICRS.

    Returns
    -------
    field : str or `~numpy.ndarray` of str
        The four-digit number of the field of each position; an array has the
        shape of ``coord``.

    Raises
    ------
    GeometryError
        If a position lies in no tile.
    KS4Error
        If ``coord`` is not a position on the sky.

    Notes
    -----
    A tile is 22000 pixels of 0.4 arcsec wide and high in the tangent plane
    of its centre, north up.

    Examples
    --------
    >>> from astropy.coordinates import SkyCoord
    >>> from ks4_ccd import field_of
    >>> field_of(SkyCoord(122.5, -71.6, unit="deg"))
    '0403'
    """
    ra, dec = _icrs_degrees(coord)
    number, inside = _nearest_tile(ra.ravel(), dec.ravel())
    if not inside.all():
        outside = np.flatnonzero(~inside)
        first = f"{ra.flat[outside[0]]:.5f} {dec.flat[outside[0]]:+.5f}"
        more = "" if outside.size == 1 else f" (and {outside.size - 1} more)"
        msg = (
            f"coordinate {first} deg (ICRS){more} lies in no tile: KS4 covers the "
            f"sky south of declination {_NORTHERNMOST + np.degrees(_HALF_WIDTH):.1f}"
        )
        raise GeometryError(msg)
    names = _field_names()[number].reshape(ra.shape)
    return names if ra.ndim else str(names[()])


def _icrs_degrees(coord: SkyCoord) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(coord, (SkyCoord, BaseCoordinateFrame)):
        msg = f"coord must be a SkyCoord, got {type(coord).__name__}"
        raise OptionError(msg)
    try:
        icrs = SkyCoord(coord).icrs
    except (ConvertError, ValueError, AttributeError) as error:
        # astropy raises AttributeError for an AltAz without a location.
        msg = f"coord cannot be transformed to ICRS: {error}"
        raise OptionError(msg) from error
    return np.asarray(icrs.ra.deg), np.asarray(icrs.dec.deg)


def _nearest_tile(ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # The nearest centre among the tiles that contain each point. A tile does not
    # extend to the second-next ring, and east and west of a point only the next
    # centre of each ring can be the nearest.
    nearest = np.clip(np.nan_to_num(dec), _SOUTHERNMOST, _NORTHERNMOST)
    nearest = _RING_STEP * np.round(nearest / _RING_STEP).astype(int)
    best = np.full(ra.shape, -np.inf)
    number = np.zeros(ra.shape, dtype=int)
    for step in (0, -_RING_STEP, _RING_STEP):
        ring_dec = np.clip(nearest + step, _SOUTHERNMOST, _NORTHERNMOST)
        ring = np.where(ring_dec <= -62, -62 - ring_dec, -ring_dec) // _RING_STEP
        count = _RING_COUNT[ring]
        west = np.floor(np.nan_to_num(ra) * count / 360).astype(int)
        for k in (west % count, (west + 1) % count):
            closeness = _closeness(ra, dec, 360 * k / count, ring_dec)
            better = closeness > best
            best = np.where(better, closeness, best)
            number = np.where(better, _RING_START[ring] + k, number)
    return number, np.isfinite(best)


def _closeness(
    ra: np.ndarray, dec: np.ndarray, center_ra: np.ndarray, center_dec: np.ndarray
) -> np.ndarray:
    # The negative distance from the centre of a tile; -inf outside the tile.
    xi, eta = project(ra, dec, center_ra, center_dec)
    inside = (np.abs(xi) <= _HALF_WIDTH) & (np.abs(eta) <= _HALF_WIDTH)
    return np.where(inside, -np.hypot(xi, eta), -np.inf)
