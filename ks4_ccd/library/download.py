# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Download the archives of DR1 from Zenodo."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ks4_ccd.exceptions import DownloadError, KS4Error, OptionError, one_of
from ks4_ccd.files.writing import as_path
from ks4_ccd.ks4 import record as _record
from ks4_ccd.ks4.record import ARCHIVES, LANDING_PAGE, RECORD, Archive, archives_in

__all__ = ["fetch"]

if TYPE_CHECKING:
    import requests


def fetch(
    families: str | Collection[str] | None = None,
    dest: str | os.PathLike[str] = ".",
    *,
    progress: bool | None = None,
    record: str = RECORD,
) -> list[Path]:
    """
    Download archives of DR1.

    Parameters
    ----------
    families : str or list of str, optional
        What to download, by the family of the maps or by the name of their
        archive: "zp" or "ZeroPoint", "zperr" or "ZeroPointError", "pstar" or
        "PhotCalibNumStars", "align" or "Astrometry", "alerr" or
        "AstrometryError", "astar" or "AstroCalibNumStars". By default all six,
        3.6 GB. An `~ks4_ccd.ZeroPointMap` consists of the first three, a
        `~ks4_ccd.MisalignmentMap` of the others.
    dest : str or path-like, optional
        The folder for the archives. It is created if it does not exist.
    progress : bool, optional
        Whether to show a progress bar for each archive; by default if the output
        is a terminal.
    record : str, optional
        The URL of the record of DR1, in the format of Zenodo's API; by default
        that at Zenodo (DOI 10.5281/zenodo.17336382). Archives of a mirror have to
        be identical to the published ones.

    Returns
    -------
    paths : list of `~pathlib.Path`
        The archives in the order of ``families``, for `~ks4_ccd.MapLibrary`.

    Raises
    ------
    OptionError
        If ``families`` is not in DR1.
    DownloadError
        If an archive is unavailable, its transfer is too slow, or it is not the
        published one; the message lists the files to download by hand. Before
        anything is downloaded, it is raised if another file has the name of an
        archive, a partial file is a symbolic link, or the free space is too small.

    Notes
    -----
    An archive appears under its name once it is complete and its MD5 checksum is
    verified. Until then its bytes are in a file that ends in ``.part``, from which
    another call resumes. Existing archives are verified and not downloaded again,
    whether they were downloaded by this function or by hand; if none is missing,
    the network is not used. Only one process at a time should download to a folder.

    Examples
    --------
    >>> from ks4_ccd import MapLibrary, fetch
    >>> paths = fetch(["zp", "zperr", "pstar"], "dr1")  # doctest: +SKIP
    >>> library = MapLibrary(paths)  # doctest: +SKIP

    The tests skip this example, which requires the network.

    >>> fetch("flux")
    Traceback (most recent call last):
        ...
    ks4_ccd.exceptions.OptionError: families must be one of zp, ..., got 'flux'
    """
    names = _archive_names(families)
    dest = as_path("dest", dest).absolute()
    with _explained(f"cannot write into {dest}"):
        dest.mkdir(parents=True, exist_ok=True)
        md5s = {name: _md5_of(dest / name) for name in names}
    for name, md5 in md5s.items():
        if md5 is not None:
            _check_present(dest / name, md5, _record.PUBLISHED_MD5)
    missing = [name for name in names if md5s[name] is None]
    if missing:
        _complete(dest, md5s, missing, progress, record)
    return [dest / name for name in names]


def _archive_names(families: str | Collection[str] | None) -> list[str]:
    """Return the names of the archives of these families, without duplicates."""
    if families is None:
        return list(ARCHIVES.values())
    by_word = {name.split("_")[2]: name for name in ARCHIVES.values()}
    known = ARCHIVES | by_word
    if isinstance(families, str):
        families = [families]
    if not isinstance(families, list | tuple | set | frozenset) or not families:
        msg = f"families must name at least one of {', '.join(known)}, got {families!r}"
        raise OptionError(msg)
    names = [known[one_of("families", family, tuple(known))] for family in families]
    return list(dict.fromkeys(names))


