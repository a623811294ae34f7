"""Sequential networks as data, which every backend builds and initialises alike.

An :class:`Architecture` says what the layers are; :func:`initial_parameters` draws their weights in
NumPy, so that one seed gives the same network on every backend and device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from onr.errors import OnrError

__all__ = [
    "Affine",
    "Architecture",
    "BatchNorm",
    "Conv",
    "Flatten",
    "Layer",
    "MaxPool",
    "Normalize",
    "ReLU",
    "initial_parameters",
]


@dataclass(frozen=True)
class Normalize:
    """``(x - mean) / std`` for each channel: the input's normalisation, inside the model."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Flatten:
    """``(batch, ...)`` to ``(batch, n)``."""


@dataclass(frozen=True)
class Affine:
    """``W x + b``."""

    outputs: int


@dataclass(frozen=True)
class Conv:
    """A 2-d convolution with stride 1."""

    channels: int
    kernel: int = 3
    padding: int = 1


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation of each channel without affine parameters (``eps = 1e-5``)."""


@dataclass(frozen=True)
class ReLU:
    """``max(z, 0)``."""


@dataclass(frozen=True)
class MaxPool:
    """The maximum over disjoint square windows; a remainder at the border is dropped."""

    size: int = 2


Layer: TypeAlias = Normalize | Flatten | Affine | Conv | BatchNorm | ReLU | MaxPool


@dataclass(frozen=True)
class Architecture:
    """The layers, in order, and the shape of one input."""

    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]

    def shapes(self) -> list[tuple[int, ...]]:
        """The shape before each layer and after the last.

        Raises:
            OnrError: a layer does not fit what comes before it.

        """
        shapes = [self.input_shape]
        for layer in self.layers:
            shapes.append(_output_shape(layer, shapes[-1]))
        return shapes

    @property
    def classes(self) -> int:
        """The number of outputs, ``d``."""
        return math.prod(self.shapes()[-1])


def _output_shape(layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    name = type(layer).__name__
    if isinstance(layer, Flatten):
        return (math.prod(shape),)
    if isinstance(layer, Affine):
        if len(shape) != 1:
            raise OnrError(f"{name} takes vectors, got inputs of shape {shape}: flatten first")
        return (layer.outputs,)
    if isinstance(layer, Conv | MaxPool):
        if len(shape) != 3:
            raise OnrError(f"{name} takes images (C, H, W), got inputs of shape {shape}")
        channels, height, width = shape
        if isinstance(layer, MaxPool):
            height, width = height // layer.size, width // layer.size
        else:
            channels = layer.channels
            height, width = (s + 2 * layer.padding - layer.kernel + 1 for s in (height, width))
        if min(height, width) < 1:
            raise OnrError(f"{layer} does not fit inputs of shape {shape}: use larger images")
        return (channels, height, width)
    if isinstance(layer, Normalize) and len(layer.mean) != shape[0]:
        raise OnrError(f"{name} has {len(layer.mean)} channels, the input has shape {shape}")
    return shape


def initial_parameters(architecture: Architecture, seed: int) -> dict[str, np.ndarray]:
    """Weights and biases uniform in ``+-1 / sqrt(fan_in)``, torch's default law, float64.

    Keys are ``"{index}.weight"``, ``"{index}.bias"`` and, for batch normalisation,
    ``"{index}.running_mean"``, ``"{index}.running_var"``; convolution weights are
    ``(out, in, kernel, kernel)``.
    """
    rng = np.random.default_rng([seed, 0x0817])
    parameters: dict[str, np.ndarray] = {}
    for index, (layer, shape) in enumerate(
        zip(architecture.layers, architecture.shapes()[:-1], strict=True)
    ):
        if isinstance(layer, Affine):
            size: tuple[int, ...] = (layer.outputs, *shape)
        elif isinstance(layer, Conv):
            size = (layer.channels, shape[0], layer.kernel, layer.kernel)
        else:
            if isinstance(layer, BatchNorm):
                parameters[f"{index}.running_mean"] = np.zeros(shape[0])
                parameters[f"{index}.running_var"] = np.ones(shape[0])
            continue
        bound = 1 / math.sqrt(math.prod(size[1:]))
        parameters[f"{index}.weight"] = rng.uniform(-bound, bound, size)
        parameters[f"{index}.bias"] = rng.uniform(-bound, bound, size[0])
    return parameters
