# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Reading of archives in place: regular, unusual and damaged ones."""

import gc
import gzip
import io
import os
import subprocess
import tarfile
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ks4_ccd.exceptions import KS4Error, MapFormatError
from ks4_ccd.files import gzip as _gzip
from ks4_ccd.files.gzip import Checkpoints, GzipReader
from ks4_ccd.library import _archive
from ks4_ccd.library._archive import ArchiveSource
from ks4_ccd.library._sources import MAX_ARRAY_BYTES
from ks4_ccd.maps.key import MapKey

NAME = "zp_map_0403_R_single_APER5.npy"
KEY = MapKey.from_filename(NAME)


def noise(size, seed=0):
    """Return bytes that do not compress."""
    return np.random.default_rng(seed).bytes(size)


def reader_of(data, spacing=2**40):
    """Return a reader of gzipped bytes."""
    return GzipReader(io.BytesIO(data), "archive.gz", Checkpoints(spacing))


def rewrite(path, content):
    """Write the content of a file again, compressed according to its name."""
    path.write_bytes(content if path.suffix == ".tar" else gzip.compress(content))


@pytest.fixture(params=["maps.tar", "maps.tar.gz", "maps.tgz"])
def archive_name(request):
    """Return the name of each kind of archive."""
    return request.param


# Random access to gzip


CONTENT = noise(300_000) + bytes(400_000) + noise(300_000, seed=1)
COMPRESSED = gzip.compress(CONTENT)


@given(
    reads=st.lists(st.tuples(st.integers(0, 1_100_000), st.integers(0, 400_000))),
    spacing=st.sampled_from([1, 50_000, 2**40]),
)
def test_reads_at_any_position(reads, spacing):
    """Reads in any direction return the content, with any checkpoints."""
    reader = reader_of(COMPRESSED, spacing)
    reader.drain()
    for position, size in reads:
        assert reader.seek(position) == position
        assert reader.read(size) == CONTENT[position : position + size]
        assert reader.tell() == min(position + size, max(position, len(CONTENT)))


def test_checkpoints_serve_other_readers():
    """A reader starts at a checkpoint of another and does not read the bytes before."""
    checkpoints = Checkpoints(50_000)
    GzipReader(io.BytesIO(COMPRESSED), "archive.gz", checkpoints).drain()
    assert len(checkpoints) > 3
    damaged_before = bytes(250_000) + COMPRESSED[250_000:]
    reader = GzipReader(io.BytesIO(damaged_before), "archive.gz", checkpoints)
    reader.seek(900_000)
    assert reader.read(1000) == CONTENT[900_000:901_000]


def test_checkpoints_are_bounded(monkeypatch):
    """If there are too many checkpoints, some are dropped; reading is unaffected."""
    monkeypatch.setattr(_gzip, "_MOST_CHECKPOINTS", 8)
    monkeypatch.setattr(_gzip, "_OUTPUT_PIECE", 1000)
    reader = reader_of(COMPRESSED, spacing=1)
    reader.drain()
    assert 3 < len(reader.checkpoints) <= 8
    for position in (990_000, 500_000, 0):
        reader.seek(position)
        assert reader.read(10) == CONTENT[position : position + 10]


@pytest.mark.parametrize("padding", [b"", bytes(1000)])
def test_concatenated_gzip_members(padding):
    """Concatenated gzip members, zero-padded or not, are one content."""
    parts = [noise(n, seed=n) for n in (10, 100_000, 0, 70_000)]
    data = b"".join(gzip.compress(part) + padding for part in parts)
    reader = reader_of(data, spacing=30_000)
    assert reader.read(10**6) == b"".join(parts)
    reader.seek(50)
    assert reader.read(10**6) == b"".join(parts)[50:]


@pytest.mark.parametrize("kept", [5, 1000, len(COMPRESSED) - 1, len(COMPRESSED) - 8])
def test_truncated_gzip(kept):
    """A gzip file that ends early is refused, also within its checksum."""
    with pytest.raises(MapFormatError, match=r"archive\.gz is truncated"):
        reader_of(COMPRESSED[:kept]).drain()


