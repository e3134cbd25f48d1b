# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Download the archives of DR1 from Zenodo."""

import logging
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import requests
import urllib3
from tqdm import tqdm

from ks4_ccd.exceptions import DownloadError, KS4Error, one_of
from ks4_ccd.files.writing import as_path
from ks4_ccd.ks4 import record as _record
from ks4_ccd.ks4.record import (
    ARCHIVES,
    LANDING_PAGE,
    RECORD,
    Archive,
    archives_in,
)
from ks4_ccd.library._sources import printable

__all__ = [
    "ResumingDownloader",
    "fetch",
    "new_session",
    "read_small_file",
    "size_of_part",
]


_Result = TypeVar("_Result")


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
        The folder for them. It is created if it does not exist.
    progress : bool, optional
        Whether to show a bar for each archive; by default if the output is a
        terminal.
    record : str, optional
        The address of the record of DR1, in the format of Zenodo's API: by
        default that of DR1 itself (DOI 10.5281/zenodo.17336382). For a
        mirror, whose archives have to be the same.

    Returns
    -------
    paths : list of `~pathlib.Path`
        The archives in the order of ``families``, for `~ks4_ccd.MapLibrary`.

    Raises
    ------
    KS4Error
        If ``families`` is not in DR1.
    DownloadError
        If an archive is unavailable, comes too slowly, or is not the published one;
        with the files to download by hand. Or if another file has its name, its
        partial file is a symbolic link, or there is too little space: these are
        noticed before anything is downloaded.

    Notes
    -----
    An archive appears under its name when it is whole and has the right md5.
    Until then it is a file ``.part`` beside it, from which another call resumes.
    Existing archives are checked and not downloaded again, whether they were
    downloaded by this function or by hand; if none is missing, the network is not
    used. One process at a time should download into a folder.

    Examples
    --------
    >>> from ks4_ccd import MapLibrary, fetch
    >>> paths = fetch(["zp", "zperr", "pstar"], "dr1")  # doctest: +SKIP
    >>> library = MapLibrary(paths)  # doctest: +SKIP

    (This is not run with the tests, which use no network.)

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
    """Return the names of archives, each once."""
    if families is None:
        return list(ARCHIVES.values())
    by_word = {name.split("_")[2]: name for name in ARCHIVES.values()}
    known = ARCHIVES | by_word
    if isinstance(families, str):
        families = [families]
    if not isinstance(families, list | tuple | set | frozenset) or not families:
        msg = f"families must name at least one of {', '.join(known)}, got {families!r}"
        raise KS4Error(msg)
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
    """Return the md5 of a file, `None` if it does not exist."""
    import pooch

    return pooch.file_hash(str(path), alg="md5") if path.exists() else None


def _check_present(path: Path, md5: str, expected: Collection[str]) -> None:
    if md5 not in expected:
        msg = (
            f"{path} exists and is not the archive of DR1: its md5 is {md5}, "
            f"expected {' or '.join(expected)}; move it away or delete it, then "
            "fetch again"
        )
        raise DownloadError(msg)


