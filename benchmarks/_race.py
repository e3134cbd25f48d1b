# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How the benchmarks measure and report: best times, taken in turns."""

import time

import numpy as np

__all__ = ["race", "report"]


def race(repeats, *functions):
    """Return the best time of each function, the functions taking turns."""
    best = [np.inf] * len(functions)
    for _ in range(repeats):
        for k, function in enumerate(functions):
            start = time.perf_counter()
            result = function()
            best[k] = min(best[k], time.perf_counter() - start)
            del result
    return best


def report(what, ratio, bound, most=True):
    """Print a ratio beside its bound."""
    good = ratio <= bound if most else ratio >= bound
    sign = "<=" if most else ">="
    print(
        f"{what:58s} {ratio:7.2f}   {sign} {bound:<5g} {'' if good else 'MISSED'}",
        flush=True,
    )
