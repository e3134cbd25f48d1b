# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Parse the words of the command, and run its verb."""

import argparse
import os
import re
import sys
import warnings
from importlib.metadata import version

from ks4_ccd.cli import (
    _batch,
    _build,
    _calibrate,
    _catalog,
    _demo,
    _fetch,
    _field,
    _ingest,
    _maps,
    _plot,
    _reference,
    _validate,
    _verify,
)
from ks4_ccd.cli._options import complain
from ks4_ccd.exceptions import KS4Error, KS4Warning

__all__ = ["VERBS", "run_command"]

_DECLINATION = re.compile(r"-\d+[:d]")

# In the order of the help.
VERBS = tuple(
    module.VERB
    for module in (
        _demo,
        _calibrate,
        _catalog,
        _reference,
        _build,
        _validate,
        _maps,
        _plot,
        _field,
        _fetch,
        _ingest,
        _verify,
        _batch,
    )
)


def run_command(argv: list[str]) -> int:
    """
    Run the command.

    Parameters
    ----------
    argv : list of str
        The arguments.

    Returns
    -------
    status : int
        0 on success, 1 after an error. Wrong usage exits with 2.
    """
    if argv[:1] == ["field"] and not {"-h", "--help", "--"} & set(argv):
        # A declination such as -62:30:00 must not be parsed as an option.
        argv = [argv[0], "--", *argv[1:]]
    elif argv[:1] == ["reference"]:
        # A word with a space is no option, either.
        argv = [f" {word}" if _DECLINATION.match(word) else word for word in argv]
    arguments = _parser().parse_args(argv)
    with warnings.catch_warnings():
        warnings.simplefilter("always", KS4Warning)
        warnings.showwarning = _show_warning
        try:
            return arguments.run(arguments) or 0
        except BrokenPipeError:
            # The reader closed the pipe, as `head` does.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (KS4Error, OSError) as error:
            if arguments.debug:
                raise
            return complain(error)


def _show_warning(
    message: Warning | str, category: type[Warning], *_: object, **__: object
) -> None:
    print(f"ks4-ccd: {category.__name__}: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    examples = [f"  ks4-ccd {verb.example}\n" for verb in VERBS]
    parser = argparse.ArgumentParser(
        prog="ks4-ccd",
        description="Apply the calibration maps of the KMTNet Synoptic Survey, and "
        "maps made in the same way for any camera.",
        epilog="examples:\n" + "".join(examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("ks4_ccd"))
    parser.add_argument(
        "--debug", action="store_true", help="show where in the code an error arose"
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for verb in VERBS:
        own = verbs.add_parser(
            verb.name,
            help=verb.summary,
            description=verb.description,
            epilog=f"example: ks4-ccd {verb.example}",
        )
        own.set_defaults(run=verb.run)
        for option in verb.options:
            option.add_to(own)
    return parser
