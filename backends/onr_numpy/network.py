"""ReLU networks as explicit matrices: value, linearisation, Jacobian (Eq. 2), cells."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from onr.architectures import (
    Affine,
    Architecture,
    BatchNorm,
    Conv,
    Flatten,
    MaxPool,
    Normalize,
    ReLU,
)
from onr.errors import OnrError
from onr.jacobians.cell_radius import cell_radius
from onr.protocols import Norm
from onr_numpy.layers import Dense, DenseLayer, Pooling, Rectifier, pooling_windows, toeplitz

__all__ = ["DenseLinearization", "DenseNetwork"]

BATCH_NORM_EPS = 1e-5


class DenseNetwork:
    """A sequential ReLU network in evaluation mode, computed in the dtype of its parameters.

    Normalisations, batch normalisations (with their running statistics) and convolutions become
    matrices.

    Args:
        architecture: the layers.
        parameters: the parameters by name, as :func:`onr.architectures.initial_parameters` returns
            them. The attribute ``weights`` holds them, not a copy.
        fold: whether neighbouring affine maps are multiplied into one. A network in training keeps
            them apart.

    Example:
        >>> parameters = {"0.weight": np.eye(2), "0.bias": np.array([0.0, -3.0])}
        >>> network = DenseNetwork(Architecture((2,), (Affine(2), ReLU())), parameters)
        >>> network(np.array([[1.0, 2.0]]))
        array([[1., 0.]])
        >>> network.activation_pattern(np.array([[1.0, 2.0]]))
        array([[ True, False]])

    """

    def __init__(
        self,
        architecture: Architecture,
        parameters: Mapping[str, np.ndarray],
        *,
        fold: bool = True,
    ) -> None:
        self.architecture = architecture
        self.weights = parameters
        self._fold = fold

    @cached_property
    def layers(self) -> tuple[DenseLayer, ...]:
        """The dense layers, built at first use: a learner refuses a network before that."""
        dense = _dense_layers(self.architecture, self.weights)
        return tuple(_folded(dense) if self._fold else dense)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.architecture.input_shape

    def __call__(self, x: np.ndarray, /) -> np.ndarray:
        """The logits, shape ``(batch, d)``."""
        return self.linearize(x).value

    def linearize(self, x: np.ndarray, /, *, jvp: bool = True) -> DenseLinearization:
        """The linearisation at ``x``, shape ``(batch, *input_shape)``; ``jvp`` changes nothing."""
        return DenseLinearization(self, x)

    def features(self) -> DenseNetwork:
        """The network without its last affine layer, ``phi^(L-1)``; outputs ``(batch, features)``.

        Raises:
            OnrError: the last layer is not affine.

        """
        *layers, last = self.architecture.layers
        if not isinstance(last, Affine):
            raise OnrError(f"the last layer is {last}: features are what an affine layer is given")
        architecture = replace(self.architecture, layers=(*layers, Flatten()))
        return DenseNetwork(architecture, self.weights, fold=self._fold)

    def asarray(self, x: np.ndarray, /) -> np.ndarray:
        """Cast floats to the dtype of the parameters; integers and exact numbers pass through."""
        if x.dtype == object or np.issubdtype(x.dtype, np.integer):
            return x
        return x.astype(next(iter(self.weights.values())).dtype)

    def parameters(self) -> dict[str, np.ndarray]:
        """A copy of the parameters and running statistics, by name."""
        return {name: value.copy() for name, value in self.weights.items()}

    def frozen(self) -> DenseNetwork:
        """The network itself, because a dense network never changes."""
        return self

    def activation_pattern(self, x: np.ndarray, /) -> np.ndarray:
        """``phi_x`` (section 3): which ReLUs are on, ``z > 0``; shape ``(batch, units)``, bool.

        A unit at exactly zero is off. The pattern leaves out which entry of a pooling window wins;
        :meth:`linear_region` includes it.

        Raises:
            OnrError: the network has no ReLU.

        """
        here = self.linearize(x)
        masks = [
            memory
            for layer, memory in zip(self.layers, here.memory, strict=True)
            if isinstance(layer, Rectifier)
        ]
        if not masks:
            raise OnrError("the network has no ReLU: it has no activation pattern")
        return np.concatenate(masks, axis=1)

    def linear_region(self, x: np.ndarray, /) -> np.ndarray:
        """Everything that the linear map at ``x`` depends on, ``(batch, m)``.

        A row holds the activation pattern and the index of the winning entry of each pooling
        window. Inputs with equal rows lie in the same cell.
        """
        memory = [m for m in self.linearize(x).memory if m is not None]
        return np.concatenate([np.zeros((len(x), 0), dtype=int), *memory], axis=1)

    def jacobian(self, x: np.ndarray, /) -> np.ndarray:
        """``W^L Phi^(L-1) ... Phi^1 W^1`` (Eq. 2), shape ``(batch, d, n)``.

        The matrices themselves are multiplied, independently of :meth:`DenseLinearization.jvp`.
        """
        *_, (_, gradient) = self._layer_jacobians(x)
        return gradient

    def boundaries(self, x: np.ndarray, /) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The affine functions whose zeros bound the cell of ``x``, for :func:`cell_radius`.

        For a ReLU these are its pre-activations; for a pooling window, the winner minus each other
        entry. They come as pairs of values ``(batch, m)`` and gradients ``(batch, m, n)``.
        """
        before = self._layer_jacobians(x)
        for layer, memory, (z, gradient) in zip(
            self.layers, self.linearize(x).memory, before, strict=False
        ):
            if isinstance(layer, Rectifier):
                yield z, gradient
            elif isinstance(layer, Pooling) and layer.windows.shape[1] > 1:
                batch, n = len(x), gradient.shape[2]
                others = np.broadcast_to(layer.windows, (batch, *layer.windows.shape))
                lost = others != memory[:, :, None]
                count = layer.windows.shape[1] - 1
                losers = others[lost].reshape(batch, -1)
                winners = np.repeat(memory, count, axis=1)
                rows = np.arange(batch)[:, None]
                yield (
                    z[rows, winners] - z[rows, losers],
                    (gradient[rows, winners] - gradient[rows, losers]).reshape(batch, -1, n),
                )

    def cell_radius(self, x: np.ndarray, /, *, p: Norm) -> np.ndarray:
        """The radius of the ReLU cell around each input in the p-norm, exact; ``(batch,)``."""
        radius = cell_radius(self.boundaries(x), self.input_shape, p=p)
        return np.broadcast_to(radius, (len(x),))

    def _layer_jacobians(self, x: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The value before each layer and after the last, each with its Jacobian in ``x``."""
        z = x.reshape(len(x), -1)
        identity = np.eye(z.shape[1], dtype=z.dtype)
        if z.dtype == object:
            identity = identity + z[:1, :1] * 0  # numbers of the type that z holds, not integers
        gradient = np.broadcast_to(identity, (len(z), *identity.shape))
        for layer in self.layers:
            yield z, gradient
            memory: Any = layer.remember(z)
            z = layer.forward(z, memory)
            if isinstance(layer, Dense):
                gradient = layer.after(gradient)
            elif isinstance(layer, Rectifier):
                gradient = layer.jvp(gradient, memory[:, :, None])
            else:
                gradient = np.take_along_axis(gradient, memory[:, :, None], axis=1)
        yield z, gradient


class DenseLinearization:
    """The linearisation of a dense network at a batch of inputs, with the masks of these inputs.

    Example:
        >>> parameters = {"0.weight": np.array([[1.0, 2.0]]), "0.bias": np.zeros(1)}
        >>> network = DenseNetwork(Architecture((2,), (Affine(1), ReLU())), parameters)
        >>> here = DenseLinearization(network, np.array([[1.0, 1.0], [-1.0, -1.0]]))
        >>> here.value.tolist(), here.vjp(np.ones((2, 1))).tolist()
        ([[3.0], [0.0]], [[1.0, 2.0], [0.0, 0.0]])

    """

    def __init__(self, network: DenseNetwork, x: np.ndarray) -> None:
        self.network = network
        self.memory: list[Any] = []
        self.inputs: list[np.ndarray] = []
        z = x.reshape(len(x), -1)
        for layer in network.layers:
            self.inputs.append(z)
            self.memory.append(layer.remember(z))
            z = layer.forward(z, self.memory[-1])
        self._value = z

    @property
    def value(self) -> np.ndarray:
        """``f(x)``, shape ``(batch, d)``."""
        return self._value

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.network.input_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of one output, ``(d,)``."""
        return self._value.shape[1:]

    def jvp(self, v: np.ndarray, /) -> np.ndarray:
        """``J v``."""
        v = v.reshape(len(v), -1)
        for layer, memory in zip(self.network.layers, self.memory, strict=True):
            v = layer.jvp(v, memory)
        return v

    def vjp(self, u: np.ndarray, /) -> np.ndarray:
        """``J^T u``."""
        for layer, memory in zip(reversed(self.network.layers), reversed(self.memory), strict=True):
            u = layer.vjp(u, memory)
        return u.reshape(len(u), *self.input_shape)


def _dense_layers(
    architecture: Architecture, parameters: Mapping[str, np.ndarray]
) -> list[DenseLayer]:
    """One dense layer for each layer of the architecture, except those that only reshape."""

    def scaling(factor: np.ndarray, shift: np.ndarray, shape: tuple[int, ...]) -> Dense:
        size = math.prod(shape) // shape[0]
        weight = np.diag(np.repeat(factor, size)).astype(dtype)
        return Dense(weight, np.repeat(shift, size).astype(dtype))

    dtype = np.result_type(*parameters.values()) if parameters else np.dtype(float)
    layers: list[DenseLayer] = []
    shapes = architecture.shapes()
    for index, layer in enumerate(architecture.layers):
        shape, after = shapes[index], shapes[index + 1]
        if isinstance(layer, Affine):
            layers.append(Dense(parameters[f"{index}.weight"], parameters[f"{index}.bias"]))
        elif isinstance(layer, Conv):
            matrix = toeplitz(parameters[f"{index}.weight"], shape, layer.padding)
            bias = np.repeat(parameters[f"{index}.bias"], math.prod(after) // after[0])
            layers.append(Dense(matrix, bias))
        elif isinstance(layer, Normalize):
            std = np.array(layer.std)
            layers.append(scaling(1 / std, -np.array(layer.mean) / std, shape))
        elif isinstance(layer, BatchNorm):
            factor = 1 / np.sqrt(parameters[f"{index}.running_var"] + BATCH_NORM_EPS)
            layers.append(scaling(factor, -parameters[f"{index}.running_mean"] * factor, shape))
        elif isinstance(layer, ReLU):
            layers.append(Rectifier())
        elif isinstance(layer, MaxPool):
            layers.append(Pooling(pooling_windows(shape, layer.size), math.prod(shape)))
    return layers


def _folded(layers: list[DenseLayer]) -> list[DenseLayer]:
    """Layers of the same function, with neighbouring affine maps multiplied into one."""
    folded: list[DenseLayer] = []
    for layer in layers:
        before = folded[-1] if folded else None
        if isinstance(layer, Dense) and isinstance(before, Dense):
            weight = layer.weight @ before.weight
            folded[-1] = Dense(weight, layer.weight @ before.bias + layer.bias)
        else:
            folded.append(layer)
    return folded