def _check_space(dest: Path, archives: list[Archive]) -> None:
    needed = sum(archive.size for archive in archives)
    needed -= sum(size_of_part(_part_of(dest, archive)) for archive in archives)
    free = shutil.disk_usage(dest).free
    if needed > free:
        msg = (
            f"{dest} has {free / 1e9:.2f} GB of free space, and {needed / 1e9:.2f} GB "
            "are to be downloaded: free some, or give another folder"
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
            msg = f"wrong bytes were received, and deleted: {error}"
            raise DownloadError(msg) from error
        # The bytes of an earlier call may be to blame; they are gone now.
        _download(session, archive, dest, progress)


def _download_once(
    session: requests.Session, archive: Archive, part: Path, progress: bool | None
) -> None:
    """Download an archive, or raise `ValueError` if its md5 is wrong."""
    import pooch

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
    """Keep messages that repeat the progress bar out of the log."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _explained(trouble: str) -> Iterator[None]:
    """Turn an error of the operating system into a `DownloadError`."""
    try:
        yield
    except KS4Error:
        raise
    except OSError as error:
        msg = f"{trouble}: {error.strerror or error}"
        raise DownloadError(msg) from error


@contextmanager
def _by_hand(names: list[str], dest: Path) -> Iterator[None]:
    """Add instructions for a download by hand to a `DownloadError`."""
    try:
        yield
    except DownloadError as error:
        msg = (
            f"{error}. Fetch again to resume, or download by hand {', '.join(names)} "
            f"from {LANDING_PAGE} and put into {dest}"
        )
        raise DownloadError(msg) from error


_TIMEOUT = (10, 30)  # seconds: to connect, and between bytes

# A server that sends a byte now and then never reaches these limits. So there are
# others: seconds until all headers have come, and bytes a second, as the average of
# so many seconds, below which a download would take days.
_LONGEST_ANSWER = 120
_SLOWEST = 10_000
_SECONDS_OF_AVERAGE = 60

# Seconds between one attempt and the next: few if nothing has been downloaded, as
# the machine may be offline, and more for the rest of an archive.
_WAITS = (1, 2, 4, 8, 16, 32)
_WAITS_AT_FIRST = (1, 2)
_LONGEST_WAIT = 120

_CHUNK = 1 << 16
_LARGEST_SMALL_FILE = 1 << 23

_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_PASSING = (
    requests.ConnectionError,
    requests.Timeout,
    urllib3.exceptions.HTTPError,
)


class _PassingError(Exception):
    """A failure that may be temporary, and the seconds that the server asks for."""

    def __init__(self, message: str, wait: int = 0) -> None:
        super().__init__(message)
        self.wait = wait


def new_session() -> requests.Session:
    """Return a session whose requests name this package and ask for no compression."""
    session = requests.Session()
    # Zenodo blocks crowds of clients without a name.
    session.headers["User-Agent"] = f"ks4_ccd/{version('ks4_ccd')} ({LANDING_PAGE})"
    session.headers["Accept-Encoding"] = "identity"
    return session


def read_small_file(session: requests.Session, url: str) -> bytes:
    """
    Return the content of a small file.

    Raises
    ------
    DownloadError
        If it cannot be downloaded, or is not small.
    """

    def read() -> bytes:
        content = b""
        with _opened(session, url) as response:
            for piece in _pieces(response, decode_content=True):
                content += piece
                if len(content) > _LARGEST_SMALL_FILE:
                    msg = f"{url} is far too long to be the description of a record"
                    raise DownloadError(msg)
        return content

    return _persist(read, _WAITS_AT_FIRST)


class ResumingDownloader:
    """
    A downloader for pooch that resumes an earlier download.

    Parameters
    ----------
    session : `~requests.Session`
    part : `~pathlib.Path`
        The partial file; it is appended to, and kept if the download fails.
    size : int
        The number of bytes of the whole file.
    bar : `~tqdm.tqdm`
        Shows the bytes that were downloaded.

    Notes
    -----
    A server may send a whole file instead of a part, which then replaces the
    partial file. The same happens if its answer contradicts the request, or the
    file changed between two attempts (ETag). Pooch checks whether the bytes are
    the right ones.
    """

    def __init__(
        self, session: requests.Session, part: Path, size: int, bar: tqdm
    ) -> None:
        self._session, self._part, self._size, self._bar = session, part, size, bar
        self._etag = ""
        self._ranges_work = True

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Download ``url`` to ``output_file``, as pooch asks for it."""
        # pooch's empty file would be left behind if the process were killed.
        os.unlink(output_file)
        _persist(partial(self._resume, url), _WAITS)
        os.replace(self._part, output_file)

    def _resume(self, url: str) -> None:
        have = size_of_part(self._part)
        if have == self._size:
            return
        headers = {}
        if 0 < have < self._size and self._ranges_work:
            headers["Range"] = f"bytes={have}-"
            if self._etag:
                headers["If-Range"] = self._etag
        with _opened(self._session, url, headers) as response:
            have = self._start(response, have)
            if not have:
                self._bar.initial = 0
                self._bar.reset()
            mode = "ab" if have else "wb"
            with open(self._part, mode, opener=_open_without_links) as file:
                for piece in _pieces(response, decode_content=False):
                    have += len(piece)
                    if have > self._size:
                        break
                    file.write(piece)
                    self._bar.update(len(piece))
        if have > self._size:
            self._part.unlink()
            msg = f"{url} sends more than the {self._size} bytes of the record"
            raise DownloadError(msg)
        if have < self._size:
            msg = f"{url} ended after {have} of {self._size} bytes"
            raise _PassingError(msg)

    def _start(self, response: requests.Response, have: int) -> int:
        """Return the position of the first byte of the answer."""
        etag = response.headers.get("ETag", "")
        # A weak one does not promise the same bytes.
        etag = "" if etag.startswith("W/") else etag
        if response.status_code == 200:
            length = response.headers.get("Content-Length", self._size)
            if str(length) != str(self._size):
                msg = (
                    f"{response.url} has {length} bytes, expected the {self._size} of "
                    "the record"
                )
                raise DownloadError(msg)
            self._etag = etag
            return 0
        answer = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        is_rest = (
            answer is not None
            and int(answer[1]) == have
            and answer[2] in ("*", str(self._size))
        )
        self._etag = self._etag or etag
        if is_rest and etag in ("", self._etag):
            return have
        self._ranges_work = False
        msg = f"{response.url} does not send the bytes from {have} on"
        raise _PassingError(msg)


def size_of_part(part: Path) -> int:
    """
    Return the size of a partial file, 0 if it does not exist.

    Raises
    ------
    DownloadError
        If it is a symbolic link, or not a file: another file would be written.
    """
    try:
        status = part.lstat()
    except FileNotFoundError:
        return 0
    if not stat.S_ISREG(status.st_mode):
        msg = (
            f"{part} must be the partial file of an earlier download, found a symbolic "
            "link, a folder or a device: move it away, then fetch again"
        )
        raise DownloadError(msg)
    return status.st_size


def _open_without_links(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _persist(action: Callable[[], _Result], waits: Sequence[float]) -> _Result:
    """Return the result of an action, with waits between its attempts."""
    for wait in waits:
        try:
            return action()
        except _PassingError as error:
            time.sleep(min(max(wait, error.wait), _LONGEST_WAIT))
    try:
        return action()
    except _PassingError as error:
        msg = f"{error} (tried {len(waits) + 1} times)"
        raise DownloadError(msg) from error


@contextmanager
def _opened(
    session: requests.Session, url: str, headers: dict[str, str] | None = None
) -> Iterator[requests.Response]:
    """Return the response to a request, with errors as `DownloadError`."""
    ask = partial(session.get, url, headers=headers, timeout=_TIMEOUT, stream=True)
    try:
        with _answer(ask) as response:
            _check_status(response)
            yield response
    except _PASSING as error:
        msg = f"no connection to {url}: {_reason(error)}"
        raise _PassingError(msg) from error
    except (requests.RequestException, ValueError) as error:
        # Among others: redirected to another protocol, to no address, or in a circle.
        msg = f"cannot request {url}: {error}"
        raise DownloadError(msg) from error


def _answer(ask: Callable[[], requests.Response]) -> requests.Response:
    """Return the answer to a request, unless its headers take too long."""
    answer: Future[requests.Response] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return answer.result(timeout=_LONGEST_ANSWER)
    except TimeoutError:
        if answer.done():
            raise
        # Nothing stops the request; an answer that comes after all is closed.
        answer.add_done_callback(_close_answer)
        raise requests.Timeout from None


def _close_answer(answer: Future[requests.Response]) -> None:
    if answer.exception() is None:
        answer.result().close()


def _pieces(response: requests.Response, *, decode_content: bool) -> Iterator[bytes]:
    """Yield the bytes of an answer as they come, unless they come too slowly."""
    begun, received = time.monotonic(), 0
    # `read` would wait until it has all that it was asked for.
    while piece := response.raw.read1(_CHUNK, decode_content=decode_content):
        yield piece
        received += len(piece)
        seconds = time.monotonic() - begun
        if seconds > _SECONDS_OF_AVERAGE:
            if received < _SLOWEST * seconds:
                msg = (
                    f"{response.url} sends {received / seconds:.0f} bytes a second, "
                    f"expected at least {_SLOWEST}"
                )
                raise _PassingError(msg)
            begun, received = time.monotonic(), 0


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if status in (200, 206, 416):
        return
    msg = f"{response.url} answers {status} {printable(response.reason)}"
    if status in (408, 429) or status >= 500:
        wait = response.headers.get("Retry-After", "")
        raise _PassingError(msg, int(wait) if wait.isdecimal() else 0)
    raise DownloadError(msg)


def _reason(error: Exception) -> str:
    """Return the message of the operating system, if it is at the root of an error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "no answer in time"
    return str(error)
