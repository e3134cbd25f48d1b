# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""List the fields of KS4 DR1, and the quality flags of DR1."""

from functools import cache
from importlib import resources

from ks4_ccd.exceptions import one_of
from ks4_ccd.ks4.names import BANDS
from ks4_ccd.ks4.tiling import field_number

__all__ = ["FLAGS", "field_flags", "in_dr1"]

FLAGS = ("poor_flat", "stray_light", "satellite", "wrong_zp", "tracking")


@cache
def _facts() -> tuple[frozenset[int], dict[str, dict[int, str]]]:
    # The fields of DR1, and the bands of each field that each flag concerns.
    fields: set[int] = set()
    flags: dict[str, dict[int, str]] = {name: {} for name in FLAGS}
    text = resources.files("ks4_ccd.ks4").joinpath("data", "dr1_fields.txt")
    for line in text.read_text(encoding="ascii").splitlines():
        what, *words = line.split()
        if what == "fields":
            for first, _, last in (word.partition("-") for word in words):
                fields.update(range(int(first), int(last or first) + 1))
        elif what != "#":
            for number, _, bands in (word.partition(":") for word in words):
                flags[what][int(number)] = bands
    return frozenset(fields), flags


def in_dr1(field: str | int) -> bool:
    """
    Return whether a KS4 field is in the first data release.

    Parameters
    ----------
    field : str or int
        ``"0403"``, ``403``, ``"122-72"`` or ``"0403.122-72"``.

    Returns
    -------
    in_dr1 : bool

    Raises
    ------
    OptionError
        If the field does not exist.

    Examples
    --------
    >>> from ks4_ccd.ks4.quality import in_dr1
    >>> in_dr1("0014"), in_dr1("0015")
    (True, False)
    """
    fields, _ = _facts()
    return int(field_number(field)) in fields


def field_flags(field: str | int, band: str) -> tuple[str, ...]:
    """
    Return the quality flags of DR1 for a field in a band.

    Parameters
    ----------
    field : str or int
        ``"0403"``, ``403``, ``"122-72"`` or ``"0403.122-72"``.
    band : {"B", "V", "R", "I"}
        The filter.

    Returns
    -------
    flags : tuple of str
        Those of ``"poor_flat"``, ``"stray_light"``, ``"satellite"``,
        ``"wrong_zp"`` and ``"tracking"`` that are set, in that order. A
        field that is not in DR1 has none: see `~ks4_ccd.in_dr1`.

    Raises
    ------
    OptionError
        If the field or the band does not exist.

    Notes
    -----
    The flags are from ``KS4_DR1_Field_Issue_Flags.csv`` in the repository of the
    survey's pipeline (github.com/jmk5040/KMTNet_ToO).

    Examples
    --------
    >>> from ks4_ccd import field_flags
    >>> field_flags("1311", "V")
    ('stray_light',)
    >>> field_flags("0403", "R")
    ()
    """
    one_of("band", band, BANDS)
    number = int(field_number(field))
    _, flags = _facts()
    return tuple(name for name in FLAGS if band in flags[name].get(number, ""))
