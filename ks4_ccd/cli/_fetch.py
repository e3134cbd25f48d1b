# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The verb that downloads the release."""

import shlex
import sys

from ks4_ccd.cli._options import add_verb, complain, file_name

__all__ = ["add_fetch"]


def add_fetch(verbs):
    verb = add_verb(
        verbs,
        "fetch",
        _fetch,
        "download the archives of the release",
        "Download archives of the release from Zenodo (DOI 10.5281/zenodo.17336382): "
        "3.6 GB in all. An interrupted download resumes, and existing archives are "
        "checked, not downloaded again.",
    )
    verb.add_argument(
        "families",
        metavar="FAMILY",
        nargs="*",
        help="which maps, by default all. Zero points: zp, their uncertainty zperr, "
        "their numbers of stars pstar. Misalignment: align, alerr, astar. Names of "
        "archives will do as well, such as ZeroPoint",
    )
    verb.add_argument(
        "-o",
        dest="out",
        type=file_name,
        metavar="DIR",
        default=".",
        help="where to put the archives",
    )


def _fetch(arguments):
    from ks4_ccd.library.download import fetch

    try:
        paths = fetch(arguments.families or None, arguments.out)
    except KeyboardInterrupt:
        return complain("interrupted; the same command resumes from there") and 130
    print(*paths, sep="\n")
    archives = shlex.join(map(str, paths))
    print(
        "Use them as they are (--maps), or make one fast file of them:\n"
        f"  ks4-ccd ingest {archives} -o dr1.ks4maps",
        file=sys.stderr,
    )
    return 0
