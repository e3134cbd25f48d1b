# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Files written whole or not at all."""

import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from ks4_ccd.exceptions import FileWriteError, KS4Error

__all__ = [
    "as_folder",
    "as_path",
    "check_regular",
    "check_suffix",
    "make_folder",
    "partial_stem",
    "written_whole",
]


def as_path(name, path):
    """Return ``path`` as a `~pathlib.Path`, or raise `KS4Error`."""
    try:
        text = os.fspath(path)
        if text and "\0" not in text:
            return Path(path)
    except TypeError:
        pass
    msg = f"{name} must be the name of a file, got {path!r}"
    raise KS4Error(msg)


def check_regular(path):
    """
    Raise `KS4Error` if there is a folder, a device or the like at a path.

    Raises
    ------
    OSError
        If there is nothing at all.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        msg = f"{path}: expected a regular file, found a {_kind_of(mode)}"
        raise KS4Error(msg)


def check_suffix(target):
    """
    Refuse a file name whose suffix is not one of uncompressed FITS.

    Raises
    ------
    KS4Error
        If the name of the `~pathlib.Path` does not end in .fits, .fit or .fts.
    """
    if target.suffix.lower() not in (".fits", ".fit", ".fts"):
        msg = f"target must end in .fits (it is written uncompressed), got {target}"
        raise KS4Error(msg)


def make_folder(folder):
    """Make a folder unless it exists; raise `KS4Error` if that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        msg = f"expected a folder, found a file: {folder}"
        raise KS4Error(msg) from error
    except OSError as error:
        msg = f"cannot make the folder {folder}: {error.strerror}"
        raise KS4Error(msg) from error


def partial_stem(name):
    """Return the beginning of the names of partial files for a file name."""
    # File systems limit names to 255 bytes; the rest of the name takes 19.
    return os.fsencode(name)[:200].decode(errors="ignore")


@contextmanager
def written_whole(path, overwrite):
    """
    Yield a path to write to; the file appears at ``path`` when it is complete.

    Parameters
    ----------
    path : `~pathlib.Path`
    overwrite : bool
        Whether a regular file at ``path`` may be replaced. Without it, a file
        that appears there in the meantime is kept as well.

    Raises
    ------
    FileWriteError
        If ``path`` exists, is not a regular file, or cannot be written.
    """
    if os.path.lexists(path) and not overwrite:
        raise _already_exists(path)
    # A link stays a link: the file that it points to is replaced.
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".{partial_stem(target.name)}.{uuid4().hex[:12]}.part")
    try:
        _refuse_special(path, target)
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        if overwrite:
            _refuse_special(path, target)
            os.replace(partial, target)
        elif not _moved_to_free_name(partial, target):
            # It appeared in the meantime.
            raise _already_exists(path)
    except KS4Error:
        raise
    except OSError as error:
        reason = error.strerror or error
        msg = f"cannot write {path}: {reason}"
        raise FileWriteError(msg) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _already_exists(path):
    msg = f"{path} already exists; use overwrite=True (--overwrite) to replace it"
    return FileWriteError(msg)


def _refuse_special(path, target):
    """Raise if a file to replace is a folder, a device or the like."""
    with suppress(FileNotFoundError):
        mode = target.stat().st_mode
        if not stat.S_ISREG(mode):
            msg = (
                f"cannot write {path}: expected a regular file to replace, found a "
                f"{_kind_of(mode)}; give another name"
            )
            raise FileWriteError(msg)


def _moved_to_free_name(partial, target):
    """Give a file another name, unless that is taken; return whether it was free."""
    try:
        # Unlike a renaming, a hard link never replaces a file.
        os.link(partial, target)
    except FileExistsError:
        return False
    except OSError:
        # The file system has no hard links: create the name, then replace that.
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        os.replace(partial, target)
    return True


def _kind_of(mode):
    """Return what a file is, for messages, from the ``st_mode`` of its status."""
    for kind, matches in (
        ("folder", stat.S_ISDIR),
        ("named pipe", stat.S_ISFIFO),
        ("socket", stat.S_ISSOCK),
        ("device", lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode)),
    ):
        if matches(mode):
            return kind
    return "special file"


_FILE_SUFFIXES = (".fits", ".fit", ".fts", ".fz", ".gz", ".bz2", ".xz", ".npy", ".npz")


def as_folder(path):
    """Return the `~pathlib.Path` of a folder to write to, else raise `KS4Error`."""
    try:
        folder = Path(path)
    except TypeError as error:
        msg = f"path must be a folder, got {path!r}"
        raise KS4Error(msg) from error
    if folder.suffix.lower() in _FILE_SUFFIXES and not folder.is_dir():
        msg = f"expected the name of a folder for several files, found that of {folder}"
        raise KS4Error(msg)
    return folder
