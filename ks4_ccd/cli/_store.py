# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The verbs of the store: ingest and verify."""

from ks4_ccd.cli._options import add_verb, complain, file_name
from ks4_ccd.library.store import ingest, verify

__all__ = ["add_ingest", "add_verify"]


def add_ingest(verbs):
    verb = add_verb(
        verbs,
        "ingest",
        _ingest,
        "put the maps in archives into one file",
        "Read archives of maps once, check every map, and write a store: one file, "
        "for --maps, that gives any map at once. An existing store is added to. After "
        "an interruption, the same command resumes.",
    )
    verb.add_argument(
        "archives",
        metavar="ARCHIVE",
        nargs="+",
        help="archives (.tar, .tar.gz, .tgz; X.tar.gz?download=1 will do as well)",
    )
    verb.add_argument(
        "-o",
        dest="store",
        type=file_name,
        metavar="STORE",
        required=True,
        help="the store, with a name that ends in .ks4maps",
    )
    verb.add_argument(
        "--on-error",
        choices=("skip", "raise"),
        default="skip",
        help="leave damaged maps out and list them, or stop at the first one",
    )


def add_verify(verbs):
    verb = add_verb(
        verbs,
        "verify",
        _verify,
        "check every map in a store",
        "Compare every map in a store with its checksums, and check the structure of "
        "the file. Exits with 1 if anything is wrong.",
    )
    verb.add_argument("store", metavar="STORE", help="the store (.ks4maps)")


def _ingest(arguments):
    report = ingest(arguments.archives, arguments.store, on_error=arguments.on_error)
    for row in report.archives:
        if row["state"] == "there":
            print(f"{row['archive']}: all of it is in the store already")
            continue
        words = [f"{row['written']} maps written"]
        words += [f"{row['known']} in the store already"] if row["known"] else []
        words += [f"{row['other']} other files"] if row["other"] else []
        print(f"{row['archive']}: {', '.join(words)}")
    for row in report.problems:
        complain(row["problem"])
    if len(report.problems):
        return complain(
            f"{len(report.problems)} problems: download these archives again, and "
            "repeat the command to add what is missing"
        )
    print(f"{arguments.store}: complete; use it as --maps {arguments.store}")
    return 0


def _verify(arguments):
    problems = verify(arguments.store)
    for row in problems:
        complain(f"{row['map'] or arguments.store}: {row['problem']}")
    if len(problems):
        return complain(
            f"{arguments.store} has {len(problems)} problems: use an intact copy, or "
            "ingest the archives into a new store"
        )
    print(f"{arguments.store}: every map is as it was written")
    return 0
