"""Sweeps of training runs: dask.distributed trains the points of a grid.

A point is a resolved configuration. It is trained in a run's folder, which is named by the hash of
the point. Progress is read from these folders only: the same command continues a sweep that was
stopped anywhere, and several sweeps may share a folder. A worker holds the lock of the run and
continues from its checkpoint. Whatever process dies, no point is trained by two processes at once,
and no finished point is trained again.
"""

from __future__ import annotations

import contextlib
import json
import queue
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onr.errors import OnrError
from onr.files import write_atomic
from onr.records import csv_table
from onr.registry import bare
from onr.sweeps.cluster import CancelledError, cancellation, completed, outcome
from onr.training.config import TrainConfig
from onr.training.config_hash import config_hash, flat
from onr.training.factories import make_dataset, run_record
from onr.training.loop import Training
from onr.training.runs import LockedError, Run
from onr.version import __version__

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Sweep", "train_point"]

RESULTS = ("validation_accuracy", "validation_robust_accuracy")
POLL = 2.0
"""Seconds between two looks at the folders of points that other processes train."""


def train_point(settings: dict[str, Any], out: str) -> dict[str, str]:
    """Train a point on a worker, or the epochs that are left of it. No ``Exception`` is raised.

    Args:
        settings: the fields of a :class:`TrainConfig`.
        out: the sweep's folder, which all workers share.

    Returns:
        ``status``: ``finished``; ``failed``, with a ``message``; ``busy`` if another process is
        training the point; ``cancelled`` if dask no longer wants the result.

    Example:
        >>> (tmp_path / "points").mkdir()
        >>> settings = asdict(TrainConfig(backend="numpy", epochs=1))
        >>> train_point(settings, str(tmp_path / "points"))
        {'status': 'finished'}

    """
    return outcome(lambda: _train(TrainConfig(**settings), Path(out)))


def _train(config: TrainConfig, out: Path) -> str:
    if not out.is_dir():
        raise OnrError(f"{out} is not there on a worker: expected a folder that all workers share")
    run = Run(out / config_hash(config), asdict(config))
    run.path.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(run.locked())
        except LockedError:
            return "busy"
        if len(_recorded(run.path)) >= config.epochs:
            return "finished"
        training = Training(config)
        if not (run.path / "config.json").exists():
            content = json.dumps(run_record(config, training.method), indent=2) + "\n"
            write_atomic(run.path / "config.json", content.encode())
        elif config_hash(TrainConfig.read(Run.open(run.path).config)) != run.path.name:
            raise OnrError(f"{run.path} holds another run: remove it")
        training.resume(run)
        cancelled = cancellation()

        def on_step(epoch: int, step: int) -> None:
            if cancelled():
                raise CancelledError

        training.finish(run, on_step)
    return "finished"


def _recorded(path: Path) -> list[dict[str, Any]]:
    try:
        return Run(path, {}).records()
    except OnrError:
        return []  # a damaged file is written again from the checkpoint


