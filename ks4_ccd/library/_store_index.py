# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The index of a store, with checksums by which every lost map is detected.

Because of a wrong byte in a key, or in a pointer between pages of the file, rows
disappear, and a map would be read without its error or its count. Arrays are therefore
found from the root, and each level contains the checksums of the next one::

    root      the checksum of each record, by the name of the record
    records   one for each field, with a line for each array: its names and checksum;
              and one, with an empty name, for the archives that were read
    arrays    .npy files, compressed

The absence of a map is recorded as well as its presence.
"""

import json
import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, TypeVar

from ks4_ccd.exceptions import KS4Error, StoreError
from ks4_ccd.library._archive import Identity
from ks4_ccd.library._sources import MAX_ARRAY_BYTES
from ks4_ccd.maps.key import MapKey

__all__ = [
    "ALL_RECORDS",
    "ARCHIVES",
    "ARRAY",
    "EMPTY_ROOT",
    "RECORD",
    "ArchiveRow",
    "ArrayRow",
    "Root",
    "archives_in",
    "arrays_in",
    "deflate",
    "find_array",
    "inflate",
    "name_of",
    "record_of",
    "record_with",
    "records_and_damage",
]

# One statement reads one state of a store, even if an ingest commits meanwhile.
RECORD = "SELECT root.content, records.content FROM root LEFT JOIN records ON name = ?"
ALL_RECORDS = (
    "SELECT NULL, content FROM root UNION ALL SELECT name, content FROM records"
)
ARRAY = "SELECT npy FROM arrays WHERE id = ?"

# The name of the record of the archives: no field has an empty name.
ARCHIVES = ""

# For arrays like those of DR1, the size at level 2 is within 4 % of that at gzip's
# default level 6, in less than half the time.
_LEVEL = 2
# Deflate without zlib's own checksum, which is weaker than CRC-32.
_RAW = -15

_Row = TypeVar("_Row", "ArrayRow", "ArchiveRow")


class ArrayRow(NamedTuple):
    """A line in the record of a field: one array."""

    band: str
    mode: str
    aperture: str
    family: str
    tile: str
    archive: int
    member: str
    crc32: int
    array: int

    def key(self, place: str, path: object) -> MapKey:
        """Return the key of the array, or raise `StoreError` naming the store."""
        field, detector = MapKey.split_place(place)
        names = self.family, field, self.band, self.mode
        parts = self.aperture or None, self.tile or None, detector
        try:
            return MapKey(*names, *parts)
        except KS4Error as error:
            msg = f"{path} is damaged: an array in it has no valid key: {error}"
            raise StoreError(msg) from error


class ArchiveRow(NamedTuple):
    """
    A line in the record of the archives.

    ``reached`` is the position of the last member that was read, ``state`` is
    "partial", "whole" or "broken", and ``problems`` are pairs of a member and its
    problem.
    """

    identity: Identity
    reached: int
    state: str
    problems: list[tuple[str, str]]

    @property
    def is_done(self) -> bool:
        """Whether the archive was read to its end without problems."""
        return self.state == "whole" and not self.problems

    def is_earlier_state(self, identity: Identity) -> bool:
        """Return whether this is a truncated or damaged copy of the same archive."""
        mine = self.identity.name, self.identity.head
        return mine == (identity.name, identity.head) and not self.is_done


_TYPES: dict[type, list[type]] = {
    ArrayRow: [str, str, str, str, str, int, str, int, int],
    ArchiveRow: [list, int, str, list],
}


class Root:
    """
    The checksums of all records of a store, by their names.

    Parameters
    ----------
    content : object
        The content of the root, as read from the store.
    path : path-like
        The store, for messages.

    Raises
    ------
    StoreError
        If the root is damaged.
    """

    def __init__(self, content: object, path: object) -> None:
        checksums = _checksums_in(content) if isinstance(content, bytes) else None
        if checksums is None:
            raise _damage(_LIST_OF_FIELDS, path)
        self.checksums = dict(checksums)
        self._path = path

    def check(self, name: str, record: object) -> bytes:
        """Verify the checksum of a record and return it, empty if it does not exist."""
        expected = self.checksums.get(name)
        if record is None and expected is None:
            return b""
        if not isinstance(record, bytes) or _checksum(name, record) != expected:
            raise _damage(_described(name), self._path)
        return record

    def replace(self, name: str, record: bytes) -> None:
        """Update the checksum of a record, or remove it if the record is empty."""
        if record:
            self.checksums[name] = _checksum(name, record)
        else:
            self.checksums.pop(name, None)

    def content(self) -> bytes:
        """Return the content to write into the store."""
        text = json.dumps(self.checksums, separators=(",", ":")).encode()
        return b"%08x %s" % (zlib.crc32(text), text)


# A library reads the root for every array, and it rarely changes.
@lru_cache(maxsize=8)
def _checksums_in(content: bytes) -> dict[str, int] | None:
    checksum, _, text = content.partition(b" ")
    try:
        checksums = json.loads(text)
    except (ValueError, RecursionError):
        return None
    is_root = checksum == b"%08x" % zlib.crc32(text) and isinstance(checksums, dict)
    return checksums if is_root else None


def _checksum(name: str, record: bytes) -> int:
    return zlib.crc32(record, zlib.crc32(ascii(name).encode()))


_LIST_OF_FIELDS = "the list of its fields"


def _described(name: str) -> str:
    if name == ARCHIVES:
        return "the list of archives"
    return f"the list of the maps of field {name!a}"


def _damage(part: str, path: object) -> StoreError:
    return StoreError(
        f"{path} is damaged: {part} does not match its checksum. "
        "`ks4-ccd verify` lists all damage. Use an intact copy, or ingest the archives "
        "into a new store"
    )


EMPTY_ROOT = b"%08x {}" % zlib.crc32(b"{}")


def record_of(rows: list[tuple], name: str, path: object) -> bytes:
    """
    Return a checked record.

    Parameters
    ----------
    rows : list of tuple
        The result of `RECORD` for that name: the root and the record, `None` if it does
        not exist.
    name : str
    path : path-like
        The store, for messages.

    Returns
    -------
    record : bytes
        Empty if it does not exist.

    Raises
    ------
    StoreError
        If the root or the record is damaged.
    """
    content, record = rows[0] if len(rows) == 1 else (None, None)
    return Root(content, path).check(name, record)


def records_and_damage(
    rows: list[tuple], path: object
) -> tuple[dict[str, bytes], list[str]]:
    """
    Compare all records with their checksums.

    Parameters
    ----------
    rows : list of tuple
        The result of `ALL_RECORDS`.
    path : path-like
        The store, for messages.

    Returns
    -------
    records : dict
        The intact records by their names.
    messages : list of str
        A message for each record that is damaged.

    Raises
    ------
    StoreError
        If the root is damaged.
    """
    roots = [content for name, content in rows if name is None]
    root = Root(roots[0] if len(roots) == 1 else None, path)
    found = {name: content for name, content in rows if name is not None}
    records, messages = {}, []
    for name in dict.fromkeys([*root.checksums, *found]):
        try:
            records[name] = root.check(name, found.get(name))
        except StoreError as error:
            messages.append(str(error))
    return records, messages


def name_of(key: MapKey) -> tuple[str, str, str, str]:
    """Return the parts of a key that identify its array in the record of its field."""
    return key.band, key.mode, key.aperture or "", key.family


def find_array(record: bytes, key: MapKey, path: object) -> ArrayRow | None:
    """Return the line of an array in the record of its field."""
    # The record is searched, not parsed: this is done for every array of a library.
    start = record.find(b"\n" + _line(name_of(key))[:-1] + b",")
    if start < 0:
        return None
    end = record.find(b"\n", start + 1)
    line = record[start:] if end < 0 else record[start:end]
    return _rows_in(line, ArrayRow, key.place, path)[0]


def arrays_in(
    record: bytes, field: str, path: object
) -> dict[tuple[str, str, str, str], ArrayRow]:
    """Return all lines of the record of a field, by their names."""
    return {row[:4]: row for row in _rows_in(record, ArrayRow, field, path)}


def archives_in(record: bytes, path: object) -> list[ArchiveRow]:
    """Return all lines of the record of the archives."""
    rows = _rows_in(record, ArchiveRow, ARCHIVES, path)
    return [row._replace(identity=Identity(*row.identity)) for row in rows]


def record_with(rows: Iterable[tuple]) -> bytes:
    """Return the record with these lines."""
    return b"".join(b"\n" + _line(row) for row in rows)


def _line(row: tuple) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode()


def _rows_in(
    record: bytes, row_class: type[_Row], name: str, path: object
) -> list[_Row]:
    try:
        rows: list[list] = [json.loads(line) for line in record.split(b"\n")[1:]]
        if all([type(value) for value in row] == _TYPES[row_class] for row in rows):
            return [row_class(*values) for values in rows]
        error = None
    except (ValueError, TypeError, RecursionError) as caught:
        error = caught
    raise _damage(_described(name), path) from error


def deflate(data: bytes) -> bytes:
    """Return the compressed bytes of an array's file."""
    return zlib.compress(data, _LEVEL, _RAW)


def inflate(npy: object, row: ArrayRow, key: MapKey, path: object) -> bytes:
    """
    Return the bytes of an array's file.

    Parameters
    ----------
    npy : bytes
        As read from the store.
    row : `ArrayRow`
        The line of the array.
    key : `MapKey`
        The key of the array, for messages.
    path : path-like
        The store, for messages.

    Raises
    ------
    StoreError
        If the array does not match its checksum.
    """
    reason = "its checksum is wrong"
    try:
        if isinstance(npy, bytes):
            data = zlib.decompressobj(_RAW).decompress(npy, MAX_ARRAY_BYTES)
            if zlib.crc32(data) == row.crc32:
                return data
    except zlib.error as error:
        reason = str(error)
    msg = (
        f"{path} is damaged: {key.filename} differs from the map written ({reason}). "
        "`ks4-ccd verify` lists all damage. Use an intact copy, or ingest the "
        "archives into a new store"
    )
    raise StoreError(msg)
