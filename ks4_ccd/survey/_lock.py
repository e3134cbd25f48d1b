# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""One run at a time in a folder, and nothing left of those that were killed."""

import os
import re
import socket
import time
import warnings
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ks4_ccd.exceptions import KS4Error, KS4Warning
from ks4_ccd.files.writing import partial_stem

__all__ = ["RunLock", "writing"]

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None

# What `written_whole` writes to before a file is whole.
_PARTIAL = re.compile(r"\.(.+)\.[0-9a-f]{12}\.part", re.DOTALL)


class RunLock:
    """
    The lock of a run: exclusive while it begins and ends, shared in between.

    Each worker shares it while it writes. So whoever gets it for themselves
    knows that nobody writes, wherever the workers are and however the run
    ended: the system drops the locks of a killed process.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file to lock. It is there as long as the run is.
    """

    def __init__(self, path):
        self.path = path
        self._targets = []

    def __enter__(self):
        """
        Begin a run, alone.

        Raises
        ------
        KS4Error
            If there is another run, or the file cannot be written.
        """
        while True:
            try:
                self._file = open(self.path, "ab+", buffering=0)
            except OSError as error:
                msg = f"cannot write to {self.path.parent}: {error.strerror}"
                raise KS4Error(msg) from error
            self._begin()
            if self._is_current():
                break
            # The run before has just ended, and its file with it.
            self._file.close()
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        with suppress(OSError):  # the disk may be full
            self._file.truncate(0)
            self._file.write(holder.encode())
        return self

    def __exit__(self, *exception):
        if self._is_alone():
            _remove_partial_files(self._targets)
            with suppress(OSError):
                self.path.unlink()
        self._file.close()

    def _begin(self):
        try:
            self._lock("EX")
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().decode() or "another process"
            self._file.close()
            msg = (
                f"{self.path.parent} is being written to by {holder}, or by workers "
                "that it left behind: let them finish (or end them), then try again"
            )
            raise KS4Error(msg) from None
        except OSError as error:
            msg = (
                f"cannot lock {self.path} ({error.strerror}): take care that nothing "
                "else writes to this folder meanwhile"
            )
            warnings.warn(msg, KS4Warning, stacklevel=3)

    def _is_current(self):
        with suppress(OSError):
            return os.path.samestat(os.fstat(self._file.fileno()), self.path.stat())
        return False

    def _lock(self, kind):
        if fcntl is not None:
            fcntl.flock(self._file, getattr(fcntl, f"LOCK_{kind}") | fcntl.LOCK_NB)

    def share(self, targets):
        """
        Let workers write from now on.

        Parameters
        ----------
        targets : list of `~pathlib.Path`
            What this run or an earlier one may write. What killed writers
            left beside them is removed, now and when the run ends.
        """
        self._targets = targets
        _remove_partial_files(targets)
        with suppress(OSError):
            self._lock("SH")

    def wait(self, seconds):
        """Wait until no worker writes any more, but not longer than that."""
        end = time.monotonic() + seconds
        while not self._is_alone() and time.monotonic() < end:
            time.sleep(0.2)

    def _is_alone(self):
        try:
            self._lock("EX")
        except BlockingIOError:
            return False
        except OSError:
            pass  # a file system without locks: see `_begin`
        return True


@contextmanager
def writing(path):
    """
    Share the lock of a run, in a worker, while it writes.

    Raises
    ------
    KS4Error
        If that run is over.
    """
    with ExitStack() as opened:
        try:
            file = opened.enter_context(open(path, encoding="utf-8"))
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (FileNotFoundError, BlockingIOError) as error:
            msg = f"the run that {path} belongs to is over"
            raise KS4Error(msg) from error
        except OSError:
            pass  # a file system without locks: the run has said so
        yield


def _remove_partial_files(targets):
    """Remove what killed writers left beside the files that they were to write."""
    wanted = {}
    for target in targets:
        path = Path(os.path.realpath(target))
        wanted.setdefault(path.parent, set()).add(partial_stem(path.name))
    for folder, names in wanted.items():
        with suppress(OSError):
            for path in list(folder.iterdir()):
                found = _PARTIAL.fullmatch(path.name)
                if found and found[1] in names:
                    path.unlink(missing_ok=True)
