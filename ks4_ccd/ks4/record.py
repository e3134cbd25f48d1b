# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The record of the release: what it says of the archives, if it can be believed."""

import json
import re
from dataclasses import dataclass
from pathlib import PureWindowsPath

from ks4_ccd.exceptions import DownloadError

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

# Those of the archives; which belongs to which, the record says.
PUBLISHED_MD5 = (
    "4933225bf91bdeeadc3c00ee741c886f",
    "3f75a5b3c19c941f31b8efc21479b2e2",
    "8933a539cf9262e1e54e50a767157854",
    "772af75b3125530450bf8a135d8d2042",
    "2e2aa9ce5700beb8097fd3de7aa659fe",
    "8390ebf36f87b2ab837ae4b13f32e16d",
)

# The largest of the archives has 1.1 GB.
_LARGEST_ARCHIVE = 4_000_000_000


@dataclass(frozen=True)
class Archive:
    """
    An archive of the release, as the record describes it.

    Parameters
    ----------
    name : str
        The name of the file.
    md5 : str
        Its checksum, one of those that were published.
    size : int
        In bytes.
    url : str
        Where it is.
    """

    name: str
    md5: str
    size: int
    url: str


def archives_in(content, source):
    """
    Read the record.

    Parameters
    ----------
    content : bytes
        The record as Zenodo's API gives it, JSON.
    source : str
        Where it is from, for messages.

    Returns
    -------
    archives : dict
        By their names, the `Archive` of each of the release's archives that the
        record has. Other files of the record are left out.

    Raises
    ------
    DownloadError
        If the record is not one, or says what cannot be true of the release.
    """
    try:
        files = json.loads(content)["files"]
        found = [_archive(file) for file in files if _is_archive(file["key"])]
    except DownloadError:
        raise
    except Exception as error:
        # Anything may be in the place of anything else.
        start = content[:40].decode("ascii", "replace")
        msg = (
            f"{source} is not a record of files as Zenodo describes them "
            f"({type(error).__name__}: {error}): it begins with {start!r}"
        )
        raise DownloadError(msg) from error
    archives = {archive.name: archive for archive in found}
    if len({archive.md5 for archive in archives.values()}) < len(found):
        msg = f"{source} lists an archive or an md5 twice: it is not that of DR1"
        raise DownloadError(msg)
    return archives


def _is_archive(name):
    if PureWindowsPath(name).name != name or name == ".." or "\0" in name:
        msg = f"the record has a file {name!r}: a path in the place of a name"
        raise DownloadError(msg)
    return name in ARCHIVES.values()


def _archive(file):
    name, size, url = file["key"], file["size"], file["links"]["self"]
    if type(size) is not int or not 0 < size <= _LARGEST_ARCHIVE:
        msg = (
            f"{name} has {size!r} bytes by the record: expected a number up to "
            f"{_LARGEST_ARCHIVE}"
        )
        raise DownloadError(msg)
    if not re.match("https?://", str(url)):
        msg = f"{name} is at {url!r} by the record: expected an address with http"
        raise DownloadError(msg)
    algorithm, _, md5 = file["checksum"].partition(":")
    if algorithm != "md5" or md5 not in PUBLISHED_MD5:
        msg = (
            f"{name} has the checksum {file['checksum']!r} by the record, none of the "
            "six of DR1: the record is wrong, or of another version"
        )
        raise DownloadError(msg)
    return Archive(name, md5, size, url)


_DOI = "10.5281/zenodo.17336382"


def doi_of(zpmap):
    """
    Return the DOI of the release that a map is from, `None` for any other map.

    Maps of the release are read from files with the release's names, and have
    no edges.
    """
    from_file = zpmap.key is not None and zpmap.source is not None
    return _DOI if from_file and not any(map(len, zpmap.grid.edges)) else None
