# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The verb `batch`: calibrate many images in many processes."""

import argparse
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from astropy.table import Table

from ks4_ccd.cli._options import (
    CALIBRATION,
    OUT,
    Exclusive,
    Option,
    Verb,
    calibration_options,
    complain,
    open_library,
    open_offsets,
)
from ks4_ccd.cli._signals import report_signal
from ks4_ccd.exceptions import KS4Error
from ks4_ccd.survey.batch import calibrate_many

__all__ = ["VERB"]


def _run(arguments: argparse.Namespace) -> int:
    images = [image for word in arguments.images for image in _images_in(word)]
    options = calibration_options(arguments)
    with ExitStack() as opened:
        library = opened.enter_context(open_library(arguments))
        options["offsets"] = open_offsets(arguments, opened)
        if arguments.scheduler:
            options["client"] = opened.enter_context(_client_of(arguments.scheduler))
        try:
            table = calibrate_many(
                images, library, arguments.out, workers=arguments.workers, **options
            )
        except KeyboardInterrupt as error:
            return report_signal(error, "the same command resumes the batch")
    return _report(table, arguments.out)


def _images_in(word: str) -> list[str]:
    """Return the images given by one argument: a file, or a list of files."""
    if not word.startswith("@"):
        return [word]
    try:
        lines = Path(word[1:]).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read the list of images {word[1:]}: {error}"
        raise KS4Error(msg) from error
    return [line.strip() for line in lines if line.strip()]


@contextmanager
def _client_of(scheduler: str) -> Iterator[AbstractContextManager]:
    try:
        from distributed import Client
    except ImportError as error:
        msg = f"--scheduler requires dask: pip install 'ks4_ccd[survey]' ({error})"
        raise KS4Error(msg) from error
    is_file = scheduler.endswith(".json")
    address = {"scheduler_file" if is_file else "address": scheduler}
    try:
        client = Client(**address)
    except (OSError, ValueError) as error:
        msg = f"cannot connect to a dask scheduler at {scheduler}: {error}"
        raise KS4Error(msg) from error
    with client:
        yield client


def _report(table: Table, out: str) -> int:
    failed = table[table["outcome"] == "failed"]
    for row in failed:
        complain(f"{row['image']}: {row['message']}")
    numbers = [
        f"{sum(table['outcome'] == outcome)} {outcome}"
        for outcome in ("done", "skipped", "failed")
    ]
    print(f"{out}: {', '.join(numbers)}; see {Path(out) / 'manifest.ecsv'}")
    return 1 if len(failed) else 0


VERB = Verb(
    "batch",
    _run,
    "calibrate many images in many processes",
    "Calibrate images as `ks4-ccd calibrate` does, in many processes of this machine "
    "or of a cluster. DIR/manifest.ecsv records the outcome for each image. The same "
    "command again resumes an interrupted batch, and repeats what failed or changed. "
    "Exits with 1 if any image failed.",
    "batch @images.txt --maps dr1.ks4maps -o calibrated",
    (
        Option(
            "images",
            metavar="IMAGE",
            nargs="+",
            help="FITS files; @FILE stands for the files listed in FILE, one a line",
        ),
        *CALIBRATION,
        OUT.but(required=True),
        Exclusive(
            Option(
                "--workers",
                type=int,
                metavar="N",
                help="number of processes to start, by default one for each core",
            ),
            Option(
                "--scheduler",
                metavar="ADDRESS",
                help="dask scheduler of a cluster: tcp://HOST:PORT, or its scheduler "
                "file (ends in .json)",
            ),
        ),
    ),
)
