# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Compare the time to calibrate catalogs with that of indexing and addition alone.

Run as ``python benchmarks/catalog.py [--rows 1000000] [--repeats 5]``. The
reference computes the cells of all sources once, looks up zero point and error in
arrays for five apertures, adds the former and combines the latter in quadrature;
then it looks up the misalignment, its error and the numbers of stars. It reads
and creates no table, and does not treat missing values. Runs alternate.
"""

import argparse

import numpy as np
from _race import race, report
from astropy.table import Table
from astropy.wcs import WCS

from ks4_ccd import (
    MapGrid,
    MapKey,
    MisalignmentMap,
    ZeroPointMap,
    calibrate_catalog,
    field_center,
)
from ks4_ccd.ks4.names import APERTURES

SIZE = 22000
CELLS = 55


def make_maps(rng):
    """Return the maps of a field like those of DR1: a fifth of the cells is empty."""
    count = rng.poisson(1.6, (CELLS, CELLS))
    grid = MapGrid.for_image(count.shape, (SIZE, SIZE))
    maps = []
    for aperture in APERTURES:
        values = np.where(count > 0, 30 + rng.normal(0, 0.03, count.shape), 30)
        error = np.where(count > 1, rng.uniform(0.01, 0.03, count.shape), 0)
        key = MapKey("zp", "0403", "R", "single", aperture)
        maps.append(ZeroPointMap(values, error, count, grid=grid, key=key))
    fine = 2 * CELLS, 2 * CELLS
    separation, error = rng.uniform(0.01, 0.2, (2, *fine))
    count = rng.integers(1, 40, fine)
    grid = MapGrid.for_image(fine, (SIZE, SIZE))
    maps.append(MisalignmentMap(separation, error, count, grid=grid))
    return maps


def make_table(rows, rng):
    """Return a catalog as SExtractor writes it, one magnitude in fifty missing."""
    x, y = rng.uniform(0.5, SIZE + 0.5, (2, rows)).astype(np.float32)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    center = field_center("0403")
    wcs.wcs.crval = center.ra.deg, center.dec.deg
    wcs.wcs.crpix = (SIZE + 1) / 2, (SIZE + 1) / 2
    wcs.wcs.cdelt = -0.4 / 3600, 0.4 / 3600
    ra, dec = wcs.wcs_pix2world(x, y, 1)
    magnitudes = rng.normal(-9, 2, (rows, 5)).astype(np.float32)
    errors = rng.uniform(0.001, 0.3, (rows, 5)).astype(np.float32)
    missing = rng.random((rows, 5)) < 0.02
    magnitudes[missing] = errors[missing] = 99
    return Table(
        {
            "NUMBER": np.arange(rows),
            "ALPHA_J2000": ra,
            "DELTA_J2000": dec,
            "X_IMAGE": x,
            "Y_IMAGE": y,
            "MAG_AUTO": magnitudes[:, 4],
            "MAGERR_AUTO": errors[:, 4],
            "MAG_APER": magnitudes[:, :4],
            "MAGERR_APER": errors[:, :4],
            "FLAGS": np.zeros(rows, np.int16),
        }
    )


def bare_indexing(table, maps):
    """Return a function with the minimum of operations of any calibration."""
    *zeropoints, misalignment = maps
    x, y = np.array(table["X_IMAGE"]), np.array(table["Y_IMAGE"])
    vectors = (np.asarray(table[f"{name}_APER"]) for name in ("MAG", "MAGERR"))
    columns = [[np.ascontiguousarray(part) for part in v.T] for v in vectors]
    for name, parts in zip(("MAG", "MAGERR"), columns, strict=True):
        parts.append(np.array(table[f"{name}_AUTO"]))

    def cells(n):
        edges = np.arange(n + 1) * (SIZE / n)
        return tuple(np.clip(np.digitize(p, edges) - 1, 0, n - 1) for p in (x, y))

    def run():
        result = []
        cell = cells(CELLS)
        for zpmap, magnitude, error in zip(zeropoints, *columns, strict=True):
            zp, zp_error = zpmap.values[cell], zpmap.error[cell]
            result += [magnitude + zp, np.hypot(error, zp_error), zp, zp_error]
        result.append(zpmap.count[cell])
        cell = cells(2 * CELLS)
        arrays = misalignment.values, misalignment.error, misalignment.count
        return result + [array[cell] for array in arrays]

    return run


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rows", type=int, default=10**6, help="sources")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each")
    arguments = parser.parse_args()
    run(arguments.rows, arguments.repeats)


def run(rows, repeats):
    """Compare calibrate_catalog with plain indexing."""
    rng = np.random.default_rng(7)
    maps, table = make_maps(rng), make_table(rows, rng)
    options = {
        "bilinear": {},
        "dr1": {"method": "dr1"},
        "bilinear, error of the median": {"error_kind": "median"},
        "bilinear, with fluxes": {"flux": True},
    }
    calls = [lambda o=o: calibrate_catalog(table, maps, **o) for o in options.values()]
    bare, *ours = race(repeats, bare_indexing(table, maps), *calls)
    print(f"  ({rows} rows, 5 apertures; plain indexing {bare:.3f} s)")
    for name, seconds in zip(options, ours, strict=True):
        report(f"calibrate_catalog ({name}) / indexing", seconds / bare, 3)


if __name__ == "__main__":
    main()
