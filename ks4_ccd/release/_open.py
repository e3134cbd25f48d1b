# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Open the sources of a library at its paths."""

import os
from pathlib import Path

from ks4_ccd.exceptions import KS4Error, MapFormatError, MapNotFoundError
from ks4_ccd.release._archive import ArchiveSource, archive_name
from ks4_ccd.release._source import FolderSource, printable
from ks4_ccd.release._store_file import STORE_SUFFIX
from ks4_ccd.release._store_source import StoreSource

__all__ = ["as_paths", "open_sources"]


def as_paths(path):
    """Return one path, or a list of them, as a tuple of `~pathlib.Path`."""
    several = isinstance(path, (list, tuple, set, frozenset))
    try:
        paths = tuple(map(Path, path if several else [path]))
    except TypeError as error:
        msg = f"path must be a path or a list of paths, got {path!r}"
        raise KS4Error(msg) from error
    if not paths:
        msg = "path must name at least one folder, archive or store, got an empty list"
        raise KS4Error(msg)
    return paths


def open_sources(paths):
    """
    Open the sources at paths, one after the other.

    Parameters
    ----------
    paths : iterable of `~pathlib.Path`
        Folders, archives and stores.

    Yields
    ------
    source : `FolderSource`, `ArchiveSource` or `StoreSource`
        An archive or a store to which two paths lead is opened once.
    """
    archives_seen = set()
    for path in paths:
        if path.is_dir():
            files = _files_in(path)
            yield FolderSource(path, files)
            archives = [file for file in files if _is_archive(file)]
        else:
            _check_file(path)
            archives = [path]
        for archive in archives:
            real_path = os.path.realpath(archive)
            if real_path not in archives_seen:
                archives_seen.add(real_path)
                is_store = os.fspath(archive).endswith(STORE_SUFFIX)
                yield (StoreSource if is_store else ArchiveSource)(archive)


def _files_in(folder):
    def refuse(error):
        folder = printable(error.filename)
        msg = f"cannot read the folder {folder}: {error.strerror}"
        raise KS4Error(msg) from error

    return [
        os.path.join(parent, name)
        for parent, _, names in sorted(os.walk(folder, onerror=refuse))
        for name in sorted(names)
    ]


def _is_archive(file):
    name = os.path.basename(file)
    # `._name` is what macOS puts beside a file for itself.
    is_named_so = archive_name(name) is not None and not name.startswith(".")
    return is_named_so and os.path.isfile(file)


def _check_file(path):
    name = printable(path)
    if not os.path.lexists(path):
        msg = f"{name} does not exist: expected a folder, an archive or a store of maps"
        raise MapNotFoundError(msg)
    if path.suffix == ".npy":
        msg = f"{name} is a single array: give the folder that contains it"
        raise MapFormatError(msg)
    if not path.is_file():
        msg = f"{name} is neither a folder nor an archive nor a store of maps"
        raise MapFormatError(msg)
