r"""Normalisations by the statistics of the example itself.

Let ``n`` numbers ``x`` be standardised: ``y = (x - mean) r`` with ``r = 1 / sqrt(var + eps)``. The
derivative along ``v`` is ``r (v - mean(v) - y mean(y v))``. Its matrix is symmetric, so torch's
backward kernel without weights computes it; weights scale the result afterwards.

Nothing is kept but ``x``, which autograd keeps anyway, and from the first direction on two numbers
for each standardised group.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from onr_torch.replay.calls import Call
from onr_torch.replay.local import Recorded

__all__ = ["group_norm", "instance_norm", "layer_norm", "normalize", "rms_norm"]


class _Standardised:
    """The derivative of ``weight * (x - mean) / sqrt(var + eps)``, in groups of ``size`` numbers.

    ``weight`` broadcasts against ``x``.
    """

    def __init__(
        self, x: torch.Tensor, size: int, eps: float, weight: torch.Tensor | None, result: Any
    ) -> None:
        self._x, self._size, self._eps, self._weight = x, size, eps, weight
        self._dtype: torch.dtype = result.dtype
        self._moments: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(self, v: torch.Tensor) -> torch.Tensor:
        shape = [self._size]
        x = self._x.reshape(-1, self._size)
        if self._moments is None:
            self._moments = torch.native_layer_norm(x, shape, None, None, self._eps)[1:]
        image: torch.Tensor = torch.ops.aten.native_layer_norm_backward(
            v.reshape(-1, self._size).to(x.dtype),
            x.contiguous(),
            shape,
            *self._moments,
            None,
            None,
            [True, False, False],
        )[0]
        return _weighted(image.reshape(v.shape).to(self._dtype), self._weight)


def _weighted(image: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    return image if weight is None else image.mul_(weight.to(image.dtype))


def _recorded(
    call: Call, given: dict[str, Any], size: int, weight: torch.Tensor | None
) -> Recorded:
    x, result = given["input"].detach(), call.run()
    eps = given.get("eps", 1e-5)
    return Recorded(result, _Standardised(x, size, eps, weight, result), [x])


def layer_norm(call: Call) -> Recorded | None:
    """Layer normalisation over the last axes, with or without weights.

    Example:
        >>> from onr_torch.replay.calls import asks
        >>> x = torch.tensor([[1.0, 3.0, 5.0]], requires_grad=True)
        >>> found = layer_norm(Call(torch.layer_norm, (x, (3,)), {}, asks))
        >>> found.derivative(torch.ones(1, 3)).abs().max() < 1e-6
        tensor(True)

    """
    if not call.is_alone or 0 in call.args[0].shape:
        return None
    given = call.bound("input", "normalized_shape", "weight", "bias", "eps")
    return _recorded(call, given, math.prod(given["normalized_shape"]), given.get("weight"))


def group_norm(call: Call) -> Recorded | None:
    """Group normalisation: the channels of each group, and all positions, have one mean.

    Example:
        >>> from onr_torch.replay.calls import asks
        >>> x = torch.rand(1, 4, 3, requires_grad=True)
        >>> found = group_norm(Call(torch.group_norm, (x, 2), {}, asks))
        >>> found.derivative(torch.ones(1, 4, 3)).abs().max() < 1e-5
        tensor(True)

    """
    if not call.is_alone or 0 in call.args[0].shape:
        return None
    given = call.bound("input", "num_groups", "weight", "bias", "eps")
    x = given["input"]
    size = math.prod(x.shape[1:]) // given["num_groups"]
    return _recorded(call, given, size, _by_channel(given.get("weight"), x))


def instance_norm(call: Call) -> Recorded | None:
    """Instance normalisation by the statistics of the example, each channel by itself.

    Example:
        >>> from onr_torch.replay.calls import asks
        >>> x = torch.arange(12.0).reshape(1, 4, 3).requires_grad_()
        >>> found = instance_norm(Call(torch.nn.functional.instance_norm, (x,), {}, asks))
        >>> found.derivative(torch.ones(1, 4, 3)).abs().max() < 1e-5
        tensor(True)

    """
    if not call.is_alone or 0 in call.args[0].shape:
        return None
    names = ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats")
    given = call.bound(*names, "momentum", "eps")
    if not given.get("use_input_stats", True):
        return None
    x = given["input"]
    return _recorded(call, given, math.prod(x.shape[2:]), _by_channel(given.get("weight"), x))


def _by_channel(weight: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor | None:
    """One weight a channel, to broadcast against ``x``, shape ``(batch, channels, ...)``."""
    return None if weight is None else weight.reshape(-1, *(1,) * (x.ndim - 2))


def rms_norm(call: Call) -> Recorded | None:
    """``weight * x r`` with ``r = 1 / sqrt(mean(x^2) + eps)``, over the last axes.

    Example:
        >>> from onr_torch.replay.calls import asks
        >>> x = torch.tensor([[3.0, 4.0]], requires_grad=True)
        >>> found = rms_norm(Call(torch.rms_norm, (x, (2,)), {}, asks))
        >>> found.derivative(torch.tensor([[3.0, 4.0]])).abs().max() < 1e-6
        tensor(True)

    """
    if not call.is_alone or call.args[0].is_complex():
        return None
    given = call.bound("input", "normalized_shape", "weight", "eps")
    axes = tuple(range(-len(given["normalized_shape"]), 0))
    x, weight, eps = given["input"].detach(), given.get("weight"), given.get("eps")
    result = call.run()
    eps = torch.finfo(x.dtype).eps if eps is None else eps

    def derivative(v: torch.Tensor) -> torch.Tensor:
        squares = x.square().mean(axes, keepdim=True) + eps
        along = (x * v).mean(axes, keepdim=True) / squares
        return _weighted(((v - x * along) * squares.rsqrt()).to(result.dtype), weight)

    return Recorded(result, derivative, [x])


def normalize(call: Call) -> Recorded | None:
    """``x / max(|x|, eps)`` along one axis, with the l2 norm; linear where ``|x| < eps``.

    Example:
        >>> from onr_torch.replay.calls import asks
        >>> x = torch.tensor([[3.0, 4.0]], requires_grad=True)
        >>> found = normalize(Call(torch.nn.functional.normalize, (x,), {}, asks))
        >>> found.derivative(torch.tensor([[4.0, -3.0]]))
        tensor([[ 0.8000, -0.6000]])

    """
    given = call.bound("input", "p", "dim", "eps")
    if not call.is_alone or call.args[0].is_complex() or given.get("p", 2.0) != 2:
        return None
    x: torch.Tensor = given["input"].detach()
    dim, eps = given.get("dim", 1), given.get("eps", 1e-12)

    def derivative(v: torch.Tensor) -> torch.Tensor:
        length: torch.Tensor = torch.linalg.vector_norm(x, 2, dim, keepdim=True)
        size = length.clamp_min(eps)
        along = (x * v).sum(dim, keepdim=True) / size.square()
        return (v - x * along.masked_fill(length < eps, 0)) / size

    return Recorded(call.run(), derivative, [x])
