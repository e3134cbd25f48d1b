# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Synthetic fields with known truth, and the demo."""

from ks4_ccd.simulation.field import SimulatedField, simulate_field

__all__ = ["SimulatedField", "simulate_field"]
