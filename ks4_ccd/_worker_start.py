# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Loaded by the workers of this machine when they start."""

import signal

__all__ = ["dask_setup"]


def dask_setup(_worker):
    """Leave Ctrl-C to the process that started the worker, which ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
