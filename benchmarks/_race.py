# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Measure and report best times of alternating runs."""

import time

import numpy as np

__all__ = ["race", "report"]


def race(repeats, *functions):
    """Return the best time of each function, in alternating runs."""
    best = [np.inf] * len(functions)
    for _ in range(repeats):
        for k, function in enumerate(functions):
            start = time.perf_counter()
            result = function()
            best[k] = min(best[k], time.perf_counter() - start)
            del result
    return best


def report(what, ratio, bound, most=True):
    """Print a ratio and its limit."""
    good = ratio <= bound if most else ratio >= bound
    sign = "<=" if most else ">="
    print(
        f"{what:58s} {ratio:7.2f}   {sign} {bound:<5g} {'' if good else 'MISSED'}",
        flush=True,
    )
