# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command `ks4-ccd`: one verb, one public function."""

import sys

from ks4_ccd.cli._signals import Signals, report_signal

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """
    Run the command.

    Parameters
    ----------
    argv : list of str, optional
        The arguments, by default those of the process.

    Returns
    -------
    status : int
        0 on success, 1 after an error; 128 plus the number of the signal that
        ended the command. Wrong usage exits with 2.
    """
    with Signals() as signals:
        # The import takes a second or two, during which nothing needs cleaning up.
        from ks4_ccd.cli._command import run_command

        try:
            signals.interrupt()
            return run_command(list(sys.argv[1:] if argv is None else argv))
        except KeyboardInterrupt as error:
            return report_signal(error, "no partial file is left")
