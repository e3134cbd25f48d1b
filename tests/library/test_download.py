# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Downloads, from a server on this machine that can be as bad as one likes."""

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
    """Return the md5 of bytes."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers by the next trick of a path, or else as a good server does."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Keep quiet."""

    def do_GET(self):
        """Answer."""
        self.close_connection = True
        path = self.path.lstrip("/")
        self.server.requests.append((path, dict(self.headers)))
        tricks = self.server.tricks.get(path, [])
        (tricks.pop(0) if tricks else good)(self, self.server.files.get(path))

    def answer(self, status, body=b"", **headers):
        """Send a whole answer."""
        self.send_response(status)
        headers = {"Content_Length": len(body), "Connection": "close", **headers}
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def rest(self, body, etag):
        """Return status, bytes and headers of what is asked for."""
        asked = self.headers.get("Range")
        if asked is None or self.headers.get("If-Range", etag) != etag:
            return 200, body, {"ETag": etag}
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        where = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return 206, body[start:], {"Content_Range": where, "ETag": etag}


def good(handler, body, etag='"1"'):
    """The file, or the rest of it."""
    if body is None:
        return handler.answer(404)
    status, body, headers = handler.rest(body, etag)
    return handler.answer(status, body, **headers)


def sends(status, body=b"", **headers):
    """Make a trick of an answer."""
    return lambda handler, _: handler.answer(status, body, **headers)


