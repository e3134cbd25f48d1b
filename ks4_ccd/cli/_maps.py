# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The verb `maps`: list the maps of a library."""

import argparse
import sys
import tempfile
from pathlib import Path

from astropy.io.registry import IORegistryError

from ks4_ccd.cli._options import MAP_PATHS, Option, Verb
from ks4_ccd.exceptions import OptionError
from ks4_ccd.library.library import MapLibrary

__all__ = ["VERB"]


def _run(arguments: argparse.Namespace) -> None:
    with MapLibrary(arguments.maps) as library:
        table = library.table()
    if arguments.format is None:
        print("\n".join(table.pformat(max_lines=-1, max_width=-1, show_unit=False)))
        return
    with tempfile.TemporaryDirectory() as folder:
        # Some writers of astropy need a file, and text and bytes differ.
        path = Path(folder) / "maps"
        try:
            table.write(path, format=arguments.format)
        except (IORegistryError, OSError, ValueError, TypeError, ImportError) as error:
            msg = f"--format {arguments.format}: {str(error).splitlines()[0]}"
            raise OptionError(msg) from error
        sys.stdout.flush()
        sys.stdout.buffer.write(path.read_bytes())


VERB = Verb(
    "maps",
    _run,
    "list the maps in folders and archives",
    "List the maps that can be loaded, and which of their arrays exist.",
    "maps KS4_DR1_ZeroPoint_Maps.tar.gz",
    (
        MAP_PATHS,
        Option(
            "--format", help="write the table in a format of astropy, such as ascii.csv"
        ),
    ),
)
