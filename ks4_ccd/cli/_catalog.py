# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The verb about catalogs."""

from contextlib import ExitStack
from pathlib import Path

from ks4_ccd.catalogs.columns import PRESETS
from ks4_ccd.cli._options import (
    add_mag_zeropoint,
    add_verb,
    file_name,
    open_library,
)
from ks4_ccd.ks4.names import BANDS, MODES

__all__ = ["add_catalog"]

_COMPRESSED = (".gz", ".fz", ".bz2", ".xz", ".z", ".zip")
# Formats that are read, and written by nobody but SExtractor.
_READ_ONLY = (".cat", ".ldac", ".sex", ".txt", ".dat", "")


def add_catalog(verbs):
    verb = add_verb(
        verbs,
        "catalog",
        _catalog,
        "calibrate the magnitudes and positions of a catalog",
        "Find the maps of the catalog's field and band for all its apertures, and "
        "write a copy with calibrated magnitudes, their zero points, and columns that "
        "tell how good both they and the positions are.",
    )
    verb.add_argument(
        "table",
        metavar="TABLE",
        help="a catalog in any format that astropy reads, or one of SExtractor's",
    )
    verb.add_argument(
        "--maps",
        metavar="PATH",
        nargs="+",
        required=True,
        help="folders, archives (.tar, .tar.gz) or stores (.ks4maps) with the maps",
    )
    verb.add_argument("--field", help="the field, if the table does not name it")
    verb.add_argument(
        "--band", choices=BANDS, help="the band, if the table does not name it"
    )
    verb.add_argument(
        "--mode", choices=(*MODES, "Idual"), default="single", help="mode of the maps"
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
        "--offsets",
        metavar="PATH",
        nargs="+",
        help="where offset maps are, if they are not among the maps; "
        "'ignore' leaves positions as they are",
    )
    verb.add_argument(
        "--smooth",
        type=float,
        nargs="?",
        const=0.8,
        metavar="CELLS",
        help="smooth the zero points, weighted by star counts, on this scale (by "
        "itself, 0.8)",
    )
    verb.add_argument(
        "--method",
        choices=("bilinear", "nearest", "dr1"),
        default="bilinear",
        help="interpolation between cells; dr1 repeats what the release did",
    )
    verb.add_argument(
        "--zp-error",
        choices=("propagate", "ignore"),
        default="propagate",
        help="whether the zero point's error goes into those of magnitudes",
    )
    verb.add_argument(
        "--error-kind",
        choices=("scatter", "median"),
        default="scatter",
        help="that error: how far a star lies from the map (scatter), or the standard "
        "error of the map's value (median)",
    )
    verb.add_argument(
        "--uncalibrated",
        choices=("mask", "fill", "raise"),
        default="mask",
        help="what becomes of sources far from any cell with stars",
    )
    verb.add_argument("--flux", action="store_true", help="add fluxes in nJy")
    add_mag_zeropoint(verb)
    verb.add_argument(
        "--origin",
        type=float,
        nargs=2,
        metavar=("X", "Y"),
        help="for a cut-out, its first pixel on the whole stack, from 0; the sky "
        "positions in the table have to agree",
    )
    verb.add_argument(
        "--image-size",
        type=int,
        nargs=2,
        metavar=("NX", "NY"),
        default=(22000, 22000),
        help="pixels of the whole stacks that the maps cover",
    )
    verb.add_argument(
        "--recalibrate",
        action="store_true",
        help="calibrate a catalog of an image that was calibrated before, or its "
        "fluxes once more; magnitudes that contain zero points (ZP_ columns) never "
        "get a second one",
    )
    verb.add_argument("--overwrite", action="store_true", help="replace existing files")
    verb.add_argument(
        "-o",
        dest="out",
        type=file_name,
        metavar="OUT",
        help="the file to write, in the format that its suffix tells; by default "
        "TABLE_cal beside the table, in its format",
    )


def _catalog(arguments):
    from ks4_ccd.catalogs.calibration import calibrate_catalog
    from ks4_ccd.files.tables import read_table, write_table

    source = Path(arguments.table)
    target = _target_of(source) if arguments.out is None else Path(arguments.out)
    names = ("columns", "apertures", "field", "band", "mode", "smooth", "method")
    names += ("zp_error", "error_kind", "uncalibrated", "flux", "origin")
    names += ("recalibrate", "mag_zeropoint")
    options = {name: getattr(arguments, name) for name in names}
    table = read_table(source)
    with ExitStack() as opened:
        library = opened.enter_context(open_library(arguments))
        offsets = arguments.offsets
        if offsets == ["ignore"]:
            offsets = "ignore"
        elif offsets:
            offsets = opened.enter_context(open_library(arguments, offsets))
        calibrated = calibrate_catalog(table, library, offsets=offsets, **options)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_table(calibrated, target, arguments.overwrite)
    print(f"{source} -> {target}")


def _target_of(source):
    """Return ``TABLE_cal`` with the suffix of a format that can be written."""
    if source.suffix.lower() in _COMPRESSED:
        source = source.with_suffix("")
    suffix = ".fits" if source.suffix.lower() in _READ_ONLY else source.suffix
    return source.with_name(f"{source.stem}_cal{suffix}")
