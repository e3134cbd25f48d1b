# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The verb `demo`: simulate and calibrate a field, and compare with the truth."""

import argparse

from ks4_ccd.cli._options import OUT, Option, Verb
from ks4_ccd.simulation.demo import run_demo

__all__ = ["VERB"]


def _run(arguments: argparse.Namespace) -> None:
    run_demo(arguments.out, seed=arguments.seed)


VERB = Verb(
    "demo",
    _run,
    "simulate a field, calibrate it and compare with the truth",
    "Simulate a KS4 field with its maps, calibrate its image with maps from archives, "
    "as for real data, and print the residuals of the zero point before and after. "
    "Requires no data and takes less than half a minute.",
    "demo --out demo",
    (
        Option("--out", **OUT.settings | {"dest": "out", "default": "ks4-demo"}),
        Option("--seed", type=int, default=0, help="seed of the random numbers"),
    ),
)
