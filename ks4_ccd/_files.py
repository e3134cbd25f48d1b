# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Files written whole or not at all."""

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from ks4_ccd.exceptions import KS4Error

__all__ = ["FileWriteError", "as_path", "check_suffix", "written_whole"]


class FileWriteError(KS4Error, OSError):
    """A file cannot be written, or is there already."""


def as_path(name, path):
    """Return ``path`` as a `~pathlib.Path`, or raise `KS4Error`."""
    try:
        if "\0" not in os.fspath(path):
            return Path(path)
    except TypeError:
        pass
    msg = f"{name} must be the name of a file, got {path!r}"
    raise KS4Error(msg)


def check_suffix(target):
    """
    Refuse a file name that does not say what will be in the file.

    Raises
    ------
    KS4Error
        If the name of the `~pathlib.Path` does not end in .fits, .fit or .fts.
    """
    if target.suffix.lower() not in (".fits", ".fit", ".fts"):
        msg = f"target must end in .fits (it is written uncompressed), got {target}"
        raise KS4Error(msg)


@contextmanager
def written_whole(path, overwrite):
    """
    Give a path to write to; the file appears at ``path`` when all went well.

    Parameters
    ----------
    path : `~pathlib.Path`
    overwrite : bool
        Whether a file at ``path`` may be replaced.

    Raises
    ------
    FileWriteError
        If ``path`` is there, or cannot be written.
    """
    if os.path.lexists(path) and not overwrite:
        msg = f"{path} is there already: overwrite (--overwrite) to replace it"
        raise FileWriteError(msg)
    # A link stays a link: what it points to is replaced.
    path = Path(os.path.realpath(path))
    partial = path.with_name(f".{path.name[:200]}.{uuid4().hex[:12]}.part")
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except KS4Error:
        raise
    except OSError as error:
        reason = error.strerror or error
        msg = f"cannot write {path}: {reason}"
        raise FileWriteError(msg) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
