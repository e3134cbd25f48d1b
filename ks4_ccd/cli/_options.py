# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Define the options that verbs of the command share, each of them once."""

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from typing import Any

from ks4_ccd.catalogs.columns import PRESETS
from ks4_ccd.exceptions import OptionError
from ks4_ccd.files.units import as_gain
from ks4_ccd.library.library import MapLibrary
from ks4_ccd.mapmaking.builders import RECIPES
from ks4_ccd.mapmaking.reference_columns import PRESETS as REFERENCE_PRESETS
from ks4_ccd.maps.errors import ERROR_KINDS
from ks4_ccd.photometry.options import METHODS, FileCalibrationOptions

__all__ = [
    "CALIBRATION",
    "MATCHING",
    "Exclusive",
    "Option",
    "Verb",
    "calibration_options",
    "complain",
    "denoise_in",
    "edges_in",
    "edges_option",
    "file_name",
    "matching_options",
    "open_library",
    "open_offsets",
]


class Option:
    """
    An option or a positional argument of a verb.

    Parameters
    ----------
    name : str
        Its name, with hyphens for an option.
    **settings
        The arguments of `argparse.ArgumentParser.add_argument`. The default is
        added to the help.
    """

    def __init__(self, name: str, **settings: object) -> None:
        self.name = name
        self.settings = settings

    def but(self, **changes: object) -> "Option":
        """Return a copy with other settings."""
        return Option(self.name, **self.settings | changes)

    def add_to(self, parser: argparse._ActionsContainer) -> None:
        """Add the option to a parser or a group of options."""
        settings = dict(self.settings)
        default = settings.get("default")
        if default is not None:
            words = default if isinstance(default, tuple | list) else [default]
            text = " ".join(map(str, words))
            settings["help"] = f"{settings['help']} (default: {text})"
        parser.add_argument(self.name, **settings)  # type: ignore[arg-type]  # settings are those of argparse


class Exclusive:
    """Options of which only one can be given."""

    def __init__(self, *options: Option) -> None:
        self.options = options

    def add_to(self, parser: argparse._ActionsContainer) -> None:
        """Add the options to a parser."""
        group = parser.add_mutually_exclusive_group()
        for option in self.options:
            option.add_to(group)


@dataclass(frozen=True)
class Verb:
    """
    A verb of the command.

    Attributes
    ----------
    name : str
    run : callable
        Called with the parsed arguments; returns the exit status, or `None` for 0.
    summary : str
        A line for the list of verbs.
    description : str
    example : str
        A call of the verb, without ``ks4-ccd``.
    options : tuple
    """

    name: str
    run: Callable[[argparse.Namespace], int | None]
    summary: str
    description: str
    example: str
    options: tuple[Option | Exclusive, ...] = field(repr=False)


def complain(error: object) -> int:
    """Print an error, and return the exit status of a failure."""
    print(f"ks4-ccd: {error}", file=sys.stderr)
    return 1


def file_name(text: str) -> str:
    """Return the name of a file or folder to write, refuse an empty one."""
    if not text:
        # In Python an empty path is the current folder.
        msg = "expected the name of a file or folder, found an empty text"
        raise argparse.ArgumentTypeError(msg)
    return text


def hdu_in(text: str) -> int | str | tuple[str, int]:
    """Return the HDU that a text names: a number, EXTNAME, or EXTNAME,EXTVER."""
    if text.isdecimal():
        return int(text)
    name, _, version = text.rpartition(",")
    if name and version.strip().isdecimal():
        return name, int(version)
    return text


# Which map

