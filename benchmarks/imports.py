# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Compare the import time of the package with that of its dependencies."""

import os
import subprocess
import sys

from _race import race, report

_REPEATS = 7
_BOUND = 1.3


def _import(names):
    """Return a function that imports modules in a new process."""
    command = [sys.executable, "-c", f"import {names}"]
    # Write bytecode, which installed packages have.
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return lambda: subprocess.run(command, check=True, env=environ)


if __name__ == "__main__":
    alone, package = race(_REPEATS, _import("astropy.nddata, gwcs"), _import("ks4_ccd"))
    report("import ks4_ccd / import astropy.nddata, gwcs", package / alone, _BOUND)
