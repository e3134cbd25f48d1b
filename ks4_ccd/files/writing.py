# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Write files completely or not at all, and check file names."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from ks4_ccd.exceptions import FileWriteError, KS4Error, OptionError

__all__ = [
    "as_folder",
    "as_path",
    "check_regular",
    "check_suffix",
    "make_folder",
    "partial_stem",
    "written_whole",
]


def as_path(name: str, path: object) -> Path:
    """Return ``path`` as a `~pathlib.Path`, or raise `KS4Error`."""
    try:
        text = os.fspath(path)  # type: ignore[call-overload] # TypeError is caught
        if text and "\0" not in text:
            return Path(text)
    except TypeError:
        pass
    msg = f"{name} must be the name of a file, got {path!r}"
    raise OptionError(msg)


def check_regular(path: Path) -> None:
    """
    Raise `KS4Error` if a path is a folder, a device or another special file.

    Raises
    ------
    OSError
        If the file does not exist.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        msg = f"{path}: expected a regular file, found a {_kind_of(mode)}"
        raise KS4Error(msg)


def check_suffix(target: Path) -> None:
    """
    Refuse a file name without a suffix of uncompressed FITS.

    Raises
    ------
    KS4Error
        If the name of the `~pathlib.Path` does not end in .fits, .fit or .fts.
    """
    if target.suffix.lower() not in (".fits", ".fit", ".fts"):
        msg = f"target must end in .fits (it is written uncompressed), got {target}"
        raise OptionError(msg)


def make_folder(folder: Path) -> None:
    """Make a folder unless it exists; raise `KS4Error` if that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        msg = f"expected a folder, found a file: {folder}"
        raise KS4Error(msg) from error
    except OSError as error:
        msg = f"cannot make the folder {folder}: {error.strerror}"
        raise KS4Error(msg) from error


def partial_stem(name: str) -> str:
    """Return the part of a file name that the names of its partial files contain."""
    # File systems limit names to 255 bytes; the rest of the name takes 19.
    return os.fsencode(name)[:200].decode(errors="ignore")


@contextmanager
def written_whole(path: Path, overwrite: bool) -> Iterator[Path]:
    """
    Yield a path to write to; the file appears at ``path`` when it is complete.

    Parameters
    ----------
    path : `~pathlib.Path`
    overwrite : bool
        Whether a regular file at ``path`` may be replaced. Otherwise a file that
        appears there in the meantime is kept, too.

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
            # The file appeared in the meantime.
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


def _already_exists(path: Path) -> FileWriteError:
    msg = f"{path} already exists; use overwrite=True (--overwrite) to replace it"
    return FileWriteError(msg)


def _refuse_special(path: Path, target: Path) -> None:
    """Raise if a file to replace is a folder, a device or another special file."""
    with suppress(FileNotFoundError):
        mode = target.stat().st_mode
        if not stat.S_ISREG(mode):
            msg = (
                f"cannot write {path}: expected a regular file to replace, found a "
                f"{_kind_of(mode)}; give another name"
            )
            raise FileWriteError(msg)


def _moved_to_free_name(partial: Path, target: Path) -> bool:
    """Rename a file unless the new name is taken; return whether it was free."""
    try:
        # Unlike os.replace, os.link never replaces a file.
        os.link(partial, target)
    except FileExistsError:
        return False
    except OSError:
        # Without hard links: reserve the name by an empty file, then replace that.
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        os.replace(partial, target)
    return True


def _kind_of(mode: int) -> str:
    """Return the kind of a file for messages, from its ``st_mode``."""
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


def as_folder(path: str | os.PathLike[str]) -> Path:
    """Return the `~pathlib.Path` of a folder to write to, or raise `KS4Error`."""
    try:
        folder = Path(path)
    except TypeError as error:
        msg = f"path must be a folder, got {path!r}"
        raise OptionError(msg) from error
    if folder.suffix.lower() in _FILE_SUFFIXES and not folder.is_dir():
        msg = f"expected the name of a folder for several files, found that of {folder}"
        raise OptionError(msg)
    return folder
