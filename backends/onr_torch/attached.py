"""A known value in a graph, with the gradient of another expression."""

from __future__ import annotations

import torch

__all__ = ["attached"]


def attached(value: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """A constant value with the gradient of ``slope``, which has its shape.

    Example:
        >>> weight = torch.tensor(3.0, requires_grad=True)
        >>> value = attached(torch.tensor(9.0), 6.0 * weight)
        >>> value.backward()
        >>> value.item(), weight.grad.item()
        (9.0, 6.0)

    """
    return value + (slope - slope.detach())
