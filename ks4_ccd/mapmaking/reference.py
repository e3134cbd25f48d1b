# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Read reference catalogs into the columns of the KS4 pipeline.

The module defines the column names of reference catalogs, and the colour terms that
convert synthetic magnitudes of Gaia XP spectra to the KS4 system.
"""

import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Real

import numpy as np
from astropy import units as u
from astropy.table import Column, Table
from astropy.time import Time

from ks4_ccd.catalogs.columns import (
    Names,
    column_in,
    magnitude_column,
    plain_column,
)
from ks4_ccd.exceptions import KS4Error
from ks4_ccd.files.tables import read_table
from ks4_ccd.ks4.tangent import unproject

__all__ = [
    "COLOUR_TERMS",
    "EPOCHS",
    "ReferenceColumns",
    "bands_of",
    "decimal_year",
    "moved",
    "read_reference",
]

# m = XP_1 - factor (XP_2 - XP_3): `pipe/KMTNet_REF_functions.py` of the KMTNet_ToO
# pipeline. V and I need no colour term.
COLOUR_TERMS = {
    "B": ("B", 0.30, "B", "V"),
    "V": ("V", 0.0, "V", "V"),
    "R": ("R", 0.04, "V", "R"),
    "I": ("I", 0.0, "I", "I"),
}

_PRESETS = ("auto", "gaiaxp", "plain")
_MAGNITUDE = re.compile("([A-Za-z][A-Za-z0-9]*)mag")
_MOTION_UNIT = u.mas / u.yr
# Years outside of which an epoch is a Julian date or a mistake.
EPOCHS = (1800.0, 2200.0)
# Positions, the first pair that a table has. VizieR gives Gaia's at the epoch of the
# catalog, and moved to the year 2000 beside them.
_J2000 = ("RAJ2000", "DEJ2000")
_POSITIONS = (
    ("RA_ICRS", "DE_ICRS"),
    _J2000,
    ("RA", "DEC"),
    ("ra", "dec"),
    ("RA", "Dec"),
)
_USUAL_RA, _USUAL_DEC = zip(*_POSITIONS, strict=True)
# The magnitude by which stars are selected, as Gaia's archive calls it.
_G = ("Gmag", "phot_g_mean_mag")


@dataclass(frozen=True)
class ReferenceColumns:
    """
    Names of the columns of a reference catalog.

    Where a tuple of names is given, the first one in the catalog is used; of
    ``ra`` and ``dec``, the first pair in the catalog.

    Parameters
    ----------
    ra, dec : str or tuple of str, optional
        ICRS positions, in degrees if they have no unit. The first default pair
        is RA_ICRS and DE_ICRS, but RAJ2000 and DEJ2000 for an ``epoch`` of 2000:
        in VizieR tables of Gaia the former are at the epoch of the catalog, the
        latter propagated to the year 2000.
    magnitudes : dict, optional
        Columns by band, such as ``{"V": "V_AB"}``; by default all columns named
        like ``Vmag``, and ``phot_g_mean_mag`` of Gaia as G.
    errors, flags : dict, optional
        Columns by band; by default ``e_Vmag``, and ``flag_V``, ``XP_Vflag`` or
        ``GAIA_Vflag``, if they exist. The flag of a usable star is 1.
    pm_ra, pm_dec : str or tuple of str, optional
        Proper motions, that in RA multiplied by cos(Dec), in mas/yr if they
        have no unit.
    epoch : str, tuple of str or float, optional
        The epoch of the positions: a column of decimal years, or one year
        for all stars.

    Examples
    --------
    >>> from astropy.table import Table
    >>> from ks4_ccd import ReferenceColumns, read_reference
    >>> table = Table({"alpha": [10.0], "delta": [-62.0], "V_AB": [16.2]})
    >>> columns = ReferenceColumns(
    ...     ra="alpha", dec="delta", magnitudes={"V": "V_AB"}
    ... )
    >>> print(read_reference(table, columns))
    RAJ2000 DEJ2000 Vmag e_Vmag flag_V
      deg     deg   mag   mag
    ------- ------- ---- ------ ------
       10.0   -62.0 16.2    nan      1
    """

    ra: Names = _USUAL_RA
    dec: Names = _USUAL_DEC
    magnitudes: Mapping[str, str] | None = None
    errors: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    pm_ra: Names = ("pmRA", "pmra")
    pm_dec: Names = ("pmDE", "pmDEC", "pmdec")
    epoch: Names | float = ("Epoch", "ref_epoch")


_GAIAXP = ReferenceColumns(ra="RA", dec="DEC")


def read_reference(
    reference: Table | str | os.PathLike,
    columns: str | ReferenceColumns | Mapping = "auto",
) -> Table:
    """
    Read a reference catalog into the columns of the KS4 pipeline.

    Parameters
    ----------
    reference : `~astropy.table.Table`, str or path-like
        The catalog, or its file. It is not changed.
    columns : {"auto", "gaiaxp", "plain"}, `ReferenceColumns` or dict, optional
        ``"gaiaxp"``: the synthetic photometry of Gaia XP spectra as the
        pipeline stores it (``RA``, ``DEC``, ``XP_V``, ``XP_eV``,
        ``XP_Vflag`` or ``GAIA_Vflag``...), to which the published terms of B
        and R are applied. ``"plain"``: positions in ``RA_ICRS``, ``DE_ICRS`` or
        other usual names, magnitudes in columns named like ``Vmag``. ``"auto"``:
        the former if all magnitudes of BVRI are in such columns, else the latter.
        A dict has the parameters of `ReferenceColumns`; magnitudes missing from
        it are found as with ``"auto"``, other columns as with ``"plain"``.

    Returns
    -------
    standard : `~astropy.table.Table`
        ``RAJ2000``, ``DEJ2000`` (deg, at the epoch of the catalog); for each
        band ``Vmag``, ``e_Vmag`` (mag; NaN where unknown) and ``flag_V``
        (1 for a usable magnitude; without flags in the catalog, that is
        every finite one). Magnitudes and errors of 90 or more in absolute value
        (99, -99, 999...) are NaN. If there are proper motions, ``pmRA``,
        ``pmDE`` (mas/yr), and ``Epoch`` (yr) if the catalog records it.

    Raises
    ------
    KS4Error
        If the file cannot be read, or columns are missing or do not contain
        numbers in the expected units.

    Notes
    -----
    B = XP_B - 0.30 (XP_B - XP_V) and R = XP_R - 0.04 (XP_V - XP_R), after
    ``pipe/KMTNet_REF_functions.py`` of the KMTNet_ToO pipeline.

    Examples
    --------
    >>> from astropy.table import Table
    >>> from ks4_ccd.mapmaking.reference import read_reference
    >>> table = Table({"RA": [10.0], "DEC": [-62.0], "XP_B": [16.0], "XP_V": [15.0]})
    >>> for band in "BV":
    ...     table[f"XP_e{band}"], table[f"XP_{band}flag"] = 0.01, 1
    >>> standard = read_reference(table)
    >>> print(*standard.colnames)
    RAJ2000 DEJ2000 Bmag Vmag e_Bmag flag_B e_Vmag flag_V
    >>> float(standard["Bmag"][0])
    15.7
    """
    if not isinstance(reference, Table):
        reference = read_table(reference)
    if isinstance(columns, Mapping):
        columns = _columns_of(columns)
    elif not isinstance(columns, ReferenceColumns) and columns not in _PRESETS:
        msg = (
            f"the columns of the reference must be one of {', '.join(_PRESETS)}, or a "
            f"dict of column names, got {columns!r}"
        )
        raise KS4Error(msg)
    if columns == "gaiaxp" or (columns != "plain" and _is_gaiaxp(reference, columns)):
        if isinstance(columns, str):
            columns = _GAIAXP
        return _read_gaiaxp(reference, columns)
    if isinstance(columns, str):
        columns = ReferenceColumns()
    return _read_plain(reference, columns)


def bands_of(standard: Table) -> list[str]:
    """Return the bands of a table that `read_reference` returned."""
    return [match[1] for match in map(_MAGNITUDE.fullmatch, standard.colnames) if match]


def _columns_of(names: Mapping) -> ReferenceColumns:
    known = [part.name for part in fields(ReferenceColumns)]
    unknown = set(names) - set(known)
    if unknown:
        msg = (
            f"the columns of the reference may name {', '.join(known)}, got "
            f"{', '.join(sorted(map(str, unknown)))}"
        )
        raise KS4Error(msg)
    return ReferenceColumns(**names)


def _is_gaiaxp(table: Table, columns: str | ReferenceColumns) -> bool:
    """Return whether magnitudes are those of XP spectra, before colour terms."""
    named = ("magnitudes", "errors", "flags")
    if any(getattr(columns, name, None) for name in named):
        return False
    # The queries of the pipeline keep XP_B and XP_R beside the Bmag and Rmag that
    # they compute from them.
    names = set(table.colnames)
    raw = {
        band
        for band, (first, _, *color) in COLOUR_TERMS.items()
        if {f"XP_{part}" for part in (first, *color)} <= names
    }
    made = {band for band in COLOUR_TERMS if f"{band}mag" in names}
    return bool(raw) and made <= raw


def _read_gaiaxp(table: Table, columns: ReferenceColumns) -> Table:
    xp = {}
    for band in COLOUR_TERMS:
        if f"XP_{band}" in table.colnames:
            xp[band] = magnitude_column(table, f"XP_{band}")
    magnitudes, errors, flags = {}, {}, {}
    for band, (first, factor, blue, red) in COLOUR_TERMS.items():
        if {first, blue, red} <= set(xp):
            magnitudes[band] = xp[first] - factor * (xp[blue] - xp[red])
            errors[band] = magnitude_column(table, _found(table, f"XP_e{band}"))
            flags[band] = _flags(table, _found(table, _flag_names(band)[1:]))
    if not magnitudes:
        msg = (
            "the reference has no Gaia XP magnitudes (XP_B and XP_V, XP_V, XP_R and "
            f"XP_V, or XP_I): it has {', '.join(table.colnames) or 'no columns'}"
        )
        raise KS4Error(msg)
    if _has_any(table, _G):
        magnitudes["G"] = magnitude_column(table, _found(table, _G))
    ra, dec = _positions(table, *_position_names(table, columns))
    standard = _standard(ra, dec, magnitudes, errors, flags)
    _add_motion(standard, table, columns)
    return standard


def _read_plain(table: Table, columns: ReferenceColumns) -> Table:
    ra, dec = _positions(table, *_position_names(table, columns))
    named = columns.magnitudes
    if named is None:
        # e_Vmag does not match: letters and digits only.
        found = filter(None, map(_MAGNITUDE.fullmatch, table.colnames))
        named = {match[1]: match[0] for match in found}
        if "G" not in named and _has_any(table, _G):
            named["G"] = _found(table, _G)
    magnitudes: dict[str, np.ndarray] = {}
    errors: dict[str, np.ndarray] = {}
    flags: dict[str, np.ndarray] = {}
    for band, name in named.items():
        magnitudes[band] = magnitude_column(table, _found(table, name))
        for kind, usual, read, into in (
            (columns.errors, (f"e_{band}mag",), magnitude_column, errors),
            (columns.flags, _flag_names(band), _flags, flags),
        ):
            if band in kind or _has_any(table, usual):
                into[band] = read(table, _found(table, kind.get(band, usual)))
    standard = _standard(ra, dec, magnitudes, errors, flags)
    _add_motion(standard, table, columns)
    return standard


def _position_names(table, columns):
    """Return the names of the columns of RA and Dec: two of one epoch."""
    ra, dec = (_as_tuple(names) for names in (columns.ra, columns.dec))
    pairs = list(zip(ra, dec, strict=False)) if len(ra) == len(dec) else _POSITIONS
    pairs = [
        pair
        for pair in pairs
        if pair[0] in ra and pair[1] in dec and set(pair) <= set(table.colnames)
    ]
    if not pairs:
        return ra, dec
    if _J2000 in pairs and len(pairs) > 1:
        years = _epoch(table, columns)
        if years is not None and years.size and np.all(np.abs(years - 2000) < 0.01):
            return _J2000
    return pairs[0]


def _positions(table, *names):
    return tuple(column_in(table, _found(table, name), u.deg) for name in names)


def _flag_names(band):
    return f"flag_{band}", f"XP_{band}flag", f"GAIA_{band}flag"


def _as_tuple(names):
    return (names,) if isinstance(names, str) else tuple(names)


def _found(table, names):
    """Return the first of some names that the table has, or raise `KS4Error`."""
    names = _as_tuple(names)
    for name in names:
        if name in table.colnames:
            return name
    msg = (
        f"the reference has no column {' or '.join(dict.fromkeys(names))}: it has "
        f"{', '.join(table.colnames) or 'none'}"
    )
    raise KS4Error(msg)


def _flags(table, name):
    return (plain_column(table, name) == 1).astype(np.uint8)


def _standard(ra, dec, magnitudes, errors, flags):
    """Return the standard table, its columns in the pipeline's order."""
    standard = Table()
    standard["RAJ2000"], standard["DEJ2000"] = Column(ra % 360, unit="deg"), dec
    standard["DEJ2000"].unit = "deg"
    for band, values in magnitudes.items():
        standard[f"{band}mag"] = Column(values, unit="mag")
    for band, values in magnitudes.items():
        unknown = np.full(len(values), np.nan)
        standard[f"e_{band}mag"] = Column(errors.get(band, unknown), unit="mag")
        usable = np.isfinite(values).astype(np.uint8)
        standard[f"flag_{band}"] = flags.get(band, usable)
    return standard


