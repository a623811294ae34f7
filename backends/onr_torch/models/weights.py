"""Reads a model's weights from a file or a run; only tensors are unpickled, no code runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from onr.errors import OnrError
from onr.training.runs import BEST, BEST_AVERAGED, LAST, Run

__all__ = ["read_weights"]

NESTED = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts store the state dict; one key may be nested in another."""
PARALLEL = "module."
"""The prefix that ``DataParallel`` adds to every name."""


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Read parameters and buffers by name; dtypes are kept, but bfloat16 becomes float32 (exact).

    Args:
        path: the folder of a run, a checkpoint in such a folder, a ``.safetensors`` file, or a
            file of ``torch.save`` that holds a state dict, alone or under one of the keys
            ``state_dict``, ``model_state_dict`` and ``model``. The prefix ``module.`` of
            ``DataParallel`` is dropped.

    Raises:
        OnrError: there is no such file, or the file is damaged, holds no state dict, or holds
            objects that only running code can make.

    Example:
        >>> torch.save({"state_dict": {"module.bias": torch.ones(2)}}, tmp_path / "net.pt")
        >>> read_weights(tmp_path / "net.pt")
        {'bias': array([1., 1.], dtype=float32)}

    """
    if path.is_dir():
        return Run.open(path).model()[0]
    if path.name in (BEST, BEST_AVERAGED, LAST) and (path.parent / "config.json").exists():
        best, averaged = path.name != LAST, path.name == BEST_AVERAGED
        return Run.open(path.parent).model(best=best, averaged=averaged)[0]
    if not path.exists():
        raise OnrError(f"no file {path}: expected weights, or the folder of a run")
    state = _safetensors(path) if path.suffix == ".safetensors" else _state_dict(path)
    if all(name.startswith(PARALLEL) for name in state):
        state = {name.removeprefix(PARALLEL): value for name, value in state.items()}
    return {name: _array(value) for name, value in state.items()}


def _safetensors(path: Path) -> Mapping[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise OnrError(f"{path} is damaged or no safetensors file: {error}") from error


def _state_dict(path: Path) -> Mapping[str, torch.Tensor]:
    found = _loaded(path)
    for key in NESTED * 2:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found:
        raise OnrError(f"{path} holds a {type(found).__name__}: expected a state dict")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise OnrError(
                f"{path} holds a {type(value).__name__} under {name!r}: expected a state dict, "
                f"on its own or under one of {', '.join(NESTED)}"
            )
    return found


def _loaded(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        made = re.search(r"GLOBAL (\S+)", str(error))
        raise OnrError(
            f"{path} holds {made[1] if made else 'more than tensors'}, which code would have to "
            "be run for: save the model's state_dict() alone, or as safetensors"
        ) from error
    except Exception as error:
        told = str(error).partition("\n")[0].partition(". ")[0]
        raise OnrError(
            f"{path} is damaged or was not written by torch.save ({type(error).__name__}: {told})"
        ) from error


def _array(value: torch.Tensor) -> np.ndarray:
    value = value.detach()
    if value.dtype is torch.bfloat16:
        value = value.float()
    array: np.ndarray = value.numpy()
    return array
