# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Plot the cross-validation of both recipes on a simulated field."""

import matplotlib.pyplot as plt

from ks4_ccd import cross_validate, simulate_field

SHAPE = (2200, 2200)
field = simulate_field(SHAPE, seed=1)
for recipe in ("default", "dr1"):
    validation = cross_validate(
        field.matched, SHAPE, band="R", aperture="APER5", recipe=recipe
    )
    validation.plot(plt.figure(figsize=(12.0, 8.6), layout="constrained"))
