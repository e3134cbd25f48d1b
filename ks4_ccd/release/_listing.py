# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Lists of maps: their order, and what to say when one is not there."""

from collections import defaultdict

from ks4_ccd.release.names import APERTURES, BANDS, FAMILIES, MODES

__all__ = ["order", "what_is_there"]

_KINDS = tuple(dict.fromkeys(kind for kind, _ in FAMILIES.values()))
_MOST_FIELDS_LISTED = 12


def order(key):
    """Return what sorts keys by kind, field, band (blue first), mode and aperture."""
    return (
        _KINDS.index(key.kind),
        key.field,
        BANDS.index(key.band),
        MODES.index(key.mode),
        (None, *APERTURES).index(key.aperture),
    )


def what_is_there(missing, parts_there, paths):
    """
    Say that a map is not there, and which are.

    Parameters
    ----------
    missing : `MapKey`
        The key of the values that are not there.
    parts_there : dict
        By the key of a map's values, the names of the arrays that are there.
    paths : iterable of path-like
        Where the maps were looked for.

    Returns
    -------
    message : str
    """
    msg = f"no {missing} in {', '.join(map(str, paths))}: "
    if missing in parts_there:
        there = " and ".join(sorted(parts_there[missing]))
        return msg + f"its {there} is there, its {missing.family}_map file is not"
    maps = [
        key
        for key in sorted(parts_there, key=order)
        if key.kind == missing.kind and "values" in parts_there[key]
    ]
    if not maps:
        return msg + f"there are no {missing.kind} maps at all"
    of_field = [key for key in maps if key.field == missing.field]
    if of_field:
        return msg + f"of that field there are {_variants(of_field)}"
    fields = list(dict.fromkeys(key.field for key in maps))
    more = len(fields) - _MOST_FIELDS_LISTED
    msg += f"fields there are {', '.join(fields[:_MOST_FIELDS_LISTED])}"
    return f"{msg} and {more} more" if more > 0 else msg


def _variants(keys):
    # "R single (APER3, APER5), I single (AUTO)"
    apertures = defaultdict(list)
    for key in keys:
        apertures[f"{key.band} {key.mode}"].append(key.aperture)
    return ", ".join(
        name if None in kept else f"{name} ({', '.join(kept)})"
        for name, kept in apertures.items()
    )