def _add_motion(standard, table, columns):
    explicit = columns.pm_ra != ReferenceColumns.pm_ra
    names = (columns.pm_ra, columns.pm_dec)
    there = [_has_any(table, name) for name in names]
    if not explicit and not all(there):
        return
    for target, name in zip(("pmRA", "pmDE"), names, strict=True):
        motion = column_in(table, _found(table, name), _MOTION_UNIT)
        standard[target] = Column(motion, unit=_MOTION_UNIT)
    years = _epoch(table, columns)
    if years is not None:
        standard["Epoch"] = Column(years, unit=u.yr)


def _epoch(table, columns):
    """Return the epoch of each position, `None` if it is unknown."""
    epoch = columns.epoch
    if epoch == ReferenceColumns.epoch and not _has_any(table, epoch):
        return None
    return _years(table, epoch)


def _has_any(table, names):
    return any(name in table.colnames for name in _as_tuple(names))


def _years(table, epoch):
    if not isinstance(epoch, (str, tuple, list)):
        year = decimal_year("the epoch of the reference", epoch)
        return np.full(len(table), year)
    name = _found(table, epoch)
    if isinstance(table[name], Time):
        years = np.array(table[name].jyear, dtype=float)
    else:
        years = column_in(table, name, u.yr)
    wrong = years[(years < EPOCHS[0]) | (years > EPOCHS[1])]
    if len(wrong):
        msg = f"column {name}: expected decimal years, found {wrong[0]:g}"
        raise KS4Error(msg)
    return years


