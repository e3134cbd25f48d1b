# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Downloads from a local server with simulated failures."""

import gzip
import hashlib
import json
import os
import random
import shutil
import socket
import struct
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pooch
import pytest

import ks4_ccd
from ks4_ccd import simulate_field
from ks4_ccd.cli import main
from ks4_ccd.exceptions import DownloadError, KS4Error
from ks4_ccd.ks4 import record as _record
from ks4_ccd.library import _transfer
from ks4_ccd.library import download as module

NAMES = _record.ARCHIVES
ZP = NAMES["zp"]
CONTENT = {
    name: random.Random(name).randbytes(200_000 + number)
    for number, name in enumerate(NAMES.values())
}
HALF = 100_000


def md5_of(content):
    """Return the MD5 checksum of bytes."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Send the next simulated failure of a path, or else the correct response."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Log nothing."""

    def do_GET(self):
        """Send the response to a request."""
        self.close_connection = True
        path = self.path.lstrip("/")
        self.server.requests.append((path, dict(self.headers)))
        tricks = self.server.tricks.get(path, [])
        (tricks.pop(0) if tricks else good)(self, self.server.files.get(path))

    def answer(self, status, body=b"", **headers):
        """Send a complete response."""
        self.send_response(status)
        headers = {"Content_Length": len(body), "Connection": "close", **headers}
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def rest(self, body, etag):
        """Return status, bytes and headers of the requested range."""
        asked = self.headers.get("Range")
        if asked is None or self.headers.get("If-Range", etag) != etag:
            return 200, body, {"ETag": etag}
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        where = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return 206, body[start:], {"Content_Range": where, "ETag": etag}


def good(handler, body, etag='"1"'):
    """Send the file, or the requested range of it."""
    if body is None:
        return handler.answer(404)
    status, body, headers = handler.rest(body, etag)
    return handler.answer(status, body, **headers)


def sends(status, body=b"", **headers):
    """Return a simulated failure that sends a given response."""
    return lambda handler, _: handler.answer(status, body, **headers)


