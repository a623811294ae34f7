"""A run's folder: its configuration, its record, its checkpoint.

``config.json``             what was asked, resolved; versions; the plugins that served it
``metrics.jsonl``           one JSON object an epoch
``checkpoint.safetensors``  parameters (``model.*``) and all else that the next step depends on
``best.safetensors``        the parameters of the best epoch so far, by its validation accuracy
``lock``                    held by the process that trains

Files are written beside and renamed, so that a reader or a crash never sees half of one. Nothing is
pickled: a checkpoint is a safetensors file with a digest of its tensors, and holds the record of
its epochs, so that the two never disagree.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from onr.errors import OnrError
from onr.files import write_atomic

__all__ = ["Checkpoint", "LockedError", "Run"]

LAST, BEST, METRICS = "checkpoint.safetensors", "best.safetensors", "metrics.jsonl"


class LockedError(OnrError):
    """Another process trains the run."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stands."""

    tensors: Mapping[str, np.ndarray]
    """By name; parameters are ``model.NAME``."""
    step: int
    """Steps done in all."""
    records: list[dict[str, Any]]
    """Of the whole epochs behind it."""


def _digest(tensors: Mapping[str, np.ndarray], metadata: str) -> str:
    digest = hashlib.sha256(metadata.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"\0{name}\0{value.dtype.str}\0{value.shape}\0".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Run:
    """One training run on disk."""

    path: Path
    config: dict[str, Any]

    @staticmethod
    def create(path: Path, config: dict[str, Any]) -> Run:
        """Start a run in a folder of its own.

        Raises:
            OnrError: there is a run already, or the folder cannot be written to.

        """
        try:
            taken = (path / "config.json").exists()
            # A process that was killed here may have left what it wrote beside.
            empty = not path.exists() or (
                path.is_dir()
                and all(file.name.startswith(".config.json.") for file in path.iterdir())
            )
        except OSError as error:
            raise OnrError(f"{path} cannot be used: {error.strerror}") from error
        if taken and (path / "lock").exists():
            with Run(path, config).locked():
                pass  # a training in progress is the better thing to say
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
        """Find a run.

        Raises:
            OnrError: there is none, or its configuration is damaged.

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
        """Keep other processes from training this run; the lock falls with the process.

        Raises:
            LockedError: another process has it.
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
            # Nobody else writes these: what lies beside them is of a process that was killed.
            for name in (LAST, BEST, METRICS):
                for left in self.path.glob(f".{name}.*"):
                    with contextlib.suppress(OSError):
                        left.unlink()
            yield
        finally:
            lock.release()

    def records(self) -> list[dict[str, Any]]:
        """What was recorded, an object an epoch."""
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
        """Write the checkpoint, and the record that belongs to it.

        Args:
            checkpoint: where training stands.
            best: whether its parameters are the best so far.

        """
        if best:
            model = {k: v for k, v in checkpoint.tensors.items() if k.startswith("model.")}
            self._write(BEST, Checkpoint(model, checkpoint.step, checkpoint.records))
        self._write(LAST, checkpoint)
        self.record(checkpoint.records)

    def record(self, records: list[dict[str, Any]]) -> None:
        """Write ``metrics.jsonl``."""
        lines = "".join(json.dumps(record) + "\n" for record in records)
        write_atomic(self.path / METRICS, lines.encode())

    def _write(self, name: str, checkpoint: Checkpoint) -> None:
        whole = {k: np.asarray(value, order="C") for k, value in checkpoint.tensors.items()}
        metadata = json.dumps({"step": checkpoint.step, "records": checkpoint.records})
        digest = _digest(whole, metadata)
        content = safetensors.numpy.save(whole, {"training": metadata, "sha256": digest})
        write_atomic(self.path / name, content)

    def load(self, *, best: bool = False) -> Checkpoint:
        """The last checkpoint, or the best.

        Raises:
            OnrError: there is none, or it is damaged.

        """
        file = self.path / (BEST if best else LAST)
        if not file.exists():
            raise OnrError(
                f"{self.path} has no {'best ' * best}checkpoint yet: no epoch was finished, "
                f"continue it with onr train --resume {self.path}"
            )
        try:
            with safe_open(file, framework="numpy") as opened:
                metadata = opened.metadata() or {}
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
            whole = metadata["sha256"] == _digest(tensors, metadata["training"])
            training = json.loads(metadata["training"]) if whole else {}
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise OnrError(f"{file} is damaged ({error}): train again") from error
        if not whole:
            raise OnrError(f"{file} is damaged (its digest does not match): train again")
        return Checkpoint(tensors, training["step"], training["records"])

    def model(self, *, best: bool = False) -> tuple[dict[str, np.ndarray], int]:
        """The model's parameters by name, and the whole epochs behind them.

        Raises:
            OnrError: as :meth:`load`.

        """
        found = self.load(best=best)
        prefix = "model."
        parameters = {k[len(prefix) :]: v for k, v in found.tensors.items() if k.startswith(prefix)}
        return parameters, len(found.records)
