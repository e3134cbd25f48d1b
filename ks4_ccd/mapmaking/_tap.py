# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Run queries at a TAP service, through astroquery."""

from __future__ import annotations

import gzip
import http.client
import io
import re
import ssl
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from astropy.io import votable
from astropy.table import Table

from ks4_ccd.exceptions import DownloadError, KS4Error

if TYPE_CHECKING:
    from astroquery.utils.tap.model.job import Job

__all__ = ["TapService"]

_SECONDS_OF_SILENCE = 60
# Seconds between two questions for the phase of a job.
_WAIT, _LONGEST_WAIT = 0.2, 5.0
_RUNNING = ("PENDING", "QUEUED", "EXECUTING", "HELD", "SUSPENDED", "UNKNOWN")
# An answer of three million stars with 60 columns.
_LARGEST_ANSWER = 1 << 31
_TAGS = re.compile(r"<[^>]*>")
_STATUS = re.compile(r"Error 200:\s*")
_REMEDY = "repeat the call later, or use the same tables at another service (service=)"


class TapService:
    """
    A TAP service whose queries run as asynchronous jobs.

    Synchronous queries of the Gaia archive end at 2000 rows, without a word in the
    answer.

    Parameters
    ----------
    url : str
        The address of the service, to which ``/async`` is added.
    timeout : float
        The time in seconds after which a job is given up.

    Raises
    ------
    KS4Error
        If astroquery is not installed, or the address is not one of HTTP.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self._url, self._timeout = url, timeout
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            msg = (
                "service must be the address of a TAP service (https://...), got "
                f"{url!r}"
            )
            raise KS4Error(msg)
        try:
            from astroquery.utils.tap import TapPlus
            from astroquery.utils.tap.conn.tapconn import TapConn
        except ImportError as error:
            msg = (
                "reference_stars requires astroquery, which is not installed: install "
                "it with pip install 'ks4_ccd[gaia]', or download a table by other "
                "means and give its file as the reference"
            )
            raise KS4Error(msg) from error
        server, _, context = parts.path.rstrip("/").rpartition("/")
        is_https = parts.scheme == "https"
        self._connections = _Connections(parts.hostname, parts.port, is_https)
        connection = TapConn(
            ishttps=is_https,
            host=parts.hostname,
            server_context=server,
            tap_context=context,
            connhandler=self._connections,
        )
        self._tap = TapPlus(host=parts.hostname, connhandler=connection)

    def run(self, query: str) -> tuple[Table, bool]:
        """
        Run a query.

        Parameters
        ----------
        query : str
            In ADQL.

        Returns
        -------
        table : `~astropy.table.Table`
            The columns have the names of the answer.
        is_truncated : bool
            Whether the service states that the answer ended at its limit of rows
            (``QUERY_STATUS`` is ``OVERFLOW``).

        Raises
        ------
        DownloadError
            If the service cannot be reached, refuses the query, does not finish in
            time, or answers with anything but a VOTable.
        """
        with self._explained():
            job = self._tap.launch_job_async(query, background=True)
            phase = self._final_phase(job)
            if phase != "COMPLETED":
                reason = (
                    _text_of(job.get_error()) if phase == "ERROR" else phase.lower()
                )
                msg = (
                    f"the job of the TAP service {self._url} failed: {reason}; "
                    f"{_REMEDY}"
                )
                raise DownloadError(msg)
            content = self._answer(f"async/{job.jobid}/results/result")
        return self._table_in(content)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise `DownloadError` for what goes wrong between here and the service."""
        try:
            # astroquery prints the errors that it raises.
            with redirect_stdout(io.StringIO()):
                yield
        except KS4Error:
            raise
        except (
            OSError,
            http.client.HTTPException,
            requests.RequestException,
            SystemError,
            ValueError,
        ) as error:
            reason = _text_of(str(error)) or type(error).__name__
            msg = f"the TAP service {self._url} failed: {reason}; {_REMEDY}"
            raise DownloadError(msg) from error
        finally:
            self._connections.close()

    def _final_phase(self, job: Job) -> str:
        end = time.monotonic() + self._timeout
        wait = _WAIT
        while True:
            phase = job.get_phase(update=True).strip().upper()
            if phase not in _RUNNING:
                return phase
            if time.monotonic() > end:
                msg = (
                    f"the job of the TAP service {self._url} is {phase.lower()} after "
                    f"{self._timeout:g} s: ask for fewer stars, or wait longer "
                    "(timeout=)"
                )
                raise DownloadError(msg)
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _answer(self, location: str) -> bytes:
        # astroquery would follow no redirection to another host, and parse the table
        # without the statement that it is truncated.
        with requests.get(
            f"{self._url.rstrip('/')}/{location}",
            timeout=_SECONDS_OF_SILENCE,
            stream=True,
        ) as response:
            content = bytearray()
            for piece in response.iter_content(1 << 16):
                content += piece
                if len(content) > _LARGEST_ANSWER:
                    msg = (
                        f"the TAP service {self._url} returns more than "
                        f"{_LARGEST_ANSWER} bytes: ask for fewer stars"
                    )
                    raise DownloadError(msg)
            if response.status_code != 200:
                reason = _text_of(content.decode(errors="replace")) or response.reason
                msg = (
                    f"the TAP service {self._url} does not return the result (HTTP "
                    f"{response.status_code}): {reason}; {_REMEDY}"
                )
                raise DownloadError(msg)
        return bytes(content)

    def _table_in(self, content: bytes) -> tuple[Table, bool]:
        try:
            if content.startswith(b"\x1f\x8b"):
                content = gzip.decompress(content)
            with warnings.catch_warnings():
                # Violations of the standard that leave the table readable.
                warnings.simplefilter("ignore")
                parsed = votable.parse(io.BytesIO(content))
                status = dict(_statuses(parsed))
                tables = list(parsed.iter_tables())
                table = tables[0].to_table(use_names_over_ids=True) if tables else None
        except Exception as error:
            # The parser of XML, and that of VOTable, raise errors of many kinds.
            lines = str(error).strip().splitlines() or [type(error).__name__]
            msg = (
                f"the TAP service {self._url} did not return a VOTable: {lines[0]}; "
                f"{_REMEDY}"
            )
            raise DownloadError(msg) from error
        if "ERROR" in status or table is None:
            reason = status.get("ERROR") or "no table"
            msg = f"the TAP service {self._url} returned {reason}; {_REMEDY}"
            raise DownloadError(msg)
        return table, "OVERFLOW" in status


