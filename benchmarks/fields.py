# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Accuracy and speed of the maps that are built from the stars of a field.

Run with ``KS4_CCD_DATA=... python benchmarks/fields.py``; it takes half a minute, and
several minutes with ``--reference``.

- Residuals of zero points (mmag, a constant removed) and of offsets (mas) from the
  truth of the acceptance data, without edges and with given ones: at the nodes of the
  truth that are more than 30 pixels from an edge.
- CPU time of a field (five apertures, positions), and with ``--reference`` its ratio
  to that of another checkout of this repository. A process for each builds the same
  field in turns, on one thread.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from _race import report
from astropy.table import Table

SIZE = 22000
NEAR = 30  # pixels
# 0-based: the borders of the chips and amplifiers of the simulated camera.
CHIPS = (10999.0,), (10999.0,)
AMPLIFIERS = tuple(1375.0 * np.arange(1, 16) - 1), (10999.0,)
EDGES = {
    "no edges": {"chip_edges": None, "amplifier_edges": None},
    "given edges": {"chip_edges": CHIPS, "amplifier_edges": AMPLIFIERS},
}
TARGETS = {"no edges": 3.5, "given edges": 3.2}


def read_stars(data, band):
    """Return the matched stars of the field."""
    return Table.read(data / "catalogs" / f"matched.0000.{band}.single.fits")


def build(stars, band, edges):
    """Return all maps of the field."""
    # Imported here: a process imports the package of its own checkout.
    from ks4_ccd import build_maps

    return build_maps(stars, (SIZE, SIZE), band=band, field="0000", **EDGES[edges])


def residuals(maps, data, band):
    """Yield the name of each map and its residual, in mmag or mas."""
    with np.load(data / "truth" / f"truth_0000_{band}.npz") as file:
        # Counted from 1.
        grid, zeropoint, offset = file["grid"] - 1, file["zp"], file["offset"]
    far = np.ones(grid.size, dtype=bool)
    for edge in AMPLIFIERS[0]:
        far &= np.abs(grid - edge) > NEAR
    nodes = np.ix_(far, np.abs(grid - AMPLIFIERS[1][0]) > NEAR)
    x, y = (part[nodes] for part in np.meshgrid(grid, grid, indexing="ij"))
    for made in maps:
        starry = made.valid[made.grid.cell_of(x, y)]
        if type(made).__name__ == "ZeroPointMap":
            off = made.at(x, y) - zeropoint[nodes]
            yield made.key.aperture, 1e3 * np.std(off[starry])
        elif type(made).__name__ == "OffsetMap":
            # The truth is what was added, the map what is to be added.
            off = np.array(made.at(x, y)) + [part[nodes] for part in offset]
            yield "offset", 1e3 * np.sqrt(np.mean((off**2).sum(axis=0)[starry]))


def print_accuracy(data):
    """Print a row for each band and kind of edges."""
    for band in "RI":
        stars = read_stars(data, band)
        for edges in EDGES:
            found = dict(residuals(build(stars, band, edges), data, band))
            row = "  ".join(f"{name} {value:5.2f}" for name, value in found.items())
            print(f"{band}, {edges:11s}  {row}", flush=True)


def cpu_time(checkout, data, edges):
    """Return the CPU time of a process that builds the field with a checkout."""
    command = [sys.executable, __file__, "--child", edges, "--data", str(data)]
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    )
    package, seconds = done.stdout.split()
    if Path(package).resolve() != (checkout / "ks4_ccd").resolve():
        msg = f"expected the package of {checkout}, found {package}"
        raise RuntimeError(msg)
    return float(seconds)


def print_child(data, edges):
    """Print the folder of the package, and the CPU time of a field."""
    import ks4_ccd

    stars = read_stars(data, "R")
    start = time.process_time()
    build(stars, "R", edges)
    print(Path(ks4_ccd.__file__).parent, time.process_time() - start)


def print_speed(data, reference, repeats):
    """Print CPU times, and their ratios to those of a reference."""
    here = Path(__file__).resolve().parents[1]
    checkouts = [here] if reference is None else [here, reference]
    for edges in EDGES:
        times = np.array(
            [[cpu_time(c, data, edges) for c in checkouts] for _ in range(repeats)]
        )
        ours, *others = times.min(axis=0)
        print(f"  (R, {edges}: {ours:.2f} s of CPU time)", flush=True)
        for other in others:
            what = f"reference / all maps of a field, {edges}"
            report(what, other / ours, TARGETS[edges], most=False)


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--data", type=Path, help="folder of the acceptance data")
    parser.add_argument("--reference", type=Path, help="another checkout")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each")
    parser.add_argument("--child", choices=EDGES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    data = arguments.data or Path(os.environ["KS4_CCD_DATA"])
    if arguments.child:
        print_child(data, arguments.child)
        return
    print_accuracy(data)
    print_speed(data, arguments.reference, arguments.repeats)


if __name__ == "__main__":
    main()
