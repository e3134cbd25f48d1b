# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The verb `validate`: measure residuals of calibrated magnitudes and positions."""

import argparse

from ks4_ccd.cli._options import (
    APERTURE,
    CELLS,
    COLOR,
    FIELD,
    KIND,
    MAPS,
    MATCHING,
    OUT,
    OVERWRITE,
    RECIPE,
    ZEROPOINT,
    Exclusive,
    Option,
    Verb,
    edges_in,
    edges_option,
    matching_options,
    open_library,
)
from ks4_ccd.exceptions import OptionError
from ks4_ccd.ks4.names import MODE_ALIASES
from ks4_ccd.mapmaking.matching import match_catalogs
from ks4_ccd.mapmaking.validation import cross_validate
from ks4_ccd.maps.offset import OffsetMap
from ks4_ccd.maps.zeropoint import ZeroPointMap

__all__ = ["VERB"]


def _run(arguments: argparse.Namespace) -> None:
    if arguments.maps and arguments.field is None:
        msg = "--maps needs --field, by which the maps of the catalog are found"
        raise OptionError(msg)
    columns, rows = arguments.image_size
    matched = match_catalogs(
        arguments.catalog,
        arguments.reference,
        arguments.radius,
        **matching_options(arguments),
    )
    by_aperture = arguments.kind == "zeropoint"
    for aperture in arguments.aperture if by_aperture else ["AUTO"]:
        validation = cross_validate(
            matched,
            (rows, columns),
            band=arguments.band,
            aperture=aperture,
            kind=arguments.kind,
            mode=MODE_ALIASES.get(arguments.mode, arguments.mode),
            recipe=arguments.recipe,
            calibration=_calibration(arguments, aperture),
            shape=arguments.cells,
            edges=edges_in(arguments.edges, "--edges"),
            color=arguments.color,
            folds=arguments.folds,
            columns=arguments.columns,
            apertures=arguments.apertures,
            progress=True,
        )
        print(f"{validation}\n")
        if arguments.out is not None:
            paths = validation.write(arguments.out, overwrite=arguments.overwrite)
            print(f"-> {', '.join(map(str, paths))}")


def _calibration(
    arguments: argparse.Namespace, aperture: str
) -> ZeroPointMap | OffsetMap | float | None:
    """Return the map or zero point to validate, or `None`."""
    if not arguments.maps:
        return arguments.zeropoint
    with open_library(arguments) as library:
        key = arguments.field, arguments.band, arguments.mode
        if arguments.kind == "offset":
            return library.offset(*key)
        return library.zeropoint(*key, aperture)


VERB = Verb(
    "validate",
    _run,
    "measure the residuals of calibrated magnitudes or positions",
    "Match a source catalog with reference stars, make maps from a part of the stars, "
    "and measure the residuals of the held-out stars; or measure the residuals of all "
    "stars with existing maps, or with a uniform zero point.",
    "validate sources.fits --reference gaiaxp.fits --band R -o report",
    (
        *MATCHING,
        KIND.but(
            choices=("zeropoint", "offset"),
            help="what to validate: magnitudes, or positions",
        ),
        APERTURE.but(metavar="NAME", nargs="+", default=["APER5"]),
        FIELD,
        Exclusive(
            MAPS.but(
                required=False,
                help=f"existing maps to validate: {MAPS.settings['help']}",
            ),
            ZEROPOINT.but(
                default=None,
                help="uniform zero point to validate: 0 for a calibrated catalog, 30 "
                "for a catalog of a calibrated image (for positions 0: unchanged)",
            ),
        ),
        RECIPE,
        edges_option("--edges", "amplifiers (for positions, of chips)"),
        COLOR,
        CELLS,
        Option(
            "--folds",
            type=int,
            metavar="N",
            default=5,
            help="number of parts of the stars, which are held out in turn",
        ),
        OVERWRITE,
        OUT.but(help="output folder for numbers, stars, text and figure"),
    ),
)
