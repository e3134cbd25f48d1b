# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The verb `reference`: download reference stars from the Gaia archive."""

import argparse

from ks4_ccd.cli._field import position_in
from ks4_ccd.cli._options import OVERWRITE, Option, Verb, file_name
from ks4_ccd.exceptions import OptionError
from ks4_ccd.files.tables import write_table
from ks4_ccd.mapmaking.gaia import GAIA_ARCHIVE, reference_stars

__all__ = ["VERB"]


def _run(arguments: argparse.Namespace) -> None:
    words = arguments.where
    if len(words) > 2:
        msg = f"expected a KS4 field, or RA and DEC, got {' '.join(words)}"
        raise OptionError(msg)
    where = words[0] if len(words) == 1 else position_in(*words)
    stars = reference_stars(
        where,
        arguments.radius,
        magnitudes=arguments.magnitudes,
        service=arguments.service,
        refresh=arguments.refresh,
    )
    write_table(stars, arguments.out, arguments.overwrite)
    print(f"{len(stars)} stars with synthetic photometry -> {arguments.out}")


VERB = Verb(
    "reference",
    _run,
    "download reference stars from the Gaia archive",
    "Download the stars of Gaia DR3 with synthetic photometry in the circle around a "
    "KS4 field or a position, with positions, proper motions and magnitudes in 11 "
    "passbands. The file can be given as --reference. Downloaded tables are kept in a "
    "cache. Requires astroquery: pip install 'ks4_ccd[gaia]'.",
    "reference 0403 -o gaia_0403.fits",
    (
        Option(
            "where",
            metavar="FIELD or RA DEC",
            nargs="+",
            help="field, such as 0403 or 122-72; or a position in degrees, or as "
            "8:08:34 -72:18:00",
        ),
        Option(
            "--radius",
            type=float,
            metavar="DEG",
            help="radius in degrees; by default that of the circle around a KS4 stack",
        ),
        Option(
            "--magnitudes",
            type=float,
            nargs=2,
            metavar=("BRIGHT", "FAINT"),
            default=(14.0, 20.0),
            help="range of the G magnitude",
        ),
        Option(
            "--service",
            metavar="URL",
            default=GAIA_ARCHIVE,
            help="address of a TAP service with the tables of Gaia DR3",
        ),
        Option(
            "--refresh",
            action="store_true",
            help="download again what is in the cache",
        ),
        OVERWRITE,
        Option(
            "-o",
            dest="out",
            type=file_name,
            metavar="FILE",
            required=True,
            help="file for the table, in a format that astropy writes, such as .fits",
        ),
    ),
)
