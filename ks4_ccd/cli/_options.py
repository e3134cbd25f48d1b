# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the verbs of the command share: options, libraries, complaints."""

import argparse
import sys

from ks4_ccd.exceptions import KS4Error
from ks4_ccd.release.library import MapLibrary
from ks4_ccd.release.names import APERTURES, MODES

__all__ = [
    "add_edges",
    "add_map_options",
    "add_verb",
    "complain",
    "edges_in",
    "file_name",
    "hdu_in",
    "open_library",
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
