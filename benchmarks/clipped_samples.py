# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Print the table of `ks4_ccd.maps._clipped_samples` from a Monte Carlo simulation.

Run as ``python benchmarks/clipped_samples.py [--stars 4e6]``; it takes minutes.
``--stars`` is the number of simulated stars for each size of a sample before clipping.
"""

import argparse

import numpy as np

from ks4_ccd.mapmaking.cells import clipped_statistics

LEFT = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 24, 32, 48)
LARGEST = 110


def moments(stars, rng):
    """Return sums over clipped samples, by the numbers of stars before and after."""
    total = np.zeros((4, LARGEST + 1, LARGEST + 1))
    for before in range(1, LARGEST + 1):
        samples = max(int(stars / before), 1000)
        values = rng.normal(size=samples * before)
        cell = np.repeat(np.arange(samples), before)
        found = clipped_statistics(cell, values, samples)
        left = found.count.astype(int)
        weights = np.ones(samples), found.median**2, found.scatter**2, found.scatter**4
        for sums, weight in zip(total, weights, strict=True):
            sums[before] = np.bincount(left, weight, LARGEST + 1) / samples
    return total


def statistics(sums, left):
    """Return efficiency, bias and degrees of freedom."""
    number, median, square, fourth = sums
    mean = square / number
    spread = fourth / number - mean**2
    freedom = 2 * mean**2 / spread if left > 1 else 0.0
    return np.sqrt(median / number * left), np.sqrt(mean), freedom


def main():
    """Print a row for each number of stars after clipping."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--stars", type=float, default=4e6)
    total = moments(parser.parse_args().stars, np.random.default_rng(0))
    print("left  efficiency: none clipped, clipped   bias   degrees of freedom")
    for left in LEFT:
        whole, _, _ = statistics(total[:, left, left], left)
        found = statistics(total[:, :, left].sum(axis=1), left)
        print(
            f"{left:4} {whole:10.3f} {found[0]:12.3f} {found[1]:17.3f} {found[2]:8.1f}"
        )


if __name__ == "__main__":
    main()
