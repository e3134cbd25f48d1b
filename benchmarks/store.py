# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Measure the time to fill, open and read a store.

Run as ``python benchmarks/store.py [--maps 20400] [--repeats 3]``. It writes
six archives of synthetic maps to the current folder, about 1 GB, and removes
them.
"""

import argparse
import io
import multiprocessing
import random
import shutil
import subprocess
import tarfile
import tempfile
import time
from contextlib import ExitStack
from itertools import chain, product
from pathlib import Path

import numpy as np
from _race import race, report

from ks4_ccd import MapLibrary, ingest, verify
from ks4_ccd.ks4.names import APERTURES, BANDS, MODES

PHOTOMETRIC = {
    "zp": "KS4_DR1_ZeroPoint_Maps",
    "zperr": "KS4_DR1_ZeroPointError_Maps",
    "pstar": "KS4_DR1_PhotCalibNumStars_Maps",
}
ASTROMETRIC = {
    "align": "KS4_DR1_Astrometry_Maps",
    "alerr": "KS4_DR1_AstrometryError_Maps",
    "astar": "KS4_DR1_AstroCalibNumStars_Maps",
}
MAPS_OF_A_FIELD = len(BANDS) * len(MODES) * 3 * (len(APERTURES) + 1)
READERS = 8


def photometric(rng):
    """Return arrays like those of a zero-point map: a fifth of the cells is empty."""
    count = rng.poisson(1.6, (55, 55)).astype(float)
    values = np.where(count > 0, 29.9 + rng.normal(0, 0.03, count.shape), 30)
    error = np.where(count > 1, rng.uniform(0.01, 0.03, count.shape), 0)
    return values, error, count


def astrometric(rng):
    """Return arrays like those of a misalignment map."""
    shape = (110, 110)
    values = np.abs(rng.normal(0.1, 0.03, shape))
    return values, rng.uniform(0.05, 0.1, shape), rng.poisson(60, shape).astype(float)


def write_archives(folder, fields, rng):
    """Write archives like those of DR1, as `tar czf` does."""
    for families, make, apertures in (
        (PHOTOMETRIC, photometric, [f"_{aperture}" for aperture in APERTURES]),
        (ASTROMETRIC, astrometric, [""]),
    ):
        paths = [folder / f"{name}.tar.gz" for name in families.values()]
        with ExitStack() as opened:
            archives = [
                opened.enter_context(tarfile.open(path, "w:gz", compresslevel=6))
                for path in paths
            ]
            for names in product(range(fields), BANDS, MODES, apertures):
                field, band, mode, aperture = names
                tail = f"map_{field:04d}_{band}_{mode}{aperture}.npy"
                for archive, family, array in zip(
                    archives, families, make(rng), strict=True
                ):
                    add(archive, f"{field:04d}/{family}_{tail}", array)
        yield from paths


def add(archive, name, array):
    file = io.BytesIO()
    np.save(file, array)
    info = tarfile.TarInfo(name)
    info.size = file.tell()
    file.seek(0)
    archive.addfile(info, file)


def unpack(archives, folder):
    """Unpack archives as a user would."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for archive in archives:
        subprocess.run(["tar", "xzf", archive, "-C", folder], check=True)


def fill(archives, store):
    """Fill a new store."""
    store.unlink(missing_ok=True)
    ingest(archives, store, on_error="raise", progress=False)


def random_map(rng, fields):
    field = f"{rng.randrange(fields):04d}"
    return field, rng.choice(BANDS), rng.choice(MODES), rng.choice(APERTURES)


def latency(store, fields, number=2000):
    """Return the median time to load a random map."""
    rng = random.Random(1)
    times = []
    with MapLibrary(store) as library:
        for _ in range(number):
            names = random_map(rng, fields)
            start = time.perf_counter()
            library.zeropoint(*names)
            times.append(time.perf_counter() - start)
    return np.median(times[number // 10 :])


def read_on(store, fields, seed, ready, done, results):
    """Read random maps until an event; count maps and errors, time the slowest."""
    rng = random.Random(seed)
    maps, errors, longest = 0, [], 0.0
    with MapLibrary(store) as library:
        ready.release()
        while not done.is_set():
            start = time.perf_counter()
            try:
                library.zeropoint(*random_map(rng, fields))
            except Exception as error:
                errors.append(repr(error))
            maps += 1
            longest = max(longest, time.perf_counter() - start)
    results.put((maps, longest, errors))


def while_ingesting(archives, store, fields):
    """Fill the second half of a store while eight processes read the first."""
    store.unlink(missing_ok=True)
    ingest(archives[:3], store, progress=False)
    context = multiprocessing.get_context("spawn")
    ready, done = context.Semaphore(0), context.Event()
    results = context.Queue()
    readers = [
        context.Process(
            target=read_on, args=(store, fields, seed, ready, done, results)
        )
        for seed in range(READERS)
    ]
    for reader in readers:
        reader.start()
    for _ in readers:
        ready.acquire()
    ingest(archives[3:], store, progress=False)
    done.set()
    maps, longest, errors = zip(*[results.get() for _ in readers], strict=True)
    for reader in readers:
        reader.join()
    errors = list(chain(*errors))
    print(f"  ({sum(maps)} maps read, longest wait {max(longest):.2f} s)")
    print(*(f"  {error}" for error in errors[:5]), sep="\n", end="")
    report(f"errors of {READERS} readers while an ingest runs", len(errors), 0)
    report("problems listed by verify afterwards", len(verify(store)), 0)


def main():
    """Run all benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument(
        "--maps", type=int, default=20400, help="total number of arrays"
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of each")
    arguments = parser.parse_args()
    fields = -(-arguments.maps // MAPS_OF_A_FIELD)
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        store = folder / "dr1.ks4maps"
        archives = list(write_archives(folder, fields, np.random.default_rng(7)))
        packed = sum(archive.stat().st_size for archive in archives)
        print(
            f"  ({fields * MAPS_OF_A_FIELD} arrays, archives of {packed / 1e6:.0f} MB)"
        )
        ours, plain = race(
            arguments.repeats,
            lambda: fill(archives, store),
            lambda: unpack(archives, folder / "unpacked"),
        )
        shutil.rmtree(folder / "unpacked")
        print(f"  (ingest {ours:.2f} s, tar xzf {plain:.2f} s)")
        report("ingest / tar xzf", ours / plain, 2)
        report("size of the store / archives", store.stat().st_size / packed, 1.1)
        (opened,) = race(20, lambda: MapLibrary(store).close())
        report("opening the store [ms]", opened * 1e3, 50)
        best = min(latency(store, fields) for _ in range(arguments.repeats))
        report("a random map: values, error and count [us]", best * 1e6, 300)
        while_ingesting(archives, store, fields)


if __name__ == "__main__":
    main()
