# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Read and check the record of DR1 at Zenodo: its archives and their checksums."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING

from ks4_ccd.exceptions import DownloadError

if TYPE_CHECKING:
    from ks4_ccd.maps.zeropoint import ZeroPointMap

__all__ = ["ARCHIVES", "LANDING_PAGE", "RECORD", "Archive", "archives_in", "doi_of"]

RECORD = "https://zenodo.org/api/records/17336382"
LANDING_PAGE = "https://doi.org/10.5281/zenodo.17336382"

# By family.
ARCHIVES = {
    "zp": "KS4_DR1_ZeroPoint_Maps.tar.gz",
    "zperr": "KS4_DR1_ZeroPointError_Maps.tar.gz",
    "pstar": "KS4_DR1_PhotCalibNumStars_Maps.tar.gz",
    "align": "KS4_DR1_Astrometry_Maps.tar.gz",
    "alerr": "KS4_DR1_AstrometryError_Maps.tar.gz",
    "astar": "KS4_DR1_AstroCalibNumStars_Maps.tar.gz",
}

# Checksums of the archives; the record assigns them to the names.
PUBLISHED_MD5 = (
    "4933225bf91bdeeadc3c00ee741c886f",
    "3f75a5b3c19c941f31b8efc21479b2e2",
    "8933a539cf9262e1e54e50a767157854",
    "772af75b3125530450bf8a135d8d2042",
    "2e2aa9ce5700beb8097fd3de7aa659fe",
    "8390ebf36f87b2ab837ae4b13f32e16d",
)

# The largest archive has 1.1 GB.
_LARGEST_ARCHIVE = 4_000_000_000


@dataclass(frozen=True)
class Archive:
    """
    An archive of DR1, according to the record.

    Parameters
    ----------
    name : str
        The name of the file.
    md5 : str
        Its checksum, one of those that were published.
    size : int
        In bytes.
    url : str
        Its address.
    """

    name: str
    md5: str
    size: int
    url: str


def archives_in(content: bytes, source: str) -> dict[str, Archive]:
    """
    Read the record.

    Parameters
    ----------
    content : bytes
        The record in the JSON of Zenodo's API.
    source : str
        Its address, for messages.

    Returns
    -------
    archives : dict
        By its name, the `Archive` of each archive of DR1 that the record lists. Other
        files of the record are left out.

    Raises
    ------
    DownloadError
        If the content is not a record, or contradicts the published facts of DR1.
    """
    try:
        files = json.loads(content)["files"]
        found = [_archive(file) for file in files if _is_archive(file["key"])]
    except DownloadError:
        raise
    except Exception as error:
        # Any value may have any type.
        start = content[:40].decode("ascii", "replace")
        msg = (
            f"{source}: expected a record of files in Zenodo's format, found {start!r} "
            f"({type(error).__name__}: {error}); check the address"
        )
        raise DownloadError(msg) from error
    archives = {archive.name: archive for archive in found}
    if len({archive.md5 for archive in archives.values()}) < len(found):
        msg = (
            f"{source}: expected the record of DR1, found one that lists an archive or "
            "a checksum twice; check the address"
        )
        raise DownloadError(msg)
    return archives


def _is_archive(name: str) -> bool:
    if PureWindowsPath(name).name != name or name == ".." or "\0" in name:
        msg = f"expected names of files in the record, found the path {name!r}"
        raise DownloadError(msg)
    return name in ARCHIVES.values()


def _archive(file: dict) -> Archive:
    name, size, url = file["key"], file["size"], file["links"]["self"]
    if type(size) is not int or not 0 < size <= _LARGEST_ARCHIVE:
        msg = (
            f"{name}: expected a size of up to {_LARGEST_ARCHIVE} bytes in the record, "
            f"found {size!r}"
        )
        raise DownloadError(msg)
    if not re.match("https?://", str(url)):
        msg = (
            f"{name}: expected an address with http or https in the record, found "
            f"{url!r}"
        )
        raise DownloadError(msg)
    algorithm, _, md5 = file["checksum"].partition(":")
    if algorithm != "md5" or md5 not in PUBLISHED_MD5:
        msg = (
            f"{name}: expected one of the six MD5 checksums of DR1 in the record, "
            f"found {file['checksum']!r}: the record is wrong, or of another version"
        )
        raise DownloadError(msg)
    return Archive(name, md5, size, url)


_DOI = "10.5281/zenodo.17336382"


def doi_of(zpmap: ZeroPointMap) -> str | None:
    """
    Return the DOI of DR1 for a map of DR1, `None` for any other map.

    Maps of DR1 are those read from files with its names, without edges and without a
    colour term.
    """
    from_file = zpmap.key is not None and zpmap.source is not None
    is_own = any(map(len, zpmap.grid.edges)) or zpmap.color_term is not None
    return _DOI if from_file and not is_own else None
