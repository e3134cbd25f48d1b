# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The verb `fetch`: download the archives of DR1."""

import argparse
import shlex
import sys

from ks4_ccd.cli._options import OUT, Option, Verb, complain
from ks4_ccd.library import download

__all__ = ["VERB"]


def _run(arguments: argparse.Namespace) -> int:
    try:
        paths = download.fetch(arguments.families or None, arguments.out)
    except KeyboardInterrupt:
        complain("interrupted; the same command resumes the download")
        return 130
    print(*paths, sep="\n")
    archives = shlex.join(map(str, paths))
    print(
        "Give them as --maps, or convert them to one file, which loads maps faster:\n"
        f"  ks4-ccd ingest {archives} -o dr1.ks4maps",
        file=sys.stderr,
    )
    return 0


VERB = Verb(
    "fetch",
    _run,
    "download the archives of DR1",
    "Download archives of DR1 from Zenodo (DOI 10.5281/zenodo.17336382), 3.6 GB in "
    "total. An interrupted download resumes, and existing archives are checked, not "
    "downloaded again.",
    "fetch -o dr1",
    (
        Option(
            "families",
            metavar="FAMILY",
            nargs="*",
            help="maps to download, by default all. Zero points: zp, their uncertainty "
            "zperr, their numbers of stars pstar. Misalignment: align, alerr, astar. "
            "Names of archives are accepted as well, such as ZeroPoint",
        ),
        OUT.but(default=".", help="folder for the archives"),
    ),
)