def _complete(
    dest: Path,
    md5s: dict[str, str | None],
    missing: list[str],
    progress: bool | None,
    record: str,
) -> None:
    """Download the archives that are missing."""
    # Importing requests is slow, and most processes download nothing.
    from ks4_ccd.library._transfer import new_session, read_small_file

    with new_session() as session:
        with _by_hand(missing, dest):
            archives = archives_in(read_small_file(session, record), record)
            lacking = [name for name in missing if name not in archives]
            if lacking:
                msg = f"{record} does not list {', '.join(lacking)}"
                raise DownloadError(msg)
        for name, md5 in md5s.items():
            if md5 is not None and name in archives:
                _check_present(dest / name, md5, [archives[name].md5])
        wanted = [archives[name] for name in missing]
        _check_space(dest, wanted)
        for number, archive in enumerate(wanted):
            with _by_hand(missing[number:], dest):
                _download(session, archive, dest, progress)


def _md5_of(path: Path) -> str | None:
    """Return the MD5 checksum of a file, `None` if it does not exist."""
    import pooch

    return pooch.file_hash(str(path), alg="md5") if path.exists() else None


def _check_present(path: Path, md5: str, expected: Collection[str]) -> None:
    if md5 not in expected:
        msg = (
            f"{path}: expected the archive of DR1, with the MD5 checksum "
            f"{' or '.join(expected)}, found a file with {md5}; move or delete it, "
            "then fetch again"
        )
        raise DownloadError(msg)


def _check_space(dest: Path, archives: list[Archive]) -> None:
    from ks4_ccd.library._transfer import size_of_part

    needed = sum(archive.size for archive in archives)
    needed -= sum(size_of_part(_part_of(dest, archive)) for archive in archives)
    free = shutil.disk_usage(dest).free
    if needed > free:
        msg = (
            f"{dest}: expected {needed / 1e9:.2f} GB of free space for the download, "
            f"found {free / 1e9:.2f} GB; free some space, or give another folder"
        )
        raise DownloadError(msg)


def _part_of(dest: Path, archive: Archive) -> Path:
    return dest / f"{archive.name}.part"


def _download(
    session: requests.Session, archive: Archive, dest: Path, progress: bool | None
) -> None:
    part = _part_of(dest, archive)
    was_begun = part.exists()
    try:
        _download_once(session, archive, part, progress)
    except ValueError as error:
        if not was_begun:
            msg = (
                f"the received file is not the published one, and was deleted: {error}"
            )
            raise DownloadError(msg) from error
        # The bytes of an earlier call may have been wrong; they are deleted now.
        _download(session, archive, dest, progress)


def _download_once(
    session: requests.Session, archive: Archive, part: Path, progress: bool | None
) -> None:
    """Download an archive, or raise `ValueError` if its checksum is wrong."""
    import pooch

    from ks4_ccd.library._transfer import ResumingDownloader, size_of_part

    bar = tqdm(
        initial=size_of_part(part),
        total=archive.size,
        desc=archive.name,
        unit="B",
        unit_scale=True,
        disable=None if progress is None else not progress,
    )
    with bar, _quiet(pooch.get_logger()), _explained(f"cannot write {part}"):
        pooch.retrieve(
            archive.url,
            f"md5:{archive.md5}",
            fname=archive.name,
            path=part.parent,
            downloader=ResumingDownloader(session, part, archive.size, bar),
        )


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Suppress log messages that repeat the progress bar."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _explained(problem: str) -> Iterator[None]:
    """Raise errors of the operating system as `DownloadError`."""
    try:
        yield
    except KS4Error:
        raise
    except OSError as error:
        msg = f"{problem}: {error.strerror or error}"
        raise DownloadError(msg) from error


@contextmanager
def _by_hand(names: list[str], dest: Path) -> Iterator[None]:
    """Add instructions for a manual download to a `DownloadError`."""
    try:
        yield
    except DownloadError as error:
        msg = (
            f"{error}. Fetch again to resume, or download by hand {', '.join(names)} "
            f"from {LANDING_PAGE} and move to {dest}"
        )
        raise DownloadError(msg) from error
