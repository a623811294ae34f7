"""What a case is: a module as data, with the outcome that is expected of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

RIGHT, REFUSED, EITHER = "right", "refused", "either"

Build = Callable[[], nn.Module]


@dataclass(frozen=True)
class Case:
    """A module and what to expect of it on plain inputs.

    A builder is called under a seed, and gives the same module again for the same seed.
    """

    name: str
    build: Build
    shape: tuple[int, ...]
    """The shape of one input."""
    expected: str = RIGHT
    """``right``: every answer is given, and right. ``refused``: an error, as no answer would mean
    anything. ``either``: a right answer or an error."""
    smooth: bool = True
    """Whether central differences give the Jacobian. Not so where autograd is told another
    derivative than that of the function, as by ``detach`` or a straight-through estimator."""
    draws: bool = False
    """Whether the module draws from a global generator, which then moves; no two passes agree."""
    mixes: bool = False
    """Whether examples depend on each other; seen only from two examples on."""
    plain: Build | None = None
    """The same module as torch runs it by itself, for the truth, where ``build`` compiles it."""
    twice: bool = True
    """Whether torch differentiates its backward pass; if not, the gradient of ``J v`` in the
    weights may be refused."""
    finite_only: bool = False
    """Whether the operation ends the process on inputs that are not finite."""
    trains: bool = True
    """Whether the logits depend on a parameter to train."""
    precision: float = 0.0
    """The relative rounding of the module itself, where it works in fewer bits than its input."""
    own_dtype: bool = False
    """Whether the weights keep the types that the builder gave them."""
    writes: frozenset[str] = frozenset()
    """Attributes that the module itself sets when it runs."""


class Of(nn.Module):
    """A module from a function of itself and the input, and parts."""

    def __init__(self, function: Callable, **parts: object) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


class First(nn.Module):
    """The first tensor of a tuple."""

    def forward(self, x):
        return x[0]


CLASSES = 3


def first_map(shape: tuple[int, ...]) -> nn.Module:
    """An affine map that keeps the shape of an input."""
    if len(shape) <= 2:
        return nn.Linear(shape[-1], shape[-1])
    return {3: nn.Conv2d, 4: nn.Conv3d}[len(shape)](shape[0], shape[0], 1)


def between(layer: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """The layer between two affine maps, so that ``J v`` has gradients in weights on both sides."""
    first = first_map(shape)
    with torch.no_grad():
        training = layer.training
        width = layer.eval()(first(torch.rand(2, *shape))).flatten(1).shape[1]
        layer.train(training)
    return nn.Sequential(first, layer, nn.Flatten(), nn.Linear(width, CLASSES))
