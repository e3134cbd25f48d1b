# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The verb `plot`: draw a map."""

import argparse

from ks4_ccd.cli._options import (
    APERTURE,
    BAND,
    FIELD,
    IMAGE_SIZE,
    KIND,
    MAP_PATHS,
    MODE,
    OUT,
    SMOOTH,
    Option,
    Verb,
    open_library,
)
from ks4_ccd.exceptions import FileWriteError
from ks4_ccd.plotting import new_figure

__all__ = ["VERB"]


def _run(arguments: argparse.Namespace) -> None:
    key = arguments.field, arguments.band, arguments.mode
    with open_library(arguments) as library:
        if arguments.kind == "zeropoint":
            drawn = library.zeropoint(*key, arguments.aperture)
        else:
            drawn = getattr(library, arguments.kind)(*key)
    if arguments.smooth is not None:
        drawn = drawn.smoothed(arguments.smooth)
    # No window is opened with any backend of pyplot.
    figure = new_figure((6.4, 5.6))
    drawn.plot(figure.subplots(), part=arguments.part)
    try:
        figure.savefig(arguments.out, dpi=150, bbox_inches="tight")
    except (OSError, ValueError) as error:
        msg = f"cannot write {arguments.out}: {error}"
        raise FileWriteError(msg) from error
    print(arguments.out)


VERB = Verb(
    "plot",
    _run,
    "draw a map",
    "Draw a map in the orientation of the image and write the figure to a file.",
    "plot KS4_DR1_*.tar.gz --field 0403 --band R -o map.png",
    (
        MAP_PATHS,
        FIELD.but(required=True),
        BAND.but(required=True),
        MODE,
        APERTURE,
        KIND,
        Option(
            "--part",
            choices=("values", "error", "count"),
            default="values",
            help="array of the map: values, uncertainties or numbers of stars",
        ),
        SMOOTH,
        IMAGE_SIZE,
        OUT.but(metavar="PNG", default="map.png", help="output file"),
    ),
)
