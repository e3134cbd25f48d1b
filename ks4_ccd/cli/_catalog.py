# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The verb `catalog`: apply maps to a source table."""

import argparse
from contextlib import ExitStack
from pathlib import Path

from ks4_ccd.catalogs.calibration import calibrate_catalog
from ks4_ccd.cli._options import (
    APERTURES,
    BAND,
    COLUMNS,
    DENOISE,
    ERROR_KIND,
    FIELD,
    IMAGE_SIZE,
    MAG_ZEROPOINT,
    MAPS,
    METHOD,
    MODE,
    OFFSETS,
    ORIGIN,
    OUT,
    OVERWRITE,
    RECALIBRATE,
    SMOOTH,
    UNCALIBRATED,
    ZP_ERROR,
    Exclusive,
    Option,
    Verb,
    denoise_in,
    open_library,
    open_offsets,
)
from ks4_ccd.files.tables import read_table, write_table

__all__ = ["VERB"]

_COMPRESSED = (".gz", ".fz", ".bz2", ".xz", ".z", ".zip")
# Formats that are read, but written only by SExtractor.
_READ_ONLY = (".cat", ".ldac", ".sex", ".txt", ".dat", "")


def _run(arguments: argparse.Namespace) -> None:
    source = Path(arguments.table)
    target = _target_of(source) if arguments.out is None else Path(arguments.out)
    names = (
        *("columns", "apertures", "field", "band", "mode", "smooth", "method"),
        *("zp_error", "error_kind", "uncalibrated", "flux", "origin"),
        *("recalibrate", "mag_zeropoint"),
    )
    options = {name: getattr(arguments, name) for name in names}
    options["denoise"] = denoise_in(arguments.denoise)
    table = read_table(source)
    with ExitStack() as opened:
        library = opened.enter_context(open_library(arguments))
        is_ignored = arguments.offsets == ["ignore"]
        offsets = "ignore" if is_ignored else open_offsets(arguments, opened)
        options |= {"offsets": offsets, "color": arguments.color_column}
        calibrated = calibrate_catalog(table, library, **options)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_table(calibrated, target, arguments.overwrite)
    print(f"{source} -> {target}")


def _target_of(source: Path) -> Path:
    """Return ``TABLE_cal`` with the suffix of a format that can be written."""
    if source.suffix.lower() in _COMPRESSED:
        source = source.with_suffix("")
    suffix = ".fits" if source.suffix.lower() in _READ_ONLY else source.suffix
    return source.with_name(f"{source.stem}_cal{suffix}")


VERB = Verb(
    "catalog",
    _run,
    "calibrate the magnitudes and positions of a catalog",
    "Find the maps of the catalog's field and band for all its apertures, and write a "
    "copy with calibrated magnitudes, their zero points, and columns with the "
    "uncertainties and flags of both magnitudes and positions.",
    "catalog sources.fits --maps KS4_DR1_*.tar.gz --field 0403 --band R",
    (
        Option(
            "table",
            metavar="TABLE",
            help="a catalog in any format that astropy reads, or one of SExtractor's",
        ),
        MAPS,
        FIELD.but(help=f"{FIELD.settings['help']}; by default that of the table"),
        BAND.but(help=f"{BAND.settings['help']}; by default that of the table"),
        MODE,
        COLUMNS,
        APERTURES,
        OFFSETS.but(
            help="folders, archives or stores of offset maps, if they are not among "
            "the maps; 'ignore' leaves positions unchanged"
        ),
        Exclusive(SMOOTH, DENOISE),
        METHOD,
        ZP_ERROR,
        ERROR_KIND,
        UNCALIBRATED,
        Option("--flux", action="store_true", help="add fluxes in nJy"),
        MAG_ZEROPOINT,
        Option(
            "--color-column",
            metavar="COLUMN",
            help="column with the colours of the sources, for maps with a colour term",
        ),
        ORIGIN,
        IMAGE_SIZE,
        RECALIBRATE.but(
            help="calibrate a catalog of an image that was calibrated before, or its "
            "fluxes again; magnitudes that contain zero points (ZP_ columns) are "
            "always refused"
        ),
        OVERWRITE,
        OUT.but(
            metavar="OUT",
            help="output file, in the format of its suffix; by default TABLE_cal "
            "beside the table, in its format",
        ),
    ),
)
