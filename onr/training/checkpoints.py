"""Checkpoints: all tensors of a training and the record of its epochs, in one safetensors file.

The file carries a digest of its content, and is written beside its place and renamed, so that a
reader or a crash never sees half of one. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from onr.errors import OnrError
from onr.files import write_atomic

__all__ = ["AVERAGED", "MODEL", "Checkpoint", "read_checkpoint", "write_checkpoint"]

MODEL, AVERAGED = "model.", "averaged."
"""What the names of the parameters, and of their averages, begin with in a checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training run at one step.

    Example:
        >>> Checkpoint({"model.0.weight": np.zeros((2, 3))}, step=12, records=[]).step
        12

    """

    tensors: Mapping[str, np.ndarray]
    """All arrays by name; parameters are named ``model.NAME``, and averaged ones
    ``averaged.NAME``.
    """
    step: int
    """The number of steps taken, over all epochs."""
    records: list[dict[str, Any]]
    """One record for each finished epoch."""


def _digest(tensors: Mapping[str, np.ndarray], metadata: str) -> str:
    digest = hashlib.sha256(metadata.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"\0{name}\0{value.dtype.str}\0{value.shape}\0".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def write_checkpoint(file: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint.

    Raises:
        OnrError: the folder cannot be written to, or the disk is full.

    Example:
        >>> write_checkpoint(tmp_path / "a.safetensors", Checkpoint({"w": np.ones(2)}, 3, []))
        >>> read_checkpoint(tmp_path / "a.safetensors").step
        3

    """
    whole = {k: np.asarray(value, order="C") for k, value in checkpoint.tensors.items()}
    metadata = json.dumps({"step": checkpoint.step, "records": checkpoint.records})
    digest = _digest(whole, metadata)
    write_atomic(file, safetensors.numpy.save(whole, {"training": metadata, "sha256": digest}))


def read_checkpoint(file: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        OnrError: the file is damaged.

    """
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
