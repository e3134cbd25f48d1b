# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Parse the words of the command, and run its verb."""

import argparse
import os
import sys
import warnings
from importlib.metadata import version

from ks4_ccd.cli import (
    _batch,
    _build,
    _catalog,
    _fetch,
    _images,
    _release,
    _store,
    _validate,
)
from ks4_ccd.cli._options import complain
from ks4_ccd.exceptions import KS4Error, KS4Warning

__all__ = ["run_command"]

# In the order of the help.
_VERBS = (
    _images.add_demo,
    _images.add_calibrate,
    _catalog.add_catalog,
    _build.add_build,
    _validate.add_validate,
    _release.add_maps,
    _release.add_plot,
    _release.add_field,
    _fetch.add_fetch,
    _store.add_ingest,
    _store.add_verify,
    _batch.add_batch,
)

_EPILOG = """\
examples:
  ks4-ccd demo --out demo
  ks4-ccd maps KS4_DR1_ZeroPoint_Maps.tar.gz
  ks4-ccd calibrate stack.fits --maps KS4_DR1_*.tar.gz -o calibrated.fits
  ks4-ccd plot KS4_DR1_*.tar.gz --field 0403 --band R -o map.png
  ks4-ccd build sources.fits --reference gaiaxp.fits --field 0403 --band R -o maps
  ks4-ccd field 122.1 -72.3
"""


def run_command(argv):
    """
    Run the command.

    Parameters
    ----------
    argv : list of str
        The arguments.

    Returns
    -------
    status : int
        0, or 1 if something could not be done. Wrong usage exits with 2.
    """
    if argv[:1] == ["field"] and not {"-h", "--help", "--"} & set(argv):
        # A declination of -62:30:00 is not an option.
        argv = [argv[0], "--", *argv[1:]]
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


def _show_warning(message, category, *_, **__):
    print(f"ks4-ccd: {category.__name__}: {message}", file=sys.stderr)


def _parser():
    parser = argparse.ArgumentParser(
        prog="ks4-ccd",
        description="Apply the calibration maps of the KMTNet Synoptic Survey.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("ks4_ccd"))
    parser.add_argument(
        "--debug", action="store_true", help="show where in the code an error arose"
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in _VERBS:
        add(verbs)
    return parser