def test_damaged_gzip():
    """A wrong byte is refused because of the checksum."""
    damaged = bytearray(COMPRESSED)
    damaged[100_000] ^= 1
    with pytest.raises(MapFormatError, match=r"archive\.gz is damaged"):
        reader_of(bytes(damaged)).drain()


def test_bytes_after_gzip():
    """Bytes after the gzip data that are not gzip data are refused."""
    with pytest.raises(MapFormatError, match="damaged"):
        reader_of(COMPRESSED + b"more").drain()


def test_gzip_bomb_needs_no_memory():
    """Reading a few bytes of highly compressed data needs little memory."""
    reader = reader_of(gzip.compress(bytes(100 * 2**20)))
    tracemalloc.start()
    try:
        reader.seek(90 * 2**20)
        assert reader.read(10) == bytes(10)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


# Archives


def test_members_are_read(write_archive, zeropoints, npy, archive_name):
    """Every member can be read, in any order."""
    names = [f"x/{n:04d}/zp_map_{n:04d}_R_single_APER5.npy" for n in range(50)]
    members = {name: npy(zeropoints(seed)) for seed, name in enumerate(names)}
    source = ArchiveSource(write_archive(archive_name, members))
    assert len(source.keys()) == 50
    for name in names[::-7] + names[::3]:
        [entry] = source.find(MapKey.from_filename(os.path.basename(name)))
        assert entry.path == f"{source.path}:{name}"
        assert source.read(entry) == members[name]
    source.close()


def test_other_members_are_ignored(write_archive, tar_member):
    """Folders and files that are not maps are ignored."""
    others = {f"a/{name}": b"x" for name in ("README", f"._{NAME}", "zp_map_x.npy")}
    path = write_archive(
        "maps.tar.gz", others, [tar_member("./a/b", type=tarfile.DIRTYPE)]
    )
    assert list(ArchiveSource(path).keys()) == []


def test_long_names(write_archive, zeropoints):
    """Names longer than the field of a tar header are read."""
    name = f"{'folder' * 40}/{NAME}"
    source = ArchiveSource(write_archive("maps.tar.gz", {name: zeropoints()}))
    assert source.find(KEY)[0].path.endswith(name)


def test_the_suffix_does_not_matter(write_archive, zeropoints):
    """A gzipped archive is recognised by its content."""
    path = write_archive("maps.tar.gz", {NAME: zeropoints()})
    assert list(ArchiveSource(path.rename(path.with_name("maps.tar"))).keys()) == [KEY]


def test_archive_without_maps(write_archive):
    """An archive without maps is a source without entries."""
    assert list(ArchiveSource(write_archive("maps.tar.gz")).keys()) == []


OTHER_KEY = MapKey.from_filename("zp_map_0404_R_single_APER5.npy")


def entry_of(source, key):
    """Return the only entry of a key."""
    (entry,) = source.find(key)
    return entry


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"type": tarfile.CHRTYPE}, "it is a device"),
        ({"type": tarfile.BLKTYPE}, "it is a device"),
        ({"type": tarfile.FIFOTYPE}, "it is a named pipe"),
        ({"type": b"M"}, "another volume"),
        ({"type": b"Q"}, "its type b'Q' is unknown"),
        ({"type": tarfile.LNKTYPE, "linkname": "gone"}, "it is a hard link to gone"),
        ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "it is a symbolic link"),
        ({"type": tarfile.SYMTYPE, "linkname": "."}, "it is a symbolic link"),
        ({"type": tarfile.LNKTYPE, "linkname": NAME}, "not an earlier file"),
    ],
)
def test_member_that_cannot_be_read(
    write_archive, zeropoints, npy, tar_member, archive_name, fields, why
):
    """If a member has no data, only this map is lost."""
    other = "a/zp_map_0404_R_single_APER5.npy"
    member = tar_member(**{"name": f"a/{NAME}", **fields})
    path = write_archive(archive_name, {other: zeropoints()}, [member])
    source = ArchiveSource(path)
    assert source.read(entry_of(source, OTHER_KEY)) == npy(zeropoints())
    with pytest.raises(MapFormatError, match=why) as caught:
        source.read(entry_of(source, KEY))
    assert f"{path}:a/{NAME} cannot be read" in str(caught.value)


