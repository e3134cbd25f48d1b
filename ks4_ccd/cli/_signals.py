# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Handle signals that end the command, without a traceback or partial files."""

import signal
import sys
import threading
from types import FrameType
from typing import Any

from ks4_ccd.cli._early_exit import exit_at_once

__all__ = ["Signals", "Terminated", "report_signal"]

# The last two are those of `kill` and of a terminal that is closed.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_DEFAULTS = (signal.default_int_handler, signal.SIG_DFL, exit_at_once)


class Terminated(KeyboardInterrupt):
    """Raised if a signal other than that of Ctrl-C ended the process."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Signals:
    """
    Handle the signals that end the command.

    At first they end the process at once; after `interrupt` they raise
    `KeyboardInterrupt`, so that partial files are removed. Signals that are
    ignored or handled otherwise, as with nohup, are left alone.
    """

    def __init__(self) -> None:
        self._raises = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for name in _NAMES:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) in _DEFAULTS:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def interrupt(self) -> None:
        """Raise `KeyboardInterrupt` on signals from now on."""
        self._raises = True

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if not self._raises:
            exit_at_once(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        # A second one must not interrupt the removal of partial files.
        for other in self._before.keys() - {signal.SIGINT}:
            signal.signal(other, signal.SIG_IGN)
        raise Terminated(number)


def report_signal(error: KeyboardInterrupt, outcome: str) -> int:
    """
    Print that the command was interrupted, and return its exit status.

    Parameters
    ----------
    error : KeyboardInterrupt
        The exception that the signal raised.
    outcome : str
        The state of the output.
    """
    number = getattr(error, "number", signal.SIGINT)
    reason = "interrupted" if number == signal.SIGINT else f"ended by {error}"
    print(f"ks4-ccd: {reason}; {outcome}", file=sys.stderr)
    return 128 + number
