"""ReLU networks once more, in the plainest way: the checks judge the backends by these lines.

A value and the n columns of its Jacobian go through the layers together, in float64. There are no
convolution matrices, no kept masks and no automatic differentiation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onr.architectures import (
    Affine,
    Architecture,
    BatchNorm,
    Conv,
    Layer,
    MaxPool,
    Normalize,
    ReLU,
)

__all__ = ["NaivePoint", "naive_point"]

BATCH_NORM_EPS = 1e-5


@dataclass(frozen=True)
class NaivePoint:
    """A network at a batch of inputs.

    Example:
        >>> parameters = {"0.weight": np.array([[2.0, 1.0]]), "0.bias": np.array([-1.0])}
        >>> model = Architecture((2,), (Affine(1), ReLU()))
        >>> point = naive_point(model, parameters, np.array([[1.0, 1.0]]))
        >>> point.value, point.jacobian, point.walls, point.pattern
        (array([[2.]]), array([[[2., 1.]]]), array([[2.]]), array([[1]]))

    """

    value: np.ndarray
    """``f(x)``, shape ``(batch, d)``."""
    jacobian: np.ndarray
    """``J``, shape ``(batch, d, n)``."""
    magnitude: np.ndarray
    """``f`` with all weights, biases and inputs replaced by their magnitudes, ``(batch,)``, the
    largest entry: rounding moves ``f(x)`` by a small multiple of the unit roundoff times this."""
    walls: np.ndarray
    """The functions that are zero on the walls of the cell: pre-activations, and for max pooling
    the winner minus each other entry; shape ``(batch, m)``."""
    slopes: np.ndarray
    """The gradients of ``walls`` in ``x``, shape ``(batch, m, n)``."""
    pattern: np.ndarray
    """Which units are on, and the place of each window's winner, shape ``(batch, units)``."""


def naive_point(
    architecture: Architecture,
    parameters: Mapping[str, np.ndarray],
    x: np.ndarray,
    *,
    slopes: bool = True,
) -> NaivePoint:
    """Evaluate a network and, if ``slopes`` is true, its Jacobian and those of its units.

    Example:
        >>> model = Architecture((1, 2, 2), (MaxPool(2),))
        >>> point = naive_point(model, {}, np.arange(4.0).reshape(1, 1, 2, 2))
        >>> point.value.tolist(), point.walls.tolist(), point.pattern.tolist()
        ([[3.0]], [[3.0, 2.0, 1.0]], [[3]])

    """
    shape = architecture.input_shape
    batch, n = len(x), math.prod(shape)
    rows = [np.asarray(x, dtype=float).reshape(batch, 1, *shape)]
    if slopes:
        rows.append(np.broadcast_to(np.eye(n).reshape(1, n, *shape), (batch, n, *shape)))
    stack, size = np.concatenate(rows, axis=1), np.abs(rows[0])
    walls: list[np.ndarray] = [np.zeros((batch, stack.shape[1], 0))]
    pattern: list[np.ndarray] = [np.zeros((batch, 0), dtype=int)]
    for index, layer in enumerate(architecture.layers):
        weights = {
            name.partition(".")[2]: np.asarray(value, dtype=float)
            for name, value in parameters.items()
            if name.startswith(f"{index}.")
        }
        if isinstance(layer, ReLU):
            on = stack[:, :1] > 0
            walls.append(stack.reshape(*stack.shape[:2], -1))
            pattern.append(on.reshape(batch, -1).astype(int))
            stack = np.where(on, stack, 0.0)
        elif isinstance(layer, MaxPool):
            windows = _windows(stack, layer.size)
            count = windows.shape[-1]
            winner = windows[:, :1].argmax(axis=-1)[..., None]
            best = np.take_along_axis(windows, winner, axis=-1)
            lost = (np.arange(count) != winner)[:, 0].reshape(batch, -1)
            gaps = (best - windows).reshape(*windows.shape[:2], -1)
            walls.append(np.stack([g[:, mask] for g, mask in zip(gaps, lost, strict=True)]))
            pattern.append(winner.reshape(batch, -1))
            stack, size = best[..., 0], _windows(size, layer.size).max(axis=-1)
        else:
            linear, shift = _affine(layer, weights, stack.ndim - 3)
            stack = linear(stack, False)
            stack[:, :1] += shift
            size = linear(size, True) + np.abs(shift)
    wall = np.concatenate(walls, axis=2)
    flat = stack.reshape(*stack.shape[:2], -1)
    return NaivePoint(
        flat[:, 0],
        flat[:, 1:].swapaxes(1, 2),
        size.reshape(batch, -1).max(axis=1),
        wall[:, 0],
        wall[:, 1:].swapaxes(1, 2),
        np.concatenate(pattern, axis=1),
    )


def _windows(z: np.ndarray, side: int) -> np.ndarray:
    """The entries of each pooling window, shape ``(..., rows, columns, side^2)``."""
    rows, columns = z.shape[-2] // side, z.shape[-1] // side
    z = z[..., : rows * side, : columns * side]
    split = z.reshape(*z.shape[:-2], rows, side, columns, side)
    return split.swapaxes(-3, -2).reshape(*z.shape[:-2], rows, columns, side * side)


def _affine(layer: Layer, weights: Mapping[str, np.ndarray], axes: int) -> tuple[Any, Any]:
    """The linear part of a layer (or of its magnitudes), and its shift, with ``axes`` after one."""
    if isinstance(layer, Affine):
        W = weights["weight"]
        return (lambda z, sizes: z @ (np.abs(W) if sizes else W).T), weights["bias"]
    if isinstance(layer, Conv):
        kernel, pad = weights["weight"], layer.padding

        def convolve(z: np.ndarray, sizes: bool) -> np.ndarray:
            around = [(0, 0)] * 3 + [(pad, pad)] * 2
            side = kernel.shape[-2:]
            patches = np.lib.stride_tricks.sliding_window_view(np.pad(z, around), side, (3, 4))
            # (batch, row, channel, height, width, k, k) and (out, channel, k, k)
            applied = np.abs(kernel) if sizes else kernel
            return np.moveaxis(np.tensordot(patches, applied, ([2, 5, 6], [1, 2, 3])), -1, 2)

        return convolve, weights["bias"][:, None, None]
    if isinstance(layer, Normalize):
        mean, scale = np.array(layer.mean), 1 / np.array(layer.std)
    elif isinstance(layer, BatchNorm):
        mean = weights["running_mean"]
        scale = 1 / np.sqrt(weights["running_var"] + BATCH_NORM_EPS)
    else:
        return (lambda z, sizes: z.reshape(*z.shape[:2], -1)), 0.0  # Flatten
    mean, scale = (values.reshape(-1, *[1] * axes) for values in (mean, scale))
    return (lambda z, sizes: z * scale), -mean * scale
