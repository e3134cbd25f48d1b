# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The verb `verify`: check a store."""

import argparse

from ks4_ccd.cli._options import Option, Verb, complain
from ks4_ccd.library.store import verify

__all__ = ["VERB"]


def _run(arguments: argparse.Namespace) -> int:
    problems = verify(arguments.store)
    for row in problems:
        complain(f"{row['map'] or arguments.store}: {row['problem']}")
    if len(problems):
        return complain(
            f"{arguments.store} has {len(problems)} problems: use an intact copy, or "
            "ingest the archives into a new store"
        )
    print(f"{arguments.store}: all maps match their checksums")
    return 0


VERB = Verb(
    "verify",
    _run,
    "check every map in a store",
    "Compare every map in a store with its checksums, and check the structure of the "
    "file. Exits with 1 if anything is wrong.",
    "verify dr1.ks4maps",
    (Option("store", metavar="STORE", help="the store (.ks4maps)"),),
)