MAPS = Option(
    "--maps",
    metavar="PATH",
    nargs="+",
    required=True,
    help="folders, archives (.tar, .tar.gz) or stores (.ks4maps) of maps",
)
# The same as a positional argument, for verbs that only need maps.
MAP_PATHS = Option("maps", metavar="PATH", nargs="+", help=MAPS.settings["help"])
OFFSETS = Option(
    "--offsets",
    metavar="PATH",
    nargs="+",
    help="folders, archives or stores of offset maps, by which positions are corrected",
)
FIELD = Option("--field", help="field of the map: for KS4 0403, 122-72 or 0403.122-72")
BAND = Option("--band", help="filter: for KS4 B, V, R or I")
MODE = Option(
    "--mode",
    default="single",
    help="how the stars were detected: for KS4 single or dual (Idual is the same)",
)
APERTURE = Option(
    "--aperture",
    default="APER5",
    help="aperture of the photometry: for KS4 FWHM, APER3, APER5, APER10 or AUTO",
)
KIND = Option(
    "--kind",
    choices=("zeropoint", "misalignment", "offset"),
    default="zeropoint",
    help="kind of the map",
)
IMAGE_SIZE = Option(
    "--image-size",
    type=int,
    nargs=2,
    metavar=("NX", "NY"),
    default=(22000, 22000),
    help="width and height in pixels of the whole image that the maps cover",
)

# Options of the calibration

SMOOTH = Option(
    "--smooth",
    type=float,
    nargs="?",
    const=0.8,
    metavar="CELLS",
    help="smooth the map, weighted by star counts, by a Gaussian with this standard "
    "deviation in cells; 0.8 without a number",
)
DENOISE = Option(
    "--denoise",
    nargs="*",
    metavar="AXIS=EDGES",
    help="apply the surface through the cells of the map, with steps at the edges of "
    "amplifiers and chips in X_IMAGE and Y_IMAGE: x=1375,2750 y=11000, none, or auto "
    "for those found in the map, also without a word",
)
METHOD = Option(
    "--method",
    choices=METHODS,
    default="bilinear",
    help="interpolation between cells; dr1 reproduces the calibration of DR1",
)
ZEROPOINT = Option(
    "--zeropoint",
    type=float,
    metavar="MAG",
    default=30.0,
    help="AB zero point of the result",
)
ZP_ERROR = Option(
    "--zp-error",
    choices=("propagate", "ignore"),
    default="propagate",
    help="whether the zero-point uncertainty is propagated into the result",
)
ERROR_KIND = Option(
    "--error-kind",
    choices=tuple(ERROR_KINDS),
    default="scatter",
    help="kind of the zero-point uncertainty: "
    + ", or ".join(
        f"the {kind.description} ({name})" for name, kind in ERROR_KINDS.items()
    ),
)
UNCALIBRATED = Option(
    "--uncalibrated",
    choices=("mask", "fill", "raise"),
    default="mask",
    help="how pixels or sources far from any cell with stars are treated: masked, "
    "calibrated by the nearest cells, or refused",
)
ORIGIN = Option(
    "--origin",
    type=float,
    nargs=2,
    metavar=("X", "Y"),
    help="first pixel of a cut-out in 0-based pixel coordinates of the whole image; "
    "a WCS, or positions on the sky, have to agree",
)
RECALIBRATE = Option(
    "--recalibrate",
    action="store_true",
    help="calibrate images even if they were calibrated before",
)
OVERWRITE = Option("--overwrite", action="store_true", help="replace existing files")
OUT = Option("-o", dest="out", type=file_name, metavar="DIR", help="output folder")

# Options that apply to any number of images.
CALIBRATION = (
    MAPS,
    APERTURE,
    MODE,
    Exclusive(SMOOTH, DENOISE),
    IMAGE_SIZE,
    OFFSETS,
    METHOD,
    ZEROPOINT,
    Option("--unit", help="unit of the calibrated fluxes, such as nJy"),
    Option(
        "--gain",
        type=float,
        help="for images in electrons (BUNIT): the gain of the detector in electron / "
        "adu, such as 4.8, with which they are converted to adu, the unit of the maps; "
        "not used for images in adu",
    ),
    ZP_ERROR,
    ERROR_KIND,
    UNCALIBRATED,
    Option(
        "--hdu",
        type=hdu_in,
        help="the image to calibrate, in files that contain several of one shape: the "
        "number of its HDU (0 is the primary one), its EXTNAME, or EXTNAME,EXTVER; the "
        "others are left out",
    ),
    RECALIBRATE,
    OVERWRITE,
)


