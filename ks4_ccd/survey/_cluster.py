# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Run the tasks of a batch on dask workers."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from itertools import islice
from multiprocessing import resource_tracker
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Generic, TypeVar
from uuid import uuid4

from ks4_ccd.exceptions import KS4Error, OptionError

if TYPE_CHECKING:
    import distributed

__all__ = ["run_tasks", "workers_for"]

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

# Tasks submitted at a time per thread of the workers: no thread is idle, and few tasks
# have to be cancelled when the batch is interrupted.
_TASKS_PER_THREAD = 2

_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)
]

# Seconds between checks for completed tasks, and without any worker before a new one is
# started.
_POLL = 0.01
_PATIENCE = 15


@contextmanager
def workers_for(
    client: object, workers: int | None, tasks: int
) -> Iterator["distributed.Client"]:
    """
    Yield the given dask client, or that of new processes on this machine.

    Parameters
    ----------
    client : `distributed.Client` or `None`
    workers : int or `None`
        The number of processes, by default one per core.
    tasks : int
        The number of tasks; no more processes are started.

    Raises
    ------
    OptionError
        If the client is not connected.
    KS4Error
        If dask is not installed.
    """
    dask, distributed = _import_dask()
    if client is not None:
        if not isinstance(client, distributed.Client) or client.status != "running":
            msg = f"client must be a connected dask.distributed.Client, got {client!r}"
            raise OptionError(msg)
        yield client
        return
    environment = "distributed.nanny.pre-spawn-environ.MALLOC_"
    settings = {
        # Bands of an image are allocated and freed repeatedly: returning their
        # memory to the system each time, dask's default, costs a fifth of the time.
        f"{environment}TRIM_THRESHOLD_": str(2**27),
        f"{environment}MMAP_THRESHOLD_": str(2**25),
        # Tasks of a worker that died are run again one by one: see `run_tasks`.
        "distributed.scheduler.allowed-failures": 0,
        # Ctrl-C signals all processes of a terminal; this process ends the workers.
        "distributed.worker.preload": ["ks4_ccd.survey._worker_start"],
    }
    with ExitStack() as opened:
        with _signals_deferred():
            opened.enter_context(dask.config.set(settings))
            cluster = distributed.LocalCluster(
                n_workers=min(workers or dask.system.CPU_COUNT, tasks),
                threads_per_worker=1,
                processes=True,
                # No dashboard, and no fixed port, which a second batch would need.
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": ":0"},
                memory_limit="auto",
                silence_logs=logging.CRITICAL,
            )
            opened.enter_context(cluster)
            own_client = opened.enter_context(distributed.Client(cluster))
        yield own_client


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """
    Defer the handling of signals to the end of the block.

    Processes that are started in the block never receive SIGINT and SIGHUP, which a
    terminal sends to all processes of a command, and receive SIGTERM only when they
    run: a cluster may wait forever for processes that end while they start.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {n: handler for n, handler in handlers.items() if callable(handler)}

    def defer(number: int, frame: FrameType | None) -> None:
        if received:
            before[signal.Signals(number)](number, frame)
        received.append(number)

    for number in before:
        signal.signal(number, defer)
    mask = None
    if hasattr(signal, "pthread_sigmask"):
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        # Starting the tracker unblocks the other signals: do it before blocking them.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
    try:
        yield
    finally:
        if mask is not None:
            # Pending signals are received here.
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            # The exception of the handler replaces an error that the signal caused.
            before[signal.Signals(received[0])](received[0], None)


def _import_dask() -> tuple[ModuleType, ModuleType]:
    try:
        import dask.system
        import distributed
    except ImportError as error:
        msg = (
            "batch processing requires dask: pip install 'ks4_ccd[survey]' "
            f"(or dask[distributed]): {error}"
        )
        raise KS4Error(msg) from error
    return dask, distributed


def run_tasks(
    client: "distributed.Client",
    function: Callable[[_Task], _Result],
    tasks: Iterable[_Task],
    begin: Callable[[_Task], object],
) -> Generator[tuple[_Task, _Result | Exception], None, None]:
    """
    Run tasks on the workers of a client.

    A task whose worker died may have caused the death, or may only have been queued
    on that worker: it is repeated alone, after the others. Dask would repeat such tasks
    together, and eventually refuse the queued ones as well (``retries`` does not
    apply to tasks whose worker died).

    Parameters
    ----------
    client : `distributed.Client`
    function : callable
        Called on a worker with one task.
    tasks : iterable
    begin : callable
        Called in this process with a task before it is submitted.

    Yields
    ------
    task : object
    result : object
        The result of the function, or the exception that it raised.

    Raises
    ------
    KS4Error
        If the connection to the cluster is lost.
    """
    _, distributed = _import_dask()

    def size() -> int:
        return _TASKS_PER_THREAD * max(1, sum(client.nthreads().values()))

    suspects = []
    window = _Window(client, function, begin)
    for task, result in window.run(tasks, size):
        if isinstance(result, distributed.KilledWorker):
            suspects.append(task)
        else:
            yield task, result
    for task, result in window.run(suspects, lambda: 1):
        if isinstance(result, distributed.KilledWorker):
            msg = (
                "the worker process died twice: the image may need more memory than "
                "the worker has"
            )
            yield task, KS4Error(msg)
        else:
            yield task, result


class _Window(Generic[_Task, _Result]):
    """The tasks that are submitted to the workers of a client at the same time."""

    def __init__(
        self,
        client: "distributed.Client",
        function: Callable[[_Task], _Result],
        begin: Callable[[_Task], object],
    ) -> None:
        self._client, self._function, self._begin = client, function, begin
        self._tasks: dict[object, tuple[_Task, distributed.Future]] = {}

    def run(
        self, tasks: Iterable[_Task], size: Callable[[], int]
    ) -> Iterator[tuple[_Task, _Result | Exception]]:
        """Yield tasks with their results; at most ``size()`` are submitted."""
        _, distributed = _import_dask()
        tasks = iter(tasks)
        futures = distributed.as_completed()
        try:
            futures.update(self._submit(tasks, size()))
            for future in self._completed(futures):
                task = self._tasks.pop(future.key)[0]
                # Submit the next task before this result is processed.
                futures.update(self._submit(tasks, size() - len(self._tasks)))
                yield task, self._result_of(future)
        finally:
            self._client.cancel([future for _, future in self._tasks.values()])

    def _completed(
        self, futures: "distributed.as_completed"
    ) -> Iterator["distributed.Future"]:
        """
        Yield futures as they complete.

        Dask does not replace a process of this machine that dies while it starts.
        If no worker is left, a new one is started here.
        """
        _, distributed = _import_dask()
        checked = time.monotonic()
        while futures.count():
            if futures.has_ready():
                yield from futures.next_batch(block=False)
                checked = time.monotonic()
            elif time.monotonic() - checked > _PATIENCE:
                checked = time.monotonic()
                cluster, has_workers = self._client.cluster, self._client.nthreads()
                if isinstance(cluster, distributed.LocalCluster) and not has_workers:
                    cluster.scale(len(cluster.worker_spec) + 1)
            else:
                time.sleep(_POLL)

    def _submit(
        self, tasks: Iterator[_Task], number: int
    ) -> list["distributed.Future"]:
        submitted = []
        for task in islice(tasks, max(0, number)):
            self._begin(task)
            key = f"{self._function.__name__}-{uuid4()}"
            future = self._client.submit(self._function, task, key=key, pure=False)
            self._tasks[key] = task, future
            submitted.append(future)
        return submitted

    @staticmethod
    def _result_of(future: "distributed.Future") -> _Result | Exception:
        try:
            return future.result()
        except CancelledError as error:
            msg = (
                "the connection to the dask scheduler is lost: restart the scheduler, "
                "then the batch, which resumes"
            )
            raise KS4Error(msg) from error
        except Exception as error:
            return error
