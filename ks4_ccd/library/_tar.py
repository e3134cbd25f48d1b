# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
List the members of a tar archive, with the positions of their data.

Nothing is extracted, so that neither names nor links can point outside the archive:
a link is another name of the data of an earlier member. A member that cannot be read
does not make the others unreadable. An archive is refused as a whole only if its
structure is damaged.
"""

import posixpath
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias, cast

from ks4_ccd.exceptions import KS4Error, MapFormatError
from ks4_ccd.files.gzip import Checkpoints, GzipReader
from ks4_ccd.library._sources import MAX_ARRAY_BYTES, printable

__all__ = ["Reader", "TarMember", "open_reader", "read_member", "tar_members"]

Reader: TypeAlias = BinaryIO | GzipReader
"""The content of an archive, gzipped or not."""

_GZIP_MAGIC = b"\x1f\x8b"
_END_BYTES = 2 * tarfile.BLOCKSIZE
_PIECE = 2**16

# Long names and extended headers of one member: those of real archives have less
# than a kilobyte, those of a sparse file a few.
_MOST_HEADER_BYTES = 2**23

_VOLUME_LABEL = b"V"
_PROBLEMS = {
    tarfile.CHRTYPE: "it is a device",
    tarfile.BLKTYPE: "it is a device",
    tarfile.FIFOTYPE: "it is a named pipe",
    b"M": "it continues in another volume of the archive",
}


# `tar --listed-incremental` writes the access time in the field of the prefix of a long
# name in newer formats, and tarfile interprets it as a prefix.
_TIME_OF_ACCESS = re.compile(r"[0-7]{11}/(?=.)")


class TarMember(NamedTuple):
    """
    One file in an archive.

    Parameters
    ----------
    name : str
        Its name, printable.
    position : int
        The end of its header. It increases from member to member.
    size : int
        In bytes.
    pieces : tuple of tuple of int
        For each piece of its data: its position in the file, its position in the
        archive, and its length. There are several if the file is sparse.
    problem : str or `None`
        The reason why it cannot be read.
    """

    name: str
    position: int
    size: int = 0
    pieces: tuple[tuple[int, int, int], ...] = ()
    problem: str | None = None


def open_reader(file: BinaryIO, path: Path, checkpoints: Checkpoints) -> Reader:
    """Return a reader of the content of an archive, gzipped or not."""
    file.seek(0)
    is_gzip = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    file.seek(0)
    return GzipReader(file, printable(path), checkpoints) if is_gzip else file


def read_member(reader: Reader, member: TarMember, path: Path) -> bytes:
    """
    Return the bytes of a member.

    Raises
    ------
    MapFormatError
        If it cannot be read, or if the archive ends within it.
    """
    if member.problem is not None:
        msg = f"{printable(path)}:{member.name} cannot be read: {member.problem}"
        raise MapFormatError(msg)
    pieces = []
    for _, position, size in member.pieces:
        reader.seek(position)
        pieces.append(reader.read(size))
        if len(pieces[-1]) < size:
            msg = f"{printable(path)} is truncated: it ends within {member.name}"
            raise MapFormatError(msg)
    if len(pieces) == 1 and len(pieces[0]) == member.size:
        return pieces[0]
    content = bytearray(member.size)
    for (start, _, size), piece in zip(member.pieces, pieces, strict=True):
        content[start : start + size] = piece
    return bytes(content)


def tar_members(reader: Reader, path: Path) -> Iterator[TarMember]:
    """
    Yield the files in an archive, in their order.

    Folders and volume labels are left out. The reader may be moved between members.
    Archives that were gzipped each and then concatenated are read as one.

    Parameters
    ----------
    reader : binary file or `GzipReader`
    path : path-like
        The archive, for messages.

    Yields
    ------
    member : `TarMember`

    Raises
    ------
    MapFormatError
        If the archive is truncated, damaged or not a tar archive.
    """
    name = printable(path)
    earlier: dict[str, TarMember] = {}
    start: int | None = 0
    while start is not None:
        headers = _Headers(reader, start, name)
        for info in headers:
            member = _member_of(info, headers.end, earlier)
            if member is not None:
                yield member
        start = _next_start(reader, headers.end, name)


class _Headers:
    """Iterate over tar headers from a position; ``end`` is that after the last one."""

    def __init__(self, reader: Reader, start: int, path: str) -> None:
        self.end = start
        self._reader = _BoundedReads(reader, path)
        self._path = path

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        try:
            self._reader.seek(self.end)
            # Reading calls three methods of a file only.
            file = cast("BinaryIO", self._reader)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                while (info := archive.next()) is not None:
                    # The archive would keep all of them. (Typeshed omits `members`.)
                    archive.members.clear()  # type: ignore[attr-defined]
                    if not self.end < info.offset_data <= archive.offset:
                        msg = f"{self._path} is damaged: a header in it records "
                        msg += f"{info.size} bytes"
                        raise MapFormatError(msg)
                    self.end = archive.offset
                    yield info
                    self._reader.renew()
                self.end = archive.offset
        except (KS4Error, OSError):
            raise
        except Exception as error:
            # On damaged bytes tarfile raises more than it documents: ValueError,
            # OverflowError, RecursionError and others.
            reason = printable(error)
            msg = f"{self._path} is truncated, damaged or not a tar archive: {reason}"
            raise MapFormatError(msg) from error


class _BoundedReads:
    """
    A reader for tarfile that limits the size of the headers of one member.

    tarfile reads long names and extended headers with the length that is recorded in
    them.
    """

    def __init__(self, reader: Reader, path: str) -> None:
        self._reader = reader
        self._path = path
        self.renew()

    def renew(self) -> None:
        """Begin with the headers of another member."""
        self._left = _MOST_HEADER_BYTES

    def tell(self) -> int:
        return self._reader.tell()

    def seek(self, position: int) -> int:
        return self._reader.seek(position)

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._left:
            msg = f"{self._path} is damaged: a header in it records {size} bytes"
            raise MapFormatError(msg)
        self._left -= size
        return self._reader.read(size)


def _member_of(info: Any, end: int, earlier: dict[str, TarMember]) -> TarMember | None:
    """Return a member, `None` if it is not a file, and add it to the earlier ones."""
    name = _without_time(info.name)
    member = TarMember(printable(name), info.offset_data)
    if info.isdir() or info.type == _VOLUME_LABEL:
        return None
    if info.isreg():
        member = _with_data(member, info, end)
    elif info.islnk() or info.issym():
        member = _with_data_of_target(member, name, info, earlier)
    else:
        unknown = f"its type {info.type!r} is unknown"
        member = member._replace(problem=_PROBLEMS.get(info.type, unknown))
    earlier[_normal(name)] = member
    return member


def _without_time(name: str) -> str:
    match = _TIME_OF_ACCESS.match(name)
    return name[match.end() :] if match else name


def _with_data(member: TarMember, info: Any, end: int) -> TarMember:
    size, problem = info.size, None
    if info.sparse is None:
        pieces = [(0, info.offset_data, size)]
    else:
        pieces, position = [], info.offset_data
        for start, length in info.sparse:
            if not 0 <= start <= start + length <= size:
                problem = "the list of its sparse pieces is damaged"
            pieces.append((start, position, length))
            position += length
        if position > end:
            problem = "the list of its sparse pieces is damaged"
    if not 0 <= size <= MAX_ARRAY_BYTES:
        problem = f"its header records {size} bytes, at most {MAX_ARRAY_BYTES} expected"
    return member._replace(size=size, pieces=tuple(pieces), problem=problem)


def _with_data_of_target(
    member: TarMember, name: str, info: tarfile.TarInfo, earlier: dict[str, TarMember]
) -> TarMember:
    target, kind = info.linkname, "hard"
    if info.issym():
        target, kind = posixpath.join(posixpath.dirname(name), target), "symbolic"
    found = earlier.get(_normal(target))
    if found is None:
        problem = (
            f"it is a {kind} link to {printable(info.linkname)}, which is not an "
            "earlier file of the archive"
        )
        return member._replace(problem=problem)
    return found._replace(name=member.name, position=member.position)


def _normal(name: str) -> str:
    return posixpath.normpath("/" + name)


def _next_start(reader: Reader, end: int, path: str) -> int | None:
    """Return the start of the next concatenated archive, `None` after the last."""
    reader.seek(end)
    position, rest = end, b""
    while not rest and (piece := reader.read(_PIECE)):
        rest = piece.lstrip(b"\0")
        position += len(piece) - len(rest)
    zeros = position - end
    if zeros < _END_BYTES:
        found = "other data" if rest else "the end of the file"
        found = f"{zeros} zero bytes and then {found}" if zeros else found
        msg = (
            f"{path} is truncated or damaged: expected a tar header, or {_END_BYTES} "
            f"zero bytes that mark the end, at byte {end}, found {found}"
        )
        raise MapFormatError(msg)
    if not rest:
        return None
    # In one stream, zeros before other data may as well be lost members.
    starts = getattr(reader, "member_starts", ())
    starts = [start for start in starts if end + _END_BYTES <= start <= position]
    if not starts:
        msg = (
            f"{path}: expected the end of the archive, found other data from byte "
            f"{position} on: it is damaged, or contains several archives. Separate "
            "them, or concatenate them with `tar -A` or, each gzipped, with `cat`"
        )
        raise MapFormatError(msg)
    return starts[-1]
