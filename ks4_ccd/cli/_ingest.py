# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The verb `ingest`: write the maps in archives to a store."""

import argparse

from ks4_ccd.cli._options import OUT, Option, Verb, complain
from ks4_ccd.library.store import ingest

__all__ = ["VERB"]


def _run(arguments: argparse.Namespace) -> int:
    report = ingest(arguments.archives, arguments.out, on_error=arguments.on_error)
    for row in report.archives:
        if row["state"] == "there":
            print(f"{row['archive']}: already in the store")
            continue
        words = [f"{row['written']} maps written"]
        words += [f"{row['known']} already in the store"] if row["known"] else []
        words += [f"{row['other']} other files"] if row["other"] else []
        print(f"{row['archive']}: {', '.join(words)}")
    for row in report.problems:
        complain(row["problem"])
    if len(report.problems):
        return complain(
            f"{len(report.problems)} problems: download these archives again, and "
            "repeat the command to add the missing maps"
        )
    print(f"{arguments.out}: complete; use it as --maps {arguments.out}")
    return 0


VERB = Verb(
    "ingest",
    _run,
    "write the maps in archives to one file",
    "Scan archives of maps once, check every map, and write a store: one file, for "
    "--maps, from which any map loads immediately. Maps are added to an existing "
    "store. The same command resumes after an interruption.",
    "ingest dr1/KS4_DR1_*.tar.gz -o dr1.ks4maps",
    (
        Option(
            "archives",
            metavar="ARCHIVE",
            nargs="+",
            help="archives (.tar, .tar.gz, .tgz, also with a suffix such as "
            "?download=1)",
        ),
        OUT.but(
            metavar="STORE",
            required=True,
            help="the store, with a name that ends in .ks4maps",
        ),
        Option(
            "--on-error",
            choices=("skip", "raise"),
            default="skip",
            help="leave out damaged maps and list them, or stop at the first one",
        ),
    ),
)
