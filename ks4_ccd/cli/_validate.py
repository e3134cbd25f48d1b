# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The verb that tells how good calibrated magnitudes and positions are."""

from ks4_ccd.catalogs.columns import PRESETS
from ks4_ccd.cli._options import (
    add_edges,
    add_epochs,
    add_mag_zeropoint,
    add_verb,
    edges_in,
    file_name,
    open_library,
    reference_columns,
)
from ks4_ccd.exceptions import KS4Error
from ks4_ccd.ks4.names import APERTURES, BANDS, MODES
from ks4_ccd.mapmaking.builders import RECIPES
from ks4_ccd.mapmaking.matching import match_catalogs
from ks4_ccd.mapmaking.validation import cross_validate

__all__ = ["add_validate"]


def add_validate(verbs):
    verb = add_verb(
        verbs,
        "validate",
        _validate,
        "tell how good calibrated magnitudes or positions are",
        "Match a source catalog with reference stars, make maps from some of the stars "
        "and see what they leave of the others; or see what maps or a zero point that "
        "are there leave of all of them.",
    )
    verb.add_argument(
        "catalog",
        metavar="CATALOG",
        help="sources of one image, such as SExtractor's, in any format astropy reads",
    )
    verb.add_argument(
        "--reference",
        metavar="STARS",
        required=True,
        help="reference stars: a Gaia XP file as the pipeline has them, or a table "
        "with RAJ2000, DEJ2000 and magnitudes such as Rmag",
    )
    verb.add_argument("--band", required=True, choices=BANDS, help="the filter")
    verb.add_argument("--field", help="the field, to find its maps")
    verb.add_argument(
        "--mode", choices=(*MODES, "Idual"), default="single", help="of the catalog"
    )
    verb.add_argument(
        "--kind",
        choices=("zeropoint", "offset"),
        default="zeropoint",
        help="what is validated: magnitudes, or positions",
    )
    verb.add_argument(
        "--aperture",
        metavar="NAME",
        nargs="+",
        default=["APER5"],
        help=f"apertures of the magnitudes, such as {' '.join(APERTURES)}",
    )
    given = verb.add_mutually_exclusive_group()
    given.add_argument(
        "--maps",
        metavar="PATH",
        nargs="+",
        help="validate the maps in these folders or archives",
    )
    given.add_argument(
        "--zeropoint",
        type=float,
        metavar="MAG",
        help="validate magnitudes with this zero point: 0 for a calibrated catalog, "
        "30 for a catalog of a calibrated image (for positions 0: as they are)",
    )
    verb.add_argument(
        "--recipe",
        choices=RECIPES,
        default="default",
        help="how maps are made, as for `ks4-ccd build`",
    )
    add_edges(verb, "--edges", "amplifiers (for positions, of chips)")
    verb.add_argument(
        "--cells",
        type=int,
        nargs=2,
        metavar=("NX", "NY"),
        help="cells of the maps that are made",
    )
    verb.add_argument(
        "--folds", type=int, default=5, help="parts that are left out in turn"
    )
    verb.add_argument(
        "--columns",
        choices=tuple(PRESETS),
        default="sextractor",
        help="whose names the columns have",
    )
    verb.add_argument(
        "--apertures",
        metavar="NAME",
        nargs="+",
        help="the apertures of the vector column (MAG_APER), in its order, if they "
        "are not FWHM APER3 APER5 APER10",
    )
    verb.add_argument(
        "--radius", type=float, default=2.0, help="of the match, in arcsec"
    )
    add_epochs(verb)
    add_mag_zeropoint(verb)
    verb.add_argument(
        "--image-size",
        type=int,
        nargs=2,
        metavar=("NX", "NY"),
        default=(22000, 22000),
        help="pixels of the image",
    )
    verb.add_argument("--overwrite", action="store_true", help="replace existing files")
    verb.add_argument(
        "-o",
        dest="out",
        type=file_name,
        metavar="DIR",
        help="write numbers, stars, text and figure to this folder",
    )


def _validate(arguments):
    if arguments.maps and arguments.field is None:
        msg = "--maps needs --field, to find the maps of the catalog"
        raise KS4Error(msg)
    columns, rows = arguments.image_size
    matched = match_catalogs(
        arguments.catalog,
        arguments.reference,
        arguments.radius,
        band=arguments.band,
        columns=arguments.columns,
        apertures=arguments.apertures,
        reference_columns=reference_columns(arguments),
        epoch=arguments.epoch,
        mag_zeropoint=arguments.mag_zeropoint,
    )
    mode = "single" if arguments.mode == "single" else "dual"
    by_aperture = arguments.kind == "zeropoint"
    for aperture in arguments.aperture if by_aperture else ["AUTO"]:
        validation = cross_validate(
            matched,
            (rows, columns),
            band=arguments.band,
            aperture=aperture,
            kind=arguments.kind,
            mode=mode,
            recipe=arguments.recipe,
            calibration=_calibration(arguments, aperture),
            shape=arguments.cells,
            edges=edges_in(arguments.edges, "--edges"),
            folds=arguments.folds,
            columns=arguments.columns,
            apertures=arguments.apertures,
            progress=True,
        )
        print(f"{validation}\n")
        if arguments.out is not None:
            paths = validation.write(arguments.out, overwrite=arguments.overwrite)
            print(f"-> {', '.join(map(str, paths))}")


def _calibration(arguments, aperture):
    """Return the map or zero point that is validated, or `None`."""
    if not arguments.maps:
        return arguments.zeropoint
    with open_library(arguments) as library:
        which = arguments.field, arguments.band, arguments.mode
        if arguments.kind == "offset":
            return library.offset(*which)
        return library.zeropoint(*which, aperture)