def test_large_member(tmp_path, tar_member, zeropoints, npy):
    """A member larger than any map does not affect others, and is refused."""
    path = tmp_path / "maps.tar"
    large = MAX_ARRAY_BYTES + 1
    with tarfile.open(path, "w") as archive:
        for name in (NAME, "notes.txt"):
            archive.addfile(tar_member(name, size=large), io.BytesIO(bytes(large)))
        content = npy(zeropoints())
        other = tar_member(OTHER_KEY.filename, size=len(content))
        archive.addfile(other, io.BytesIO(content))
    source = ArchiveSource(path)
    assert source.read(entry_of(source, OTHER_KEY)) == content
    with pytest.raises(MapFormatError, match=f"header records {large} bytes, at most"):
        source.read(entry_of(source, KEY))


@pytest.mark.parametrize("name", [f"/tmp/{NAME}", f"maps/../../{NAME}", f"./{NAME}"])
def test_any_folder(write_archive, zeropoints, npy, archive_name, name):
    """Folders in names are ignored, because nothing is extracted."""
    source = ArchiveSource(write_archive(archive_name, {name: zeropoints()}))
    assert source.read(entry_of(source, KEY)) == npy(zeropoints())


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        ("a/x.npy", {"type": tarfile.LNKTYPE, "linkname": "a/x.npy"}),
        ("./a/x.npy", {"type": tarfile.LNKTYPE, "linkname": "a/x.npy"}),
        ("/a/x.npy", {"type": tarfile.LNKTYPE, "linkname": "/a/x.npy"}),
        ("a/x.npy", {"type": tarfile.SYMTYPE, "linkname": "x.npy"}),
        ("x.npy", {"type": tarfile.SYMTYPE, "linkname": "../x.npy"}),
    ],
)
def test_links(
    write_archive, zeropoints, npy, tar_member, archive_name, target, fields
):
    """A link to an earlier member, directly or through a link, has its data."""
    links = [
        tar_member(f"a/{NAME}", **fields),
        tar_member(
            f"b/{OTHER_KEY.filename}", type=tarfile.LNKTYPE, linkname=f"a/{NAME}"
        ),
    ]
    source = ArchiveSource(write_archive(archive_name, {target: zeropoints()}, links))
    for key in (KEY, OTHER_KEY):
        assert source.read(entry_of(source, key)) == npy(zeropoints())


def test_link_to_the_latest(tmp_path, tar_member, zeropoints, npy):
    """If two members have one name, a link refers to the last one before it."""
    path = tmp_path / "maps.tar"
    with tarfile.open(path, "w") as archive:
        for seed in range(2):
            content = npy(zeropoints(seed))
            archive.addfile(tar_member("x", size=len(content)), io.BytesIO(content))
        archive.addfile(tar_member(NAME, type=tarfile.LNKTYPE, linkname="x"))
    source = ArchiveSource(path)
    assert source.read(entry_of(source, KEY)) == npy(zeropoints(1))


FORMATS = [
    ["--format=gnu"],
    ["--format=posix", "--sparse-version=0.0"],
    ["--format=posix", "--sparse-version=0.1"],
    ["--format=posix", "--sparse-version=1.0"],
]


@pytest.fixture
def gnu_tar(tmp_path):
    """Return a factory of archives of GNU tar: options, folder; returns the path."""
    version = subprocess.run(["tar", "--version"], capture_output=True, check=False)
    if b"GNU tar" not in version.stdout:
        pytest.skip("needs GNU tar")

    def make(*options, folder):
        path = tmp_path / "maps.tar.gz"
        subprocess.run(["tar", "czf", path, *options, "-C", folder, "."], check=True)
        return path

    return make


def test_incremental_archive(tmp_path, gnu_tar, zeropoints, npy):
    """Links in an incremental archive of GNU tar refer to their maps."""
    folder = tmp_path / "maps"
    folder.mkdir()
    (folder / NAME).write_bytes(npy(zeropoints()))
    os.link(folder / NAME, folder / OTHER_KEY.filename)
    source = ArchiveSource(gnu_tar("-g", tmp_path / "snapshot", folder=folder))
    for key in (KEY, OTHER_KEY):
        assert source.read(entry_of(source, key)) == npy(zeropoints())
        assert entry_of(source, key).path.endswith(f"maps.tar.gz:./{key.filename}")