def decimal_year(name: str, epoch: Time | float | str) -> float:
    """
    Return an epoch as a decimal year, or raise `KS4Error`.

    Parameters
    ----------
    name : str
        The name of the argument in messages.
    epoch : `~astropy.time.Time`, float or str
        A time, a decimal year, or the value of a keyword such as DATE-OBS.

    Returns
    -------
    year : float
    """
    try:
        year = float(_as_year(epoch))
    except (TypeError, ValueError):
        year = np.nan
    if not EPOCHS[0] <= year <= EPOCHS[1]:
        msg = (
            f"{name} must be one Time, decimal year or date between the years "
            f"{EPOCHS[0]:.0f} and {EPOCHS[1]:.0f}, got {epoch!r}"
        )
        raise KS4Error(msg)
    return year


def _as_year(epoch):
    if isinstance(epoch, Real) and not isinstance(epoch, bool):
        return epoch
    if isinstance(epoch, str):
        try:
            return float(epoch)
        except ValueError:
            pass
    if isinstance(epoch, u.Quantity):
        return epoch.to_value(u.yr)
    with warnings.catch_warnings():
        # ERFA warns of UTC before 1960 and in the future.
        warnings.simplefilter("ignore")
        return Time(epoch).jyear


def moved(
    ra: np.ndarray,
    dec: np.ndarray,
    pm_ra: np.ndarray,
    pm_dec: np.ndarray,
    years: float | np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Apply proper motions to positions.

    Parameters
    ----------
    ra, dec : 1D `~numpy.ndarray`
        In degrees.
    pm_ra, pm_dec : 1D `~numpy.ndarray`
        Proper motions in mas/yr, that in RA multiplied by cos(Dec). Stars
        without a finite proper motion do not move.
    years : float or 1D `~numpy.ndarray`
        The time since the epoch of the positions; stars with a value that is
        not finite do not move.

    Returns
    -------
    ra, dec : 1D `~numpy.ndarray`

    Notes
    -----
    The star moves on a straight line in space, without parallax and radial
    velocity. This holds at the poles as well.
    """
    east, north = (np.radians(pm * years / 3.6e6) for pm in (pm_ra, pm_dec))
    known = np.isfinite(east) & np.isfinite(north) & ((east != 0) | (north != 0))
    new_ra, new_dec = ra.copy(), dec.copy()
    new_ra[known], new_dec[known] = unproject(
        east[known], north[known], ra[known], dec[known]
    )
    return new_ra, new_dec
