# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Find the positions, the proper motions and the epoch of a reference catalog."""

import re
from contextlib import nullcontext, suppress

import numpy as np
from astropy import units as u
from astropy.table import Column, Table
from astropy.time import Time

from ks4_ccd.catalogs.columns import Names, column_in
from ks4_ccd.exceptions import KS4Error
from ks4_ccd.mapmaking.epochs import EPOCHS, decimal_year
from ks4_ccd.mapmaking.reference_columns import (
    J2000,
    POSITIONS,
    ReferenceColumns,
    as_tuple,
    first_column,
    found_column,
    is_default,
)
from ks4_ccd.mapmaking.synthetic import passbands_in

__all__ = ["add_motions", "positions_of"]

_MOTION_UNIT = u.mas / u.yr
_GAIA_DR3 = 2016.0
# Epochs of the positions in RA_ICRS and DE_ICRS of VizieR's tables of Gaia.
_VIZIER_EPOCHS = {
    "337": 2015.0,
    "345": 2015.5,
    "350": 2016.0,
    "355": 2016.0,
    "360": 2016.0,
}
_VIZIER_TABLE = re.compile(r"\bI[/_](\d{3})(?=[/_)]|$)")
_EPOCH_IN_TEXT = re.compile(r"\b(?:Ep=|[Ee]poch\s*=?\s*)J?((?:19|20)\d\d(?:\.\d+)?)")


def positions_of(
    table: Table, columns: ReferenceColumns
) -> tuple[np.ndarray, np.ndarray, str]:
    """
    Return the positions of a reference catalog.

    Parameters
    ----------
    table : `~astropy.table.Table`
    columns : `~ks4_ccd.ReferenceColumns`

    Returns
    -------
    ra, dec : 1D `~numpy.ndarray`
        In degrees, at the epoch of the catalog.
    name : str
        The column of the right ascension.

    Raises
    ------
    KS4Error
        If a column is missing, or does not contain angles.
    """
    names = _position_names(table, columns)
    ra_name, dec_name = (
        found_column(table, name, any_case=is_default(columns, kind))
        for kind, name in zip(("ra", "dec"), names, strict=True)
    )
    ra, dec = (column_in(table, name, u.deg) for name in (ra_name, dec_name))
    return ra, dec, ra_name


def _position_names(table: Table, columns: ReferenceColumns) -> tuple[Names, Names]:
    """Return the names of the columns of RA and Dec: two of one epoch."""
    ra, dec = (as_tuple(names) for names in (columns.ra, columns.dec))
    named = list(zip(ra, dec, strict=False)) if len(ra) == len(dec) else POSITIONS
    pairs = []
    for names in named:
        if names[0] in ra and names[1] in dec:
            first, second = (
                first_column(table, name, any_case=is_default(columns, kind))
                for kind, name in zip(("ra", "dec"), names, strict=True)
            )
            if first and second:
                pairs.append((first, second))
    if not pairs:
        return ra, dec
    if J2000 in pairs and len(pairs) > 1:
        years = _recorded_epoch(table, columns)
        if years is not None and years.size and np.all(np.abs(years - 2000) < 0.01):
            return J2000
    return pairs[0]


def add_motions(
    standard: Table, table: Table, columns: ReferenceColumns, ra_name: str
) -> None:
    """
    Add proper motions and the epoch of the positions, where they are known.

    Parameters
    ----------
    standard : `~astropy.table.Table`
        The columns ``pmRA``, ``pmDE`` and ``Epoch`` are added to it, and REFEPOCH to
        its meta.
    table : `~astropy.table.Table`
        The catalog.
    columns : `~ks4_ccd.ReferenceColumns`
    ra_name : str
        The column of the right ascension, as `positions_of` returns it.

    Raises
    ------
    KS4Error
        If a column that is named does not exist, or does not contain proper motions
        or years.
    """
    explicit = columns.pm_ra != ReferenceColumns.pm_ra
    found = [
        first_column(table, getattr(columns, name), any_case=is_default(columns, name))
        for name in ("pm_ra", "pm_dec")
    ]
    has_motions = explicit or all(found)
    years = None
    # Without proper motions a column that is not one of years may be anything.
    with nullcontext() if has_motions else suppress(KS4Error):
        years = _epoch(table, columns, ra_name)
    if years is not None and np.isfinite(years).any():
        standard.meta["REFEPOCH"] = float(np.nanmedian(years))
    if not has_motions:
        return
    for target, name, own in zip(
        ("pmRA", "pmDE"), (columns.pm_ra, columns.pm_dec), found, strict=True
    ):
        motion = column_in(table, own or found_column(table, name), _MOTION_UNIT)
        standard[target] = Column(motion, unit=_MOTION_UNIT)
    if years is not None:
        standard["Epoch"] = Column(years, unit=u.yr)


def _epoch(table: Table, columns: ReferenceColumns, ra_name: str) -> np.ndarray | None:
    """Return the epoch of each position, `None` if it is unknown."""
    years = _recorded_epoch(table, columns)
    if years is None:
        year = _documented_epoch(table, ra_name)
        if year is not None:
            years = np.full(len(table), year)
    return years


def _recorded_epoch(table: Table, columns: ReferenceColumns) -> np.ndarray | None:
    """Return the epochs given, or in a column; `None` if there are none."""
    if columns.epoch != ReferenceColumns.epoch:
        return _years(table, columns.epoch)
    name = first_column(table, ("Epoch", "ref_epoch"), any_case=True)
    return None if name is None else _years(table, name)


def _documented_epoch(table: Table, ra_name: str) -> float | None:
    """Return the epoch that the origin of a table implies, `None` if it is unknown."""
    description = str(getattr(table[ra_name].info, "description", None) or "")
    if match := _EPOCH_IN_TEXT.search(description):
        return float(match[1])
    if ra_name.lstrip("_") == "RAJ2000":
        # Either moved to 2000 by VizieR, or a pipeline's name for any position.
        return None
    texts = [str(value) for value in table.meta.values() if isinstance(value, str)]
    for text in texts:
        if (match := _VIZIER_TABLE.search(text)) and match[1] in _VIZIER_EPOCHS:
            return _VIZIER_EPOCHS[match[1]]
    is_xp = passbands_in(table) or {"XP_V", "XP_I"} & set(table.colnames)
    return _GAIA_DR3 if is_xp else None


def _years(table: Table, epoch: Names | float) -> np.ndarray:
    if not isinstance(epoch, (str, tuple, list)):
        year = decimal_year("the epoch of the reference", epoch)
        return np.full(len(table), year)
    name = found_column(table, epoch)
    if isinstance(table[name], Time):
        years = np.array(table[name].jyear, dtype=float)
    else:
        years = column_in(table, name, u.yr)
    wrong = years[(years < EPOCHS[0]) | (years > EPOCHS[1])]
    if len(wrong):
        msg = f"column {name}: expected decimal years, found {wrong[0]:g}"
        raise KS4Error(msg)
    return years
