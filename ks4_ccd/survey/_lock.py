# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Lock a folder for one run at a time, and remove the files of killed workers."""

import os
import re
import socket
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from ks4_ccd.exceptions import KS4Error, KS4Warning
from ks4_ccd.files.writing import partial_stem

__all__ = ["RunLock", "writing"]

# The partial files of `written_whole`.
_PARTIAL = re.compile(r"\.(.+)\.[0-9a-f]{12}\.part", re.DOTALL)


class RunLock:
    """
    The lock of a run, exclusive at its beginning and end, shared in between.

    Each worker shares the lock while it writes. A process with the exclusive lock is
    therefore the only writer, on whichever machine the workers are and however their
    run ended: the operating system releases the locks of a killed process.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file to lock. It exists during the run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._targets: Sequence[Path] = ()

    def __enter__(self) -> "RunLock":
        """
        Begin a run with the exclusive lock.

        Raises
        ------
        KS4Error
            If another run holds the lock, or the file cannot be written.
        """
        while True:
            try:
                self._file = open(self.path, "ab+", buffering=0)
            except OSError as error:
                msg = f"cannot write to {self.path.parent}: {error.strerror}"
                raise KS4Error(msg) from error
            self._begin()
            with suppress(OSError):
                if os.path.samestat(os.fstat(self._file.fileno()), self.path.stat()):
                    break
            # The previous run has just ended and removed its file.
            self._file.close()
        with suppress(OSError):  # the disk may be full
            self._file.truncate(0)
            self._file.write(
                f"process {os.getpid()} on {socket.gethostname()}".encode()
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_alone():
            _remove_partial_files(self._targets)
            with suppress(OSError):
                self.path.unlink()
        self._file.close()

    def _begin(self) -> None:
        try:
            _lock(self._file, exclusive=True)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().decode() or "another process"
            self._file.close()
            msg = (
                f"{self.path.parent} is locked by {holder}, or by workers of a run "
                "that was killed: wait until they finish, or end them, then repeat the "
                "batch"
            )
            raise KS4Error(msg) from None
        except OSError as error:
            msg = (
                f"cannot lock {self.path} ({error.strerror}): make sure that no other "
                "process writes to this folder during the run"
            )
            warnings.warn(msg, KS4Warning, stacklevel=3)

    def share(self, targets: Sequence[Path]) -> None:
        """
        Share the lock with workers.

        Parameters
        ----------
        targets : sequence of `~pathlib.Path`
            The files that this run or an earlier one may write. Partial files of
            killed workers beside them are removed, now and when the run ends.
        """
        self._targets = targets
        _remove_partial_files(targets)
        with suppress(OSError):
            _lock(self._file, exclusive=False)

    def wait(self, seconds: float) -> None:
        """Wait until no worker writes, for at most this number of seconds."""
        end = time.monotonic() + seconds
        while not self._is_alone() and time.monotonic() < end:
            time.sleep(0.2)

    def _is_alone(self) -> bool:
        try:
            _lock(self._file, exclusive=True)
        except BlockingIOError:
            return False
        except OSError:
            pass  # a file system without locks: see `_begin`
        return True


@contextmanager
def writing(path: str) -> Iterator[None]:
    """
    Share the lock of a run while a worker writes.

    Raises
    ------
    KS4Error
        If the run has ended.
    """
    with ExitStack() as opened:
        try:
            _lock(opened.enter_context(open(path, "rb")), exclusive=False)
        except (FileNotFoundError, BlockingIOError) as error:
            msg = f"the run that locked {path} has ended"
            raise KS4Error(msg) from error
        except OSError:
            pass  # a file system without locks: the run has warned of it
        yield


def _lock(file: IO[bytes], *, exclusive: bool) -> None:
    """Lock a file without waiting, or raise `BlockingIOError`."""
    if sys.platform != "win32":
        import fcntl

        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        fcntl.flock(file, kind | fcntl.LOCK_NB)


def _remove_partial_files(targets: Sequence[Path]) -> None:
    """Remove the partial files that killed workers left beside their targets."""
    wanted: dict[Path, set[str]] = {}
    for target in targets:
        path = Path(os.path.realpath(target))
        wanted.setdefault(path.parent, set()).add(partial_stem(path.name))
    for folder, names in wanted.items():
        with suppress(OSError):
            for path in list(folder.iterdir()):
                found = _PARTIAL.fullmatch(path.name)
                if found and found[1] in names:
                    path.unlink(missing_ok=True)