@pytest.mark.parametrize("options", FORMATS, ids=" ".join)
def test_archives_of_gnu_tar(tmp_path, gnu_tar, zeropoints, npy, options):
    """Sparse files, volume labels and hard links of GNU tar are read."""
    folder = tmp_path / "maps"
    folder.mkdir()
    content = npy(np.concatenate([zeropoints(), np.zeros((40_000, 4)), zeropoints(1)]))
    file = folder / NAME
    with open(file, "wb") as sparse:
        sparse.write(content[:4096])
        sparse.seek(len(content) - 4096)
        sparse.write(content[-4096:])
    assert file.read_bytes() == content
    os.link(file, folder / OTHER_KEY.filename)
    (folder / "align_map_0403_R_single.npy").write_bytes(npy(zeropoints()))
    path = gnu_tar("-S", "-V", "KS4 DR1", *options, folder=folder)
    with tarfile.open(path) as archive:
        if not any(info.issparse() for info in archive):
            pytest.skip("the file system has no sparse files")
    source = ArchiveSource(path)
    for key in (KEY, OTHER_KEY):
        assert source.read(entry_of(source, key)) == content
    align = source.read(entry_of(source, MapKey("align", "0403", "R")))
    assert align == npy(zeropoints())


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ([(0, 100), (200, 50)], None),
        ([(0, 100), (9_999, 50)], "sparse pieces is damaged"),
        ([(-1, 100)], "records|sparse pieces is damaged"),
        ([(0, 5000)], "sparse pieces is damaged"),
    ],
)
def test_sparse_pieces(tmp_path, tar_member, pieces, why):
    """A sparse file is refused if its pieces lie outside of it or of the archive."""
    text = "\n".join(map(str, [len(pieces), *(n for piece in pieces for n in piece)]))
    data = (text + "\n").encode().ljust(512, b"\0") + b"x" * 150
    member = tar_member(f"GNUSparseFile.0/{NAME}", size=len(data))
    member.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": NAME,
        "GNU.sparse.realsize": "5000" if pieces[0][1] == 5000 else "1000",
    }
    path = tmp_path / "maps.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member, io.BytesIO(data))
    source = ArchiveSource(path)
    if why is None:
        expected = b"x" * 100 + bytes(100) + b"x" * 50 + bytes(750)
        assert source.read(entry_of(source, KEY)) == expected
    else:
        with pytest.raises(MapFormatError, match=why):
            source.read(entry_of(source, KEY))


@pytest.mark.parametrize("size", [10 * 2**30, MAX_ARRAY_BYTES + 1])
def test_member_larger_than_the_archive(write_archive, tar_member, archive_name, size):
    """An archive that ends within a member is truncated, for any claimed size."""
    path = write_archive(archive_name, {"x": b"x"}, [tar_member(NAME, size=size)])
    with pytest.raises(MapFormatError, match=rf"{archive_name} is truncated"):
        ArchiveSource(path)


@pytest.mark.parametrize("size", [-1, -511])
def test_small_negative_size(write_archive, tar_member, archive_name, size):
    """A negative size that leads to the next header affects one member only."""
    path = write_archive(archive_name, {"x": b"x"}, [tar_member(NAME, size=size)])
    source = ArchiveSource(path)
    with pytest.raises(MapFormatError, match=f"records {size} bytes"):
        source.read(entry_of(source, KEY))


def test_negative_size(write_archive, tar_member, archive_name):
    """A size that leads back to an earlier header is damage, not an endless loop."""
    path = write_archive(archive_name, {"x": b"x"}, [tar_member(NAME, size=-1024)])
    with pytest.raises(MapFormatError, match="records -1024 bytes"):
        ArchiveSource(path)


# Several archives in one file


def content_of(path):
    """Return the tar archive in a file, gzipped or not."""
    with (open if path.suffix == ".tar" else gzip.open)(path, "rb") as file:
        return file.read()


