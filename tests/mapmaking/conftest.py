# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A service that behaves as the TAP service of the Gaia archive does."""

import gzip
import io
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import votable
from astropy.table import MaskedColumn, Table

CENTER = SkyCoord(10.0, -62.0, unit="deg")
NUMBERS = re.compile(r"CIRCLE\('ICRS', (\S+), (\S+), ([0-9.]+)\)")
LIMITS = re.compile(r"phot_g_mean_mag BETWEEN (\S+) AND (\S+)")
PASSBANDS = (
    *("u_jkc", "b_jkc", "v_jkc", "r_jkc", "i_jkc"),
    *("u_sdss", "g_sdss", "r_sdss", "i_sdss", "z_sdss", "y_ps1"),
)


def gaia_table(number=40, *, center=CENTER, spread=0.5, seed=1):
    """Return stars as the two tables of the Gaia archive contain them, joined."""
    rng = np.random.default_rng(seed)
    table = Table()
    # Out of order, and beyond the integers that a float distinguishes.
    table["SOURCE_ID"] = rng.permutation(4_700_000_000_000_000_000 + np.arange(number))
    offsets = rng.uniform(-spread, spread, (2, number))
    table["ra"] = center.ra.deg + offsets[0] / np.cos(center.dec.rad)
    table["dec"] = center.dec.deg + offsets[1]
    for name in ("ra_error", "dec_error", "pmra_error", "pmdec_error"):
        table[name] = rng.uniform(0.01, 0.05, number)
    table["ref_epoch"] = 2016.0
    table["pmra"] = rng.normal(4, 6, number)
    table["pmdec"] = rng.normal(-5, 6, number)
    table["ruwe"] = rng.uniform(0.9, 1.6, number).astype(np.float32)
    table["phot_g_mean_mag"] = rng.uniform(12, 17.6, number)
    table["phot_bp_mean_mag"] = table["phot_g_mean_mag"] + 0.3
    table["phot_rp_mean_mag"] = table["phot_g_mean_mag"] - 0.6
    table["c_star"] = rng.normal(0, 0.01, number).astype(np.float32)
    for shift, passband in enumerate(PASSBANDS):
        magnitudes = table["phot_g_mean_mag"] + 0.8 - 0.1 * shift
        table[f"{passband}_mag"] = MaskedColumn(
            magnitudes, mask=rng.random(number) < 0.1
        )
        table[f"{passband}_flux"] = 1e-9 * 10 ** (-0.4 * magnitudes)
        table[f"{passband}_flux_error"] = 0.01 * table[f"{passband}_flux"]
        table[f"{passband}_flag"] = MaskedColumn(
            (rng.random(number) < 0.8).astype(np.int16)
        )
    for name in ("pmra", "pmdec"):
        table[name] = MaskedColumn(table[name], mask=np.arange(number) == 1)
    units = {"ra": "deg", "dec": "deg", "ref_epoch": "yr", "phot_g_mean_mag": "mag"}
    for name, unit in (units | {"pmra": "mas/yr", "pmdec": "mas/yr"}).items():
        table[name].unit = unit
    return table


