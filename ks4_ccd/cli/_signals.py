# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Signals that end the command: one line, no traceback, no partial file."""

import signal
import sys
import threading

from ks4_ccd.cli._early_exit import exit_at_once

__all__ = ["Signals", "Terminated", "report_signal"]

# The last two are those of `kill` and of a terminal that is closed.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_DEFAULTS = (signal.default_int_handler, signal.SIG_DFL, exit_at_once)


class Terminated(KeyboardInterrupt):
    """The process was ended by a signal other than that of Ctrl-C."""

    def __init__(self, number):
        super().__init__(signal.Signals(number).name)
        self.number = number


class Signals:
    """
    Handle the signals that end the command.

    At first they end the process at once; after `interrupt` they raise
    `KeyboardInterrupt`, so that partial files are removed. Signals that are
    ignored or handled otherwise, as with nohup, are left alone.
    """

    def __init__(self):
        self._raises = False
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for name in _NAMES:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) in _DEFAULTS:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def interrupt(self):
        """Raise `KeyboardInterrupt` on signals from now on."""
        self._raises = True

    def _handle(self, number, _frame):
        if not self._raises:
            exit_at_once(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        # A second one must not interrupt the removal of partial files.
        for other in self._before.keys() - {signal.SIGINT}:
            signal.signal(other, signal.SIG_IGN)
        raise Terminated(number)


def report_signal(error, outcome):
    """
    Print that the command was interrupted; return its exit status.

    Parameters
    ----------
    error : `KeyboardInterrupt`
    outcome : str
        What is left.
    """
    number = getattr(error, "number", signal.SIGINT)
    reason = "interrupted" if number == signal.SIGINT else f"ended by {error}"
    print(f"ks4-ccd: {reason}; {outcome}", file=sys.stderr)
    return 128 + number
