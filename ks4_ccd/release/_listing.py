# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Lists of maps: their order, and the message about one that does not exist."""

from collections import defaultdict

from ks4_ccd.release._source import printable
from ks4_ccd.release.names import APERTURES, BANDS, FAMILIES, MODES, parts_of

__all__ = ["is_whole", "order", "what_is_there"]

_KINDS = tuple(dict.fromkeys(kind for kind, _ in FAMILIES.values()))
_MOST_FIELDS_LISTED = 12
_OF_NO_RELEASE = (
    "; the release has none, as its misalignment maps have no direction: build one "
    "from a star table with build_offset_map"
)


def order(key):
    """Return what sorts keys by kind, field, band (blue first), mode and aperture."""
    return (
        _KINDS.index(key.kind),
        key.field,
        BANDS.index(key.band),
        MODES.index(key.mode),
        (None, *APERTURES).index(key.aperture),
    )


def is_whole(kind, parts):
    """Return whether ``parts`` are enough for a map of that kind."""
    needed, _ = parts_of(kind)
    return parts >= set(needed)


def what_is_there(missing, parts_there, paths):
    """
    Return the message that a map does not exist, with those that do.

    Parameters
    ----------
    missing : `MapKey`
        The key of the values that do not exist.
    parts_there : dict
        By the key of a map's first array, the names of the arrays that exist.
    paths : iterable of path-like
        The paths that were searched.

    Returns
    -------
    message : str
    """
    msg = f"no {missing} in {', '.join(map(printable, paths))}: "
    if missing in parts_there:
        there = " and ".join(sorted(parts_there[missing]))
        needed, _ = parts_of(missing.kind)
        lacking = [needed[p] for p in needed if p not in parts_there[missing]]
        files = " and ".join(f"{family}_map" for family in lacking)
        return msg + f"its {there} exists, its {files} file does not"
    maps = [
        key
        for key in sorted(parts_there, key=order)
        if key.kind == missing.kind and is_whole(key.kind, parts_there[key])
    ]
    if not maps:
        msg += f"no {missing.kind} map exists there"
        return msg + _OF_NO_RELEASE if missing.kind == "offset" else msg
    of_field = [key for key in maps if key.field == missing.field]
    if of_field:
        return msg + f"maps of that field are {_variants(of_field)}"
    fields = list(dict.fromkeys(key.field for key in maps))
    more = len(fields) - _MOST_FIELDS_LISTED
    msg += f"fields with such maps are {', '.join(fields[:_MOST_FIELDS_LISTED])}"
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
