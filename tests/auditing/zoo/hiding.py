"""Models that hide their gradients, each around any classifier: an audit must raise a flag at all.

None of them is more robust than the classifier inside; each makes attacks by gradients fail.
"""

from __future__ import annotations

import os

import torch
from torch import nn
from torch.nn import functional

__all__ = ["DetachedBranch", "NoisyInput", "OneHot", "QuantisedInput", "Saturated"]


class Saturated(nn.Module):
    """A softmax at a low temperature: all but the largest output round to 0, as their gradients."""

    def __init__(self, inside: nn.Module, scale: float = 1000.0) -> None:
        super().__init__()
        self.inside, self.scale = inside, scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 10 * (self.scale * self.inside(x)).softmax(1)


class QuantisedInput(nn.Module):
    """Pixels are rounded to a few levels, a step function whose derivative is zero."""

    def __init__(self, inside: nn.Module, levels: int = 8) -> None:
        super().__init__()
        self.inside, self.levels = inside, levels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inside((x * self.levels).round() / self.levels)


class NoisyInput(nn.Module):
    """Gaussian noise is added to the image at every call, other noise each time."""

    def __init__(self, inside: nn.Module, deviation: float = 0.2) -> None:
        super().__init__()
        self.inside, self.deviation = inside, deviation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        noise = torch.empty_like(x).normal_(generator=torch.Generator().manual_seed(self.next()))
        return self.inside(x + self.deviation * noise)

    def next(self) -> int:
        """A seed that nobody fixes, as that of noise from another library."""
        return int.from_bytes(os.urandom(4), "little")


class DetachedBranch(nn.Module):
    """The classifier is cut off, and a weak random branch beside it gives the only gradient."""

    def __init__(self, inside: nn.Module, weight: float = 0.01) -> None:
        super().__init__()
        self.inside, self.weight = inside, weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.inside(x.detach())
        pixels = x.flatten(1)
        rng = torch.Generator().manual_seed(0)
        other = torch.randn(pixels.shape[1], logits.shape[1], generator=rng, dtype=x.dtype)
        return logits + self.weight * (pixels @ other.to(x.device))


class OneHot(nn.Module):
    """Only the decision is shown, which has no derivative."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.inside(x)
        return functional.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)
