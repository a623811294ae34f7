"""A run's folder: its configuration, its record, its checkpoint.

``config.json``             what was asked, resolved; versions; the plugins that served it
``metrics.jsonl``           one JSON object an epoch
``checkpoint.safetensors``  parameters (``model.*``) and optimiser state after the last whole epoch

Files are written beside and renamed, so that a reader or a crash never sees half of one. Nothing is
pickled: the checkpoint is a safetensors file with a digest of its tensors.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from onr.errors import OnrError

__all__ = ["Run", "write_atomic"]


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OnrError: the folder cannot be written to, or the disk is full.

    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        if not isinstance(error, OSError):
            raise
        raise OnrError(f"{path} cannot be written: {error.strerror or error}") from error


def _digest(tensors: Mapping[str, np.ndarray], epoch: int) -> str:
    digest = hashlib.sha256(str(epoch).encode())
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
            empty = not path.exists() or (path.is_dir() and not any(path.iterdir()))
        except OSError as error:
            raise OnrError(f"{path} cannot be used: {error.strerror}") from error
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

    def records(self) -> list[dict[str, Any]]:
        """What was recorded, an object an epoch."""
        file = self.path / "metrics.jsonl"
        if not file.exists():
            return []
        try:
            records = [json.loads(line) for line in file.read_text().splitlines()]
        except (OSError, ValueError) as error:
            raise OnrError(f"{file} is damaged: {error}") from error
        if not all(isinstance(record, dict) for record in records):
            raise OnrError(f"{file} is damaged: expected a JSON object a line")
        return records

    def save(self, tensors: Mapping[str, np.ndarray], records: list[dict[str, Any]]) -> None:
        """Write the checkpoint, then the record that belongs to it."""
        whole = {name: np.asarray(value, order="C") for name, value in tensors.items()}
        metadata = {"epoch": str(len(records)), "sha256": _digest(whole, len(records))}
        content = safetensors.numpy.save(whole, metadata)
        write_atomic(self.path / "checkpoint.safetensors", content)
        lines = "".join(json.dumps(record) + "\n" for record in records)
        write_atomic(self.path / "metrics.jsonl", lines.encode())

    def load(self) -> tuple[dict[str, np.ndarray], int]:
        """The checkpoint's tensors and the number of whole epochs behind it.

        Raises:
            OnrError: there is none, or it is damaged.

        """
        file = self.path / "checkpoint.safetensors"
        if not file.exists():
            raise OnrError(
                f"{self.path} has no checkpoint yet: no epoch was finished, continue it with "
                f"onr train --resume {self.path}"
            )
        try:
            with safe_open(file, framework="numpy") as opened:
                metadata = opened.metadata() or {}
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
            epoch = int(metadata["epoch"])
            whole = metadata["sha256"] == _digest(tensors, epoch)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise OnrError(f"{file} is damaged ({error}): train again") from error
        if not whole:
            raise OnrError(f"{file} is damaged (its digest does not match): train again")
        return tensors, epoch

    def model(self) -> tuple[dict[str, np.ndarray], int]:
        """The model's parameters by name, without the optimiser's; and the epochs, as ``load``."""
        tensors, epochs = self.load()
        prefix = "model."
        found = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        return found, epochs
