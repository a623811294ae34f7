"""Products and quotients of tensors that both depend on the input."""

from __future__ import annotations

from typing import Any

import torch

from onr_torch.replay.calls import Call, asks
from onr_torch.replay.local import Local, Recorded

__all__ = ["product", "quotient", "summed_product"]


def product(call: Call) -> Recorded | None:
    """A function that is linear in each tensor: the sum over the tensors, one at a time.

    Example:
        >>> x = torch.tensor([3.0], requires_grad=True)
        >>> product(Call(torch.mul, (x, x), {}, asks)).derivative(torch.ones(1), torch.ones(1))
        tensor([6.])

    """
    own = Local(call)

    def term(k: int, v: torch.Tensor) -> Any:
        inputs = [*own.at]
        inputs[k] = v
        return own.value(*(x.clone() for x in inputs) if call.in_place else inputs)

    def derivative(*tangents: torch.Tensor) -> Any:
        total = term(0, tangents[0])
        for k, v in enumerate(tangents[1:], 1):
            total.add_(term(k, v))
        return total

    return Recorded(call.run(), derivative, own.at)


def summed_product(call: Call) -> Recorded | None:
    """``beta * input + alpha * mat1 @ mat2``: ``addmm``, ``baddbmm``; ``addcmul``, entry by entry.

    Example:
        >>> x = torch.ones(1, 1, requires_grad=True)
        >>> found = summed_product(Call(torch.addmm, (x, x, x), {}, asks))
        >>> found.derivative(*[torch.ones(1, 1)] * 3)
        tensor([[3.]])

    """
    if len(call.args) != 3 or call.in_place or set(call.kwargs) - {"alpha", "beta"}:
        return None
    depends = [asks(x) for x in call.args]
    first, second = (x.detach() for x in call.args[1:])
    alpha, beta = call.kwargs.get("alpha", 1), call.kwargs.get("beta", 1)
    times = torch.mul if call.name == "addcmul" else torch.matmul
    result = call.run()

    def derivative(*tangents: torch.Tensor) -> torch.Tensor:
        rest = iter(tangents)
        shift, one, other = (next(rest) if has else None for has in depends)
        image = torch.zeros_like(result) if shift is None or beta == 0 else beta * shift
        if one is not None:
            image = image + alpha * times(one, second)
        if other is not None:
            image = image + alpha * times(first, other)
        return image.expand(result.shape)

    kept = [x for x, has in zip((first, second), depends[:0:-1], strict=True) if has]
    return Recorded(result, derivative, kept)


def quotient(call: Call) -> Recorded | None:
    """``a / b``, whose derivative is ``(da - (a / b) db) / b``.

    Example:
        >>> x = torch.tensor([3.0], requires_grad=True)
        >>> quotient(Call(torch.div, (x, x), {}, asks)).derivative(torch.ones(1), torch.ones(1))
        tensor([0.])

    """
    if len(call.args) != 2 or call.kwargs or call.in_place:
        return None
    above, below = map(asks, call.args)
    if not below:
        return None
    denominator: torch.Tensor = call.args[1].detach()
    result = call.run()
    value: torch.Tensor = result.detach()

    def derivative(*tangents: torch.Tensor) -> torch.Tensor:
        image = -value * tangents[-1]
        if above:
            image = tangents[0] + image
        return image / denominator

    return Recorded(result, derivative, [denominator, value])