@pytest.fixture
def two_archives(write_archive, zeropoints):
    """Return two gzipped archives of one map each."""
    names = {"a.tar.gz": NAME, "b.tar.gz": OTHER_KEY.filename}
    return [
        write_archive(archive, {name: zeropoints(seed)})
        for seed, (archive, name) in enumerate(names.items())
    ]


@pytest.mark.parametrize("padding", [b"", bytes(512)])
def test_concatenated_archives(tmp_path, two_archives, zeropoints, npy, padding):
    """All maps of `cat a.tar.gz b.tar.gz` are read."""
    path = tmp_path / "both.tar.gz"
    path.write_bytes(padding.join(a.read_bytes() for a in two_archives))
    source = ArchiveSource(path)
    for seed, key in enumerate([KEY, OTHER_KEY]):
        assert source.read(entry_of(source, key)) == npy(zeropoints(seed))


def test_archives_in_one_stream(tmp_path, two_archives, archive_name):
    """Data after the end of an archive are refused: zeros may be lost members."""
    path = tmp_path / archive_name
    rewrite(path, b"".join(map(content_of, two_archives)))
    with pytest.raises(MapFormatError, match="found other data from byte"):
        ArchiveSource(path)


def test_concatenated_with_something_else(tmp_path, two_archives):
    """A gzip member after an archive that is not an archive is refused."""
    path = tmp_path / "both.tar.gz"
    path.write_bytes(two_archives[0].read_bytes() + gzip.compress(b"notes" * 300))
    with pytest.raises(MapFormatError, match=r"both\.tar\.gz is truncated or damaged"):
        ArchiveSource(path)


def test_truncated_concatenation(tmp_path, two_archives):
    """If the second of two concatenated archives is truncated, it is refused."""
    path = tmp_path / "both.tar.gz"
    content = b"".join(a.read_bytes() for a in two_archives)
    path.write_bytes(content[:-20])
    with pytest.raises(MapFormatError, match="is truncated"):
        ArchiveSource(path)


def test_lost_members(write_archive, zeropoints):
    """Members overwritten by zeros are detected by data after the end marker."""
    names = [f"zp_map_{n:04d}_R_single_APER5.npy" for n in range(20)]
    members = {name: zeropoints(n, (30, 30)) for n, name in enumerate(names)}
    path = write_archive("maps.tar", members)
    content = bytearray(path.read_bytes())
    size = 512 * 16  # a header, and 7328 bytes
    assert content[5 * size :].startswith(b"zp_map_0005")
    content[5 * size : 7 * size] = bytes(2 * size)
    path.write_bytes(content)
    with pytest.raises(MapFormatError, match="found other data from byte"):
        ArchiveSource(path)


@pytest.mark.parametrize("kept", [0, 512, 1024])
def test_end_of_archive(write_archive, zeropoints, archive_name, kept):
    """An archive ends with two blocks of zeros; with fewer it is truncated."""
    path = write_archive(archive_name, {NAME: zeropoints()})
    content = content_of(path).rstrip(b"\0")
    content += bytes(-len(content) % 512)
    rewrite(path, content + bytes(kept))
    if kept == 1024:
        assert ArchiveSource(path).find(KEY)
    else:
        with pytest.raises(MapFormatError, match="end of the file"):
            ArchiveSource(path)


# Names


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("X.tar.gz", "X.tar.gz"),
        ("X.tar", "X.tar"),
        ("X.tgz", "X.tgz"),
        ("X.TAR.GZ", "X.tar.gz"),
        ("x.Tgz", "x.tgz"),
        ("X.tar.gz?download=1", "X.tar.gz"),
        ("X.tar.gz?download=1&token=a/b\n", "X.tar.gz"),
        ("X.TGZ@download=1", "X.tgz"),
        ("X.tar.gz%3Fdownload=1", "X.tar.gz"),
        ("X.tar.gz_download=1", "X.tar.gz"),
        ("X (1).tar.gz", "X (1).tar.gz"),
        ("X.tar.gz.part", None),
        ("X.tar.gz.1", None),
        ("X.npy", None),
        ("tar.gz", None),
        (".tar.gz", None),
        ("X.tar.xz", None),
    ],
)
def test_names_of_archives(name, published):
    """Archives are recognised by suffix in any case, also before a query string."""
    assert _archive.archive_name(name) == published


