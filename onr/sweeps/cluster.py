"""Workers of dask.distributed: a cluster of this machine or another, and what becomes of tasks."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING

from onr.errors import OnrError, missing_extra

if TYPE_CHECKING:
    from typing import Any

    from distributed import Client, Future

__all__ = [
    "CancelledError",
    "cancellation",
    "completed",
    "connected",
    "outcome",
    "usable_cores",
]

DEATHS = 3
"""How many workers may die of a task before it has failed."""
DASHBOARD_PORT = 8787


class CancelledError(Exception):
    """Nobody waits for the task any more."""


def outcome(work: Callable[[], str]) -> dict[str, str]:
    """The ``status`` that the work gives, or ``failed`` and a ``message``; nothing is raised."""
    try:
        return {"status": work()}
    except CancelledError:
        return {"status": "cancelled"}
    except OnrError as error:
        return {"status": "failed", "message": str(error)}
    except ModuleNotFoundError as error:
        known = missing_extra(error) or f"no module {error.name}"
        return {"status": "failed", "message": str(known)}
    except Exception as error:
        return {"status": "failed", "message": f"unexpected {type(error).__name__}: {error}"}


def cancellation() -> Callable[[], bool]:
    """Whether dask no longer wants the task that this thread runs."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:  # no task of dask's
        return lambda: False
    key = worker.get_current_task()

    def cancelled() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    return cancelled


def completed(future: Future[Any]) -> dict[str, str]:
    """What a worker returned (:func:`outcome`), or what became of it."""
    from distributed import KilledWorker

    if future.status == "finished":
        result: dict[str, str] = future.result()
        return result
    if future.status != "error":
        return {"status": "failed", "message": f"the scheduler has it as {future.status}"}
    error = future.exception()
    reason = f"unexpected {type(error).__name__}: {error}"
    if isinstance(error, KilledWorker):
        times = error.allowed_failures + 1
        reason = f"its worker died {times} times, perhaps for want of memory"
    return {"status": "failed", "message": reason}


@contextlib.contextmanager
def connected(scheduler: str | None, *, workers: int, dashboard: bool = False) -> Iterator[Client]:
    """A client of the scheduler at this address, or of a cluster of our own that ends with it.

    Args:
        scheduler: an address, as ``tcp://host:8786``.
        workers: processes of the cluster of our own, with one thread of dask's each.
        dashboard: whether it serves dask's dashboard, on this machine alone.

    Raises:
        OnrError: nobody answers there.

    """
    import logging

    import dask
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, set_as_default=False)
        except (OSError, ValueError) as error:
            raise OnrError(
                f"no scheduler answers at {scheduler}: start one with dask scheduler ({error})"
            ) from error
        with client:
            yield client
        return
    single = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    settings = {
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(single, "1") if workers > 1 else {},
        "distributed.scheduler.allowed-failures": DEATHS,
        # A worker gets one point at a time: none waits behind a long one, or dies with another.
        "distributed.scheduler.worker-saturation": 1.0,
    }
    with dask.config.set(settings):
        with _deaf_to_interrupts():
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=None,  # a training that is large is no leak
                # There is a small HTTP server even without a dashboard.
                dashboard_address=f"127.0.0.1:{DASHBOARD_PORT if dashboard else 0}",
                scheduler_kwargs={"dashboard": dashboard},
                silence_logs=logging.CRITICAL,
            )
        try:
            with Client(cluster, set_as_default=False) as client:
                yield client
        finally:
            with contextlib.suppress(TimeoutError):  # of a worker on a busy machine: it ends anyway
                cluster.close()


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Threads made here, and the processes that these start later, never see a Ctrl-C.

    A terminal sends it to all processes; the one with the command stops the others.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # or the first process's start unblocks the signal again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def usable_cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
