# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The verb `build`: make maps from a catalog and reference stars."""

import argparse
from pathlib import Path

from astropy.table import Table

from ks4_ccd.cli._options import (
    CELLS,
    COLOR,
    FIELD,
    MATCHING,
    OUT,
    OVERWRITE,
    RECIPE,
    Option,
    Verb,
    edges_in,
    edges_option,
    matching_options,
)
from ks4_ccd.exceptions import FileWriteError
from ks4_ccd.mapmaking.builders import build_maps, build_misalignment_map
from ks4_ccd.mapmaking.matching import match_catalogs
from ks4_ccd.maps.key import MapKey

__all__ = ["VERB"]


def _run(arguments: argparse.Namespace) -> None:
    folder = Path(arguments.out)
    if folder.exists() and not folder.is_dir():
        msg = f"-o {folder} is a file: expected the folder in which to write the maps"
        raise FileWriteError(msg)
    first = MapKey("align", arguments.field, arguments.band, arguments.mode)
    if (folder / first.filename).exists() and not arguments.overwrite:
        msg = (
            f"{folder / first.filename} already exists: give another folder, or "
            "--overwrite"
        )
        raise FileWriteError(msg)
    columns, rows = arguments.image_size
    amplifier_edges = edges_in(arguments.edges, "--edges")
    chip_edges = edges_in(arguments.chip_edges, "--chip-edges")
    options = {
        "band": arguments.band,
        "columns": arguments.columns,
        "apertures": arguments.apertures,
        "mode": arguments.mode,
        "field": arguments.field,
        "recipe": arguments.recipe,
    }
    misalignment = None
    if arguments.single is not None:
        # The map of mode single is written under the name of the given mode.
        misalignment = build_misalignment_map(
            _matched(arguments.single, arguments),
            (rows, columns),
            **options,
            shape=arguments.cells and tuple(2 * n for n in arguments.cells),
        )
    matched = _matched(arguments.catalog, arguments)
    maps = build_maps(
        matched,
        (rows, columns),
        **options,
        shape=arguments.cells,
        chip_edges=chip_edges,
        amplifier_edges=amplifier_edges,
        color=arguments.color,
        misalignment=misalignment,
        progress=True,
    )
    files = [path for map_ in maps for path in map_.save(folder)]
    print(f"{len(matched)} stars -> {len(maps)} maps in {len(files)} files in {folder}")
    shown = f"--field {arguments.field} --band {arguments.band} --mode {arguments.mode}"
    print(f"draw one: ks4-ccd plot {folder} {shown} -o map.png")


def _matched(catalog: str, arguments: argparse.Namespace) -> Table:
    options = matching_options(arguments)
    return match_catalogs(catalog, arguments.reference, arguments.radius, **options)


VERB = Verb(
    "build",
    _run,
    "make the maps of an image from its catalog",
    "Match a source catalog with reference stars and make all maps: astrometric "
    "residuals (their lengths as in DR1, and a correction of both coordinates) and "
    "zero points in every aperture. The folder can be given as --maps.",
    "build sources.fits --reference gaiaxp.fits --field 0403 --band R -o maps",
    (
        *MATCHING,
        FIELD.but(required=True),
        RECIPE,
        Option(
            "--single",
            metavar="CATALOG",
            help="catalog of mode single, whose misalignment map DR1 contains in mode "
            "dual, too",
        ),
        edges_option("--edges", "amplifiers, at which zero points may have steps"),
        edges_option("--chip-edges", "chips, at which positions may have steps"),
        COLOR,
        CELLS,
        OVERWRITE,
        OUT.but(required=True),
    ),
)
