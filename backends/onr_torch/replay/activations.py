"""Activations and pooling: masks, winners of windows, and slopes entry by entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from onr_torch.replay.calls import Call
from onr_torch.replay.local import Local, Recorded

__all__ = ["clipped", "elementwise", "max_pool2d", "relu"]


@dataclass(frozen=True)
class _Mask:
    """The derivative of an activation that is constant or has slope 1, by its ``result``.

    ``backward`` is torch's own backward pass with its ``limits``. A mask is its own transpose.
    """

    result: torch.Tensor
    backward: Any
    limits: tuple[float, ...]
    in_place: bool

    def __call__(self, v: torch.Tensor) -> torch.Tensor:
        if self.in_place and not torch.is_grad_enabled():
            image: torch.Tensor = self.backward.grad_input(
                v, self.result, *self.limits, grad_input=v
            )
        else:
            image = self.backward(v, self.result, *self.limits)
        return image


def _masked(call: Call, backward: Any, *limits: float) -> Recorded:
    result = call.run()
    kept = result.detach()
    return Recorded(result, _Mask(kept, backward, limits, call.in_place), [kept])


def relu(call: Call) -> Recorded | None:
    """ReLU, whose derivative is 1 where the result is positive, and 0 elsewhere.

    Example:
        >>> from onr_torch.replay.calls import asks
        >>> x = torch.tensor([3.0, 0.0], requires_grad=True)
        >>> relu(Call(torch.relu, (x,), {}, asks)).derivative(torch.ones(2))
        tensor([1., 0.])

    """
    if not call.is_alone:
        return None
    return _masked(call, torch.ops.aten.threshold_backward, 0)


def clipped(call: Call) -> Recorded | None:
    """``relu6`` and ``hardtanh``: 1 where the result is between the limits, 0 at and beyond them.

    Example:
        >>> from onr_torch.replay.calls import asks
        >>> x = torch.tensor([3.0, 0.0, 6.0], requires_grad=True)
        >>> clipped(Call(functional.relu6, (x,), {}, asks)).derivative(torch.ones(3))
        tensor([1., 0., 0.])

    """
    if not call.is_alone:
        return None
    limits = (0.0, 6.0)
    if call.name == "hardtanh":
        given = call.bound("input", "min_val", "max_val")
        limits = given.get("min_val", -1.0), given.get("max_val", 1.0)
    return _masked(call, torch.ops.aten.hardtanh_backward, *limits)


class _Slope:
    """The derivative of an operation that works entry by entry: one number for each entry."""

    def __init__(self, own: Local) -> None:
        self._own = own
        self._slope: torch.Tensor | None = None

    def __call__(self, v: torch.Tensor) -> torch.Tensor:
        if self._slope is None:
            with torch.enable_grad():
                z = self._own.at[0].detach().requires_grad_(True)
                value = self._own.value(z.clone() if self._own.in_place else z)
                (self._slope,) = torch.autograd.grad(value.sum(), z)
        return v * self._slope


def elementwise(call: Call) -> Recorded | None:
    """Any activation that works entry by entry; its slope is found at the first direction.

    Example:
        >>> from onr_torch.replay.calls import asks
        >>> x = torch.tensor([0.0], requires_grad=True)
        >>> elementwise(Call(torch.sigmoid, (x,), {}, asks)).derivative(torch.ones(1))
        tensor([0.2500])

    """
    if not call.is_alone:
        return None
    own = Local(call)
    return Recorded(call.run(), _Slope(own), own.at)


def max_pool2d(call: Call) -> Recorded | None:
    """Maxima of windows; the derivative takes the entry of each winner, which torch tells.

    Example:
        >>> from onr_torch.replay.calls import asks
        >>> x = torch.tensor([[[1.0, 3.0]]], requires_grad=True)
        >>> found = max_pool2d(Call(functional.max_pool2d, (x, (1, 2)), {}, asks))
        >>> found.derivative(torch.tensor([[[5.0, 7.0]]]))
        tensor([[[7.]]])

    """
    if not call.is_alone:
        return None
    result, winners = _pool_with_winners(*call.args, **call.kwargs)
    return Recorded(result, lambda v: _entries(v, winners))


def _pool_with_winners(
    input: torch.Tensor, *args: Any, return_indices: bool = False, **kwargs: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    result, winners = functional.max_pool2d(input, *args, return_indices=True, **kwargs)
    return result, winners


def _entries(v: torch.Tensor, winners: torch.Tensor) -> torch.Tensor:
    """The entries of ``v`` at the winners, gathered in the memory format of ``winners``."""
    if v.ndim == 3:
        return _entries(v[None], winners[None])[0]
    if winners.is_contiguous():
        return v.flatten(2).gather(2, winners.flatten(2)).reshape(winners.shape)
    batch, channels, height, width = winners.shape
    pixels = v.permute(0, 2, 3, 1).reshape(batch, -1, channels)
    index = winners.permute(0, 2, 3, 1).reshape(batch, -1, channels)
    return pixels.gather(1, index).reshape(batch, height, width, channels).permute(0, 3, 1, 2)
