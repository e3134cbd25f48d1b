# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Measure the throughput of batches on one and two workers, and their memory.

Run as ``python benchmarks/batch.py [--repeats 3] [--skip-stack]``. It requires two
cores and 2.2 GB of disk in the current folder, or 4 GB with the full stack.

The start of the workers, a second or two per batch, is not included. Checksums,
manifest and scheduling are included.
"""

import argparse
import os
import shutil
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from _race import race, report
from astropy.io import fits

from ks4_ccd import (
    MapGrid,
    MapKey,
    MapLibrary,
    ZeroPointMap,
    calibrate_many,
)
from ks4_ccd.survey._cluster import workers_for

CELLS = 55
IMAGES = 16
SIZE = 4000
STACK = 22000
HEADER = fits.Header({"FIELD1": "0403", "FILTER": "R"})


def write_maps(folder, size, rng):
    """Write a map as files of DR1, and return a library of them."""
    count = rng.poisson(1.6, (CELLS, CELLS))
    values = np.where(count > 0, 30 + rng.normal(0, 0.03, count.shape), 30)
    error = np.where(count > 1, rng.uniform(0.01, 0.03, count.shape), 0)
    grid = MapGrid.for_image(count.shape, (size, size))
    key = MapKey("zp", "0403", "R", "single", "APER5")
    ZeroPointMap(values, error, count, grid=grid, key=key).save(folder)
    return MapLibrary(folder, image_shape=(size, size))


def write_image(path, size, rng):
    """Write a float32 image in bands of rows."""
    band = rng.standard_normal((100, size), dtype=np.float32).astype(">f4")
    whole = np.broadcast_to(band[0], (size, size))
    stream = fits.StreamingHDU(path, fits.PrimaryHDU(whole, HEADER).header)
    for _ in range(0, size, 100):
        stream.write(band)
    stream.close()
    return path


def calibrate(images, library, out, client):
    """Calibrate images into an empty folder."""
    shutil.rmtree(out, ignore_errors=True)
    table = calibrate_many(images, library, out, client=client, progress=False)
    assert set(table["outcome"]) == {"done"}
    return table


def scaling(folder, repeats, rng):
    """Calibrate a batch on one worker and on two."""
    library = write_maps(folder / "maps", SIZE, rng)
    images = [write_image(folder / f"{n:02d}.fits", SIZE, rng) for n in range(IMAGES)]
    out = folder / "out"
    with ExitStack() as opened:
        clients = [
            opened.enter_context(workers_for(None, number, IMAGES)) for number in (1, 2)
        ]
        for client in clients:
            calibrate(images[:4], library, out, client)
        os.sync()
        one, two = race(
            repeats, *(partial(calibrate, images, library, out, c) for c in clients)
        )
        skipping = partial(calibrate_many, images, library, out, client=clients[1])
        (again,) = race(repeats, skipping)
    print(f"  ({IMAGES} images of {SIZE} x {SIZE}: {one:.2f} s on 1, {two:.2f} s on 2)")
    print(f"  ({IMAGES * 3600 / two:.0f} such images per hour on 2 workers)")
    print(f"  (a second run: {again / IMAGES * 1000:.1f} ms per skipped image)")
    report("1 worker / 2 workers", one / two, 1.6, most=False)


def full_stack(folder, rng):
    """Calibrate a full stack on one worker."""
    library = write_maps(folder / "maps", STACK, rng)
    image = write_image(folder / "stack.fits", STACK, rng)
    os.sync()
    with workers_for(None, 1, 1) as client:
        (row,) = calibrate([image], library, folder / "out", client)
    seconds = row["seconds"]
    print(f"  (a stack of {STACK} x {STACK}: {seconds:.1f} s on 1 worker, ", end="")
    print(f"{3600 / seconds:.0f} per hour and worker)")
    report("resident memory of a worker, full stack [MB]", row["memory"], 500)


def main():
    """Run all benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--repeats", type=int, default=3, help="runs of each")
    parser.add_argument("--skip-stack", action="store_true", help="omit the full stack")
    arguments = parser.parse_args()
    rng = np.random.default_rng(7)
    with tempfile.TemporaryDirectory(dir=".") as name:
        scaling(Path(name), arguments.repeats, rng)
    if not arguments.skip_stack:
        with tempfile.TemporaryDirectory(dir=".") as name:
            full_stack(Path(name), rng)


if __name__ == "__main__":
    main()
