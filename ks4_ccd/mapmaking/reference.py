# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Read reference catalogs into the columns of the KS4 pipeline.

The module defines the colour terms that convert synthetic magnitudes of Gaia XP spectra
to the KS4 system.
"""

import os
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from astropy.table import Column, Table

from ks4_ccd.catalogs.columns import magnitude_column, plain_column
from ks4_ccd.exceptions import KS4Error, OptionError, finite
from ks4_ccd.files.tables import read_table
from ks4_ccd.mapmaking._reference_positions import add_motions, positions_of
from ks4_ccd.mapmaking.reference_columns import (
    GAIA_BANDS,
    GAIAXP,
    PRESETS,
    ReferenceColumns,
    as_reference_columns,
    first_column,
    found_column,
)
from ks4_ccd.mapmaking.synthetic import (
    AB_MINUS_VEGA,
    Passband,
    ab_of_survey,
    magnitudes_and_errors,
    passbands_in,
)

__all__ = [
    "COLOUR_TERMS",
    "ReferenceColumns",
    "bands_of",
    "columns_of_band",
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

_Values: TypeAlias = dict[str, np.ndarray]
_MaybeValues: TypeAlias = dict[str, np.ndarray | None]
_ValuesOfBand: TypeAlias = Callable[[str], np.ndarray | None]

_MAGNITUDE = re.compile("([A-Za-z][A-Za-z0-9]*)mag")


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
        ``"gaiaxp"``: the synthetic photometry of Gaia XP spectra in the system of the
        survey, to which the published terms of B and R are applied: as the pipeline
        stores it (``RA``, ``DEC``, ``XP_V``, ``XP_eV``, ``XP_Vflag`` or
        ``GAIA_Vflag``...), or as published (``v_jkc_mag``...). ``"plain"``: positions
        in ``RA_ICRS``, ``DE_ICRS`` or other usual names, magnitudes in columns named
        like ``Vmag``, and the synthetic photometry of Gaia as published, without colour
        terms. ``"auto"``: the former if all magnitudes of BVRI are in columns of the
        pipeline, else the latter. A dict has the parameters of `ReferenceColumns`;
        magnitudes missing from it are found as with ``"auto"``, other columns as with
        ``"plain"``.

    Returns
    -------
    standard : `~astropy.table.Table`
        ``RAJ2000``, ``DEJ2000`` (deg, at the epoch of the catalog); for each
        band ``Vmag``, ``e_Vmag`` (mag; NaN where unknown) and ``flag_V``
        (1 for a usable magnitude; without flags in the catalog, that is
        every finite one). Magnitudes and errors of 90 or more in absolute value
        (99, -99, 999...) are NaN. If there are proper motions, ``pmRA``,
        ``pmDE`` (mas/yr), and ``Epoch`` (yr) if it is known. The meta has the median
        epoch as ``REFEPOCH``, where it is known.

    Raises
    ------
    KS4Error
        If the file cannot be read, or columns are missing or do not contain
        numbers in the expected units.
    OptionError
        If ``columns`` is none of the allowed values.

    Notes
    -----
    B = XP_B - 0.30 (XP_B - XP_V) and R = XP_R - 0.04 (XP_V - XP_R), after
    ``pipe/KMTNet_REF_functions.py`` of the KMTNet_ToO pipeline.

    These tables are recognised as downloaded:

    - ``gaiadr3.gaia_source`` of the Gaia archive, alone or joined with
      ``gaiadr3.synthetic_photometry_gspc``, as `ks4_ccd.reference_stars` returns it;
    - I/355 and I/350 of VizieR (Gaia DR3 and EDR3), and I/360/syntphot, which contains
      the synthetic photometry.

    The magnitudes U, B, V, R and I of the synthetic photometry are in the Vega system.
    They become AB magnitudes by +0.770, -0.120, 0.000, +0.186 and +0.444 (Bessell,
    Castelli & Plez 1998, A&A 333, 231, Table A2); sets of other authors differ from
    these by up to 0.05 mag, a constant for all stars (``offsets`` of
    `ReferenceColumns`). With ``"gaiaxp"`` they are converted as the survey did in its
    own files: -0.138, -0.005, +0.180 and +0.415 for B, V, R and I. Those of SDSS (u, g,
    r, i, z) and Pan-STARRS 1 (y) are AB magnitudes. Their errors are 1.0857 times the
    relative errors of the fluxes, and a magnitude outside of the validated range
    (``v_jkc_flag`` 0) is not usable. G, BP and RP of Gaia remain in the Vega system;
    stars are selected by G.

    The epoch of the positions is that of a column ``Epoch`` or ``ref_epoch``, or of the
    description of the column of right ascension in tables of VizieR, and 2016.0 for
    synthetic photometry, which is part of Gaia DR3.

    Examples
    --------
    >>> from astropy.table import Table
    >>> from ks4_ccd import read_reference
    >>> table = Table({"RA": [10.0], "DEC": [-62.0], "XP_B": [16.0], "XP_V": [15.0]})
    >>> for band in "BV":
    ...     table[f"XP_e{band}"], table[f"XP_{band}flag"] = 0.01, 1
    >>> standard = read_reference(table)
    >>> print(*standard.colnames)
    RAJ2000 DEJ2000 Bmag Vmag e_Bmag flag_B e_Vmag flag_V
    >>> float(standard["Bmag"][0])
    15.7

    A table of the Gaia archive, with a Vega and an AB magnitude:

    >>> gaia = Table({"ra": [10.0], "dec": [-62.0], "pmra": [4.0], "pmdec": [-5.0]})
    >>> gaia["i_jkc_mag"], gaia["i_sdss_mag"] = [15.0], [15.45]
    >>> gaia["i_jkc_flux"], gaia["i_jkc_flux_error"] = [1.2e-17], [6e-20]
    >>> standard = read_reference(gaia)
    >>> for name in ("Imag", "e_Imag", "imag", "Epoch"):
    ...     print(f"{name} {standard[name][0]:.4f}")
    Imag 15.4440
    e_Imag 0.0054
    imag 15.4500
    Epoch 2016.0000
    """
    if not isinstance(reference, Table):
        reference = read_table(reference)
    if isinstance(columns, Mapping):
        columns = as_reference_columns(columns)
    elif not isinstance(columns, ReferenceColumns) and columns not in PRESETS:
        msg = (
            f"the columns of the reference must be one of {', '.join(PRESETS)}, or a "
            f"dict of column names, got {columns!r}"
        )
        raise OptionError(msg)
    if columns == "gaiaxp" or (columns != "plain" and _is_gaiaxp(reference, columns)):
        if isinstance(columns, str):
            columns = GAIAXP
        return _read_gaiaxp(reference, columns)
    if isinstance(columns, str):
        columns = ReferenceColumns()
    return _read_plain(reference, columns)