class Sweep:
    """The points of a sweep and their progress, with a report in ``sweep.json`` and ``sweep.csv``.

    Args:
        points: the configurations by their hash, as :func:`onr.sweeps.grids.expanded` returns them.
        out: the sweep's folder, with one folder for each point.

    Example:
        >>> from onr.sweeps.grids import expanded
        >>> sweep = Sweep(expanded({"grid": {"seed": [0, 1]}}), tmp_path / "sweep")
        >>> [sweep.label(name) for name in sweep.unfinished()]
        ['seed 0', 'seed 1']

    """

    def __init__(self, points: Mapping[str, TrainConfig], out: Path) -> None:
        self.points = dict(points)
        self.out = out.absolute()
        self.failed: dict[str, str] = {}
        """Why points failed, by hash. Not stored, so that the next sweep tries them again."""
        self._finished: dict[str, list[dict[str, Any]]] = {}
        of_points = {name: flat(config) for name, config in self.points.items()}
        paths = dict.fromkeys(path for settings in of_points.values() for path in settings)
        varies = [
            path
            for path in paths
            if len({repr(settings.get(path)) for settings in of_points.values()}) > 1
        ]
        self.varying = {
            name: {path: settings.get(path) for path in varies}
            for name, settings in of_points.items()
        }
        """By hash, the settings in which the points differ; ``None`` if a point has no such one."""

    def label(self, name: str) -> str:
        """The varying settings of a point as a short text; its method if no setting varies."""
        settings = self.varying[name].items()
        given = [
            f"{path.rpartition('.')[2]} {bare(v) if isinstance(v, str) else v}"
            for path, v in settings
            if v is not None
        ]
        return ", ".join(given) or bare(self.points[name].method)

    def records(self, name: str) -> list[dict[str, Any]]:
        """The records in a point's folder, one for each finished epoch."""
        if name in self._finished:
            return self._finished[name]
        records = _recorded(self.out / name)
        if len(records) >= self.points[name].epochs:
            self._finished[name] = records
        return records

    def finished(self, name: str) -> bool:
        """Whether all epochs of a point are recorded."""
        return len(self.records(name)) >= self.points[name].epochs

    def unfinished(self) -> list[str]:
        """The hashes of the points that are not finished."""
        return [name for name in self.points if not self.finished(name)]

    def rows(self) -> list[dict[str, Any]]:
        """One row for each point.

        A row has the hash, the status, the varying settings, the number of finished epochs, the
        last accuracies, and the reason of a failure.
        """
        results: tuple[str, ...] = RESULTS
        if any(config.average is not None for config in self.points.values()):
            results += tuple(f"averaged_{result}" for result in RESULTS)
        rows = []
        for name, config in self.points.items():
            records = self.records(name)
            status, message = "finished", None
            if len(records) < config.epochs:
                message = self.failed.get(name)
                status = "failed" if message else "unfinished" if records else "not started"
            last = records[-1] if records else {}
            rows.append(
                {"point": name, "status": status}
                | self.varying[name]
                | {"epochs_done": len(records)}
                | {result: last.get(result) for result in results}
                | {"message": message}
            )
        return rows

    def write(self) -> None:
        """Update ``sweep.json`` and ``sweep.csv``."""
        rows = self.rows()
        listing = json.dumps({"onr": __version__, "points": rows}, indent=2) + "\n"
        for file, content in (("sweep.json", listing.encode()), ("sweep.csv", csv_table(rows))):
            path = self.out / file
            if not path.exists() or path.read_bytes() != content:
                write_atomic(path, content)

    def run(
        self,
        client: Client,
        on_point: Callable[[str, str], None] = lambda name, status: None,
        on_poll: Callable[[], None] = lambda: None,
    ) -> None:
        """Train all unfinished points, and wait for those that other processes are training.

        If a point fails, :attr:`failed` holds the reason, and the other points continue. If a
        worker dies, dask gives its point to another worker.

        Args:
            client: the client of the cluster.
            on_point: called with a point's hash and status: ``finished``, ``failed``, or ``busy``
                when another process is first seen to train the point.
            on_poll: called at least every two seconds.

        Raises:
            OnrError: a data set cannot be downloaded.

        """
        self.write()
        left = self.unfinished()
        for config in {self.points[name].dataset: self.points[name] for name in left}.values():
            if config.download:
                make_dataset(config)  # download once, instead of in every worker
        done: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        pending: dict[str, tuple[str, Future[Any]]] = {}
        busy: dict[str, bool] = {}  # points seen busy; true if they are to be tried again

        def submit(name: str) -> None:
            key = f"onr-{name}-{uuid.uuid4().hex}"
            settings = asdict(self.points[name])
            future = client.submit(train_point, settings, str(self.out), key=key, pure=False)
            pending[key] = name, future
            future.add_done_callback(done.put)

        try:
            for name in left:
                submit(name)
            while pending or any(busy.values()):
                try:
                    future = done.get(timeout=POLL)
                except queue.Empty:
                    for name in [name for name, waits in busy.items() if waits]:
                        busy[name] = False
                        if self.finished(name):
                            on_point(name, "finished")
                        else:
                            submit(name)
                else:
                    name, _ = pending.pop(str(future.key))
                    status = self._note(name, future)
                    if status == "busy":
                        if name not in busy:
                            on_point(name, status)
                        busy[name] = True
                    else:
                        on_point(name, status)
                self.write()
                on_poll()
        finally:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                client.cancel([future for _, future in pending.values()])
            self.write()

    def _note(self, name: str, future: Future[Any]) -> str:
        """Return the status of a point; keep the reason if it failed."""
        result = completed(future)
        if result["status"] == "cancelled":
            result = {"status": "failed", "message": "cancelled by the scheduler"}
        if result["status"] == "failed":
            self.failed[name] = result["message"]
        return result["status"]
