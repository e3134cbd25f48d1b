# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Checksums over the index of a store: no part of a map is lost unnoticed.

A wrong byte in a key, or in a pointer between the pages of the file, makes rows
disappear, and a map would appear without its error or its count. Checksums
therefore form a tree. Each level records which entries the next one has::

    root      the checksums of `archives`, `problems` and of each field's record
    fields    for each map of a field, the number and the checksum of its rows
    maps      for each array, the checksum of its names and bytes

A lookup follows one path through the tree, and the absence of a map is recorded
as well as its presence. The checksum of several rows is the sum of their CRC-32,
so that a writer adds a row without reading the others, and cannot record damage
as if it were right.
"""

import json
import zlib
from collections import defaultdict

from ks4_ccd.exceptions import StoreError

__all__ = [
    "EMPTY_ROOT",
    "ROOT",
    "IndexWriter",
    "check_map",
    "find_damage",
    "find_damage_beside_maps",
    "parse_root",
]

ROOT = "SELECT version, content FROM root"

_NONE = (0, 0)
_MODULUS = 2**32
_ROOT_KEYS = {"version", "archives", "problems", "fields"}


def parse_root(rows, path):
    """
    Return the content of the root.

    Parameters
    ----------
    rows : list of tuple
        All rows of the table ``root``: one, with its version and its content.
    path : path-like
        The store, for messages.

    Returns
    -------
    root : dict
        Its ``version``, which changes with every transaction, and the
        checksums ``archives``, ``problems`` and, by field, ``fields``.

    Raises
    ------
    StoreError
        If the root is missing or damaged.
    """
    if len(rows) == 1 and isinstance(rows[0][1], bytes):
        version, content = rows[0]
        checksum, _, text = content.partition(b" ")
        root = _mapping_in(text) if checksum == _hex(text) else {}
        is_root = root.keys() == _ROOT_KEYS and isinstance(root["fields"], dict)
        if is_root and root["version"] == version:
            return root
    raise StoreError(_damage("the list of its fields", path))


def _mapping_in(text):
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    return content if isinstance(content, dict) else {}


def _packed(root):
    text = json.dumps(root, separators=(",", ":")).encode()
    return _hex(text) + b" " + text


def _hex(content):
    return b"%08x" % zlib.crc32(content)


EMPTY_ROOT = _packed(
    {"version": 0, "archives": zlib.crc32(b"[]"), "problems": _NONE, "fields": {}}
)


def check_map(root, where, record, rows, path):
    """
    Raise `StoreError` unless the rows of a map are those that were written.

    Parameters
    ----------
    root : dict
    where : tuple of str
        Field, band, mode and aperture of the map.
    record : bytes or `None`
        The record of the field; `None` if there is none.
    rows : list of tuple
        All rows of the table ``maps`` for that map.
    path : path-like
    """
    _check_record(root, where[0], record, path)
    # The record is searched, not parsed: a library does this for every map.
    record = record or b""
    name = _name_of(where)
    if rows:
        is_right = _line(name, _sum_of(rows)) in record
    else:
        is_right = b"\n" + name + b" " not in record
    if not is_right:
        raise StoreError(_damage(f"the list of the arrays of {' '.join(where)}", path))


def _check_record(root, field, record, path):
    expected = root["fields"].get(field)
    if (expected, record) != (None, None) and (
        not isinstance(record, bytes) or _checksum_of_record(field, record) != expected
    ):
        raise StoreError(_damage(f"the list of the maps of field {field!a}", path))


# A record has a line for each map, such as "R single APER5 3 2774302139": its name,
# the number of its rows and their checksum.


def _name_of(where):
    return " ".join(map(str, where[1:4])).encode("ascii", "backslashreplace")


def _line(name, total):
    return b"\n%s %d %d\n" % (name, *total)


def _record_of(maps):
    return b"".join(_line(name, maps[name]) for name in sorted(maps))


def _maps_in(record):
    lines = [line.rsplit(b" ", 2) for line in (record or b"").split(b"\n") if line]
    return {name: (int(number), int(total)) for name, number, total in lines}


def _checksum_of_record(field, record):
    return zlib.crc32(record, zlib.crc32(ascii(field).encode()))


def _sum_of(rows):
    return len(rows), sum(map(_checksum_of_row, rows)) % _MODULUS


def _checksum_of_row(row):
    # `ascii` tells numbers, text and bytes apart, the same in every version of Python.
    return zlib.crc32(ascii(tuple(row)).encode())


def find_damage(select, path):
    """
    Compare all rows of the table ``maps`` with their checksums.

    Parameters
    ----------
    select : callable
        Returns all rows of a query, in one transaction.
    path : path-like

    Returns
    -------
    rows : list of tuple
        All rows of the table ``maps``.
    messages : list of str
        A message for each field that is damaged.

    Raises
    ------
    StoreError
        If the root is damaged.
    """
    rows = select("SELECT * FROM maps")
    root = parse_root(select(ROOT), path)
    stored, found = defaultdict(list), defaultdict(lambda: defaultdict(list))
    for field, record in select("SELECT field, maps FROM fields"):
        stored[field].append(record)
    for row in rows:
        found[row[0]][_name_of(row)].append(row)
    messages = []
    for field in dict.fromkeys([*root["fields"], *stored, *found]):
        maps = {name: _sum_of(of_map) for name, of_map in found[field].items()}
        expected = root["fields"].get(field)
        record = _record_of(maps)
        is_right = stored[field] == [record] and maps
        if not is_right or _checksum_of_record(field, record) != expected:
            what = f"the list of the maps of field {field!a}"
            messages.append(_damage(what, path))
    return rows, messages


def find_damage_beside_maps(select, path):
    """
    Compare the tables ``archives`` and ``problems`` with their checksums.

    Parameters
    ----------
    select, path
        As for `find_damage`.

    Returns
    -------
    messages : list of str
        A message for each of them that is damaged.
    """
    root = parse_root(select(ROOT), path)
    found = {"archives": _archives(select), "problems": _problems(select)}
    return [
        _damage(f"the list of {name}", path)
        for name, checksum in found.items()
        if root[name] != checksum
    ]


def _archives(select):
    rows = [*select("SELECT * FROM archives ORDER BY id")]
    return zlib.crc32(ascii(rows).encode())


def _problems(select):
    return list(_sum_of([*select("SELECT archive, member, problem FROM problems")]))


def _damage(what, path):
    return (
        f"{path} is damaged: {what} does not agree with its checksum. "
        "`ks4-ccd verify` lists all damage. Use an intact copy, or ingest the archives "
        "into a new store"
    )


class IndexWriter:
    """
    The checksums of a store during one transaction that changes it.

    Parameters
    ----------
    execute : callable
        Executes a statement in that transaction.
    path : path-like

    Raises
    ------
    StoreError
        If the store is damaged where it is to be changed. Damage elsewhere
        keeps its wrong checksum.
    """

    def __init__(self, execute, path):
        self._execute, self._path = execute, path
        self._root = parse_root([*execute(ROOT)], path)
        self._before = _packed(self._root)
        if self._root["archives"] != _archives(execute):
            raise StoreError(_damage("the list of archives", path))
        self._fields = {}

    def check_problems(self):
        """Raise `StoreError` if rows of the table ``problems`` are wrong or missing."""
        if self._root["problems"] != _problems(self._execute):
            raise StoreError(_damage("the list of problems", self._path))

    def add_problems(self, rows):
        """Record rows of the table ``problems`` that were inserted."""
        self._root["problems"] = _changed(self._root["problems"], rows, 1)

    def remove_problems(self, rows):
        """Record rows of the table ``problems`` that were deleted."""
        self._root["problems"] = _changed(self._root["problems"], rows, -1)

    def add(self, row):
        """Record a row of the table ``maps`` that was inserted."""
        maps, name = self._maps_of(row[0]), _name_of(row)
        maps[name] = _changed(maps.get(name, _NONE), [row], 1)

    def remove(self, row):
        """Record a row of the table ``maps`` that was deleted."""
        maps, name = self._maps_of(row[0]), _name_of(row)
        maps[name] = _changed(maps.get(name, _NONE), [row], -1)
        if not maps[name][0]:
            del maps[name]

    def _maps_of(self, field):
        if field not in self._fields:
            found = self._execute("SELECT maps FROM fields WHERE field = ?", (field,))
            (record,) = found.fetchone() or (None,)
            _check_record(self._root, field, record, self._path)
            self._fields[field] = _maps_in(record)
        return self._fields[field]

    def write(self):
        """Write the records that have changed."""
        for field, maps in self._fields.items():
            if maps:
                record = _record_of(maps)
                self._execute("REPLACE INTO fields VALUES (?, ?)", (field, record))
                self._root["fields"][field] = _checksum_of_record(field, record)
            else:
                self._execute("DELETE FROM fields WHERE field = ?", (field,))
                self._root["fields"].pop(field, None)
        self._root["archives"] = _archives(self._execute)
        if _packed(self._root) == self._before:
            return
        self._root["version"] += 1
        row = self._root["version"], _packed(self._root)
        self._execute("UPDATE root SET version = ?, content = ?", row)


def _changed(total, rows, sign):
    number, checksum = _sum_of(rows)
    return [total[0] + sign * number, (total[1] + sign * checksum) % _MODULUS]