def bands_of(standard: Table) -> list[str]:
    """Return the bands of a table that `read_reference` returned."""
    return [match[1] for match in map(_MAGNITUDE.fullmatch, standard.colnames) if match]


def columns_of_band(band: str) -> list[str]:
    """Return the columns in which `read_reference` finds a band, for messages."""
    names = [*GAIA_BANDS.get(band, (f"{band}mag",))]
    if band in COLOUR_TERMS:
        first, _, *color = COLOUR_TERMS[band]
        names.append(
            " with ".join(f"XP_{part}" for part in dict.fromkeys((first, *color)))
        )
    if band in AB_MINUS_VEGA:
        names.append(f"{band.lower()}_jkc_mag")
    elif len(band) == 1 and band in "ugriz":
        names.append(f"{band}_sdss_mag")
    elif band == "y":
        names.append("y_ps1_mag")
    return names


def _is_gaiaxp(table: Table, columns: str | ReferenceColumns) -> bool:
    """Return whether magnitudes are those of the pipeline, before colour terms."""
    named = ("magnitudes", "errors", "flags", "offsets")
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
    xp, own_errors, own_flags = _survey_magnitudes(table)
    magnitudes, errors, flags = {}, {}, {}
    for band, (first, factor, blue, red) in COLOUR_TERMS.items():
        if {first, blue, red} <= set(xp):
            magnitudes[band] = xp[first] - factor * (xp[blue] - xp[red])
            errors[band], flags[band] = own_errors(band), own_flags(band)
    if not magnitudes:
        msg = (
            "the reference has no Gaia XP magnitudes (XP_B and XP_V, XP_V, XP_R and "
            "XP_V, or XP_I; v_jkc_mag... in tables of the Gaia archive): it has "
            f"{', '.join(table.colnames) or 'no columns'}"
        )
        raise KS4Error(msg)
    descriptions = {}
    if name := _gaia_column(table, "G"):
        magnitudes["G"] = magnitude_column(table, name)
        descriptions["G"] = f"{name} of Gaia, Vega magnitudes"
    return _standard(table, columns, magnitudes, errors, flags, descriptions)


