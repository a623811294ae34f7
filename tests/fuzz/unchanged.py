"""What a verb must leave alone: the module, the input, the generators and torch's modes."""

from __future__ import annotations

import random
import weakref
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

HELD = {"_parameters", "_buffers", "_modules"}


def _tensor(x: torch.Tensor) -> tuple[Any, ...]:
    told = (id(x), x.dtype, tuple(x.shape), x.requires_grad)
    if is_lazy(x) or x.is_meta:
        return (id(x), type(x))
    return (*told, x.detach().clone().reshape(-1).view(torch.uint8).numpy().tobytes())


def _value(value: Any, depth: int = 0) -> Any:
    if isinstance(value, torch.Tensor):
        return _tensor(value)
    if isinstance(value, dict) and depth < 2:
        return id(value), [(key, _value(item, depth + 1)) for key, item in value.items()]
    if isinstance(value, list | tuple | set) and depth < 2:
        return type(value), [_value(item, depth + 1) for item in value]
    if isinstance(value, weakref.ref):
        return id(value())
    if isinstance(value, int | float | str | bytes | bool | None):
        return value
    return id(value)


def snapshot(
    module: nn.Module, x: torch.Tensor, skip: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Everything of a module that can be compared, by name."""
    found: dict[str, Any] = {"the input": (_tensor(x), x.grad is None)}
    legacy = np.random.get_state(legacy=False)["state"]  # noqa: NPY002 - is the generator that must not move
    found["torch's generator"] = torch.get_rng_state().numpy().tobytes()
    found["numpy's generator"] = (legacy["key"].tobytes(), legacy["pos"])
    found["python's generator"] = random.getstate()
    found["torch's modes"] = (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(),
    )
    if "*" in skip:
        return found
    for path, part in module.named_modules():
        found[f"{path}.training"] = part.training
        for name, value in [*part._parameters.items(), *part._buffers.items()]:
            if value is not None and name not in skip:
                found[f"{path}.{name}"] = _tensor(value)
                grad = None if value.is_meta else value.grad
                found[f"{path}.{name}.grad"] = None if grad is None else _tensor(grad)
        held = getattr(part, "__dict__", {})
        found[f"{path} attributes"] = sorted(set(held) - skip)
        for name, value in held.items():
            if name not in HELD and name not in skip:
                found[f"{path}.{name} (attribute)"] = _value(value)
    return found


def changes(before: dict[str, Any], after: dict[str, Any], *, draws: bool) -> list[str]:
    """The names of what differs."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return [name for name in names if not (draws and "generator" in name)]
