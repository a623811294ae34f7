"""The folder of a training run: its configuration, its record and its checkpoints.

``config.json``                the resolved settings, versions, and which plugin served each name
``metrics.jsonl``              one JSON object for each epoch
``checkpoint.safetensors``     parameters (``model.*``), their averages (``averaged.*``) if the run
                               keeps any, and all other state that the next step needs
``best.safetensors``           the parameters of the best epoch so far, by validation accuracy
``best-averaged.safetensors``  the averages of the epoch in which they were best, if there are any
``lock``                       a lock file, held by the process that trains

Every file is written under a temporary name and then renamed, so that neither a reader nor a crash
sees half a file. Nothing is pickled. A checkpoint is a safetensors file with a digest of its
tensors. It also holds the records of its epochs, so that parameters and records always agree.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import filelock
import numpy as np

from onr.errors import OnrError
from onr.files import write_atomic
from onr.training.checkpoints import AVERAGED, MODEL, Checkpoint, read_checkpoint, write_checkpoint
from onr.version import __version__

__all__ = ["BEST", "BEST_AVERAGED", "LAST", "LockedError", "Run"]

CONFIG, METRICS = "config.json", "metrics.jsonl"
LAST, BEST = "checkpoint.safetensors", "best.safetensors"
BEST_AVERAGED = "best-averaged.safetensors"


class LockedError(OnrError):
    """Another process is training the run."""


@dataclass(frozen=True)
class Run:
    """One training run on disk.

    Example:
        >>> run = Run.create(tmp_path / "run", {"train": {"epochs": 1}})
        >>> run.save(Checkpoint({"model.0.bias": np.ones(2)}, 4, [{"epoch": 1, "cost": 0.5}]))
        >>> Run.open(tmp_path / "run").records()
        [{'epoch': 1, 'cost': 0.5}]
        >>> run.model()
        ({'0.bias': array([1., 1.])}, 1)

    """

    path: Path
    """The run's folder."""
    config: dict[str, Any]
    """The content of ``config.json``."""

    @staticmethod
    def create(path: Path, config: dict[str, Any]) -> Run:
        """Start a run in a new or empty folder.

        Args:
            path: the folder.
            config: the content of ``config.json`` (:func:`onr.training.factories.run_record`).

        Raises:
            LockedError: the folder holds a run that another process is training.
            OnrError: the folder holds a run or other files, or cannot be written to.

        """
        try:
            taken = (path / CONFIG).exists()
            # A process that was killed here may have left its temporary file.
            empty = not path.exists() or (
                path.is_dir()
                and all(file.name.startswith(".config.json.") for file in path.iterdir())
            )
        except OSError as error:
            raise OnrError(f"{path} cannot be used: {error.strerror}") from error
        if taken and (path / "lock").exists():
            with Run(path, config).locked():
                pass  # if another process trains the run, LockedError is the better message
        if taken:
            raise OnrError(
                f"{path} holds a run already: continue it with --resume {path}, or give another "
                "--out"
            )
        if not empty:
            raise OnrError(f"{path} exists and is no empty folder: give another --out")
        run = Run(path, config)
        run._write_config()
        return run

    @staticmethod
    def open(path: Path) -> Run:
        """Open the run in an existing folder.

        Raises:
            OnrError: the folder holds no run, or its ``config.json`` is damaged.

        """
        file = path / CONFIG
        try:
            config = json.loads(file.read_text())
        except (FileNotFoundError, NotADirectoryError):
            raise OnrError(f"{path} holds no run: expected a folder that onr train wrote") from None
        except (OSError, ValueError) as error:
            raise OnrError(f"{file} cannot be read: {error}") from error
        if not isinstance(config, dict):
            raise OnrError(f"{file} cannot be read: expected a JSON object")
        return Run(path, config)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Prevent other processes from training this run.

        The lock is released on exit, and when the process ends.

        Raises:
            LockedError: another process holds the lock.
            OnrError: the folder cannot be written to.

        """
        lock = filelock.FileLock(self.path / "lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise LockedError(
                f"{self.path} is being trained by another process: wait for it, or stop it"
            ) from None
        except OSError as error:
            raise OnrError(
                f"{self.path} cannot be written to: {error.strerror or error}"
            ) from error
        try:
            # Only the lock holder writes these: temporary files are left by a killed process.
            for name in (CONFIG, LAST, BEST, BEST_AVERAGED, METRICS):
                for left in self.path.glob(f".{name}.*"):
                    with contextlib.suppress(OSError):
                        left.unlink()
            yield
        finally:
            lock.release()

    def _write_config(self) -> None:
        write_atomic(self.path / CONFIG, (json.dumps(self.config, indent=2) + "\n").encode())

    def lengthened(self, epochs: int, *, done: int) -> Run:
        """Record that the run goes on to another number of epochs; return the run with that record.

        The entry ``lengthened`` of ``config.json`` keeps the numbers of epochs before and after,
        and how many were done.

        Args:
            epochs: how many epochs the run is to have in all.
            done: how many it has finished.

        """
        before = self.config["train"]["epochs"]
        entry = {"from": before, "to": epochs, "done": done, "onr": __version__}
        changed = {
            "train": self.config["train"] | {"epochs": epochs},
            "lengthened": [*self.config.get("lengthened", []), entry],
        }
        run = Run(self.path, self.config | changed)
        run._write_config()
        return run

    def records(self) -> list[dict[str, Any]]:
        """The records in ``metrics.jsonl``, one for each epoch; empty if there is no such file.

        Raises:
            OnrError: the file is damaged.

        """
        file = self.path / METRICS
        if not file.exists():
            return []
        try:
            records = [json.loads(line) for line in file.read_text().splitlines()]
        except (OSError, ValueError) as error:
            raise OnrError(f"{file} is damaged: {error}") from error
        if not all(isinstance(record, dict) for record in records):
            raise OnrError(f"{file} is damaged: expected a JSON object a line")
        return records

    def save(
        self, checkpoint: Checkpoint, *, best: bool = False, best_averaged: bool = False
    ) -> None:
        """Write the checkpoint and its records.

        Args:
            checkpoint: the current state of training.
            best: whether to write its parameters to ``best.safetensors`` too.
            best_averaged: whether to write its averaged parameters to
                ``best-averaged.safetensors`` too.

        """
        files = ((best, BEST, MODEL), (best_averaged, BEST_AVERAGED, AVERAGED))
        for chosen, file, prefix in files:
            if chosen:
                kept = {k: v for k, v in checkpoint.tensors.items() if k.startswith(prefix)}
                write_checkpoint(
                    self.path / file, Checkpoint(kept, checkpoint.step, checkpoint.records)
                )
        write_checkpoint(self.path / LAST, checkpoint)
        self.record(checkpoint.records)

    def record(self, records: list[dict[str, Any]]) -> None:
        """Write ``metrics.jsonl``, replacing what it held."""
        lines = "".join(json.dumps(record) + "\n" for record in records)
        write_atomic(self.path / METRICS, lines.encode())

    def load(self, *, best: bool = False, averaged: bool = False) -> Checkpoint:
        """Read the last checkpoint, or the one of the best epoch.

        Args:
            best: the epoch in which the parameters were best, by validation accuracy.
            averaged: with ``best``, the epoch in which the averaged parameters were best.

        Raises:
            OnrError: the run has no such checkpoint yet, or the file is damaged.

        """
        file = self.path / ((BEST_AVERAGED if averaged else BEST) if best else LAST)
        if not file.exists():
            raise OnrError(
                f"{self.path} has no {'best ' * best}checkpoint yet: no epoch was finished, "
                f"continue it with onr train --resume {quote(str(self.path))}"
            )
        return read_checkpoint(file)

    def model(
        self, *, best: bool = False, averaged: bool = False
    ) -> tuple[dict[str, np.ndarray], int]:
        """The model's parameters by name, and the number of finished epochs behind them.

        Args:
            best: take the epoch in which they were best, by validation accuracy, not the last.
            averaged: take the averages of the parameters over the steps of training.

        Raises:
            OnrError: the run has no such checkpoint yet or keeps no averages, or the file is
                damaged.

        """
        if averaged and self.config.get("train", {}).get("average") is None:
            raise OnrError(
                f"{self.path} keeps no averaged weights: train with --average, such as 0.999"
            )
        found = self.load(best=best, averaged=averaged)
        prefix = AVERAGED if averaged else MODEL
        parameters = {k[len(prefix) :]: v for k, v in found.tensors.items() if k.startswith(prefix)}
        return parameters, len(found.records)
