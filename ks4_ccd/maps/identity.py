# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Checksum, DOI and mean uncertainty of a map, for the record of a calibration."""

from hashlib import sha256

import numpy as np
from astropy import units as u

from ks4_ccd.exceptions import KS4Error

__all__ = ["checksum_of", "mean_error"]


def checksum_of(zpmap):
    """
    Return a checksum of all of a map that changes what it is applied to.

    Parameters
    ----------
    zpmap : `~ks4_ccd.ZeroPointMap` or another map

    Returns
    -------
    checksum : str
        The first 16 digits of the SHA-256 of its cells, in hexadecimal. What an
        empty cell holds is left out.
    """
    digest = sha256()
    grid = zpmap.grid
    numbers = np.round([*grid.origin, *grid.cell_size], 6)
    layout = [*grid.shape, *numbers, grid.edges]
    if getattr(zpmap, "image_unit", u.adu) != u.adu:
        layout.append(zpmap.image_unit.to_string())
    digest.update(repr([str(item) for item in layout]).encode())
    digest.update(np.packbits(zpmap.valid).tobytes())
    empty = ~zpmap.valid
    for part in (*zpmap.components, "error", "count"):
        array = getattr(zpmap, part)
        if array is not None:
            array = np.where(empty, 0, array).astype("<f8")
            digest.update(part.encode() + array.tobytes())
    return digest.hexdigest()[:16]


def mean_error(zpmap, calibration):
    """
    Return the mean uncertainty of a map's cells, for EMAGZERO.

    Parameters
    ----------
    zpmap : `~ks4_ccd.ZeroPointMap`
    calibration : `~ks4_ccd.photometry._record.Calibration`

    Returns
    -------
    error : float or `None`
        In magnitudes, `None` if it is unknown.
    comment : str or `None`
        That of the card.
    """
    if zpmap.error is None:
        return None, None
    if calibration.method == "dr1":
        # As the release writes it.
        known = zpmap.error[zpmap.error > 0]
        error = round(float(known.mean()), 3) if known.size else None
        return error, "[mag] mean scatter of the cells' stars"
    kind = calibration.error_kind or "scatter"
    try:
        error = zpmap.cell_error(kind)[zpmap.valid]
    except KS4Error:
        return None, None
    return round(float(error.mean()), 4), f"[mag] mean uncertainty of cells ({kind})"
