# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Loaded by the workers of this machine when they start."""

import asyncio
import signal

__all__ = ["dask_setup"]

_POLL = 0.02  # seconds


async def dask_setup(worker):
    """
    Leave signals to the process that started the worker, which ends it.

    Ctrl-C reaches all processes of a terminal. SIGTERM is blocked while the worker
    starts; afterwards, it ends the worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        worker.unblocking = asyncio.create_task(_unblock_when_running(worker))


async def _unblock_when_running(worker):
    """Discard the SIGTERM that a starting worker received; receive others."""
    while worker.status.name in ("undefined", "init", "starting"):
        await asyncio.sleep(_POLL)
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    signal.signal(signal.SIGTERM, handler)
