# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Run the command `ks4-ccd` as ``python -m ks4_ccd``."""

import sys

from ks4_ccd.cli import main

if __name__ == "__main__":
    sys.exit(main())