def test_control_characters(write_archive, tar_member, archive_name):
    """Messages contain no control characters from the names of members."""
    folder = "\x1b[2J\n\r\u202e\udcff"
    link = tar_member(
        f"{folder}/{NAME}", type=tarfile.SYMTYPE, linkname=f"{folder}/x\x07"
    )
    source = ArchiveSource(write_archive(archive_name, more=[link]))
    entry = entry_of(source, KEY)
    with pytest.raises(MapFormatError, match=r"\\x1b\[2J\\n\\r.*\\x07") as caught:
        source.read(entry)
    assert str(caught.value).isprintable()
    assert entry.path.isprintable()


@pytest.mark.parametrize("size", [10 * 2**30, -512])
@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_header_that_claims_a_large_size(
    tmp_path, tar_member, archive_name, kind, size
):
    """A long name or an extended header of 10 GB is refused, not read."""
    header = tar_member("@LongLink", type=kind, size=size)
    path = tmp_path / archive_name
    rewrite(path, header.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    with pytest.raises(MapFormatError, match="a header in it records"):
        ArchiveSource(path)


def test_endless_chain_of_headers(tmp_path, tar_member):
    """A chain of long names raises an error, not a RecursionError."""
    link = tar_member("@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=1)
    path = tmp_path / "maps.tar"
    path.write_bytes((link.tobuf() + bytes(512)) * 20_000)
    with pytest.raises(MapFormatError, match=r"maps\.tar"):
        ArchiveSource(path)


@pytest.mark.parametrize("content", [b"", b"x", b"not a tar file" * 100, noise(10240)])
def test_not_an_archive(tmp_path, archive_name, content):
    """A file that is not an archive is refused, and the message names it."""
    path = tmp_path / archive_name
    rewrite(path, content)
    with pytest.raises(MapFormatError, match=archive_name):
        ArchiveSource(path)


def test_empty_file(tmp_path):
    """An empty file is refused."""
    path = tmp_path / "maps.tar.gz"
    path.touch()
    with pytest.raises(MapFormatError, match=r"maps\.tar\.gz"):
        ArchiveSource(path)


def test_truncated_tar(write_archive, zeropoints, archive_name):
    """An archive that is cut at any position is refused, also between members."""
    members = {f"zp_map_{n:04d}_R_single_APER5.npy": zeropoints(n) for n in range(3)}
    path = write_archive(archive_name, members)
    opened = open if path.suffix == ".tar" else gzip.open
    with opened(path, "rb") as file:
        content = file.read()
    # Each member has one block of header and one of array.
    for kept in (100, 512, 700, 1024, 1100, 1536, 2048, 2900, 3072, 3100):
        rewrite(path, content[:kept])
        with pytest.raises(MapFormatError, match=archive_name):
            ArchiveSource(path)


def test_gzip_truncated_after_the_tar(write_archive, zeropoints):
    """A .tar.gz without its last bytes is refused, although its maps are complete."""
    path = write_archive("maps.tar.gz", {NAME: zeropoints()})
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(MapFormatError, match=r"maps\.tar\.gz is truncated"):
        ArchiveSource(path)


def test_damaged_header(write_archive, zeropoints):
    """A damaged header among the members is not interpreted as the end."""
    members = {f"zp_map_{n:04d}_R_single_APER5.npy": zeropoints(n) for n in range(3)}
    path = write_archive("maps.tar", members)
    content = bytearray(path.read_bytes())
    content[1024 + 10] ^= 1
    path.write_bytes(content)
    with pytest.raises(MapFormatError, match="at byte 1024, found other data"):
        ArchiveSource(path)


def test_unreadable_file(write_archive, monkeypatch):
    """The message contains the error of the operating system and the path."""
    path = write_archive("maps.tar")

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_archive, "open", refuse, raising=False)
    with pytest.raises(KS4Error, match=r"maps\.tar: Permission denied"):
        ArchiveSource(path)


# The index


@pytest.fixture
def scans(monkeypatch):
    """Return the paths of the archives that were scanned."""
    scanned = []
    scan = _archive._scan

    def note(file, path):
        scanned.append(path)
        return scan(file, path)

    monkeypatch.setattr(_archive, "_scan", note)
    return scanned


def test_archive_is_scanned_once(write_archive, zeropoints, npy, scans, archive_name):
    """A second source for an archive uses the index of the first."""
    path = write_archive(archive_name, {NAME: zeropoints()})
    for _ in range(2):
        source = ArchiveSource(path)
        assert source.read(source.find(KEY)[0]) == npy(zeropoints())
        source.close()
    assert scans == [path]


def test_changed_archive_is_scanned_again(write_archive, zeropoints, npy, scans):
    """The index of an archive that was changed is not used."""
    path = write_archive("maps.tar.gz", {"other": b"x" * 1000})
    assert not ArchiveSource(path).find(KEY)
    write_archive("maps.tar.gz", {NAME: zeropoints()})
    source = ArchiveSource(path)
    assert source.read(source.find(KEY)[0]) == npy(zeropoints())
    assert len(scans) == 2


def test_number_of_indexes_is_bounded(write_archive, scans, monkeypatch):
    """The least recently used index is dropped."""
    monkeypatch.setattr(_archive, "_MOST_INDEXES", 2)
    first, second, third = (write_archive(f"{n}.tar") for n in range(3))
    for path in (first, second, first, third, first, second):
        ArchiveSource(path).close()
    assert scans == [first, second, third, second]
    assert len(_archive._indexes) == 2


def test_refused_archive_is_closed(write_archive, tar_member):
    """A refused archive is closed, and can be opened any number of times."""
    path = write_archive("maps.tar", more=[tar_member("x", size=10**6)])
    open_before = len(os.listdir("/dev/fd")) if os.path.isdir("/dev/fd") else None
    for _ in range(3):
        with pytest.raises(MapFormatError):
            ArchiveSource(path)
    if open_before is not None:
        assert len(os.listdir("/dev/fd")) == open_before


def test_threads_share_a_source(write_archive, zeropoints, npy, scans, monkeypatch):
    """Threads that open and read an archive concurrently get the right bytes."""
    monkeypatch.setattr(_gzip, "_OUTPUT_PIECE", 1000)
    names = [f"zp_map_{n:04d}_R_single_APER5.npy" for n in range(40)]
    members = {name: npy(zeropoints(n)) for n, name in enumerate(names)}
    path = write_archive("maps.tar.gz", members)
    shared = ArchiveSource(path)
    wrong = []

    def read(seed):
        own = ArchiveSource(path)
        for n in np.random.default_rng(seed).permutation(40):
            for source in (own, shared):
                [entry] = source.find(MapKey.from_filename(names[n]))
                if source.read(entry) != members[names[n]]:
                    wrong.append(names[n])

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(scans) == 1


@pytest.mark.parametrize("change", ["shrink", "overwrite"])
def test_archive_that_changes_while_open(write_archive, zeropoints, change):
    """An archive that was changed after it was opened is not read."""
    path = write_archive("maps.tar.gz", {NAME: zeropoints()})
    source = ArchiveSource(path)
    [entry] = source.find(KEY)
    if change == "shrink":
        os.truncate(path, 600)
    else:
        write_archive("maps.tar.gz", {NAME: zeropoints(seed=1)})
        os.utime(path, ns=(0, 0))
    with pytest.raises(MapFormatError, match=r"maps\.tar\.gz has changed"):
        source.read(entry)


def test_disk_that_fails(write_archive, zeropoints, monkeypatch):
    """The message contains the error of the system, the archive and the member."""
    source = ArchiveSource(write_archive("maps.tar", {NAME: zeropoints()}))

    def fail(*args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(_archive.os, "fstat", fail)
    with pytest.raises(KS4Error, match=rf"maps\.tar:{NAME}: Input/output error"):
        source.read(source.find(KEY)[0])


def test_closed_source(write_archive):
    """Closing a source closes its file; closing it again has no effect."""
    source = ArchiveSource(write_archive("maps.tar"))
    source.close()
    source.close()
    assert source._file.closed


def test_forgotten_source_is_closed(write_archive, recwarn):
    """A source that was not closed leaves no open file and no ResourceWarning."""
    ArchiveSource(write_archive("maps.tar"))
    gc.collect()
    assert not recwarn
