# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The verb that makes maps."""

from pathlib import Path

from ks4_ccd.catalogs.columns import PRESETS
from ks4_ccd.cli._options import (
    add_edges,
    add_epochs,
    add_mag_zeropoint,
    add_verb,
    edges_in,
    file_name,
    reference_columns,
)
from ks4_ccd.exceptions import KS4Error
from ks4_ccd.ks4.names import BANDS, MODES
from ks4_ccd.mapmaking.builders import RECIPES, build_maps, build_misalignment_map
from ks4_ccd.mapmaking.matching import match_catalogs
from ks4_ccd.maps.key import MapKey

__all__ = ["add_build"]


def add_build(verbs):
    verb = add_verb(
        verbs,
        "build",
        _build,
        "make the maps of an image from its catalog",
        "Match a source catalog with reference stars and make all maps: how far "
        "positions are off (as the release, and as a correction of both coordinates) "
        "and the zero points in every aperture. The folder can be given wherever "
        "--maps is asked for.",
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
    verb.add_argument("--field", required=True, help="0403, 122-72 or 0403.122-72")
    verb.add_argument("--band", required=True, choices=BANDS, help="the filter")
    verb.add_argument(
        "--mode", choices=(*MODES, "Idual"), default="single", help="of the catalog"
    )
    verb.add_argument(
        "--recipe",
        choices=RECIPES,
        default="default",
        help="how: by surfaces fitted to all stars, or cell by cell as the release "
        "did, which has no correction of positions",
    )
    verb.add_argument(
        "--single",
        metavar="CATALOG",
        help="the catalog of mode single, whose map of positions the release stores "
        "in mode dual, too",
    )
    add_edges(verb, "--edges", "amplifiers, where zero points may have steps")
    add_edges(verb, "--chip-edges", "chips, where positions may have steps")
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
        "--cells",
        type=int,
        nargs=2,
        metavar=("NX", "NY"),
        help="cells of the zero-point maps, by default 55 55, and 220 220 with edges; "
        "maps of positions have twice as many without edges",
    )
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
        required=True,
        help="the folder",
    )


def _build(arguments):
    folder = Path(arguments.out)
    if folder.exists() and not folder.is_dir():
        msg = f"-o {folder} is a file: give the folder that the maps are to be in"
        raise KS4Error(msg)
    first = MapKey("align", arguments.field, arguments.band, arguments.mode)
    if (folder / first.filename).exists() and not arguments.overwrite:
        msg = f"{folder / first.filename} exists: give another folder, or --overwrite"
        raise KS4Error(msg)
    columns, rows = arguments.image_size
    amplifier_edges = edges_in(arguments.edges, "--edges")
    chip_edges = edges_in(arguments.chip_edges, "--chip-edges")
    options = {
        "band": arguments.band,
        "columns": arguments.columns,
        "apertures": arguments.apertures,
    }
    misalignment = None
    if arguments.single is not None:
        misalignment = build_misalignment_map(
            _matched(arguments.single, arguments),
            (rows, columns),
            **options,
            # The map is that of mode single, the name of its file is not.
            mode=arguments.mode,
            field=arguments.field,
            shape=arguments.cells and [2 * n for n in arguments.cells],
            recipe=arguments.recipe,
        )
    matched = _matched(arguments.catalog, arguments)
    maps = build_maps(
        matched,
        (rows, columns),
        **options,
        mode=arguments.mode,
        field=arguments.field,
        shape=arguments.cells,
        recipe=arguments.recipe,
        chip_edges=chip_edges,
        amplifier_edges=amplifier_edges,
        misalignment=misalignment,
        progress=True,
    )
    files = [path for map_ in maps for path in map_.save(folder)]
    print(f"{len(matched)} stars -> {len(maps)} maps in {len(files)} files in {folder}")
    shown = f"--field {arguments.field} --band {arguments.band} --mode {arguments.mode}"
    print(f"draw one: ks4-ccd plot {folder} {shown} -o map.png")


def _matched(catalog, arguments):
    return match_catalogs(
        catalog,
        arguments.reference,
        arguments.radius,
        band=arguments.band,
        columns=arguments.columns,
        apertures=arguments.apertures,
        reference_columns=reference_columns(arguments),
        epoch=arguments.epoch,
        mag_zeropoint=arguments.mag_zeropoint,
    )