def _survey_magnitudes(
    table: Table,
) -> tuple[_Values, _ValuesOfBand, _ValuesOfBand]:
    """Return the AB magnitudes XP_B... by band, and what returns errors and flags."""
    magnitudes = {
        band: magnitude_column(table, f"XP_{band}")
        for band in COLOUR_TERMS
        if f"XP_{band}" in table.colnames
    }
    if magnitudes:

        def errors(band: str) -> np.ndarray:
            return magnitude_column(table, found_column(table, f"XP_e{band}"))

        def flags(band: str) -> np.ndarray:
            return _flags(table, found_column(table, _flag_names(band)[1:]))

        return magnitudes, errors, flags
    published = {
        passband.band: magnitudes_and_errors(table, passband)
        for passband in passbands_in(table).values()
        if passband.band in COLOUR_TERMS
    }
    magnitudes = {
        band: ab_of_survey(vega, band) for band, (vega, _, _) in published.items()
    }
    return (
        magnitudes,
        lambda band: published[band][1],
        lambda band: published[band][2],
    )


def _read_plain(table: Table, columns: ReferenceColumns) -> Table:
    passbands = passbands_in(table)
    named = columns.magnitudes
    if named is None:
        # e_Vmag does not match: letters and digits only.
        found = filter(None, map(_MAGNITUDE.fullmatch, table.colnames))
        named = {match[1]: match[0] for match in found}
        for name, known in passbands.items():
            named.setdefault(known.band, name)
        for band in GAIA_BANDS:
            if band not in named and (gaia := _gaia_column(table, band)):
                named[band] = gaia
    magnitudes: _Values = {}
    errors: _MaybeValues = {}
    flags: _MaybeValues = {}
    descriptions = {}
    for band, name in named.items():
        passband = passbands.get(found_column(table, name))
        if passband is not None:
            values = magnitudes_and_errors(table, passband)
            magnitudes[band], errors[band], flags[band] = values
        else:
            magnitudes[band] = magnitude_column(table, name)
        offset, descriptions[band] = _offset(table, columns, band, name, passband)
        magnitudes[band] = magnitudes[band] + offset
        for kind, usual, read, into in (
            (columns.errors, (f"e_{band}mag",), magnitude_column, errors),
            (columns.flags, _flag_names(band), _flags, flags),
        ):
            if band in kind or (into.get(band) is None and first_column(table, usual)):
                into[band] = read(table, found_column(table, kind.get(band, usual)))
    return _standard(table, columns, magnitudes, errors, flags, descriptions)


def _gaia_column(table: Table, band: str) -> str | None:
    """Return the column of a magnitude of Gaia, `None` if there is none."""
    names = GAIA_BANDS[band]
    # Gmag is not gmag; the names of the archive are unique.
    return first_column(table, names) or first_column(table, names[1:], any_case=True)


def _offset(
    table: Table,
    columns: ReferenceColumns,
    band: str,
    name: str,
    passband: Passband | None,
) -> tuple[float, str | None]:
    """Return the magnitude to add to a column, and a description of the sum."""
    if band in columns.offsets:
        offset = finite(f"the offset of band {band}", columns.offsets[band])
        return offset, f"{name} {offset:+.4g} mag"
    if passband is not None:
        if not passband.is_vega:
            return 0.0, f"{name} of Gaia XP spectra, AB magnitudes"
        offset = AB_MINUS_VEGA[passband.band]
        return offset, f"{name} of Gaia XP spectra {offset:+.3f}, AB magnitudes"
    if band in GAIA_BANDS and name == _gaia_column(table, band):
        return 0.0, f"{name} of Gaia, Vega magnitudes"
    return 0.0, None


def _flag_names(band: str) -> tuple[str, ...]:
    return f"flag_{band}", f"XP_{band}flag", f"GAIA_{band}flag"


def _flags(table: Table, name: str) -> np.ndarray:
    return (plain_column(table, name) == 1).astype(np.uint8)


def _standard(
    table: Table,
    columns: ReferenceColumns,
    magnitudes: _Values,
    errors: _MaybeValues,
    flags: _MaybeValues,
    descriptions: Mapping[str, str | None],
) -> Table:
    """Return the standard table, its columns in the pipeline's order."""
    ra, dec, ra_name = positions_of(table, columns)
    standard = Table()
    standard["RAJ2000"], standard["DEJ2000"] = Column(ra % 360, unit="deg"), dec
    standard["DEJ2000"].unit = "deg"
    for band, values in magnitudes.items():
        description = descriptions.get(band)
        standard[f"{band}mag"] = Column(values, unit="mag", description=description)
    for band, values in magnitudes.items():
        own_errors, own_flags = errors.get(band), flags.get(band)
        if own_errors is None:
            own_errors = np.full(len(values), np.nan)
        if own_flags is None:
            own_flags = np.isfinite(values).astype(np.uint8)
        standard[f"e_{band}mag"] = Column(own_errors, unit="mag")
        standard[f"flag_{band}"] = own_flags
    add_motions(standard, table, columns, ra_name)
    return standard