def calibration_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `CALIBRATION` that need no library."""
    names = [own.name for own in fields(FileCalibrationOptions)] + ["overwrite"]
    options = {name: getattr(arguments, name) for name in names}
    options["denoise"] = denoise_in(arguments.denoise)
    if arguments.gain is not None:
        options["gain"] = as_gain(f"{arguments.gain!r} electron / adu")
    return options


def open_library(
    arguments: argparse.Namespace, paths: list[str] | None = None
) -> MapLibrary:
    """Return the library of ``--maps``, or of other paths."""
    columns, rows = arguments.image_size
    return MapLibrary(paths or arguments.maps, image_shape=(rows, columns))


def open_offsets(arguments: argparse.Namespace, opened: ExitStack) -> MapLibrary | None:
    """Return the library of ``--offsets``, `None` if it was not given."""
    if not arguments.offsets:
        return None
    return opened.enter_context(open_library(arguments, arguments.offsets))


# Catalogs

COLUMNS = Option(
    "--columns",
    choices=tuple(PRESETS),
    default="sextractor",
    help="program that wrote the catalog, which defines the names of the columns",
)
APERTURES = Option(
    "--apertures",
    metavar="NAME",
    nargs="+",
    help="apertures of the vector column (MAG_APER), in its order, if they are not "
    "FWHM APER3 APER5 APER10",
)
MAG_ZEROPOINT = Option(
    "--mag-zeropoint",
    type=float,
    metavar="MAG",
    help="zero point that the magnitudes of the catalog contain (SExtractor's "
    "MAG_ZEROPOINT), which is subtracted first: 30 if SExtractor ran with the MAGZERO "
    "of a KS4 header; by default 0, instrumental magnitudes",
)
RECIPE = Option(
    "--recipe",
    choices=RECIPES,
    default="default",
    help="recipe of the maps: surfaces fitted to all stars, or statistics of each cell "
    "as in DR1, without a correction of positions",
)
CELLS = Option(
    "--cells",
    type=int,
    nargs=2,
    metavar=("NX", "NY"),
    help="numbers of cells of the zero-point maps, by default 55 55, and 220 220 with "
    "edges; maps of positions have twice as many without edges",
)


def _color(text: str) -> tuple[str, str]:
    """Return the bands of a colour such as V-I."""
    first, separator, second = text.partition("-")
    if not (separator and first and second):
        msg = f"expected two bands such as V-I, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return first, second


COLOR = Option(
    "--color",
    type=_color,
    metavar="BAND-BAND",
    help="colour of the reference stars, such as V-I, on which zero points may depend",
)
# Sources, reference stars, and how they are matched.
MATCHING = (
    Option(
        "catalog",
        metavar="CATALOG",
        help="sources of one image, such as those of SExtractor, in any format that "
        "astropy reads",
    ),
    Option(
        "--reference",
        metavar="STARS",
        required=True,
        help="reference stars: a Gaia XP file of the KS4 pipeline, a table of the Gaia "
        "archive (ks4-ccd reference) or of VizieR, or one with RAJ2000, DEJ2000 and "
        "magnitudes such as Rmag",
    ),
    BAND.but(required=True),
    MODE,
    COLUMNS,
    APERTURES,
    Option(
        "--radius",
        type=float,
        metavar="ARCSEC",
        default=2.0,
        help="largest separation of a match in arcsec",
    ),
    Option(
        "--reference-columns",
        metavar="NAME=COLUMN",
        nargs="+",
        help="columns of the reference, if they are not found: mag=r_jkc_mag,"
        "error=e_r,flag=ok for the band (mag.V=... for another one), ra, dec, pm_ra, "
        "pm_dec, epoch (a column or a year), offset (a number to add to mag); or "
        f"{', '.join(REFERENCE_PRESETS)}: gaiaxp converts synthetic photometry of the "
        "Gaia archive to the system of KS4",
    ),
    Option(
        "--epoch",
        metavar="TIME",
        help="time of the image (a year or DATE-OBS), to which reference stars with "
        "proper motions are moved; by default that in the header of a FITS_LDAC file",
    ),
    Option(
        "--reference-epoch",
        type=float,
        metavar="YEAR",
        help="epoch of the reference positions, if no column contains it: 2016.0 for "
        "Gaia DR3",
    ),
    MAG_ZEROPOINT,
    IMAGE_SIZE,
)


def matching_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments of `~ks4_ccd.match_catalogs` in `MATCHING`."""
    return {
        "band": arguments.band,
        "columns": arguments.columns,
        "apertures": arguments.apertures,
        "reference_columns": _reference_columns(arguments),
        "epoch": arguments.epoch,
        "mag_zeropoint": arguments.mag_zeropoint,
    }


