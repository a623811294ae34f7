"""A sequential architecture as an ``nn.Sequential``, layer for layer."""

from __future__ import annotations

import torch
from torch import nn

from onr.architectures import (
    Affine,
    Architecture,
    BatchNorm,
    Conv,
    Flatten,
    Layer,
    MaxPool,
    Normalize,
    ReLU,
)

__all__ = ["Standardize", "sequential"]


class Standardize(nn.Module):
    """``(x - mean) / std`` for each channel of ``(batch, C, ...)``.

    Args:
        layer: the mean and the standard deviation of each channel.
        dimensions: the number of axes of one input, 3 for images.

    Example:
        >>> module = Standardize(Normalize((0.5,), (0.25,)), 3).float()
        >>> module(torch.ones(1, 1, 1, 1)).item()
        2.0

    """

    def __init__(self, layer: Normalize, dimensions: int) -> None:
        super().__init__()
        shape = (len(layer.mean),) + (1,) * (dimensions - 1)
        for name, values in (("mean", layer.mean), ("std", layer.std)):
            # float64 until the module is cast, so that a float64 network loses nothing
            tensor = torch.tensor(values, dtype=torch.float64).reshape(shape)
            self.register_buffer(name, tensor, persistent=False)
        self.mean: torch.Tensor
        self.std: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The normalised inputs."""
        return (x - self.mean) / self.std


def sequential(architecture: Architecture) -> nn.Sequential:
    """The layers of the architecture in order; parameters have the names of the architecture's.

    Example:
        >>> sequential(Architecture((3,), (Affine(2), ReLU())))
        Sequential(
          (0): Linear(in_features=3, out_features=2, bias=True)
          (1): ReLU()
        )

    """
    shapes = architecture.shapes()[:-1]
    return nn.Sequential(
        *(_module(layer, shape) for layer, shape in zip(architecture.layers, shapes, strict=True))
    )


def _module(layer: Layer, shape: tuple[int, ...]) -> nn.Module:
    if isinstance(layer, Normalize):
        return Standardize(layer, len(shape))
    if isinstance(layer, Affine):
        return nn.Linear(shape[0], layer.outputs)
    if isinstance(layer, Conv):
        return nn.Conv2d(shape[0], layer.channels, layer.kernel, padding=layer.padding)
    if isinstance(layer, BatchNorm):
        return nn.BatchNorm2d(shape[0], affine=False)
    if isinstance(layer, ReLU):
        return nn.ReLU()
    if isinstance(layer, MaxPool):
        return nn.MaxPool2d(layer.size)
    assert isinstance(layer, Flatten)  # noqa: S101 - the last of the union
    return nn.Flatten()
