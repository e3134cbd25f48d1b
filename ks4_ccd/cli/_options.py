# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Options, libraries and messages that verbs of the command share."""

import argparse
import sys

from ks4_ccd.exceptions import KS4Error
from ks4_ccd.ks4.names import APERTURES, MODES
from ks4_ccd.library.library import MapLibrary

__all__ = [
    "add_edges",
    "add_epochs",
    "add_mag_zeropoint",
    "add_map_options",
    "add_verb",
    "complain",
    "edges_in",
    "file_name",
    "hdu_in",
    "open_library",
    "reference_columns",
]


def complain(error):
    print(f"ks4-ccd: {error}", file=sys.stderr)
    return 1


def add_verb(verbs, name, run, summary, description):
    verb = verbs.add_parser(
        name,
        help=summary,
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    verb.set_defaults(run=run)
    return verb


def add_map_options(verb, positional=False):
    if positional:
        verb.add_argument(
            "maps", metavar="PATH", nargs="+", help="folders, archives or stores"
        )
    else:
        verb.add_argument(
            "--maps",
            metavar="PATH",
            nargs="+",
            required=True,
            help="folders, archives (.tar, .tar.gz) or stores (.ks4maps) with the maps",
        )
    verb.add_argument(
        "--aperture", choices=APERTURES, default="APER5", help="aperture of the map"
    )
    verb.add_argument(
        "--mode", choices=(*MODES, "Idual"), default="single", help="mode of the map"
    )
    verb.add_argument(
        "--smooth",
        type=float,
        nargs="?",
        const=0.8,
        metavar="CELLS",
        help="smooth the map, weighted by star counts, on this scale (by itself, 0.8)",
    )
    verb.add_argument(
        "--image-size",
        type=int,
        nargs=2,
        metavar=("NX", "NY"),
        default=(22000, 22000),
        help="pixels of the whole stacks that the maps cover",
    )


def add_mag_zeropoint(verb):
    verb.add_argument(
        "--mag-zeropoint",
        type=float,
        metavar="MAG",
        help="the zero point that the magnitudes of the catalog contain (SExtractor's "
        "MAG_ZEROPOINT), which is subtracted first: 30 if SExtractor ran with the "
        "MAGZERO of a KS4 header; by default 0, instrumental magnitudes",
    )


def add_epochs(verb):
    verb.add_argument(
        "--epoch",
        metavar="TIME",
        help="time of the image (a year or DATE-OBS), to which reference stars with "
        "proper motions are moved",
    )
    verb.add_argument(
        "--reference-epoch",
        type=float,
        metavar="YEAR",
        help="epoch of the reference positions, if no column contains it: 2016.0 for "
        "Gaia DR3",
    )


def reference_columns(arguments):
    """Return the columns of the reference, with the epoch that was given."""
    epoch = arguments.reference_epoch
    return "auto" if epoch is None else {"epoch": epoch}


def open_library(arguments, paths=None):
    columns, rows = arguments.image_size
    return MapLibrary(paths or arguments.maps, image_shape=(rows, columns))


def file_name(text):
    """Return the name of a file or folder to write, refuse an empty one."""
    if not text:
        # In Python an empty path is the current folder.
        msg = "expected the name of a file or folder, found an empty text"
        raise argparse.ArgumentTypeError(msg)
    return text


def hdu_in(text):
    """Return the HDU that a text stands for: a number, EXTNAME, or EXTNAME,EXTVER."""
    if text.isdecimal():
        return int(text)
    name, _, version = text.rpartition(",")
    if name and version.strip().isdecimal():
        return name, int(version)
    return text


def add_edges(verb, option, what):
    verb.add_argument(
        option,
        metavar="AXIS=BORDERS",
        nargs="+",
        help=f"borders of {what}, in X_IMAGE and Y_IMAGE: x=1375,2750 y=11000",
    )


def edges_in(words, option):
    """Return what `add_edges` was given, as 0-based pixel coordinates, or `None`."""
    if words is None:
        return None
    edges = {"x": [], "y": []}
    for word in words:
        axis, _, borders = word.partition("=")
        try:
            edges[axis.lower()] += [float(b) - 1 for b in borders.split(",")]
        except (KeyError, ValueError) as error:
            msg = f"{option} must be given as x=1375,2750 y=11000, got {word!r}"
            raise KS4Error(msg) from error
    return edges["x"], edges["y"]
