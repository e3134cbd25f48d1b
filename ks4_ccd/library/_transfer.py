# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Transfer files by HTTP, and resume interrupted transfers."""

import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import requests
import urllib3
from tqdm import tqdm

from ks4_ccd.exceptions import DownloadError
from ks4_ccd.ks4.record import LANDING_PAGE
from ks4_ccd.library._sources import printable

__all__ = ["ResumingDownloader", "new_session", "read_small_file", "size_of_part"]

_Result = TypeVar("_Result")

_TIMEOUT = (10, 30)  # seconds: to connect, and between bytes

# A server that sends an occasional byte never reaches these limits. Additional limits:
# the time [s] until all headers are received, and the transfer rate [bytes/s], averaged
# over the given time [s], below which a download would take days.
_LONGEST_ANSWER = 120
_SLOWEST = 10_000
_SECONDS_OF_AVERAGE = 60

# Seconds between attempts: few at the beginning, as the machine may be offline, and
# more for the rest of an archive.
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
    """A failure that may be temporary, and the delay [s] that the server requests."""

    def __init__(self, message: str, wait: int = 0) -> None:
        super().__init__(message)
        self.wait = wait


def new_session() -> requests.Session:
    """Return a session whose requests identify this package, without compression."""
    session = requests.Session()
    # Zenodo blocks large numbers of anonymous clients.
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
                    msg = (
                        f"{url}: expected the record of DR1, of at most "
                        f"{_LARGEST_SMALL_FILE} bytes, found a longer file; check "
                        "the address"
                    )
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
    A server may send the whole file instead of a range of bytes; it then replaces
    the partial file. The file is also requested as a whole if a response contradicts
    its request, or the file changed between two attempts (ETag). Pooch verifies the
    checksum.
    """

    def __init__(
        self, session: requests.Session, part: Path, size: int, bar: tqdm
    ) -> None:
        self._session, self._part, self._size, self._bar = session, part, size, bar
        self._etag = ""
        self._ranges_work = True

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Download ``url`` to ``output_file``, as pooch requires."""
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
            msg = f"{url}: expected {self._size} bytes as recorded, received more"
            raise DownloadError(msg)
        if have < self._size:
            msg = f"{url} ended after {have} of {self._size} bytes"
            raise _PassingError(msg)

    def _start(self, response: requests.Response, have: int) -> int:
        """Return the position of the first byte of the response in the file."""
        etag = response.headers.get("ETag", "")
        # A weak ETag does not guarantee identical bytes.
        etag = "" if etag.startswith("W/") else etag
        if response.status_code == 200:
            length = response.headers.get("Content-Length", self._size)
            if str(length) != str(self._size):
                msg = (
                    f"{response.url}: expected {self._size} bytes as recorded, found "
                    f"{length}"
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
        msg = f"{response.url}: expected the bytes from {have} on, received others"
        raise _PassingError(msg)


def size_of_part(part: Path) -> int:
    """
    Return the size of a partial file, 0 if it does not exist.

    Raises
    ------
    DownloadError
        If it is a symbolic link, which leads to another file, or not a file.
    """
    try:
        status = part.lstat()
    except FileNotFoundError:
        return 0
    if not stat.S_ISREG(status.st_mode):
        msg = (
            f"{part}: expected the partial file of an earlier download, found a "
            "symbolic link, a folder or a device; move it, then fetch again"
        )
        raise DownloadError(msg)
    return status.st_size


def _open_without_links(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _persist(action: Callable[[], _Result], waits: Sequence[float]) -> _Result:
    """Return the result of an action, which is repeated after passing errors."""
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
    """Yield the response to a request; raise its errors as `DownloadError`."""
    ask = partial(session.get, url, headers=headers, timeout=_TIMEOUT, stream=True)
    try:
        with _respond(ask) as response:
            _check_status(response)
            yield response
    except _PASSING as error:
        msg = f"no connection to {url}: {_reason(error)}"
        raise _PassingError(msg) from error
    except (requests.RequestException, ValueError) as error:
        # For example redirections to another protocol or in a circle.
        msg = f"cannot request {url}: {error}"
        raise DownloadError(msg) from error


def _respond(ask: Callable[[], requests.Response]) -> requests.Response:
    """Return the response to a request, or raise if its headers are too slow."""
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
        # The request cannot be cancelled; a late response is closed.
        answer.add_done_callback(_close_response)
        raise requests.Timeout from None


def _close_response(answer: Future[requests.Response]) -> None:
    if answer.exception() is None:
        answer.result().close()


def _pieces(response: requests.Response, *, decode_content: bool) -> Iterator[bytes]:
    """Yield the bytes of a response as received, or raise if they are too slow."""
    begun, received = time.monotonic(), 0
    # `read` would block until all requested bytes are received.
    while piece := response.raw.read1(_CHUNK, decode_content=decode_content):
        yield piece
        received += len(piece)
        seconds = time.monotonic() - begun
        if seconds > _SECONDS_OF_AVERAGE:
            if received < _SLOWEST * seconds:
                msg = (
                    f"{response.url}: expected at least {_SLOWEST} bytes per second, "
                    f"received {received / seconds:.0f}"
                )
                raise _PassingError(msg)
            begun, received = time.monotonic(), 0


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if status in (200, 206, 416):
        return
    msg = f"{response.url} returned {status} {printable(response.reason)}"
    if status in (408, 429) or status >= 500:
        wait = response.headers.get("Retry-After", "")
        raise _PassingError(msg, int(wait) if wait.isdecimal() else 0)
    raise DownloadError(msg)


def _reason(error: Exception) -> str:
    """Return the message of the operating system if it caused an error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "no response in time"
    return str(error)
