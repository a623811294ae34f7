"""The derivative of one operation at the arguments of the forward pass, by torch's own rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from onr_torch.forward_mode import forward_mode
from onr_torch.replay.calls import Call, asks, replaced

__all__ = ["Local", "Recorded", "local"]


@dataclass(frozen=True)
class Recorded:
    """What is recorded of one operation.

    Example:
        >>> Recorded(torch.ones(2)).is_ours
        True

    """

    result: Any
    """The result of the operation."""
    derivative: Callable[..., Any] | None = None
    """Takes a tangent for each input-dependent tensor, in order; ``None`` if linear."""
    kept: Sequence[torch.Tensor] = ()
    """The tensors that the derivative depends on."""
    is_ours: bool = True
    """Whether the derivative is the adjoint of torch's backward pass by construction."""


class Local:
    """An operation as a function of its input-dependent tensors, whose values ``at`` keeps.

    Example:
        >>> x = torch.tensor([3.0], requires_grad=True)
        >>> call = Call(torch.mul, (x, x), {}, asks)
        >>> Local(call).value(torch.tensor([2.0]), torch.tensor([5.0]))
        tensor([10.])

    """

    def __init__(self, call: Call) -> None:
        self.at: list[torch.Tensor] = []
        self.in_place = call.in_place

        def keep(x: torch.Tensor) -> torch.Tensor:
            if not asks(x):
                return x
            # An in-place operation overwrites what its derivative depends on.
            self.at.append(x.detach().clone() if call.in_place else x.detach())
            return self.at[-1]

        self._func = call.func
        self._args, self._kwargs = replaced((call.args, call.kwargs), keep)

    def value(self, *inputs: torch.Tensor) -> Any:
        """The operation at other tensors, one for each of ``at``."""
        instead = {id(x): z for x, z in zip(self.at, inputs, strict=True)}
        args, kwargs = replaced((self._args, self._kwargs), lambda x: instead.get(id(x), x))
        return self._func(*args, **kwargs)

    def push(self, *tangents: torch.Tensor) -> Any:
        """Apply the derivative in torch's forward mode."""

        def value(*inputs: torch.Tensor) -> Any:
            return self.value(*(x.clone() for x in inputs))

        return forward_mode(value, tuple(self.at), tangents)


def local(call: Call) -> Recorded:
    """Any operation that torch can differentiate in forward mode.

    Example:
        >>> x = torch.tensor([3.0], requires_grad=True)
        >>> found = local(Call(torch.square, (x,), {}, asks))
        >>> found.derivative(torch.ones(1)), found.is_ours
        (tensor([6.]), False)

    """
    own = Local(call)
    return Recorded(call.run(), own.push, own.at, is_ours=False)