class _Tracked:
    """A connection that keeps its answers, so that they can be closed."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.answers: list[http.client.HTTPResponse] = []

    def getresponse(self) -> http.client.HTTPResponse:
        """Return the answer of the server."""
        answer = super().getresponse()  # type: ignore[misc] # that of http.client
        self.answers.append(answer)
        return answer


class _Http(_Tracked, http.client.HTTPConnection):
    pass


class _Https(_Tracked, http.client.HTTPSConnection):
    pass


class _Connections:
    """Open connections with a time limit, and close them; astroquery's have neither."""

    def __init__(self, host: str, port: int | None, is_https: bool) -> None:
        self._address, self._is_https = (host, port), is_https
        self._opened: list[_Http | _Https] = []

    def get_connection(self, **_: Any) -> http.client.HTTPConnection:
        """Return a new connection, as astroquery asks for one."""
        if self._is_https:
            return self.get_connection_secure()
        connection = _Http(*self._address, timeout=_SECONDS_OF_SILENCE)
        self._opened.append(connection)
        return connection

    def get_connection_secure(self, **_: Any) -> http.client.HTTPConnection:
        """Return a new connection by HTTPS."""
        connection = _Https(
            *self._address,
            timeout=_SECONDS_OF_SILENCE,
            context=ssl.create_default_context(),
        )
        self._opened.append(connection)
        return connection

    def close(self) -> None:
        """Close all connections."""
        while self._opened:
            connection = self._opened.pop()
            for answer in connection.answers:
                answer.close()
            connection.close()


def _statuses(parsed: votable.tree.VOTableFile) -> Iterator[tuple[str, str]]:
    """Yield the values and the texts of QUERY_STATUS."""
    infos = list(parsed.infos)
    for resource in parsed.resources:
        infos += resource.infos
        for table in resource.tables:
            infos += table.infos
    for info in infos:
        if (info.name or "").upper() == "QUERY_STATUS":
            yield str(info.value).upper(), " ".join((info.content or "").split())


def _text_of(answer: object) -> str:
    """Return the text of an error in HTML or XML, on one line."""
    text = " ".join(_TAGS.sub(" ", str(answer or "")).split())
    # astroquery adds the status of the answer that contains the error, 200.
    return _STATUS.sub("", text)[:500]
