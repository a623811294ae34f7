"""The layers of an architecture as a function of its parameters and a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
from jax import lax
from jax import numpy as jnp

from onr.architectures import (
    Affine,
    Architecture,
    BatchNorm,
    Conv,
    Flatten,
    Layer,
    MaxPool,
    Normalize,
)

__all__ = ["sequential"]

BATCH_NORM_EPS = 1e-5


def sequential(
    architecture: Architecture,
) -> Callable[[Mapping[str, jax.Array], jax.Array], jax.Array]:
    """The function ``(parameters, x) -> logits`` of a sequential network in evaluation mode.

    The derivative of a ReLU at 0 is 0, and of a pooling window with a tie that of its first winner.

    Example:
        >>> apply = sequential(Architecture((2,), (Affine(1),)))
        >>> parameters = {"0.weight": jnp.ones((1, 2)), "0.bias": jnp.zeros(1)}
        >>> apply(parameters, jnp.ones((3, 2))).shape
        (3, 1)

    """

    def apply(parameters: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
        if parameters:
            x = x.astype(next(iter(parameters.values())).dtype)
        for index, layer in enumerate(architecture.layers):
            prefix = f"{index}."
            own = {k.removeprefix(prefix): v for k, v in parameters.items() if k.startswith(prefix)}
            x = _applied(layer, own, x)
        return x.reshape(x.shape[0], -1)

    return apply


def _applied(layer: Layer, own: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
    if isinstance(layer, Normalize):
        mean, std = jnp.array(layer.mean, x.dtype), jnp.array(layer.std, x.dtype)
        return (x - _channels(mean, x)) / _channels(std, x)
    if isinstance(layer, Flatten):
        return x.reshape(x.shape[0], -1)
    if isinstance(layer, Affine):
        return jnp.dot(x, own["weight"].T, precision="highest") + own["bias"]
    if isinstance(layer, Conv):
        side = (layer.padding, layer.padding)
        image = lax.conv_general_dilated(
            x, own["weight"], (1, 1), [side, side], precision="highest"
        )
        return image + _channels(own["bias"], x)
    if isinstance(layer, BatchNorm):
        deviation = jnp.sqrt(own["running_var"] + BATCH_NORM_EPS)
        return (x - _channels(own["running_mean"], x)) / _channels(deviation, x)
    if isinstance(layer, MaxPool):
        return _pooled(x, layer.size)
    return jax.nn.relu(x)


def _pooled(x: jax.Array, size: int) -> jax.Array:
    """The first maximum of each window; ``J^T u`` of XLA's own takes four times as long."""
    batch, channels, height, width = x.shape
    rows, columns = height // size, width // size
    windows = x[:, :, : rows * size, : columns * size]
    windows = windows.reshape(batch, channels, rows, size, columns, size)
    entries = windows.transpose(0, 1, 2, 4, 3, 5).reshape(batch, channels, rows, columns, size**2)
    winner = jnp.argmax(entries, axis=-1, keepdims=True)
    return jnp.sum(jnp.where(winner == jnp.arange(size**2), entries, 0), axis=-1)


def _channels(values: jax.Array, x: jax.Array) -> jax.Array:
    """One value for each channel, shaped to broadcast against ``x``."""
    return values.reshape((-1,) + (1,) * (x.ndim - 2))
