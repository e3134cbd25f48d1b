# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Record corrected positions in a header and in the name of a WCS.

The correction itself is in lookup tables. astropy's own FITS format loses these,
while resampling (`ccdproc.wcs_project`) includes them in the pixels. In both
cases the header keeps KS4OFMAP and the WCS has no tables. The name (WCSNAME) of a
corrected WCS therefore ends in a checksum of its linear part: it survives astropy's
FITS format and cut-outs, whereas the WCS of a resampled image, or a newly fitted
one, has another name or other numbers.
"""

import os
import re
import warnings
from collections.abc import Mapping, MutableMapping
from importlib.metadata import version
from zlib import crc32

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from ks4_ccd.astrometry.tables import take_wcs
from ks4_ccd.exceptions import AlreadyCalibratedError, KS4Warning
from ks4_ccd.maps.offset import OffsetMap

__all__ = [
    "check_first",
    "forget_lost",
    "is_corrected",
    "mark",
    "record",
    "record_sources",
]

_MAP = "KS4OFMAP"
_VERSION = "KS4OFVER"
_NAME = re.compile(r" ?ks4_ccd offsets ([0-9a-f]{8})$")
_LONGEST_NAME = 68
_LINEAR = re.compile(r"(CTYPE|CRVAL|CRPIX|CDELT|CUNIT)[12]$|(PC|CD)[12]_[12]$|WCSNAME$")
# Cards that ccdproc adds to the header of a resampled image.
_RESAMPLED = ("WCSPROJ", "WCS_PROJECT")


def mark(wcs: WCS) -> None:
    """
    Name a corrected WCS after its linear part, in place.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
    """
    name = f" ks4_ccd offsets {_checksum(wcs)}"
    own = _NAME.sub("", wcs.wcs.name)[: _LONGEST_NAME - len(name)]
    wcs.wcs.name = (own + name).strip()


def record(header: MutableMapping, offset_map: OffsetMap) -> None:
    """
    Record in a header, in place, the map that corrected the positions.

    Parameters
    ----------
    header : `~astropy.io.fits.Header` or mapping
    offset_map : `~ks4_ccd.OffsetMap`
    """
    header[_MAP] = offset_map.name
    header[_VERSION] = version("ks4_ccd")


def record_sources(meta: MutableMapping, offset_map: OffsetMap) -> None:
    """
    Record in the metadata of a catalog, in place, the map that corrected it.

    Parameters
    ----------
    meta : mapping
        It may contain the header of an image. Whether the WCS there has lost the
        correction no longer matters, so the mark in its name is removed.
    offset_map : `~ks4_ccd.OffsetMap`
    """
    record(meta, offset_map)
    if _NAME.search(str(meta.get("WCSNAME", ""))):
        meta["WCSNAME"] = _NAME.sub("", str(meta["WCSNAME"]))


def check_first(header: Mapping, wcs: WCS | None) -> None:
    """
    Refuse to correct positions that were corrected before.

    Parameters
    ----------
    header : mapping
        The header of the image.
    wcs : `~astropy.wcs.WCS` or `None`
        Its WCS.

    Raises
    ------
    AlreadyCalibratedError
        If the header records a correction that the WCS has not lost.

    Warns
    -----
    KS4Warning
        If the WCS has lost the lookup tables of a recorded correction.
    """
    if _MAP not in header:
        return
    if _has_lost_tables(header, wcs):
        warnings.warn(_lost(header), KS4Warning, stacklevel=4)
        return
    msg = (
        f"the positions of the image were corrected before, by {header[_MAP]} "
        f"({_MAP}): start from the image without the correction"
    )
    if isinstance(wcs, WCS) and not _has_tables(wcs):
        msg = (
            f"the header records that positions were corrected by {header[_MAP]} "
            f"({_MAP}), and the WCS is not the one that was corrected: either the "
            "image was resampled, so that its pixels contain the correction, or its "
            f"WCS was replaced. If its positions are not corrected, delete {_MAP} "
            "from the header"
        )
    raise AlreadyCalibratedError(msg)


def forget_lost(
    header: fits.Header, wcs: WCS | None, path: str | os.PathLike[str]
) -> None:
    """
    Remove the record of a correction from a header, in place, if it is lost.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
    wcs : `~astropy.wcs.WCS` or `None`
    path : path-like
        The file, for the warning.

    Warns
    -----
    KS4Warning
        If the WCS has lost the lookup tables of a recorded correction.
    """
    if _has_lost_tables(header, wcs):
        warnings.warn(f"{path}: {_lost(header)}", KS4Warning, stacklevel=3)
        for keyword in (_MAP, _VERSION):
            header.remove(keyword, ignore_missing=True)


def is_corrected(meta: Mapping) -> bool:
    """
    Return whether the positions of a catalog or of its image were corrected.

    Parameters
    ----------
    meta : mapping
        The meta of a catalog, which may contain the header of its image.

    Returns
    -------
    corrected : bool
        `False` without a record, and where the WCS in ``meta`` has lost the
        lookup tables of the correction.
    """
    if _MAP not in meta:
        return False
    if "WCSNAME" not in meta or "CPDIS1" in meta:
        return True
    try:
        cards = fits.Header([(k, meta[k]) for k in meta if _LINEAR.match(str(k))])
    except (ValueError, TypeError):
        # Entries that are not cards of a WCS.
        return True
    return not _has_lost_tables(meta, take_wcs(cards)[0])


def _has_lost_tables(header: Mapping, wcs: WCS | None) -> bool:
    if _MAP not in header or not isinstance(wcs, WCS) or _has_tables(wcs):
        return False
    found = _NAME.search(wcs.wcs.name)
    if found is None or found[1] != _checksum(wcs):
        return False
    # An image resampled onto its own linear part has a card of that after the record.
    keywords = [str(keyword).upper() for keyword in header]
    later = keywords[keywords.index(_MAP) :]
    return not any(keyword in later for keyword in _RESAMPLED)


def _has_tables(wcs: WCS) -> bool:
    return wcs.cpdis1 is not None or wcs.cpdis2 is not None


def _lost(header: Mapping) -> str:
    return (
        f"the header records that positions were corrected by {header[_MAP]} ({_MAP}), "
        "but the lookup tables of the WCS are missing, as after CCDData.write without "
        'format="ks4": the positions are not corrected'
    )


def _checksum(wcs: WCS) -> str:
    """Return a checksum that cut-outs, binning and FITS cards leave unchanged."""
    matrix = wcs.pixel_scale_matrix
    matrix = matrix / np.sqrt(np.abs(np.linalg.det(matrix)))
    # Adding 0 turns -0 into 0.
    numbers = np.append(wcs.wcs.crval, matrix.ravel()).round(8) + 0.0
    types = [kind.removesuffix("-SIP") for kind in wcs.wcs.ctype]
    text = " ".join([*types, *(f"{number:.8f}" for number in numbers)])
    return f"{crc32(text.encode()):08x}"
