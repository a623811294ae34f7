"""Connect to a dask.distributed cluster, local or remote, and report the outcome of its tasks."""

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
"""How often a task is tried again after the death of its worker, before the task has failed."""
DASHBOARD_PORT = 8787


class CancelledError(Exception):
    """The task was cancelled: dask no longer wants its result."""


def outcome(work: Callable[[], str]) -> dict[str, str]:
    """Run ``work`` and report its outcome; no ``Exception`` is raised.

    Args:
        work: returns the status on success.

    Returns:
        ``status``: what ``work`` returned; ``cancelled`` if it raised :class:`CancelledError`;
        else ``failed``, with a ``message``.

    Example:
        >>> outcome(lambda: "finished")
        {'status': 'finished'}

    """
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
    """A function that tells whether dask has cancelled the task that this thread runs.

    Outside a dask task the function always returns ``False``.

    Example:
        >>> cancellation()()
        False

    """
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:  # this thread runs no dask task
        return lambda: False
    key = worker.get_current_task()

    def cancelled() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    return cancelled


def completed(future: Future[Any]) -> dict[str, str]:
    """The outcome of a task: what :func:`outcome` returned on the worker, or why it did not.

    Args:
        future: a task that is over.

    Returns:
        ``status``, which is ``failed`` if the worker died or the task was lost, and then a
        ``message``.

    """
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
    """A client of an existing scheduler, or of a new local cluster that is closed on exit.

    Args:
        scheduler: the address of a scheduler, such as ``tcp://host:8786``; ``None`` starts a local
            cluster.
        workers: the number of processes of the local cluster, each with one dask thread.
        dashboard: whether the local cluster serves dask's dashboard, to this machine only.

    Raises:
        OnrError: no scheduler answers at the address.

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
        # One task at a time on a worker: no task waits behind a long one, or dies with another.
        "distributed.scheduler.worker-saturation": 1.0,
    }
    with dask.config.set(settings):
        with _deaf_to_interrupts():
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=None,  # dask would kill a large training as if it leaked memory
                # A small HTTP server runs even without a dashboard; 0 picks a free port for it.
                dashboard_address=f"127.0.0.1:{DASHBOARD_PORT if dashboard else 0}",
                scheduler_kwargs={"dashboard": dashboard},
                silence_logs=logging.CRITICAL,
            )
        try:
            with Client(cluster, set_as_default=False) as client:
                yield client
        finally:
            # On a busy machine a worker may exceed the time limit; it still ends.
            with contextlib.suppress(TimeoutError):
                cluster.close()


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Block SIGINT (Ctrl-C) in the threads started inside, and in the processes they start later.

    A terminal sends SIGINT to every process. Only the process of the command may act on SIGINT: it
    stops the others.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # else the start of the first process unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def usable_cores() -> int:
    """The number of processors that this process may use.

    Example:
        >>> usable_cores() >= 1
        True

    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
