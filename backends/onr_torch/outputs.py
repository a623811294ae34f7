"""The logits of a module: which outputs are taken, and which are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from onr.errors import OnrError

__all__ = ["logits", "tensor_of"]


def tensor_of(output: Any, module: nn.Module) -> torch.Tensor:
    """The tensor that a module's output stands for.

    The rule: a tensor stands for itself; a mapping with a key ``logits``, and any other object
    with an attribute ``logits``, stand for what is there. Outputs beside the logits are ignored.

    Raises:
        OnrError: the output has no such tensor, for example because it is a tuple.

    Example:
        >>> tensor_of({"logits": torch.zeros(1, 2), "features": None}, nn.Identity())
        tensor([[0., 0.]])

    """
    found = output
    if not isinstance(found, torch.Tensor):
        is_mapping = isinstance(output, Mapping)
        found = output.get("logits") if is_mapping else getattr(output, "logits", None)
    if isinstance(found, torch.Tensor):
        return found
    raise OnrError(
        f"{type(module).__name__} gives a {type(output).__name__}: expected a tensor of logits "
        "(batch, d), or an output with a tensor named logits; wrap the model in a module that "
        "returns its logits"
    )


def logits(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The logits of a module in the mode that it is in, shape ``(batch, d)``.

    Args:
        module: the module; :func:`tensor_of` says which outputs are taken.
        x: inputs, shape ``(batch, *input_shape)``.

    Raises:
        OnrError: the output is no tensor of real numbers of shape ``(batch, d)`` with ``d >= 1`` on
            the device of ``x``.

    Example:
        >>> logits(nn.Flatten(), torch.ones(1, 2, 2))
        tensor([[1., 1., 1., 1.]])

    """
    found = tensor_of(module(x), module)
    if found.ndim != 2 or len(found) != len(x) or found.shape[1] == 0:
        raise OnrError(
            f"{type(module).__name__} maps inputs of shape {tuple(x.shape)} to "
            f"{tuple(found.shape)}: expected logits (batch, d); if x is a single input, give "
            "x[None]"
        )
    if found.device != x.device:
        raise OnrError(
            f"{type(module).__name__} gives outputs on {found.device} for inputs on {x.device}"
        )
    if not found.is_floating_point():
        raise OnrError(
            f"{type(module).__name__} gives outputs of {found.dtype}: expected logits, real numbers"
        )
    return found
