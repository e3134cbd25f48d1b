# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Compare the time to apply zero-point maps with that of minimal operations.

Run as ``python benchmarks/zeropoint.py [--size 22000] [--repeats 3]``. It
requires about 12 GB of memory and 6 GB of disk at the full size. Each ratio is that
of the best times of several alternating runs, so that other load on the machine
affects both.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
from _race import race, report
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from scipy.ndimage import zoom

from ks4_ccd import MapGrid, ZeroPointMap, apply_zeropoint

CELLS = 55
SCALE = 0.4 * np.log(10)


def make_map(size, rng):
    """Return a map like those of DR1: a fifth of its cells is empty."""
    count = rng.poisson(1.6, (CELLS, CELLS))
    values = np.where(count > 0, 30 + rng.normal(0, 0.03, count.shape), 30)
    error = np.where(count > 1, rng.uniform(0.01, 0.03, count.shape), 0)
    grid = MapGrid.for_image((CELLS, CELLS), (size, size))
    return ZeroPointMap(values, error, count, grid=grid)


def make_ccd(size, rng, uncertainty):
    """Return a float32 image, optionally with an uncertainty and a mask."""
    data = rng.standard_normal((size, size), dtype=np.float32)
    if not uncertainty:
        return CCDData(data, unit="adu")
    sigma = np.abs(data) + np.float32(1)
    return CCDData(
        data, unit="adu", uncertainty=StdDevUncertainty(sigma), mask=sigma > 5
    )


def in_memory(size, repeats, rng):
    """Compare the calibration of a full stack with a product by a number."""
    zpmap = make_map(size, rng)
    ccd = make_ccd(size, rng, uncertainty=True)
    data, sigma = ccd.data, ccd.uncertainty.array
    alone = CCDData(data, unit="adu")
    number = np.float32(1.1)
    ours, bare = race(
        repeats, lambda: apply_zeropoint(alone, zpmap), lambda: data * number
    )
    print(f"  (data alone {ours:.2f} s, data * 1.1 {bare:.2f} s)")
    report("data alone / data * float32(1.1)", ours / bare, 2.5)
    ours, bare = race(
        repeats,
        lambda: apply_zeropoint(ccd, zpmap),
        lambda: (data * number, sigma * number),
    )
    print(f"  (three planes {ours:.2f} s, two products {bare:.2f} s)")
    report("data, uncertainty and mask / two planes * float32(1.1)", ours / bare, 4)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    result = apply_zeropoint(ccd, zpmap)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    planes = result.data.nbytes + result.uncertainty.array.nbytes + result.mask.nbytes
    extra = (peak - before - planes) / 1e6
    report("extra memory beyond the result's planes [MB]", extra, 100)


def against_astropy(size, repeats, rng):
    """Compare the calibration with a product by an image of factors in astropy."""
    size = size // CELLS * CELLS
    zpmap = make_map(size, rng)
    ccd = make_ccd(size, rng, uncertainty=True)

    def make_factor():
        factor = 10 ** (0.4 * (30 - zpmap.values))
        planes = [
            zoom(plane, size // CELLS, order=1).T.astype(np.float32)
            for plane in (factor, SCALE * factor * zpmap.error)
        ]
        return CCDData(planes[0], unit="", uncertainty=StdDevUncertainty(planes[1]))

    factor = make_factor()
    ours, ready, made = race(
        repeats,
        lambda: apply_zeropoint(ccd, zpmap),
        lambda: ccd.multiply(factor),
        lambda: ccd.multiply(make_factor()),
    )
    print(
        f"  ({size} px: {ours:.2f} s, multiply {ready:.2f} s, with zoom {made:.2f} s)"
    )
    report("ccd.multiply(factor) / apply_zeropoint", ready / ours, 2, most=False)
    report(
        "zoom and ccd.multiply(factor) / apply_zeropoint", made / ours, 8, most=False
    )


_CHILD = """
import sys, time
from ks4_ccd import MapLibrary, calibrate_file
size = int(sys.argv[4])
start = time.perf_counter()
library = MapLibrary(sys.argv[3], image_shape=(size, size))
calibrate_file(sys.argv[1], sys.argv[2], library, overwrite=True, progress=False)
print(time.perf_counter() - start)
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


def from_file_to_file(size, gzip_size, repeats, rng):
    """Compare the calibration of a file with a copy, and of a gzipped one with zcat."""
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        source, copy = folder / "raw.fits", folder / "copy.fits"
        write_stack(source, size, rng)
        copying = f"cp {source} {copy} && sync {copy}"
        ours, plain, memory = race_of_files(source, size, copying, repeats, rng)
        print(f"  (calibrate_file {ours:.2f} s, cp and sync {plain:.2f} s)")
        report("calibrate_file / cp and sync", ours / plain, 2)
        report("resident memory of calibrate_file [MB]", memory, 300)
        write_stack(source, gzip_size, rng)
        subprocess.run(["gzip", "-1", source], check=True)
        source = folder / "raw.fits.gz"
        copying = f"zcat {source} > {copy} && sync {copy}"
        ours, plain, memory = race_of_files(source, gzip_size, copying, repeats, rng)
        print(f"  (from .fits.gz {ours:.2f} s, zcat and sync {plain:.2f} s)")
        report("calibrate_file of .fits.gz / zcat and sync", ours / plain, 2)
        report("resident memory from .fits.gz [MB]", memory, 300)


def write_stack(path, size, rng):
    """Write an image of noise, a band of rows at a time."""
    header = fits.Header({"FIELD1": "0403", "FILTER": "R"})
    band = rng.standard_normal((100, size), dtype=np.float32).astype(">f4")
    whole = np.broadcast_to(band[0], (size, size))
    path.unlink(missing_ok=True)
    stream = fits.StreamingHDU(path, fits.PrimaryHDU(whole, header).header)
    for _ in range(0, size, 100):
        stream.write(band)
    stream.close()


def race_of_files(source, size, copying, repeats, rng):
    """Return the times of calibration and copy, and the memory of the calibration."""
    target, maps = source.with_name("cal.fits"), source.with_name("maps")
    make_map_files(maps, size, rng)
    command = [sys.executable, "-c", _CHILD, source, target, maps, str(size)]
    ours, memory, plain = np.inf, 0, np.inf
    for _ in range(repeats):
        target.unlink(missing_ok=True)
        source.with_name("copy.fits").unlink(missing_ok=True)
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds, kilobytes = done.stdout.split()
        ours, memory = min(ours, float(seconds)), max(memory, int(kilobytes) / 1024)
        start = time.perf_counter()
        subprocess.run(copying, shell=True, check=True)
        plain = min(plain, time.perf_counter() - start)
    return ours, plain, memory


def make_map_files(folder, size, rng):
    """Write a map as files of DR1."""
    from ks4_ccd import MapKey

    plain = make_map(size, rng)
    arrays = plain.values, plain.error, plain.count
    key = MapKey("zp", "0403", "R", "single", "APER5")
    ZeroPointMap(*arrays, grid=plain.grid, key=key).save(folder)


def main():
    """Run all benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--size", type=int, default=22000, help="pixels along a side")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each")
    arguments = parser.parse_args()
    size, repeats = arguments.size // 100 * 100, arguments.repeats
    rng = np.random.default_rng(7)
    from_file_to_file(size, min(size, 8800), repeats, rng)
    in_memory(size, repeats, rng)
    against_astropy(min(size, 8000), repeats, rng)


if __name__ == "__main__":
    main()
