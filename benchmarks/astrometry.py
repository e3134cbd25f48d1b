# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Compare the time to apply offset maps with that of transformations in astropy.

Run as ``python benchmarks/astrometry.py [--points 4000000] [--repeats 5]``.
Each ratio is that of the best times of several alternating runs.
"""

import argparse
import copy

import gwcs
import numpy as np
from _race import race, report
from astropy.modeling.models import Tabular2D
from astropy.wcs import WCS

from ks4_ccd import (
    LookupDistortion,
    MapGrid,
    OffsetMap,
    add_lookup_tables,
    apply_offsets,
)

SIZE, CELLS = 22000, 110


def make_wcs():
    """Return the WCS of a stack."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = 0.0, -62.0
    wcs.wcs.crpix = [(SIZE + 1) / 2] * 2
    wcs.wcs.cdelt = -0.4 / 3600, 0.4 / 3600
    wcs.array_shape = SIZE, SIZE
    wcs.wcs.set()
    return wcs


def make_offsets(rng):
    """Return offsets of 0.08 arcsec that vary smoothly over some cells."""
    phase = rng.uniform(0, 2 * np.pi, (2, 2))
    i = np.arange(CELLS)
    waves = np.sin(i[:, None] / 9 + phase[:, :1, None]) + np.cos(
        i / 7 + phase[:, 1:, None]
    )
    dra, ddec = 0.05 * waves + rng.normal(0, 0.01, (2, CELLS, CELLS))
    return OffsetMap(dra, ddec, grid=MapGrid((CELLS, CELLS), SIZE / CELLS))


def lookup(tables, x, y, repeats):
    """Compare the lookup alone with C code of astropy and with Tabular2D."""
    distortion = LookupDistortion.from_wcs(tables)
    grid = zip(distortion.first, distortion.step, strict=True)
    nodes = [first + step * np.arange(CELLS) for first, step in grid]
    tabular = [
        Tabular2D(
            points=nodes,
            lookup_table=table.T,
            bounds_error=False,
            fill_value=None,
        )
        for table in (distortion.dx, distortion.dy)
    ]
    ours, fits = race(
        repeats, lambda: distortion(x, y), lambda: tables.pix2foc(x, y, 0)
    )
    report("LookupDistortion / pix2foc", ours / fits, 1)
    (pair,) = race(1, lambda: [model(x, y) for model in tabular])
    report("a pair of Tabular2D / LookupDistortion", pair / ours, 8, most=False)


def inverse(wcs, tables, offsets, x, y, repeats):
    """Compare inverses with all_world2pix, and the gWCS with one without the step."""
    distortion = LookupDistortion.from_wcs(tables)
    moved = distortion(x, y)
    corrected = apply_offsets(wcs, offsets)
    plain = gwcs.WCS(
        [
            (corrected.input_frame, corrected.pipeline[1].transform),
            (corrected.output_frame, None),
        ]
    )
    boxed = copy.deepcopy(corrected)
    # Both have a bounding box, which takes as much time as the step.
    for one in (plain, boxed):
        one.bounding_box = (-0.5, SIZE - 0.5), (-0.5, SIZE - 0.5)
    sky = corrected(x, y)
    back, whole, fits = race(
        repeats,
        lambda: distortion.inverse(*moved),
        lambda: corrected.invert(*sky),
        lambda: tables.all_world2pix(*sky, 0, tolerance=1e-9),
    )
    report("inverse of LookupDistortion / all_world2pix", back / fits, 0.5)
    report("gWCS.invert / all_world2pix", whole / fits, 1.5)
    there, without = race(repeats, lambda: boxed(x, y), lambda: plain(x, y))
    report("gWCS / gWCS without the step", there / without, 1.25)


def main():
    """Run all benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--points", type=int, default=4_000_000, help="positions")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each")
    arguments = parser.parse_args()
    rng = np.random.default_rng(7)
    wcs, offsets = make_wcs(), make_offsets(rng)
    tables = add_lookup_tables(wcs, offsets)
    x, y = rng.uniform(0, SIZE - 1, (2, arguments.points))
    lookup(tables, x, y, arguments.repeats)
    part = arguments.points // 4
    inverse(wcs, tables, offsets, x[:part], y[:part], arguments.repeats)


if __name__ == "__main__":
    main()