class TapServer(ThreadingHTTPServer):
    """
    A TAP service with one joined table.

    Attributes
    ----------
    limit : int
        The number of rows after which answers end.
    states_overflow : bool
        Whether such an answer says so.
    behaviour : str
        What goes wrong: "error" (in a job), "unavailable", "page", "columns",
        "forgetful" (of the condition on source_id), "unordered", "endless", or "".
    queries : list of str
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.table = gaia_table()
        self.limit, self.states_overflow, self.behaviour = 3_000_000, True, ""
        self.queries, self.polls = [], 0

    @property
    def url(self):
        """The address of the service."""
        return f"http://127.0.0.1:{self.server_port}/tap-server/tap"

    def answer(self, query):
        """Return the VOTable that answers a query."""
        table, number = self.table, int(re.search(r"TOP (\d+)", query)[1])
        ra, dec, radius = map(float, NUMBERS.search(query).groups())
        low, high = map(float, LIMITS.search(query).groups())
        stars = SkyCoord(table["ra"], table["dec"], unit="deg")
        inside = stars.separation(SkyCoord(ra, dec, unit="deg")).deg <= radius
        magnitude = table["phot_g_mean_mag"]
        inside &= (magnitude >= low) & (magnitude <= high)
        after = re.search(r"source_id > (\d+)", query)
        if after and self.behaviour != "forgetful":
            inside &= table["SOURCE_ID"] > int(after[1])
        rows = table[inside]
        if self.behaviour != "unordered":
            rows.sort("SOURCE_ID")
        names = {name.split(".")[1].strip() for name in self.selected(query)}
        if self.behaviour == "columns":
            names -= {"pmra", "v_jkc_mag"}
        rows = rows[[name for name in rows.colnames if name.lower() in names]]
        is_truncated = len(rows) > self.limit
        rows = rows[: min(number, self.limit)]
        status = "OVERFLOW" if is_truncated and self.states_overflow else "OK"
        return as_votable(rows, status)

    @staticmethod
    def selected(query):
        """Return the selected columns, as the query writes them."""
        return re.search(r"TOP \d+ (.*?) FROM", query)[1].split(",")


def as_votable(rows, status):
    """Return a table as a compressed VOTable; OVERFLOW follows the table."""
    tree = votable.from_table(rows)
    tree.resources[0].type = "results"
    tree.resources[0].infos.append(votable.tree.Info(name="QUERY_STATUS", value="OK"))
    file = io.BytesIO()
    tree.to_xml(file, tabledata_format="binary2")
    content = file.getvalue()
    if status != "OK":
        info = f'<INFO name="QUERY_STATUS" value="{status}"/></RESOURCE>'
        content = content.replace(b"</RESOURCE>", info.encode())
    return gzip.compress(content)


class Handler(BaseHTTPRequestHandler):
    """Answer asynchronous jobs as UWS prescribes, and synchronous queries."""

    def do_POST(self):
        """Start a job, or answer at once."""
        length = int(self.headers["Content-Length"])
        form = parse_qs(self.rfile.read(length).decode())
        query = form["QUERY"][0]
        self.server.queries.append(query)
        if self.server.behaviour == "unavailable":
            self.respond(503, b"<html>The archive is under <b>maintenance</b></html>")
        elif self.path.endswith("/async"):
            job = len(self.server.queries) - 1
            self.respond(303, location=f"{self.server.url}/async/{job}")
        else:
            # A synchronous query of the Gaia archive ends at 2000 rows, silently.
            self.respond(200, self.server.answer(query))

    def do_GET(self):
        """Return the phase, the error or the result of a job."""
        parts = urlsplit(self.path).path.removeprefix("/tap-server/tap/").split("/")
        behaviour = self.server.behaviour
        if parts[2:] == ["phase"]:
            self.server.polls += 1
            is_running = behaviour == "endless" or self.server.polls % 2
            final = "ERROR" if behaviour == "error" else "COMPLETED"
            self.respond(200, (b"EXECUTING" if is_running else final.encode()))
        elif parts[2:] == ["error"]:
            text = "<INFO name='QUERY_STATUS' value='ERROR'>Cannot parse query</INFO>"
            self.respond(200, f"<VOTABLE>{text}</VOTABLE>".encode())
        elif parts[2:] == ["results", "result"]:
            self.respond(303, location=f"/tap-server/tap/files/{parts[1]}")
        elif behaviour == "page":
            self.respond(200, b"<html><body>Please log in</body></html>")
        else:
            self.respond(200, self.server.answer(self.server.queries[int(parts[1])]))

    def respond(self, status, content=b"", location=None):
        """Send an answer."""
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Keep the output of the tests short."""


@pytest.fixture
def tap_server():
    """A TAP service on this machine."""
    server = TapServer()
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}
    )
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(name="gaia_table")
def gaia_table_factory():
    """A factory of tables of the Gaia archive."""
    return gaia_table
