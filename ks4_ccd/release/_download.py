# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Files over HTTP, through broken connections: a downloader for pooch."""

import os
import re
import time
from contextlib import contextmanager
from functools import partial

import requests
import urllib3

from ks4_ccd import __version__
from ks4_ccd.exceptions import DownloadError
from ks4_ccd.release._record import LANDING_PAGE

__all__ = ["ResumingDownloader", "new_session", "read_small_file"]

_TIMEOUT = (10, 30)  # seconds: to connect, and between bytes

# Seconds between one attempt and the next. Who is offline wants to know soon;
# who has half an archive wants the rest.
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
    """What may go better next time, and how many seconds the server asks for."""

    def __init__(self, message, wait=0):
        super().__init__(message)
        self.wait = wait


def new_session():
    """Return a session whose requests say who asks, and for bytes as they are."""
    session = requests.Session()
    # Zenodo blocks crowds of clients that give no name.
    session.headers["User-Agent"] = f"ks4_ccd/{__version__} ({LANDING_PAGE})"
    session.headers["Accept-Encoding"] = "identity"
    return session


def read_small_file(session, url):
    """
    Return the content of a small file.

    Raises
    ------
    DownloadError
        If it cannot be had, or is not small.
    """

    def read():
        with _opened(session, url) as response:
            return response.raw.read(_LARGEST_SMALL_FILE + 1, decode_content=True)

    content = _persist(read, _WAITS_AT_FIRST)
    if len(content) > _LARGEST_SMALL_FILE:
        msg = f"{url} is far too long to be the description of a record"
        raise DownloadError(msg)
    return content


class ResumingDownloader:
    """
    A downloader for pooch that goes on from where an earlier one stopped.

    Parameters
    ----------
    session : `~requests.Session`
    part : `~pathlib.Path`
        What is there already; it is added to, and kept if the download fails.
    size : int
        How many bytes the whole file has.
    bar : `~tqdm.tqdm`
        Shows the bytes that are there.

    Notes
    -----
    A server may give a whole file in the place of a part: then it replaces what
    was there. The same happens if its answer contradicts the question, or the
    file changed between two attempts (ETag). Whether the bytes are the right
    ones is for pooch to check.
    """

    def __init__(self, session, part, size, bar):
        self._session, self._part, self._size, self._bar = session, part, size, bar
        self._etag = ""
        self._ranges_work = True

    def __call__(self, url, output_file, pooch):
        """Download ``url`` to ``output_file``, as pooch asks for it."""
        # pooch's empty file would be left behind if the process were killed.
        os.unlink(output_file)
        _persist(partial(self._go_on, url), _WAITS)
        os.replace(self._part, output_file)

    def _go_on(self, url):
        have = self._part.stat().st_size if self._part.exists() else 0
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
            with open(self._part, "ab" if have else "wb") as file:
                for chunk in response.raw.stream(_CHUNK, decode_content=False):
                    have += len(chunk)
                    if have > self._size:
                        break
                    file.write(chunk)
                    self._bar.update(len(chunk))
        if have > self._size:
            self._part.unlink()
            msg = f"{url} sends more than the {self._size} bytes of the record"
            raise DownloadError(msg)
        if have < self._size:
            msg = f"{url} ended after {have} of {self._size} bytes"
            raise _PassingError(msg)

    def _start(self, response, have):
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
        is_rest = answer and int(answer[1]) == have
        is_rest = is_rest and answer[2] in ("*", str(self._size))
        self._etag = self._etag or etag
        if is_rest and etag in ("", self._etag):
            return have
        self._ranges_work = False
        msg = f"{response.url} does not give the bytes from {have} on"
        raise _PassingError(msg)


def _persist(action, waits):
    """Return what an action returns in the end, with waits between its attempts."""
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
def _opened(session, url, headers=None):
    """Give the answer to a request; what goes wrong until its end is translated."""
    options = {"headers": headers, "timeout": _TIMEOUT, "stream": True}
    try:
        with session.get(url, **options) as response:
            _check_status(response)
            yield response
    except _PASSING as error:
        msg = f"no connection to {url}: {_reason(error)}"
        raise _PassingError(msg) from error
    except (requests.RequestException, ValueError) as error:
        # Among others: redirected to what is not HTTP or no address, or in a circle.
        msg = f"cannot request {url}: {error}"
        raise DownloadError(msg) from error


def _check_status(response):
    status = response.status_code
    if status in (200, 206, 416):
        return
    msg = f"{response.url} answers {status} {response.reason}"
    if status in (408, 429) or status >= 500:
        wait = response.headers.get("Retry-After", "")
        raise _PassingError(msg, int(wait) if wait.isdecimal() else 0)
    raise DownloadError(msg)


def _reason(error):
    """Return what the operating system says of an error, if it is at its root."""
    cause = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "no answer in time"
    return str(error)
