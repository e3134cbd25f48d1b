# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The verb for many images at once."""

from contextlib import ExitStack, contextmanager
from pathlib import Path

from ks4_ccd.cli._images import (
    add_calibration_options,
    calibration_options,
)
from ks4_ccd.cli._options import (
    add_verb,
    complain,
    file_name,
    open_library,
)
from ks4_ccd.cli._signals import report_signal
from ks4_ccd.exceptions import KS4Error
from ks4_ccd.survey.batch import calibrate_many

__all__ = ["add_batch"]


def add_batch(verbs):
    verb = add_verb(
        verbs,
        "batch",
        _batch,
        "calibrate many images at once",
        "Calibrate images as `ks4-ccd calibrate` does, in many processes of this "
        "machine or of a cluster. What became of each is in DIR/manifest.ecsv; the "
        "same command again goes on where it stopped, and does again what failed or "
        "changed. Exits with 1 if any image failed.",
    )
    verb.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help="FITS files; @FILE stands for those that are listed in a file, one in "
        "a line",
    )
    add_calibration_options(verb)
    verb.add_argument(
        "-o",
        dest="out",
        type=file_name,
        metavar="DIR",
        required=True,
        help="folder for the results",
    )
    where = verb.add_mutually_exclusive_group()
    where.add_argument(
        "--workers", type=int, metavar="N", help="processes to start, or one a core"
    )
    where.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="dask scheduler of a cluster: tcp://HOST:PORT, or its scheduler file "
        "(ends in .json)",
    )


def _batch(arguments):
    images = [image for word in arguments.images for image in _images_in(word)]
    options = calibration_options(arguments)
    with ExitStack() as opened:
        library = opened.enter_context(open_library(arguments))
        if arguments.offsets:
            options["offsets"] = opened.enter_context(
                open_library(arguments, arguments.offsets)
            )
        if arguments.scheduler:
            options["client"] = opened.enter_context(_client_of(arguments.scheduler))
        try:
            table = calibrate_many(
                images, library, arguments.out, workers=arguments.workers, **options
            )
        except KeyboardInterrupt as error:
            return report_signal(error, "the same command resumes the batch")
    return _report(table, arguments.out)


def _images_in(word):
    """Return the images that a word of the command stands for."""
    if not word.startswith("@"):
        return [word]
    try:
        lines = Path(word[1:]).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read the list of images {word[1:]}: {error}"
        raise KS4Error(msg) from error
    return [line.strip() for line in lines if line.strip()]


@contextmanager
def _client_of(scheduler):
    try:
        from distributed import Client
    except ImportError as error:
        msg = f"--scheduler needs dask: pip install 'ks4_ccd[survey]' ({error})"
        raise KS4Error(msg) from error
    is_file = scheduler.endswith(".json")
    where = {"scheduler_file" if is_file else "address": scheduler}
    try:
        client = Client(**where)
    except (OSError, ValueError) as error:
        msg = f"there is no dask scheduler at {scheduler}: {error}"
        raise KS4Error(msg) from error
    with client:
        yield client


def _report(table, out):
    failed = table[table["outcome"] == "failed"]
    for row in failed:
        complain(f"{row['image']}: {row['message']}")
    counts = [
        f"{sum(table['outcome'] == outcome)} {outcome}"
        for outcome in ("done", "skipped", "failed")
    ]
    print(f"{out}: {', '.join(counts)}; see {Path(out) / 'manifest.ecsv'}")
    return 1 if len(failed) else 0
