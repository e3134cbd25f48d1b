# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""End the command `ks4-ccd` at once on Ctrl-C while it imports its modules."""

import os
import signal
import sys
import threading
from types import FrameType

__all__ = ["exit_at_once", "exit_early_from_command"]


def exit_at_once(number: int, _frame: FrameType | None = None) -> None:
    """End the process because of a signal, with one line and no traceback."""
    os.write(2, b"ks4-ccd: interrupted\n")
    os._exit(128 + number)


def exit_early_from_command() -> None:
    """
    End the process at once on Ctrl-C, if the process is the command.

    The command handles signals itself when it starts to run. Its imports take
    a second or two, and leave nothing that has to be cleaned up.
    """
    if (
        _is_command()
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        signal.signal(signal.SIGINT, exit_at_once)


def _is_command() -> bool:
    name = os.path.basename(sys.argv[0]) if getattr(sys, "argv", None) else ""
    if name == "-m":
        modules = ("ks4_ccd", "ks4_ccd.cli")
        return any(word.removeprefix("-m") in modules for word in sys.orig_argv)
    return os.path.splitext(name)[0] == "ks4-ccd"
