# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The interface of a source of arrays, and the folder as a source.

A source has four methods: ``keys()`` returns the `MapKey` of every array,
``find(*keys)`` the entries of some arrays of one map, ``read(entry)`` the bytes of
an entry's .npy file, and ``close()`` closes its files.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ks4_ccd.exceptions import KS4Error, MapFormatError
from ks4_ccd.ks4.names import key_of_file
from ks4_ccd.maps.key import MapKey

__all__ = [
    "MAX_ARRAY_BYTES",
    "Entry",
    "FolderSource",
    "Source",
    "map_key",
    "printable",
]

# The largest maps in the code of DR1 have 220 x 220 cells, 0.4 MB.
MAX_ARRAY_BYTES = 64 * 2**20


class Entry(NamedTuple):
    """
    One array in a source.

    ``path`` names it in messages, ``location`` is for its source.
    """

    key: MapKey
    path: str
    location: Any


def printable(name: object) -> str:
    """Return a name or text with its control characters escaped, for messages."""
    text = str(name)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def map_key(filename: str) -> MapKey | None:
    """Return the key of a file by its base name, `None` if it is not a map."""
    # Most names in a folder are not maps; most in an archive are.
    if not filename.endswith(".npy"):
        return None
    try:
        return key_of_file(filename)
    except KS4Error:
        return None


class Source(Protocol):
    """A folder, an archive or a store of arrays."""

    def keys(self) -> Iterable[MapKey]: ...
    def find(self, *keys: MapKey) -> list[Entry]: ...
    def read(self, entry: Entry) -> bytes: ...
    def close(self) -> None: ...


class FolderSource:
    """
    The .npy files of maps in a folder, at any depth.

    Parameters
    ----------
    path : path-like
        The folder.
    files : iterable of path-like
        All files in it.
    """

    def __init__(
        self, path: str | os.PathLike[str], files: Iterable[str | os.PathLike[str]]
    ) -> None:
        self.path = Path(path)
        self._entries: dict[MapKey, list[Entry]] = {}
        for file in files:
            key = map_key(os.path.basename(file))
            # Reading a named pipe would block.
            if key is not None and os.path.isfile(file):
                entry = Entry(key, printable(file), file)
                self._entries.setdefault(key, []).append(entry)

    def keys(self) -> Iterable[MapKey]:
        """Return the keys of all arrays."""
        return self._entries.keys()

    def find(self, *keys: MapKey) -> list[Entry]:
        """Return the entries of the arrays of one map: none, one or more of each."""
        return [entry for key in keys for entry in self._entries.get(key, ())]

    def read(self, entry: Entry) -> bytes:
        """Return the bytes of an array's file."""
        try:
            with open(entry.location, "rb") as file:
                data = file.read(MAX_ARRAY_BYTES + 1)
        except OSError as error:
            msg = f"cannot read {entry.path}: {error.strerror or error}"
            raise KS4Error(msg) from error
        if len(data) > MAX_ARRAY_BYTES:
            msg = (
                f"{entry.path}: expected at most {MAX_ARRAY_BYTES} bytes, found more: "
                "it is not a map"
            )
            raise MapFormatError(msg)
        return data

    def close(self) -> None:
        """Do nothing: files are closed after each read."""
