"""The folder of a training run: its configuration, its record and its checkpoints.

``config.json``             the resolved settings, versions, and which plugin served each name
``metrics.jsonl``           one JSON object for each epoch
``checkpoint.safetensors``  parameters (``model.*``) and all other state that the next step needs
``best.safetensors``        the parameters of the best epoch so far, by validation accuracy
``lock``                    a lock file, held by the process that trains

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
from typing import Any

import filelock
import numpy as np

from onr.errors import OnrError
from onr.files import write_atomic
from onr.training.checkpoints import Checkpoint, read_checkpoint, write_checkpoint

__all__ = ["BEST", "LAST", "LockedError", "Run"]

LAST, BEST, METRICS = "checkpoint.safetensors", "best.safetensors", "metrics.jsonl"


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
            taken = (path / "config.json").exists()
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
        write_atomic(path / "config.json", (json.dumps(config, indent=2) + "\n").encode())
        return Run(path, config)

    @staticmethod
    def open(path: Path) -> Run:
        """Open the run in an existing folder.

        Raises:
            OnrError: the folder holds no run, or its ``config.json`` is damaged.

        """
        file = path / "config.json"
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
            for name in (LAST, BEST, METRICS):
                for left in self.path.glob(f".{name}.*"):
                    with contextlib.suppress(OSError):
                        left.unlink()
            yield
        finally:
            lock.release()

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

    def save(self, checkpoint: Checkpoint, *, best: bool = False) -> None:
        """Write the checkpoint and its records.

        Args:
            checkpoint: the current state of training.
            best: whether to write its parameters to ``best.safetensors`` too.

        """
        if best:
            model = {k: v for k, v in checkpoint.tensors.items() if k.startswith("model.")}
            write_checkpoint(
                self.path / BEST, Checkpoint(model, checkpoint.step, checkpoint.records)
            )
        write_checkpoint(self.path / LAST, checkpoint)
        self.record(checkpoint.records)

    def record(self, records: list[dict[str, Any]]) -> None:
        """Write ``metrics.jsonl``, replacing what it held."""
        lines = "".join(json.dumps(record) + "\n" for record in records)
        write_atomic(self.path / METRICS, lines.encode())

    def load(self, *, best: bool = False) -> Checkpoint:
        """Read the last checkpoint, or the one of the best epoch.

        Raises:
            OnrError: the run has no such checkpoint yet, or the file is damaged.

        """
        file = self.path / (BEST if best else LAST)
        if not file.exists():
            raise OnrError(
                f"{self.path} has no {'best ' * best}checkpoint yet: no epoch was finished, "
                f"continue it with onr train --resume {self.path}"
            )
        return read_checkpoint(file)

    def model(self, *, best: bool = False) -> tuple[dict[str, np.ndarray], int]:
        """The model's parameters by name, and the number of finished epochs behind them.

        Raises:
            OnrError: the run has no such checkpoint yet, or the file is damaged.

        """
        found = self.load(best=best)
        prefix = "model."
        parameters = {k[len(prefix) :]: v for k, v in found.tensors.items() if k.startswith(prefix)}
        return parameters, len(found.records)
