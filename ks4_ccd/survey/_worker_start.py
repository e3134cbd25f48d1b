# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Set how workers of this machine handle signals (a dask preload module)."""

import asyncio
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import distributed

__all__ = ["dask_setup"]

_POLL = 0.02  # seconds
_TASKS: set[asyncio.Task[None]] = set()


async def dask_setup(worker: "distributed.Worker") -> None:
    """
    Ignore Ctrl-C, which signals all processes of a terminal.

    The worker is ended by the process that started it. SIGTERM is blocked while the
    worker starts; afterwards, it ends the worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        task = asyncio.create_task(_unblock_when_running(worker))
        # asyncio holds no strong reference to it.
        _TASKS.add(task)


async def _unblock_when_running(worker: "distributed.Worker") -> None:
    """Discard the SIGTERM that a starting worker received; receive others."""
    while worker.status.name in ("undefined", "init", "starting"):
        await asyncio.sleep(_POLL)
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    signal.signal(signal.SIGTERM, handler)
