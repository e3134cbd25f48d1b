# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Define and find the columns of reference catalogs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from astropy.table import Table

from ks4_ccd.catalogs.columns import Names
from ks4_ccd.exceptions import KS4Error, OptionError

__all__ = [
    "GAIAXP",
    "GAIA_BANDS",
    "J2000",
    "POSITIONS",
    "PRESETS",
    "ReferenceColumns",
    "as_reference_columns",
    "as_tuple",
    "first_column",
    "found_column",
    "is_default",
]

PRESETS = ("auto", "gaiaxp", "plain")
# Positions, the first pair that a table has. VizieR gives Gaia's at the epoch of the
# catalog, and moved to the year 2000 beside them.
J2000 = ("RAJ2000", "DEJ2000")
POSITIONS = (
    ("RA_ICRS", "DE_ICRS"),
    J2000,
    ("RA", "DEC"),
    ("ra", "dec"),
    ("RA", "Dec"),
)
_USUAL_RA, _USUAL_DEC = zip(*POSITIONS, strict=True)
# Magnitudes of Gaia, in the Vega system, in VizieR and in the Gaia archive. G is that
# by which stars are selected.
GAIA_BANDS = {
    "G": ("Gmag", "phot_g_mean_mag"),
    "BP": ("BPmag", "phot_bp_mean_mag"),
    "RP": ("RPmag", "phot_rp_mean_mag"),
}


@dataclass(frozen=True)
class ReferenceColumns:
    """
    Names of the columns of a reference catalog.

    Where a tuple of names is given, the first one in the catalog is used; of
    ``ra`` and ``dec``, the first pair in the catalog. The default names are found in
    upper and lower case, given names only in their own case.

    Parameters
    ----------
    ra, dec : str or tuple of str, optional
        ICRS positions, in degrees if they have no unit. The first default pair
        is RA_ICRS and DE_ICRS, but RAJ2000 and DEJ2000 for an ``epoch`` of 2000:
        in VizieR tables of Gaia the former are at the epoch of the catalog, the
        latter propagated to the year 2000.
    magnitudes : dict, optional
        Columns by band, such as ``{"V": "V_AB"}``; by default all columns named
        like ``Vmag``, the synthetic photometry of Gaia (``v_jkc_mag``), and
        ``phot_g_mean_mag``, ``phot_bp_mean_mag`` and ``phot_rp_mean_mag`` as G, BP and
        RP.
    errors, flags : dict, optional
        Columns by band; by default ``e_Vmag``, and ``flag_V``, ``XP_Vflag`` or
        ``GAIA_Vflag``, if they exist, and those of the synthetic photometry. The flag
        of a usable star is 1.
    pm_ra, pm_dec : str or tuple of str, optional
        Proper motions, that in RA multiplied by cos(Dec), in mas/yr if they
        have no unit.
    epoch : str, tuple of str or float, optional
        The epoch of the positions: a column of decimal years, or one year
        for all stars.
    offsets : dict, optional
        Magnitudes by band that are added to those of the catalog, such as AB minus Vega
        for a catalog of Vega magnitudes. By default the published ones for synthetic
        photometry in the Vega system, and 0 for all others.

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
    offsets: Mapping[str, float] = field(default_factory=dict)


GAIAXP = ReferenceColumns(ra=("RA", *_USUAL_RA), dec=("DEC", *_USUAL_DEC))


def as_reference_columns(names: Mapping) -> ReferenceColumns:
    """Return the columns that a dict names, or raise `OptionError`."""
    known = [part.name for part in fields(ReferenceColumns)]
    unknown = set(names) - set(known)
    if unknown:
        msg = (
            f"the columns of the reference may name {', '.join(known)}, got "
            f"{', '.join(sorted(map(str, unknown)))}"
        )
        raise OptionError(msg)
    return ReferenceColumns(**names)


def as_tuple(names: Names) -> tuple[str, ...]:
    """Return one or several names as a tuple."""
    return (names,) if isinstance(names, str) else tuple(names)


def is_default(columns: "ReferenceColumns", attribute: str) -> bool:
    """Return whether names are the default ones, which are found in any case."""
    own = getattr(columns, attribute)
    return own in (getattr(ReferenceColumns, attribute), getattr(GAIAXP, attribute))


def first_column(table: Table, names: Names, *, any_case: bool = False) -> str | None:
    """Return the first of some columns that the table has, `None` if it has none."""
    names = as_tuple(names)
    for name in names:
        if name in table.colnames:
            return name
    if any_case:
        for name in names:
            alike = [own for own in table.colnames if own.lower() == name.lower()]
            if len(alike) == 1:
                return alike[0]
    return None


def found_column(table: Table, names: Names, *, any_case: bool = False) -> str:
    """Return the first of some columns that the table has, or raise `KS4Error`."""
    name = first_column(table, names, any_case=any_case)
    if name is not None:
        return name
    looked_for = " or ".join(dict.fromkeys(as_tuple(names)))
    msg = (
        f"the reference has no column {looked_for}: it has "
        f"{', '.join(table.colnames) or 'none'}; name the column with "
        "reference_columns= (--reference-columns)"
    )
    raise KS4Error(msg)