def cut_off(etag='"1"', reset=False):
    """The file, but for its second half."""

    def trick(handler, body):
        status, body, headers = handler.rest(body, etag)
        sent = body[: len(body) // 2]
        handler.answer(status, sent, Content_Length=len(body), **headers)
        if reset:
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    return trick


def stall(handler, body):
    """The first half of the file, and then nothing."""
    handler.answer(200, body[:HALF], Content_Length=len(body), ETag='"1"')
    handler.server.is_closing.wait(20)


def trickle(handler, body):
    """The first half of the file, and then a byte now and then."""
    status, body, headers = handler.rest(body, '"1"')
    half = body[: len(body) // 2]
    handler.answer(status, half, Content_Length=len(body), **headers)
    drip(handler, body[len(half) :])


def trickling_headers(handler, body):
    """A header that does not end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Header: ")
    drip(handler, b"x" * 200)


def drip(handler, content):
    """Send bytes one by one, for two seconds or until the client leaves."""
    for byte in content[:200]:
        handler.wfile.write(bytes([byte]))
        if handler.server.is_closing.wait(0.01):
            break


def without_ranges(handler, body):
    """The whole file, whatever the question is."""
    handler.answer(200, body)


class Server(ThreadingHTTPServer):
    """A server whose threads end with it."""

    daemon_threads = False

    def handle_error(self, *_):
        """Take it easy if a client goes away."""

    def names_asked_for(self):
        """Return the paths of the requests so far, but for the record."""
        return [path for path, _ in self.requests if path != "record"]

    def ranges_of(self, name):
        """Return the ranges that were asked of a file."""
        return [asked.get("Range") for path, asked in self.requests if path == name]


@pytest.fixture
def server(monkeypatch):
    """A server of the record and its archives, which are small ones."""
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
    """Write the record, with changes to the entry of zero points."""
    server.listing[0] |= changes
    server.files["record"] = json.dumps({"files": server.listing}).encode()


@pytest.fixture
def fetch(server, tmp_path):
    """Fetch from the server into a folder of its own."""

    def fetch(families="zp", **options):
        options = {"progress": False, "record": f"{server.url}/record"} | options
        return ks4_ccd.fetch(families, tmp_path / "dr1", **options)

    return fetch


@pytest.fixture
def dest(tmp_path):
    """The folder that is fetched into."""
    path = tmp_path / "dr1"
    path.mkdir()
    return path


def holds(folder, *names):
    """Tell whether a folder has just these archives, whole."""
    assert sorted(os.listdir(folder)) == sorted(names)
    return all((folder / name).read_bytes() == CONTENT[name] for name in names)


def test_archives_are_those_of_the_release(tmp_path):
    """Simulated archives have the names of the real ones."""
    paths = simulate_field((60, 60), (5, 5), seed=1).write(tmp_path).archives
    assert [path.name for path in paths] == list(NAMES.values())
    assert len(set(_record.PUBLISHED_MD5)) == len(NAMES) == 6


def test_all_archives(fetch, dest):
    """By default all six come, in the order of the families."""
    assert fetch(None) == [dest / name for name in NAMES.values()]
    assert holds(dest, *NAMES.values())


def test_order_and_names(fetch, dest, server):
    """Families and names of archives mean the same; the order is that asked for."""
    paths = fetch(["AstroCalibNumStars", "zp", "ZeroPoint"])
    assert paths == [dest / NAMES["astar"], dest / ZP]
    assert server.names_asked_for() == [NAMES["astar"], ZP]


@pytest.mark.parametrize("families", ["flux", [], ["zp", "dra"], 7, [["zp"]]])
def test_unknown_families(fetch, server, families):
    """What is not in the release is refused before anything is asked for."""
    with pytest.raises(KS4Error, match="families must"):
        fetch(families)
    assert not server.requests


def test_says_who_asks(fetch, server):
    """Each request names the software, and wants the bytes as they are."""
    fetch()
    for _, headers in server.requests:
        assert headers["User-Agent"].startswith(f"ks4_ccd/{ks4_ccd.__version__} (")
        assert headers["Accept-Encoding"] == "identity"


def test_complete_archives_need_no_network(fetch, dest, server):
    """What is there, downloaded by hand or not, is not downloaded again."""
    (dest / ZP).write_bytes(CONTENT[ZP])
    assert fetch(record="http://127.0.0.1:1/") == [dest / ZP]
    assert not server.requests
    fetch(["zp", "zperr"])
    assert server.names_asked_for() == [NAMES["zperr"]]


@pytest.mark.parametrize(
    "content", [b"my own notes", CONTENT[NAMES["astar"]]], ids=["notes", "astar"]
)
def test_another_file_of_that_name(fetch, dest, server, content):
    """A file that is not this archive is left alone, and noticed early."""
    (dest / ZP).write_bytes(content)
    with pytest.raises(DownloadError, match=rf"{ZP}: expected .*{md5_of(content)}"):
        fetch(["zperr", "zp"])
    assert (dest / ZP).read_bytes() == content
    assert os.listdir(dest) == [ZP]
    assert bool(server.requests) is (content in CONTENT.values())


@pytest.mark.parametrize("reset", [False, True])
def test_cut_off(fetch, dest, server, reset):
    """A download goes on where the connection broke."""
    server.tricks[ZP] = [cut_off(reset=reset), cut_off()]
    fetch()
    assert holds(dest, ZP)
    first, second, third = server.ranges_of(ZP)
    assert first is None
    if not reset:
        assert (second, third) == (f"bytes={HALF}-", f"bytes={HALF + HALF // 2}-")
    assert server.requests[-1][1].get("If-Range", '"1"') == '"1"'


def test_goes_on_in_another_call(fetch, dest, server):
    """What a call leaves behind, the next one goes on from."""
    server.tricks[ZP] = [cut_off(), *[sends(503)] * 3]
    with pytest.raises(DownloadError, match="503 Service Unavailable .tried 4 times"):
        fetch()
    assert (dest / f"{ZP}.part").read_bytes() == CONTENT[ZP][:HALF]
    assert os.listdir(dest) == [f"{ZP}.part"]
    fetch()
    assert holds(dest, ZP)
    assert server.ranges_of(ZP)[-1] == f"bytes={HALF}-"


def test_nothing_else_is_left_behind(fetch, dest, server):
    """During a download there is no other file than that with what came."""
    seen = []

    def look(handler, body):
        seen.append(os.listdir(dest))
        good(handler, body)

    server.tricks[ZP] = [cut_off(), look]
    fetch()
    assert seen == [[f"{ZP}.part"]]


def test_stalling_server(fetch, dest, server):
    """A server that sends nothing more is left, and asked for the rest."""
    server.tricks[ZP] = [stall]
    fetch()
    assert holds(dest, ZP)
    assert len(server.ranges_of(ZP)) == 2


@pytest.fixture
def impatient(monkeypatch):
    """Limits that a test can wait for."""
    monkeypatch.setattr(_transfer, "_SECONDS_OF_AVERAGE", 0.2)
    monkeypatch.setattr(_transfer, "_LONGEST_ANSWER", 0.5)


@pytest.mark.usefixtures("impatient")
def test_trickling_server(fetch, dest, server):
    """A server that sends a byte now and then is left, and asked for the rest."""
    server.tricks[ZP] = [trickle]
    fetch()
    assert holds(dest, ZP)
    first, second = server.ranges_of(ZP)
    assert first is None
    assert int(second.removeprefix("bytes=").removesuffix("-")) >= HALF


@pytest.mark.usefixtures("impatient")
def test_server_that_keeps_trickling(fetch, dest, server):
    """A server that never sends faster is given up; what came is kept."""
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
    """A server whose headers do not end is left, and asked again."""
    server.tricks[path] = [trickling_headers]
    fetch()
    assert holds(dest, ZP)
    (dest / ZP).unlink()
    server.tricks[path] = [trickling_headers] * 4
    with pytest.raises(DownloadError, match=r"no response in time.*by hand"):
        fetch()


@pytest.mark.usefixtures("impatient")
def test_trickling_record(fetch, server):
    """The description of the release, too, has to come in time."""
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
    """An archive may come in chunks of HTTP, without its length."""

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
    """An answer without its length that ends early is continued."""
    server.tricks[ZP] = [sends(200, CONTENT[ZP][:HALF], Content_Length=None)]
    fetch()
    assert holds(dest, ZP)
    assert server.ranges_of(ZP) == [None, f"bytes={HALF}-"]


def link_to(part, other):
    """Put a symbolic link in the place of a partial file."""
    part.symlink_to(other)


def named_pipe(part, other):
    """Put a named pipe in the place of a partial file."""
    os.mkfifo(part)


@pytest.mark.parametrize("plant", [link_to, named_pipe])
@pytest.mark.parametrize("exists", [True, False])
def test_part_that_is_no_file(fetch, dest, tmp_path, server, plant, exists):
    """A download is not written through a link, nor into a pipe."""
    other = tmp_path / "mine"
    if exists:
        other.write_bytes(b"mine")
    plant(dest / f"{ZP}.part", other)
    with pytest.raises(DownloadError, match=rf"{ZP}\.part: expected the partial file"):
        fetch()
    assert (other.read_bytes() == b"mine") if exists else not other.exists()
    assert server.names_asked_for() == []


def test_link_planted_during_a_download(fetch, dest, tmp_path, server):
    """A link that appears in the place of the partial file is not followed either."""
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
    """A server that cannot give the rest gives all, which replaces the part."""
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
    """After a part that is not the one asked for, the whole file is asked for."""
    server.tricks[ZP] = [cut_off(), answer]
    fetch()
    assert holds(dest, ZP)
    assert server.ranges_of(ZP) == [None, f"bytes={HALF}-", None]


def test_changed_file(fetch, dest, server):
    """A file that changed between attempts (ETag) is downloaded from its start."""
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
    """Wrong bytes are deleted; the error has both md5 and the way out."""
    server.files[ZP] = wrong = bytes(len(CONTENT[ZP]))
    with pytest.raises(DownloadError, match=f"{ZP}.*{md5_of(CONTENT[ZP])}") as error:
        fetch()
    assert md5_of(wrong) in str(error.value)
    assert f"by hand {ZP} from https://doi.org/10.5281/" in str(error.value)
    assert str(dest) in str(error.value)
    assert os.listdir(dest) == []


@pytest.mark.parametrize("length", [HALF, len(CONTENT[ZP]), len(CONTENT[ZP]) + 1])
def test_wrong_part_of_an_earlier_call(fetch, dest, length):
    """A part that was wrong, or too long, is replaced in the same call."""
    (dest / f"{ZP}.part").write_bytes(bytes(length))
    fetch()
    assert holds(dest, ZP)


@pytest.mark.parametrize("headers", [{}, {"Content_Length": None}])
def test_too_many_bytes(fetch, dest, server, headers):
    """A file longer than the record says is refused, announced or not."""
    server.tricks[ZP] = [sends(200, CONTENT[ZP] + b"!", **headers)]
    with pytest.raises(DownloadError, match="found 200001|received more"):
        fetch()
    assert os.listdir(dest) == []


def test_labelled_as_compressed(fetch, dest, server):
    """The archive stays as it is if the server calls it gzip in transit."""
    server.tricks[ZP] = [sends(200, CONTENT[ZP], Content_Encoding="gzip")]
    fetch()
    assert holds(dest, ZP)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
@pytest.mark.parametrize("path", ["record", ZP])
def test_refused(fetch, server, dest, path, status):
    """What a server refuses is not asked for twice; the error says what to do."""
    server.tricks[path] = [sends(status)]
    with pytest.raises(DownloadError, match=f"{path} returned {status}") as error:
        fetch()
    assert f"by hand {ZP} from https://doi.org/10.5281/" in str(error.value)
    assert [asked for asked, _ in server.requests].count(path) == 1
    assert os.listdir(dest) == []


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_passing_trouble(fetch, server, dest, status):
    """A server in trouble is asked again."""
    server.tricks = {path: [sends(status)] for path in ("record", ZP)}
    fetch()
    assert holds(dest, ZP)


def test_retry_after(fetch, server, monkeypatch):
    """A server that says how long to wait is given that time, within limits."""
    waits = []
    monkeypatch.setattr(_transfer.time, "sleep", waits.append)
    answers = "5", "99999999999999999999", "Fri, 01 Jan 2027 00:00:00 GMT"
    server.tricks[ZP] = [sends(429, Retry_After=answer) for answer in answers]
    fetch()
    assert waits == [5, 120, 0.01]


def test_only_what_is_missing_by_hand(fetch, server, dest):
    """If a later archive fails, the earlier ones stay and are not asked for."""
    server.tricks[NAMES["pstar"]] = [sends(403)]
    with pytest.raises(DownloadError) as error:
        fetch(["zp", "pstar", "zperr"])
    assert f"by hand {NAMES['pstar']}, {NAMES['zperr']} from" in str(error.value)
    assert holds(dest, ZP)


def test_nobody_listens(fetch):
    """A refused connection is reported in the words of the operating system."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(DownloadError, match=r"Connection refused.*by hand"):
        fetch(record=f"http://127.0.0.1:{port}/record")


def test_offline(fetch, monkeypatch):
    """Without a name server, the error says so."""

    def fail(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(DownloadError, match=r"Name or service not known.*by hand"):
        fetch(record="http://zenodo.invalid/record")


def test_silent_record(fetch, server):
    """A server that says nothing is left after a while."""
    server.tricks["record"] = [lambda *_: server.is_closing.wait(20)] * 2
    with pytest.raises(DownloadError, match=r"no response in time.*by hand"):
        fetch()


@pytest.mark.parametrize(
    "url", ["file:///etc/hosts", "ftp://127.0.0.1/x", "http://[::"]
)
def test_redirected_elsewhere(fetch, server, dest, url):
    """A redirection that leads away from HTTP is not followed."""
    server.tricks[ZP] = [sends(302, Location=url)]
    with pytest.raises(DownloadError, match=r"cannot request .*by hand"):
        fetch()
    assert os.listdir(dest) == []


def test_redirected_in_circles(fetch, server):
    """A redirection to itself has an end."""
    server.tricks[ZP] = [sends(302, Location=f"/{ZP}")] * 50
    with pytest.raises(DownloadError, match="redirects"):
        fetch()


def test_redirected(fetch, server, dest):
    """A redirection within HTTP is followed."""
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
    """What is not a record is said not to be one."""
    server.files["record"] = content
    with pytest.raises(DownloadError, match=r"expected a record of files.*by hand"):
        fetch()
    assert os.listdir(dest) == []


def test_endless_record(fetch, server, monkeypatch):
    """No more of a record is read than one can have."""
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
    """A record may list files other than archives."""
    server.listing.append({"key": "READ ME.txt"})
    publish(server)
    fetch()
    assert holds(dest, ZP)


def test_disk_is_full(fetch, server, dest, monkeypatch):
    """Missing space is an error before the download; partial files are subtracted."""
    usage = shutil.disk_usage(dest)._replace(free=150_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match="found 0.00 GB"):
        fetch()
    assert server.names_asked_for() == []
    (dest / f"{ZP}.part").write_bytes(CONTENT[ZP][:HALF])
    fetch()
    assert holds(dest, ZP)


def test_disk_fills_up(fetch, server, dest, monkeypatch):
    """An error of the disk is not taken for one of the network."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_transfer.os, "replace", full)
    with pytest.raises(DownloadError, match="cannot write .*No space left"):
        fetch()
    assert server.names_asked_for() == [ZP]
    assert os.listdir(dest) == [f"{ZP}.part"]


def test_destination_is_a_file(fetch, dest):
    """A file in the place of the folder is refused, and kept."""
    dest.rmdir()
    dest.write_text("mine")
    with pytest.raises(DownloadError, match="cannot write into"):
        fetch()
    assert dest.read_text() == "mine"


def test_a_page_in_the_place_of_the_archive(fetch, dest, server):
    """An answer of another length is not taken, and what was there is kept."""
    (dest / f"{ZP}.part").write_bytes(CONTENT[ZP][:HALF])
    server.tricks[ZP] = [sends(200, b"<html>Please sign in</html>")]
    with pytest.raises(DownloadError, match="200000 bytes as recorded, found 27"):
        fetch()
    assert (dest / f"{ZP}.part").read_bytes() == CONTENT[ZP][:HALF]
    assert server.names_asked_for() == [ZP]


def test_pooch_is_quiet(fetch, monkeypatch):
    """What pooch logs is left out, and its logger left as it was."""
    said = []
    logger = pooch.get_logger()
    level = logger.level
    monkeypatch.setattr(logger.handlers[0], "emit", said.append)
    fetch()
    assert said == []
    assert logger.level == level


def test_progress_from_the_start(fetch, server, dest, capsys):
    """The bar goes back if the download does."""
    (dest / f"{ZP}.part").write_bytes(CONTENT[ZP][:HALF])
    server.tricks[ZP] = [without_ranges]
    fetch(progress=True)
    last = capsys.readouterr().err.rpartition("\r")[2]
    assert f"{ZP}: 100%" in last
    assert "200k/200k" in last


def test_progress(fetch, server, capsys):
    """The bar starts where the download goes on."""
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
    """Run the command against the server."""
    ours = partial(module.fetch, record=f"{server.url}/record")
    monkeypatch.setattr(module, "fetch", ours)
    return lambda *families: main(["fetch", *families, "-o", str(dest)])


def test_command(run, dest, capsys):
    """The command prints the paths, and what to do with them."""
    assert run("zp", "Astrometry") == 0
    shown = capsys.readouterr()
    paths = [str(dest / ZP), str(dest / NAMES["align"])]
    assert shown.out.splitlines() == paths
    assert f"ks4-ccd ingest {' '.join(paths)} -o dr1.ks4maps" in shown.err
    assert holds(dest, ZP, NAMES["align"])
    assert run() == 0
    assert holds(dest, *NAMES.values())


def test_command_fails(run, server, capsys):
    """What went wrong is one line and status 1."""
    server.tricks["record"] = [sends(403)]
    assert run() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "403 Forbidden" in line
    assert all(name in line for name in NAMES.values())


def test_command_is_interrupted(run, server, dest, capsys, monkeypatch):
    """Ctrl-C keeps what is there, and says so."""

    def interrupt(_):
        raise KeyboardInterrupt

    server.tricks[ZP] = [cut_off()]
    monkeypatch.setattr(_transfer.time, "sleep", interrupt)
    assert run("zp") == 130
    assert "resumes the download" in capsys.readouterr().err
    assert os.listdir(dest) == [f"{ZP}.part"]