def cut_off(etag='"1"', reset=False):
    """Send the first half of the file."""

    def trick(handler, body):
        status, body, headers = handler.rest(body, etag)
        sent = body[: len(body) // 2]
        handler.answer(status, sent, Content_Length=len(body), **headers)
        if reset:
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    return trick


def stall(handler, body):
    """Send the first half of the file and keep the connection open."""
    handler.answer(200, body[:HALF], Content_Length=len(body), ETag='"1"')
    handler.server.is_closing.wait(20)


def trickle(handler, body):
    """Send the first half of the file, and then single bytes slowly."""
    status, body, headers = handler.rest(body, '"1"')
    half = body[: len(body) // 2]
    handler.answer(status, half, Content_Length=len(body), **headers)
    drip(handler, body[len(half) :])


def trickling_headers(handler, body):
    """Send a header that does not end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Header: ")
    drip(handler, b"x" * 200)


def drip(handler, content):
    """Send single bytes, for two seconds or until the client disconnects."""
    for byte in content[:200]:
        handler.wfile.write(bytes([byte]))
        if handler.server.is_closing.wait(0.01):
            break


def without_ranges(handler, body):
    """Send the whole file, whatever range is requested."""
    handler.answer(200, body)


class Server(ThreadingHTTPServer):
    """Run a server whose threads end with it."""

    daemon_threads = False

    def handle_error(self, *_):
        """Ignore a client that disconnects."""

    def names_asked_for(self):
        """Return the paths of the requests so far, except the record."""
        return [path for path, _ in self.requests if path != "record"]

    def ranges_of(self, name):
        """Return the requested ranges of a file."""
        return [asked.get("Range") for path, asked in self.requests if path == name]


@pytest.fixture
def server(monkeypatch):
    """Start a server of the record and small archives."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(_record, "PUBLISHED_MD5", [*map(md5_of, CONTENT.values())])
    monkeypatch.setattr(_transfer, "_WAITS", (0, 0.01, 0.01))
    monkeypatch.setattr(_transfer, "_WAITS_AT_FIRST", (0,))
    monkeypatch.setattr(_transfer, "_TIMEOUT", (2, 0.3))
    with Server(("127.0.0.1", 0), Handler) as server:
        server.requests, server.tricks, server.is_closing = [], {}, threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}"
        server.files = dict(CONTENT)
        server.listing = [
            {
                "key": name,
                "checksum": f"md5:{md5_of(content)}",
                "size": len(content),
                "links": {"self": f"{server.url}/{name}"},
            }
            for name, content in CONTENT.items()
        ]
        publish(server)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.is_closing.set()
        server.shutdown()
        thread.join()


def publish(server, **changes):
    """Publish the record, with changes to the entry of zero points."""
    server.listing[0] |= changes
    server.files["record"] = json.dumps({"files": server.listing}).encode()


@pytest.fixture
def fetch(server, tmp_path):
    """Return a function that downloads from the server into a new folder."""

    def fetch(families="zp", **options):
        options = {"progress": False, "record": f"{server.url}/record"} | options
        return ks4_ccd.fetch(families, tmp_path / "dr1", **options)

    return fetch


@pytest.fixture
def dest(tmp_path):
    """Return the folder of the downloads."""
    path = tmp_path / "dr1"
    path.mkdir()
    return path


def holds(folder, *names):
    """Return whether a folder contains exactly these archives, complete."""
    assert sorted(os.listdir(folder)) == sorted(names)
    return all((folder / name).read_bytes() == CONTENT[name] for name in names)


def test_archives_are_those_of_dr1(tmp_path):
    """Simulated archives have the names of those of DR1."""
    paths = simulate_field((60, 60), (5, 5), seed=1).write(tmp_path).archives
    assert [path.name for path in paths] == list(NAMES.values())
    assert len(set(_record.PUBLISHED_MD5)) == len(NAMES) == 6


def test_all_archives(fetch, dest):
    """By default all six archives are downloaded, in the order of the families."""
    assert fetch(None) == [dest / name for name in NAMES.values()]
    assert holds(dest, *NAMES.values())


def test_order_and_names(fetch, dest, server):
    """Families and names of archives are equivalent, and their order is kept."""
    paths = fetch(["AstroCalibNumStars", "zp", "ZeroPoint"])
    assert paths == [dest / NAMES["astar"], dest / ZP]
    assert server.names_asked_for() == [NAMES["astar"], ZP]


@pytest.mark.parametrize("families", ["flux", [], ["zp", "dra"], 7, [["zp"]]])
def test_unknown_families(fetch, server, families):
    """Names that are not in DR1 are refused before any request."""
    with pytest.raises(KS4Error, match="families must"):
        fetch(families)
    assert not server.requests


def test_requests_name_the_software(fetch, server):
    """Each request names the software, and accepts no compression."""
    fetch()
    for _, headers in server.requests:
        assert headers["User-Agent"].startswith(f"ks4_ccd/{ks4_ccd.__version__} (")
        assert headers["Accept-Encoding"] == "identity"


def test_complete_archives_need_no_network(fetch, dest, server):
    """Existing complete archives are not downloaded again."""
    (dest / ZP).write_bytes(CONTENT[ZP])
    assert fetch(record="http://127.0.0.1:1/") == [dest / ZP]
    assert not server.requests
    fetch(["zp", "zperr"])
    assert server.names_asked_for() == [NAMES["zperr"]]


@pytest.mark.parametrize(
    "content", [b"my own notes", CONTENT[NAMES["astar"]]], ids=["notes", "astar"]
)
def test_another_file_of_that_name(fetch, dest, server, content):
    """Another file of the same name is kept, and refused before the download."""
    (dest / ZP).write_bytes(content)
    with pytest.raises(DownloadError, match=rf"{ZP}: expected .*{md5_of(content)}"):
        fetch(["zperr", "zp"])
    assert (dest / ZP).read_bytes() == content
    assert os.listdir(dest) == [ZP]
    assert bool(server.requests) is (content in CONTENT.values())


@pytest.mark.parametrize("reset", [False, True])
def test_interrupted_download(fetch, dest, server, reset):
    """A download resumes where the connection broke."""
    server.tricks[ZP] = [cut_off(reset=reset), cut_off()]
    fetch()
    assert holds(dest, ZP)
    first, second, third = server.ranges_of(ZP)
    assert first is None
    if not reset:
        assert (second, third) == (f"bytes={HALF}-", f"bytes={HALF + HALF // 2}-")
    assert server.requests[-1][1].get("If-Range", '"1"') == '"1"'


def test_resumes_in_another_call(fetch, dest, server):
    """The next call resumes an incomplete download."""
    server.tricks[ZP] = [cut_off(), *[sends(503)] * 3]
    with pytest.raises(DownloadError, match="503 Service Unavailable .tried 4 times"):
        fetch()
    assert (dest / f"{ZP}.part").read_bytes() == CONTENT[ZP][:HALF]
    assert os.listdir(dest) == [f"{ZP}.part"]
    fetch()
    assert holds(dest, ZP)
    assert server.ranges_of(ZP)[-1] == f"bytes={HALF}-"


def test_nothing_else_is_left_behind(fetch, dest, server):
    """During a download only the partial file exists."""
    seen = []

    def look(handler, body):
        seen.append(os.listdir(dest))
        good(handler, body)

    server.tricks[ZP] = [cut_off(), look]
    fetch()
    assert seen == [[f"{ZP}.part"]]


def test_stalling_server(fetch, dest, server):
    """A server that stops sending is disconnected, and the rest is requested."""
    server.tricks[ZP] = [stall]
    fetch()
    assert holds(dest, ZP)
    assert len(server.ranges_of(ZP)) == 2


@pytest.fixture
def impatient(monkeypatch):
    """Set limits short enough for a test."""
    monkeypatch.setattr(_transfer, "_SECONDS_OF_AVERAGE", 0.2)
    monkeypatch.setattr(_transfer, "_LONGEST_ANSWER", 0.5)


@pytest.mark.usefixtures("impatient")
def test_trickling_server(fetch, dest, server):
    """A server that sends too slowly is disconnected, and the rest is requested."""
    server.tricks[ZP] = [trickle]
    fetch()
    assert holds(dest, ZP)
    first, second = server.ranges_of(ZP)
    assert first is None
    assert int(second.removeprefix("bytes=").removesuffix("-")) >= HALF


@pytest.mark.usefixtures("impatient")
def test_server_that_keeps_trickling(fetch, dest, server):
    """A server that always sends too slowly is given up; the partial file is kept."""
    server.tricks = {ZP: [trickle] * 4}
    words = rf"{ZP}: expected at least 10000 bytes per second, .*tried 4 times"
    with pytest.raises(DownloadError, match=words):
        fetch()
    part = (dest / f"{ZP}.part").read_bytes()
    assert len(part) > HALF
    assert CONTENT[ZP].startswith(part)


@pytest.mark.parametrize("path", ["record", ZP])
@pytest.mark.usefixtures("impatient")
def test_trickling_headers(fetch, dest, server, path):
    """A server whose headers do not end is disconnected, and asked again."""
    server.tricks[path] = [trickling_headers]
    fetch()
    assert holds(dest, ZP)
    (dest / ZP).unlink()
    server.tricks[path] = [trickling_headers] * 4
    with pytest.raises(DownloadError, match=r"no response in time.*by hand"):
        fetch()


@pytest.mark.usefixtures("impatient")
def test_trickling_record(fetch, server):
    """The record of DR1 has the same time limits."""
    server.tricks["record"] = [trickle] * 2
    with pytest.raises(
        DownloadError, match="expected at least .*tried 2 times.*by hand"
    ):
        fetch()


def test_compressed_record(fetch, dest, server):
    """A record that is compressed in transit is read."""
    body = gzip.compress(server.files["record"])
    server.tricks["record"] = [sends(200, body, Content_Encoding="gzip")]
    fetch()
    assert holds(dest, ZP)


def test_chunks(fetch, dest, server):
    """An archive may be sent in chunks, without Content-Length."""

    def chunked(handler, body):
        handler.answer(200, Content_Length=None, Transfer_Encoding="chunked")
        for start in range(0, len(body), 30_000):
            chunk = body[start : start + 30_000]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        handler.wfile.write(b"0\r\n\r\n")

    server.tricks[ZP] = [chunked]
    fetch()
    assert holds(dest, ZP)


def test_connection_that_ends_without_a_length(fetch, dest, server):
    """A response without Content-Length that ends early is resumed."""
    server.tricks[ZP] = [sends(200, CONTENT[ZP][:HALF], Content_Length=None)]
    fetch()
    assert holds(dest, ZP)
    assert server.ranges_of(ZP) == [None, f"bytes={HALF}-"]


def link_to(part, other):
    """Create a symbolic link with the name of the partial file."""
    part.symlink_to(other)


def named_pipe(part, other):
    """Create a named pipe with the name of the partial file."""
    os.mkfifo(part)


@pytest.mark.parametrize("plant", [link_to, named_pipe])
@pytest.mark.parametrize("exists", [True, False])
def test_partial_file_that_is_not_a_regular_file(
    fetch, dest, tmp_path, server, plant, exists
):
    """A download is not written through a link, nor to a pipe."""
    other = tmp_path / "mine"
    if exists:
        other.write_bytes(b"mine")
    plant(dest / f"{ZP}.part", other)
    with pytest.raises(DownloadError, match=rf"{ZP}\.part: expected the partial file"):
        fetch()
    assert (other.read_bytes() == b"mine") if exists else not other.exists()
    assert server.names_asked_for() == []


def test_link_created_during_a_download(fetch, dest, tmp_path, server):
    """A link that replaces the partial file during a download is not followed."""
    other = tmp_path / "mine"
    other.write_bytes(b"mine")

    def plant(handler, body):
        (dest / f"{ZP}.part").symlink_to(other)
        good(handler, body)

    server.tricks[ZP] = [plant]
    with pytest.raises(DownloadError, match=rf"cannot write .*{ZP}\.part"):
        fetch()
    assert other.read_bytes() == b"mine"


def test_server_without_ranges(fetch, dest, server):
    """A server that ignores ranges sends the whole file, which replaces the part."""
    server.tricks[ZP] = [cut_off(), without_ranges]
    fetch()
    assert holds(dest, ZP)


@pytest.mark.parametrize(
    "answer",
    [
        sends(206, CONTENT[ZP], Content_Range="bytes 0-199999/200000"),
        sends(206, CONTENT[ZP][HALF:], Content_Range="bytes 100000-199999/200001"),
        sends(206, CONTENT[ZP][HALF:], Content_Range="nonsense"),
        sends(206, CONTENT[ZP][HALF:]),
        sends(416),
        lambda handler, body: handler.answer(
            206,
            body[HALF:][::-1],
            Content_Range="bytes 100000-199999/200000",
            ETag='"2"',
        ),
    ],
    ids=["start", "total", "nonsense", "none", "refused", "etag"],
)
def test_wrong_part(fetch, dest, server, answer):
    """After a response of the wrong range, the whole file is requested."""
    server.tricks[ZP] = [cut_off(), answer]
    fetch()
    assert holds(dest, ZP)
    assert server.ranges_of(ZP) == [None, f"bytes={HALF}-", None]


def test_changed_file(fetch, dest, server):
    """A file whose ETag changed between attempts is downloaded from its beginning."""
    server.files[ZP] = bytes(len(CONTENT[ZP]))

    def cut_and_change(handler, body):
        cut_off()(handler, body)
        server.files[ZP] = CONTENT[ZP]

    server.tricks[ZP] = [cut_and_change, lambda *args: good(*args, etag='"2"')]
    fetch()
    assert holds(dest, ZP)
    assert server.requests[-1][1]["If-Range"] == '"1"'
    assert len(server.ranges_of(ZP)) == 2


def test_wrong_bytes(fetch, dest, server):
    """Wrong bytes are deleted; the message has both checksums and the remedy."""
    server.files[ZP] = wrong = bytes(len(CONTENT[ZP]))
    with pytest.raises(DownloadError, match=f"{ZP}.*{md5_of(CONTENT[ZP])}") as error:
        fetch()
    assert md5_of(wrong) in str(error.value)
    assert f"by hand {ZP} from https://doi.org/10.5281/" in str(error.value)
    assert str(dest) in str(error.value)
    assert os.listdir(dest) == []


@pytest.mark.parametrize("length", [HALF, len(CONTENT[ZP]), len(CONTENT[ZP]) + 1])
def test_wrong_part_of_an_earlier_call(fetch, dest, length):
    """A partial file that was wrong, or too long, is replaced in the same call."""
    (dest / f"{ZP}.part").write_bytes(bytes(length))
    fetch()
    assert holds(dest, ZP)


@pytest.mark.parametrize("headers", [{}, {"Content_Length": None}])
def test_too_many_bytes(fetch, dest, server, headers):
    """A file longer than recorded is refused, with or without Content-Length."""
    server.tricks[ZP] = [sends(200, CONTENT[ZP] + b"!", **headers)]
    with pytest.raises(DownloadError, match="found 200001|received more"):
        fetch()
    assert os.listdir(dest) == []


def test_labelled_as_compressed(fetch, dest, server):
    """The archive stays compressed if the server declares it as gzip in transit."""
    server.tricks[ZP] = [sends(200, CONTENT[ZP], Content_Encoding="gzip")]
    fetch()
    assert holds(dest, ZP)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
@pytest.mark.parametrize("path", ["record", ZP])
def test_refused(fetch, server, dest, path, status):
    """A refused request is not repeated; the message contains the remedy."""
    server.tricks[path] = [sends(status)]
    with pytest.raises(DownloadError, match=f"{path} returned {status}") as error:
        fetch()
    assert f"by hand {ZP} from https://doi.org/10.5281/" in str(error.value)
    assert [asked for asked, _ in server.requests].count(path) == 1
    assert os.listdir(dest) == []


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_temporary_server_error(fetch, server, dest, status):
    """After a temporary server error the request is repeated."""
    server.tricks = {path: [sends(status)] for path in ("record", ZP)}
    fetch()
    assert holds(dest, ZP)


def test_retry_after(fetch, server, monkeypatch):
    """Retry-After is respected, within limits."""
    waits = []
    monkeypatch.setattr(_transfer.time, "sleep", waits.append)
    answers = "5", "99999999999999999999", "Fri, 01 Jan 2027 00:00:00 GMT"
    server.tricks[ZP] = [sends(429, Retry_After=answer) for answer in answers]
    fetch()
    assert waits == [5, 120, 0.01]


def test_only_what_is_missing_by_hand(fetch, server, dest):
    """If a later archive fails, the earlier ones are kept and not requested again."""
    server.tricks[NAMES["pstar"]] = [sends(403)]
    with pytest.raises(DownloadError) as error:
        fetch(["zp", "pstar", "zperr"])
    assert f"by hand {NAMES['pstar']}, {NAMES['zperr']} from" in str(error.value)
    assert holds(dest, ZP)


def test_refused_connection(fetch):
    """The message contains the error of the operating system."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(DownloadError, match=r"Connection refused.*by hand"):
        fetch(record=f"http://127.0.0.1:{port}/record")


def test_offline(fetch, monkeypatch):
    """The message states that the name of the server cannot be resolved."""

    def fail(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(DownloadError, match=r"Name or service not known.*by hand"):
        fetch(record="http://zenodo.invalid/record")


def test_record_without_response(fetch, server):
    """A server that sends nothing is disconnected after the time limit."""
    server.tricks["record"] = [lambda *_: server.is_closing.wait(20)] * 2
    with pytest.raises(DownloadError, match=r"no response in time.*by hand"):
        fetch()


@pytest.mark.parametrize(
    "url", ["file:///etc/hosts", "ftp://127.0.0.1/x", "http://[::"]
)
def test_redirected_elsewhere(fetch, server, dest, url):
    """A redirection to another protocol than HTTP is not followed."""
    server.tricks[ZP] = [sends(302, Location=url)]
    with pytest.raises(DownloadError, match=r"cannot request .*by hand"):
        fetch()
    assert os.listdir(dest) == []


def test_redirected_in_circles(fetch, server):
    """The number of redirections is limited."""
    server.tricks[ZP] = [sends(302, Location=f"/{ZP}")] * 50
    with pytest.raises(DownloadError, match="redirects"):
        fetch()


def test_redirected(fetch, server, dest):
    """A redirection to another HTTP address is followed."""
    server.tricks[ZP] = [sends(302, Location=f"{server.url}/elsewhere")]
    server.files["elsewhere"] = CONTENT[ZP]
    fetch()
    assert holds(dest, ZP)


@pytest.mark.parametrize(
    "content",
    [
        b"<html>Please sign in to this hotel</html>",
        b"",
        b"\xff\xfe",
        b'{"files": [{"key": "KS4_',
        b"[]",
        b"7",
        b'{"files": null}',
        b'{"files": [7]}',
        b'{"files": [{"key": 7}]}',
        b'{"files": [{"key": "KS4_DR1_ZeroPoint_Maps.tar.gz"}]}',
        b"[" * 1_000_000,
    ],
    ids=lambda content: repr(content[:20]),
)
def test_broken_record(fetch, server, dest, content):
    """A response that is not a record is refused."""
    server.files["record"] = content
    with pytest.raises(DownloadError, match=r"expected a record of files.*by hand"):
        fetch()
    assert os.listdir(dest) == []


def test_endless_record(fetch, server, monkeypatch):
    """The number of bytes that are read of a record is limited."""
    monkeypatch.setattr(_transfer, "_LARGEST_SMALL_FILE", 1000)
    with pytest.raises(DownloadError, match="found a longer file"):
        fetch()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "../evil"}, "found the path"),
        ({"key": "/etc/evil"}, "found the path"),
        ({"key": "a\\evil"}, "found the path"),
        ({"key": "C:evil"}, "found the path"),
        ({"key": ".."}, "found the path"),
        ({"key": "a\0"}, "found the path"),
        ({"key": ""}, "does not list KS4_DR1_ZeroPoint_Maps"),
        ({"key": "README.txt"}, "does not list KS4_DR1_ZeroPoint_Maps"),
        ({"key": NAMES["zperr"]}, "lists an archive or a checksum twice"),
        ({"size": 0}, "bytes in the record, found 0"),
        ({"size": -1}, "bytes in the record, found -1"),
        ({"size": 10**15}, "bytes in the record, found"),
        ({"size": "200000"}, "bytes in the record, found '200000'"),
        ({"size": True}, "bytes in the record, found True"),
        ({"size": None}, "bytes in the record, found None"),
        ({"checksum": f"md5:{0:032}"}, "expected one of the six MD5"),
        ({"checksum": f"sha256:{0:064}"}, "expected one of the six MD5"),
        ({"checksum": None}, "expected a record of files"),
        ({"checksum": f"md5:{md5_of(CONTENT[NAMES['zperr']])}"}, "checksum twice"),
        ({"links": {"self": "file:///etc/hosts"}}, "expected an address with http"),
        ({"links": {"self": None}}, "expected an address with http"),
        ({"links": {"self": "http://[::bad/"}}, "cannot request"),
        ({"links": None}, "expected a record of files"),
    ],
)
def test_hostile_record(fetch, server, dest, change, message):
    """A record with impossible values is refused before any download."""
    publish(server, **change)
    with pytest.raises(DownloadError, match=message):
        fetch()
    assert os.listdir(dest) == []
    assert server.names_asked_for() == []


def test_other_files_of_the_record(fetch, server, dest):
    """Files of the record that are not archives are ignored."""
    server.listing.append({"key": "READ ME.txt"})
    publish(server)
    fetch()
    assert holds(dest, ZP)


def test_disk_is_full(fetch, server, dest, monkeypatch):
    """Missing space is reported before the download; partial files are subtracted."""
    usage = shutil.disk_usage(dest)._replace(free=150_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match="found 0.00 GB"):
        fetch()
    assert server.names_asked_for() == []
    (dest / f"{ZP}.part").write_bytes(CONTENT[ZP][:HALF])
    fetch()
    assert holds(dest, ZP)


def test_disk_becomes_full(fetch, server, dest, monkeypatch):
    """An error of the disk is not reported as one of the network."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_transfer.os, "replace", full)
    with pytest.raises(DownloadError, match="cannot write .*No space left"):
        fetch()
    assert server.names_asked_for() == [ZP]
    assert os.listdir(dest) == [f"{ZP}.part"]


def test_destination_is_a_file(fetch, dest):
    """A file with the name of the folder is refused, and kept."""
    dest.rmdir()
    dest.write_text("mine")
    with pytest.raises(DownloadError, match="cannot write into"):
        fetch()
    assert dest.read_text() == "mine"


def test_a_page_instead_of_the_archive(fetch, dest, server):
    """A response of another length is refused, and the partial file is kept."""
    (dest / f"{ZP}.part").write_bytes(CONTENT[ZP][:HALF])
    server.tricks[ZP] = [sends(200, b"<html>Please sign in</html>")]
    with pytest.raises(DownloadError, match="200000 bytes as recorded, found 27"):
        fetch()
    assert (dest / f"{ZP}.part").read_bytes() == CONTENT[ZP][:HALF]
    assert server.names_asked_for() == [ZP]


def test_pooch_is_quiet(fetch, monkeypatch):
    """Messages of pooch are suppressed, and its logger is restored."""
    said = []
    logger = pooch.get_logger()
    level = logger.level
    monkeypatch.setattr(logger.handlers[0], "emit", said.append)
    fetch()
    assert said == []
    assert logger.level == level


def test_progress_from_the_start(fetch, server, dest, capsys):
    """The progress bar is reset if the download restarts."""
    (dest / f"{ZP}.part").write_bytes(CONTENT[ZP][:HALF])
    server.tricks[ZP] = [without_ranges]
    fetch(progress=True)
    last = capsys.readouterr().err.rpartition("\r")[2]
    assert f"{ZP}: 100%" in last
    assert "200k/200k" in last


def test_progress(fetch, server, capsys):
    """The progress bar starts where the download resumes."""
    server.tricks[ZP] = [cut_off(), *[sends(503)] * 3]
    with pytest.raises(DownloadError):
        fetch()
    assert capsys.readouterr() == ("", "")
    fetch(progress=True)
    shown = capsys.readouterr().err
    assert f"{ZP}:  50%" in shown
    assert f"{ZP}: 100%" in shown
    assert "0%" not in shown.replace("50%", "").replace("100%", "")


@pytest.fixture
def run(server, dest, monkeypatch):
    """Run the command with the test server."""
    ours = partial(module.fetch, record=f"{server.url}/record")
    monkeypatch.setattr(module, "fetch", ours)
    return lambda *families: main(["fetch", *families, "-o", str(dest)])


def test_command(run, dest, capsys):
    """The command prints the paths, and how to use them."""
    assert run("zp", "Astrometry") == 0
    shown = capsys.readouterr()
    paths = [str(dest / ZP), str(dest / NAMES["align"])]
    assert shown.out.splitlines() == paths
    assert f"ks4-ccd ingest {' '.join(paths)} -o dr1.ks4maps" in shown.err
    assert holds(dest, ZP, NAMES["align"])
    assert run() == 0
    assert holds(dest, *NAMES.values())


def test_command_fails(run, server, capsys):
    """An error is one line and status 1."""
    server.tricks["record"] = [sends(403)]
    assert run() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "403 Forbidden" in line
    assert all(name in line for name in NAMES.values())


def test_command_is_interrupted(run, server, dest, capsys, monkeypatch):
    """Ctrl-C keeps the partial file, and the message states it."""

    def interrupt(_):
        raise KeyboardInterrupt

    server.tricks[ZP] = [cut_off()]
    monkeypatch.setattr(_transfer.time, "sleep", interrupt)
    assert run("zp") == 130
    assert "resumes the download" in capsys.readouterr().err
    assert os.listdir(dest) == [f"{ZP}.part"]
