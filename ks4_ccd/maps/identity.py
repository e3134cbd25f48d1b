# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Compute the checksum and mean uncertainty of a map for calibration records."""

from collections.abc import Iterable
from hashlib import sha256

import numpy as np
from astropy import units as u

from ks4_ccd.exceptions import KS4Error
from ks4_ccd.maps.base import CalibrationMap
from ks4_ccd.maps.zeropoint import ZeroPointMap

__all__ = ["checksum_of", "mean_error", "reference_colors"]


def checksum_of(zpmap: CalibrationMap) -> str:
    """
    Return a checksum of all parts of a map that affect a calibration.

    Parameters
    ----------
    zpmap : `~ks4_ccd.ZeroPointMap` or another map

    Returns
    -------
    checksum : str
        The first 16 hexadecimal digits of the SHA-256 of the grid and the cells.
        The content of empty cells is not included.
    """
    digest = sha256()
    grid = zpmap.grid
    numbers = np.round([*grid.origin, *grid.cell_size], 6)
    layout = [*grid.shape, *numbers, grid.edges]
    image_unit = getattr(zpmap, "image_unit", u.adu)
    if image_unit != u.adu:
        layout.append(image_unit.to_string())
    color_term = getattr(zpmap, "color_term", None)
    if color_term is not None:
        layout.append(repr(color_term))
    digest.update(repr([str(item) for item in layout]).encode())
    digest.update(np.packbits(zpmap.valid).tobytes())
    empty = ~zpmap.valid
    for part in (*zpmap.components, "error", "count"):
        array = getattr(zpmap, part)
        if array is not None:
            array = np.where(empty, 0, array).astype("<f8")
            digest.update(part.encode() + array.tobytes())
    return digest.hexdigest()[:16]


def mean_error(zpmap: ZeroPointMap, error_kind: str = "scatter") -> float | None:
    """
    Return the mean uncertainty of the cells of a map that are not empty.

    Parameters
    ----------
    zpmap : `~ks4_ccd.ZeroPointMap`
    error_kind : {"scatter", "median"}

    Returns
    -------
    error : float or `None`
        The uncertainty in magnitudes, `None` if it is unknown.
    """
    try:
        return float(zpmap.cell_error(error_kind)[zpmap.valid].mean())
    except KS4Error:
        return None


def reference_colors(zpmaps: Iterable[ZeroPointMap]) -> str:
    """
    Return the colours to which the zero points of maps refer.

    Parameters
    ----------
    zpmaps : iterable of `~ks4_ccd.ZeroPointMap`

    Returns
    -------
    colors : str
        Such as ``"V-I = 0.453"``; empty if no map has a colour term.
    """
    terms = [zpmap.color_term for zpmap in zpmaps]
    colors = [
        f"{term.name} = {term.reference_color:.3f}"
        for term in terms
        if term is not None
    ]
    return ", ".join(dict.fromkeys(colors))
