"""The activation pattern of any ReLU ``nn.Module`` (section 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from onr.errors import OnrError
from onr_torch.modes import constant_parameters

__all__ = ["activation_pattern"]

OTHERS = frozenset({"hardtanh", "prelu", "relu6", "rrelu", "threshold", "_threshold"})
"""Other activations with discrete states; a module that uses one is refused."""


def activation_pattern(module: nn.Module, x: torch.Tensor, /) -> torch.Tensor:
    """Which hidden units are on, ``z > 0``, in evaluation mode; shape ``(batch, m)``, bool.

    The units are those of all ReLUs and leaky ReLUs, as layers or as functions, in the order of
    their computation. A unit at exactly zero is off. Smooth activations are never on or off and are
    left out.

    Args:
        module: the network.
        x: inputs, shape ``(batch, *input_shape)``.

    Raises:
        OnrError: the module has no such unit, or has units with other states, such as ReLU6.

    Example:
        >>> activation_pattern(nn.ReLU(), torch.tensor([[3.0, 0.0, -4.0]]))
        tensor([[ True, False, False]])

    """
    with torch.no_grad(), constant_parameters(module), _Watch() as watch:
        module(x.clone())
    if not watch.masks:
        raise OnrError(f"{type(module).__name__} has no ReLU: it has no activation pattern")
    return torch.cat([mask.flatten(1) for mask in watch.masks], dim=1)


class _Watch(TorchFunctionMode):
    """Records where the input of each ReLU is positive."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[torch.Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Read the mask before the function runs, since it may overwrite its input."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").removesuffix("_")
        if name in OTHERS:
            raise OnrError(
                f"the module uses {name}: a pattern is that of ReLU and leaky ReLU units"
            )
        if name in ("relu", "leaky_relu"):
            self.masks.append((args[0] if args else kwargs["input"]) > 0)
        return func(*args, **kwargs)
