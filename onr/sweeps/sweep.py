"""Grids of training runs: a file names the points, dask.distributed trains them.

A point is a resolved configuration, and lives in a run's folder named by its hash. What is done is
read off these folders alone, so that the same command continues a sweep that was stopped anywhere,
and several sweeps may share a folder. A worker trains a point under the run's lock, from its
checkpoint: whatever dies, no point is trained twice at once, and none that is finished again.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import queue
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onr import __version__
from onr.errors import OnrError
from onr.files import write_atomic
from onr.sweeps.cluster import CancelledError, cancellation, completed, outcome
from onr.sweeps.grids import flat, point_hash
from onr.training.config import TrainConfig
from onr.training.factories import make_dataset, run_record
from onr.training.loop import Training
from onr.training.runs import LockedError, Run

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Sweep", "train_point"]

RESULTS = ("validation_accuracy", "validation_robust_accuracy")
POLL = 2.0
"""Seconds between looks at the folders."""


# One point, on a worker


def train_point(settings: dict[str, Any], out: str) -> dict[str, str]:
    """Train a point, or what is left of it.

    Args:
        settings: of a :class:`TrainConfig`.
        out: the sweep's folder, which all workers see.

    Returns:
        ``status``: ``finished``; ``failed``, with a ``message``; ``busy`` if another process trains
        it; ``cancelled`` if nobody waits for it any more. Nothing is raised.

    """
    return outcome(lambda: _train(TrainConfig(**settings), Path(out)))


def _train(config: TrainConfig, out: Path) -> str:
    if not out.is_dir():
        raise OnrError(f"{out} is not there on a worker: expected a folder that all workers share")
    run = Run(out / point_hash(config), asdict(config))
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
        elif point_hash(TrainConfig.read(Run.open(run.path).config)) != run.path.name:
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
        return []  # damaged: the checkpoint has them too


# All of them


class Sweep:
    """The points of a sweep and where they stand; ``sweep.json`` and ``sweep.csv`` say it.

    Args:
        points: by their hash.
        out: the folder that holds a folder for each.

    """

    def __init__(self, points: Mapping[str, TrainConfig], out: Path) -> None:
        self.points = dict(points)
        self.out = out.absolute()
        self.failed: dict[str, str] = {}
        """Why, by hash; of this process alone, so that the next sweep tries again."""
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
        """By hash, the settings in which the points differ; ``None`` where one has no such."""

    def label(self, name: str) -> str:
        """A point's settings, shortly."""
        settings = self.varying[name].items()
        given = [f"{path.rpartition('.')[2]} {v}" for path, v in settings if v is not None]
        return ", ".join(given) or self.points[name].method

    def records(self, name: str) -> list[dict[str, Any]]:
        """What a point's folder has recorded, an object an epoch."""
        if name in self._finished:
            return self._finished[name]
        records = _recorded(self.out / name)
        if len(records) >= self.points[name].epochs:
            self._finished[name] = records
        return records

    def finished(self, name: str) -> bool:
        """Whether all its epochs are recorded."""
        return len(self.records(name)) >= self.points[name].epochs

    def unfinished(self) -> list[str]:
        """The points that are not finished."""
        return [name for name in self.points if not self.finished(name)]

    def rows(self) -> list[dict[str, Any]]:
        """A row a point: hash, status, what varies, epochs, accuracies, and why it failed."""
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
                | {result: last.get(result) for result in RESULTS}
                | {"message": message}
            )
        return rows

    def write(self) -> None:
        """Bring ``sweep.json`` and ``sweep.csv`` up to date."""
        rows = self.rows()
        table = io.StringIO()
        writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        listing = json.dumps({"onr": __version__, "points": rows}, indent=2) + "\n"
        for file, text in (("sweep.json", listing), ("sweep.csv", table.getvalue())):
            path, content = self.out / file, text.encode()
            if not path.exists() or path.read_bytes() != content:
                write_atomic(path, content)

    def run(
        self,
        client: Client,
        on_point: Callable[[str, str], None] = lambda name, status: None,
        on_poll: Callable[[], None] = lambda: None,
    ) -> None:
        """Train what is not finished; a point that fails is noted, and the others go on.

        A point that another process trains is waited for.

        Args:
            client: of the cluster. Where a worker dies, its point goes to another.
            on_point: called with a point's hash and its status: ``finished``, ``failed``, or
                ``busy`` when it is first seen to be.
            on_poll: called every two seconds or less.

        """
        self.write()
        left = self.unfinished()
        for config in {self.points[name].dataset: self.points[name] for name in left}.values():
            if config.download:
                make_dataset(config)  # once, before the workers all do
        done: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        pending: dict[str, tuple[str, Future[Any]]] = {}
        busy: dict[str, bool] = {}  # whether it waits for its turn here

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
            with contextlib.suppress(Exception):  # a scheduler that is gone has forgotten them
                client.cancel([future for _, future in pending.values()])
            self.write()

    def _note(self, name: str, future: Future[Any]) -> str:
        """Keep what became of a point."""
        result = completed(future)
        if result["status"] == "cancelled":
            result = {"status": "failed", "message": "cancelled by the scheduler"}
        if result["status"] == "failed":
            self.failed[name] = result["message"]
        return result["status"]
