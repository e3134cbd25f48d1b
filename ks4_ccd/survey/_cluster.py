# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Dask, as a batch uses it: workers, and a window of tasks that are with them."""

import logging
import signal
import threading
import time
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from itertools import islice
from multiprocessing import resource_tracker
from uuid import uuid4

from ks4_ccd.exceptions import KS4Error

__all__ = ["run_tasks", "workers_for"]

# Tasks with the workers at a time, in threads of theirs: none waits for work,
# and neither a scheduler nor whoever interrupts it has thousands to deal with.
_TASKS_A_THREAD = 2

_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)
]

# Seconds between looks at what is done, and until workers are missed.
_POLL = 0.01
_PATIENCE = 15


@contextmanager
def workers_for(client, workers, tasks):
    """
    Give a client of dask: one that is there, or one of processes of this machine.

    Parameters
    ----------
    client : `distributed.Client` or `None`
    workers : int or `None`
        How many processes, by default one a core.
    tasks : int
        The number of tasks: more processes than that are of no use.

    Raises
    ------
    KS4Error
        If dask is not installed, or the client is not connected.
    """
    dask, distributed = _import_dask()
    if client is not None:
        if getattr(client, "status", None) != "running":
            msg = f"client must be a connected dask.distributed.Client, got {client!r}"
            raise KS4Error(msg)
        yield client
        return
    environment = "distributed.nanny.pre-spawn-environ.MALLOC_"
    settings = {
        # The bands of an image come and go: giving their memory back to the
        # system each time, as dask would have it, costs a fifth of the time.
        f"{environment}TRIM_THRESHOLD_": str(2**27),
        f"{environment}MMAP_THRESHOLD_": str(2**25),
        # A worker that dies takes its image with it: see `run_tasks`.
        "distributed.scheduler.allowed-failures": 0,
        # Ctrl-C reaches all processes of a terminal; what workers do about it
        # is up to the one that started them.
        "distributed.worker.preload": ["ks4_ccd.survey._worker_start"],
    }
    with ExitStack() as opened:
        with _signals_deferred():
            opened.enter_context(dask.config.set(settings))
            cluster = distributed.LocalCluster(
                n_workers=min(workers or dask.system.CPU_COUNT, tasks),
                threads_per_worker=1,
                processes=True,
                # No dashboard; and not the one port that a second batch would want.
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": ":0"},
                memory_limit="auto",
                silence_logs=logging.CRITICAL,
            )
            opened.enter_context(cluster)
            own_client = opened.enter_context(distributed.Client(cluster))
        yield own_client


@contextmanager
def _signals_deferred():
    """
    Raise what signals raise when the block is left, not in the midst of it.

    Processes that are started in it never receive SIGINT and SIGHUP, which a
    terminal sends to all processes of a command, and SIGTERM only once they run:
    a cluster whose processes end while they start may wait for them forever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received = []
    numbers = [n for n in _SIGNALS if callable(signal.getsignal(n))]
    before = {number: signal.getsignal(number) for number in numbers}

    def defer(number, frame):
        if received:
            before[number](number, frame)
        received.append(number)

    for number in numbers:
        signal.signal(number, defer)
    mask = None
    if hasattr(signal, "pthread_sigmask"):
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        # Its start unblocks the others: not later, when processes are started.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
    try:
        yield
    finally:
        if mask is not None:
            # A signal that waited is received here.
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            # This replaces the error that the signal may have caused elsewhere.
            before[received[0]](received[0], None)


def _import_dask():
    try:
        import dask.system
        import distributed
    except ImportError as error:
        msg = (
            "many images at once need dask: pip install 'ks4_ccd[survey]' "
            f"(or dask[distributed]): {error}"
        )
        raise KS4Error(msg) from error
    return dask, distributed


def run_tasks(client, function, tasks, begin):
    """
    Have tasks done by the workers of a client.

    A task whose worker died may have killed it, or only have waited there: it
    is done again, alone, when the others are done.

    Parameters
    ----------
    client : `distributed.Client`
    function : callable
        Called on a worker with one task.
    tasks : iterable
    begin : callable
        Called here with a task before it is given away.

    Yields
    ------
    task : object
    result : object
        What the function returned, or the exception that came of it.

    Raises
    ------
    KS4Error
        If the cluster is lost.
    """
    _, distributed = _import_dask()

    def threads():
        return max(1, sum(client.nthreads().values()))

    suspects = []
    window = _Window(client, function, begin)
    for task, result in window.run(tasks, lambda: _TASKS_A_THREAD * threads()):
        if isinstance(result, distributed.KilledWorker):
            suspects.append(task)
        else:
            yield task, result
    for task, result in window.run(suspects, lambda: 1):
        if isinstance(result, distributed.KilledWorker):
            msg = "its worker died, twice: it may need more memory than there is"
            yield task, KS4Error(msg)
        else:
            yield task, result


class _Window:
    """The tasks that are with the workers of a client."""

    def __init__(self, client, function, begin):
        self._client, self._function, self._begin = client, function, begin
        self._tasks = {}

    def run(self, tasks, size):
        """Yield tasks with their results; ``size()`` are with the workers."""
        _, distributed = _import_dask()
        tasks = iter(tasks)
        futures = distributed.as_completed()
        try:
            futures.update(self._submit(tasks, size()))
            for future in self._completed(futures):
                task = self._tasks.pop(future.key)[0]
                # The next one goes off before this one is dealt with.
                futures.update(self._submit(tasks, size() - len(self._tasks)))
                yield task, _result(future)
        finally:
            self._client.cancel([future for _, future in self._tasks.values()])

    def _completed(self, futures):
        """
        Yield futures as they complete.

        A process of this machine that dies while it starts is not started
        again by dask, and nothing would ever complete: there is another then.
        """
        checked = time.monotonic()
        while futures.count():
            if futures.has_ready():
                yield from futures.next_batch(block=False)
                checked = time.monotonic()
            elif time.monotonic() - checked > _PATIENCE:
                checked = time.monotonic()
                if self._is_of_this_machine() and not self._client.nthreads():
                    cluster = self._client.cluster
                    cluster.scale(len(cluster.worker_spec) + 1)
            else:
                time.sleep(_POLL)

    def _is_of_this_machine(self):
        _, distributed = _import_dask()
        return isinstance(self._client.cluster, distributed.LocalCluster)

    def _submit(self, tasks, number):
        submitted = []
        for task in islice(tasks, max(0, number)):
            self._begin(task)
            key = f"{self._function.__name__}-{uuid4()}"
            future = self._client.submit(self._function, task, key=key, pure=False)
            self._tasks[key] = task, future
            submitted.append(future)
        return submitted


def _result(future):
    try:
        return future.result()
    except CancelledError as error:
        msg = (
            "the connection with dask's scheduler is lost: start it again, then the "
            "batch, which goes on from there"
        )
        raise KS4Error(msg) from error
    except Exception as error:
        return error
