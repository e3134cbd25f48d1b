# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Measure the time to build maps and to calibrate catalogs, as ratios.

Run as ``python benchmarks/build.py``; it takes a minute or two.

- All maps of a field, band and mode with the recipe of DR1, three
  astrometric and five times three photometric arrays from 30,000 matched stars,
  compared with a literal loop over the cells.
- The same from a million stars, compared with a hundred thousand.
- A catalog of a million rows with five apertures, compared with plain indexing
  and addition (``benchmarks/catalog.py``).
"""

import argparse
import time

import catalog
import numpy as np
from _race import race, report
from astropy.stats import sigma_clip
from astropy.table import Table

from ks4_ccd import build_maps
from ks4_ccd.ks4.names import APERTURES

SIZE, CELLS = 22000, 55


def make_stars(n, rng):
    """Return matched stars as the pipeline writes them."""
    x, y = rng.uniform(0.5, SIZE + 0.5, (2, n))
    mag = rng.uniform(14, 19, n)
    table = Table({"X_IMAGE": x, "Y_IMAGE": y, "Rmag": mag, "Vmag": mag})
    table["e_Rmag"] = 0.002
    for aperture in APERTURES:
        table[f"MAG_{aperture}"] = mag - 30 + 0.03 * rng.normal(size=n)
        table[f"MAGERR_{aperture}"] = 0.01
    table["CLASS_STAR"] = 0.98
    table["FLAGS"] = table["IMAFLAGS_ISO"] = 0
    table["dra"], table["ddec"] = 0.05 * rng.normal(size=(2, n))
    table["sep"] = np.hypot(table["dra"], table["ddec"]) / 3600
    return table


def literal_loop(table):
    """Compute the maps cell by cell, as the pipeline of the survey does."""
    x, y, sep = (np.array(table[name]) for name in ("X_IMAGE", "Y_IMAGE", "sep"))
    n, size, padding = 2 * CELLS, SIZE // (2 * CELLS), 400
    align, alerr, astar = np.zeros((3, n, n))
    for i in range(n):
        for j in range(n):
            inside = (x >= i * size - padding) & (x < (i + 1) * size + padding)
            inside &= (y >= j * size - padding) & (y < (j + 1) * size + padding)
            found = sep[inside]
            if found.size:
                align[i, j] = 3600 * np.median(found)
                alerr[i, j] = 3600 * np.std(found)
            astar[i, j] = found.size
    maps = [align, alerr, astar]
    size = SIZE // CELLS
    for aperture in APERTURES:
        difference = np.array(table["Rmag"] - table[f"MAG_{aperture}"])
        zp, zperr, pstar = np.full((CELLS, CELLS), 30.0), *np.zeros((2, CELLS, CELLS))
        for i in range(CELLS):
            for j in range(CELLS):
                inside = (x >= i * size) & (x < (i + 1) * size)
                inside &= (y >= j * size) & (y < (j + 1) * size)
                inside &= sep < max(0.5 / 3600, align[i, j])
                if inside.any():
                    left = sigma_clip(difference[inside], sigma=2, maxiters=None)
                    zp[i, j] = np.ma.median(left)
                    zperr[i, j] = np.ma.std(left)
                    pstar[i, j] = left.count()
        maps += [zp, zperr, pstar]
    return maps


def check_equal(ours, literal):
    """Raise an error if the results differ."""
    arrays = [part for m in ours for part in (m.values, m.error, m.count)]
    for ours_array, array in zip(arrays, literal, strict=True):
        np.testing.assert_allclose(ours_array, array, rtol=0, atol=1e-12)


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--repeats", type=int, default=3, help="runs of each")
    arguments = parser.parse_args()
    rng = np.random.default_rng(11)

    def dr1(table):
        return build_maps(table, (SIZE, SIZE), band="R", field="0403", recipe="dr1")

    stars = make_stars(30_000, rng)
    start = time.perf_counter()
    literal = literal_loop(stars)
    loop = time.perf_counter() - start
    check_equal(dr1(stars), literal)
    (ours,) = race(arguments.repeats, lambda: dr1(stars))
    print(f"  (30,000 stars: literal loop {loop:.1f} s, recipe dr1 {ours:.3f} s)")
    report("literal loop / recipe dr1, 30,000 stars", loop / ours, 50, most=False)

    few, many = make_stars(10**5, rng), make_stars(10**6, rng)
    tenth, whole = race(arguments.repeats, lambda: dr1(few), lambda: dr1(many))
    report("recipe dr1, 1e6 stars / 1e5 stars", whole / tenth, 15)

    start = time.perf_counter()
    build_maps(stars, (SIZE, SIZE), band="R", field="0403")
    print(f"  (default recipe, 30,000 stars: {time.perf_counter() - start:.1f} s)")
    catalog.run(10**6, arguments.repeats)


if __name__ == "__main__":
    main()
