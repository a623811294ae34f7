"""Sequential networks described as data, from which every backend builds the same network.

An :class:`Architecture` lists the layers. :func:`initial_parameters` draws their weights in NumPy,
so that one seed gives the same network on every backend and device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
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
    "parameters_of",
]


@dataclass(frozen=True)
class Normalize:
    """``(x - mean) / std`` for each channel: the normalisation of the inputs, inside the model.

    Example:
        >>> Normalize(mean=(0.5,), std=(0.25,))
        Normalize(mean=(0.5,), std=(0.25,))

    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Flatten:
    """A reshape of ``(batch, ...)`` to ``(batch, n)``.

    Example:
        >>> Architecture((3, 8, 8), (Flatten(),)).shapes()
        [(3, 8, 8), (192,)]

    """


@dataclass(frozen=True)
class Affine:
    """The affine layer ``W x + b``, for inputs ``(batch, n)``.

    Example:
        >>> Architecture((4,), (Affine(10),)).shapes()
        [(4,), (10,)]

    """

    outputs: int


@dataclass(frozen=True)
class Conv:
    """A 2-d convolution with stride 1 and a bias.

    Example:
        >>> Architecture((3, 8, 8), (Conv(16, kernel=5),)).shapes()
        [(3, 8, 8), (16, 6, 6)]

    """

    channels: int
    kernel: int = 3
    padding: int = 1


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation of each channel, without affine parameters (``eps = 1e-5``).

    Example:
        >>> network = Architecture((2, 4, 4), (BatchNorm(),))
        >>> sorted(initial_parameters(network, seed=0))
        ['0.running_mean', '0.running_var']

    """


@dataclass(frozen=True)
class ReLU:
    """The activation ``max(z, 0)``.

    Example:
        >>> Architecture((4,), (Affine(3), ReLU(), Affine(2))).classes
        2

    """


@dataclass(frozen=True)
class MaxPool:
    """The maximum over disjoint square windows of side ``size``.

    Rows and columns at the border that do not fill a window are dropped.

    Example:
        >>> Architecture((3, 9, 9), (MaxPool(2),)).shapes()
        [(3, 9, 9), (3, 4, 4)]

    """

    size: int = 2


Layer: TypeAlias = Normalize | Flatten | Affine | Conv | BatchNorm | ReLU | MaxPool


@dataclass(frozen=True)
class Architecture:
    """A sequential network: the shape of one input, and the layers in order.

    Example:
        >>> layers = (Conv(8), ReLU(), MaxPool(), Flatten(), Affine(10))
        >>> Architecture((1, 8, 8), layers).shapes()
        [(1, 8, 8), (8, 8, 8), (8, 8, 8), (8, 4, 4), (128,), (10,)]

    """

    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]

    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of one example before each layer and after the last layer.

        Raises:
            OnrError: a layer does not accept the shape of its input.

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
    """Draw weights and biases uniformly in ``+-1 / sqrt(fan_in)``, torch's default; float64.

    The keys are ``"{index}.weight"``, ``"{index}.bias"`` and, for batch normalisation,
    ``"{index}.running_mean"`` (zeros) and ``"{index}.running_var"`` (ones). Convolution weights
    have shape ``(out, in, kernel, kernel)``.

    Example:
        >>> parameters = initial_parameters(Architecture((4,), (Affine(3), ReLU())), seed=0)
        >>> {name: value.shape for name, value in parameters.items()}
        {'0.weight': (3, 4), '0.bias': (3,)}

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


def parameters_of(
    architecture: Architecture, given: Mapping[str, np.ndarray] | None, *, seed: int
) -> dict[str, np.ndarray]:
    """The given parameters by name, or freshly drawn ones if none are given.

    Raises:
        OnrError: a parameter of the architecture is not given or has another shape, or one is given
            that the architecture does not have.

    Example:
        >>> three = Architecture((4,), (Affine(3),))
        >>> given = initial_parameters(three, seed=1)
        >>> parameters_of(three, given, seed=0)["0.bias"] is given["0.bias"]
        True

    """
    drawn = initial_parameters(architecture, seed)
    if given is None:
        return drawn
    for name, value in drawn.items():
        if name not in given or np.shape(given[name]) != value.shape:
            raise OnrError(f"parameters do not fit the model: {name} of shape {value.shape}")
    if more := [name for name in given if name not in drawn]:
        raise OnrError(f"parameters do not fit the model: it has no {more[0]}")
    return dict(given)