# Keys of --reference-columns: the parameters of `ReferenceColumns`, those by band in
# the singular.
_BY_BAND = {
    "mag": "magnitudes",
    "error": "errors",
    "flag": "flags",
    "offset": "offsets",
}
_NAMED = {name: name for name in ("ra", "dec", "pm_ra", "pm_dec", "epoch")}
_NAMED |= {"pmra": "pm_ra", "pmdec": "pm_dec"}


def _reference_columns(arguments: argparse.Namespace) -> str | dict[str, Any]:
    """Return the columns of ``--reference-columns`` and ``--reference-epoch``."""
    words = ",".join(arguments.reference_columns or ["auto"]).split(",")
    epoch = arguments.reference_epoch
    if len(words) == 1 and words[0] in REFERENCE_PRESETS:
        if epoch is None:
            return words[0]
        if words[0] != "auto":
            msg = (
                "--reference-epoch cannot be given with --reference-columns "
                f"{words[0]}: expected columns, such as mag=r_jkc_mag"
            )
            raise OptionError(msg)
        return {"epoch": epoch}
    columns: dict[str, Any] = {} if epoch is None else {"epoch": epoch}
    for word in words:
        key, _, value = word.partition("=")
        kind, _, band = key.strip().partition(".")
        value = value.strip()
        if kind in _BY_BAND and value:
            own = _number_in(value) if kind == "offset" else value
            columns.setdefault(_BY_BAND[kind], {})[band or arguments.band] = own
        elif key.strip() in _NAMED and value:
            name = _NAMED[key.strip()]
            columns[name] = _number_in(value) if name == "epoch" else value
        else:
            msg = (
                "--reference-columns: expected one of "
                f"{', '.join(REFERENCE_PRESETS)}, or columns such as "
                "mag=r_jkc_mag,ra=RA with the names "
                f"{', '.join((*_BY_BAND, *_NAMED))}, got {word!r}"
            )
            raise OptionError(msg)
    return columns


def _number_in(text: str) -> float | str:
    """Return the number that a text contains, or the text."""
    try:
        return float(text)
    except ValueError:
        return text


def edges_option(name: str, content: str) -> Option:
    """Return an option for edges, which `edges_in` reads."""
    return Option(
        name,
        metavar="AXIS=EDGES",
        nargs="+",
        help=f"edges of {content}, in X_IMAGE and Y_IMAGE: x=1375,2750 y=11000",
    )


def denoise_in(words: list[str] | None) -> str | tuple[list[float], ...] | None:
    """Return the edges given by ``--denoise``, as the functions take them."""
    if words == []:
        return "auto"
    return words[0] if words in (["auto"], ["none"]) else edges_in(words, "--denoise")


def edges_in(
    words: list[str] | None, option: str
) -> tuple[list[float], list[float]] | None:
    """Return the edges given by an `edges_option` as 0-based pixel coordinates."""
    if words is None:
        return None
    edges: dict[str, list[float]] = {"x": [], "y": []}
    for word in words:
        axis, _, positions = word.partition("=")
        try:
            edges[axis.lower()] += [float(text) - 1 for text in positions.split(",")]
        except (KeyError, ValueError) as error:
            msg = f"{option} must be given as x=1375,2750 y=11000, got {word!r}"
            raise OptionError(msg) from error
    return edges["x"], edges["y"]
