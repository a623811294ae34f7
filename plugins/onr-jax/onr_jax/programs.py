"""The compiled programs of a model, one of each kind for a batch size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import jax
import numpy as np
from jax import numpy as jnp

from onr.errors import OnrError
from onr.typing import Array

__all__ = ["Arrays", "Call", "Programs", "answer", "filled", "rounding"]

Arrays: TypeAlias = list[jax.Array]
Call: TypeAlias = Callable[[Arrays, jax.Array], jax.Array]
"""A model as a function of its arrays and a batch."""

SPARE = 2
"""A batch runs as part of a larger one that is compiled already, up to this many times its size."""


class Programs:
    """Three programs and a fourth, each compiled by XLA when a batch size is first seen.

    ``value`` gives the logits; ``linearize`` gives the logits and what the pass remembers, which
    ``forward`` (``J v``) and ``backward`` (``J^T u``) are given. Attacks drop the examples that are
    broken, so that batches shrink: of a size that is not compiled, a batch is filled up with its
    last example to the next size that is, if that is at most twice as large. The
    size at which a batch runs never changes in a process.

    Args:
        call: the model as a function of its arrays and a batch.

    Example:
        >>> programs = Programs(lambda arrays, x: x @ arrays[0])
        >>> W, x = jnp.ones((3, 2)), jnp.ones((4, 3))
        >>> value, J = programs.linearize([W], x)
        >>> programs.forward(J, x).shape, programs.backward(J, value, x).shape
        ((4, 2), (4, 3))

    """

    def __init__(self, call: Call) -> None:
        def linearize(arrays: Arrays, x: jax.Array) -> Any:
            return jax.linearize(partial(call, arrays), x)

        def backward(J: Any, u: jax.Array, x: jax.Array) -> jax.Array:
            (back,) = jax.linear_transpose(J, x)(u)  # only the shape and type of x matter
            return back  # type: ignore[no-any-return]  # jax's

        self.value = jax.jit(call)
        self.linearize = jax.jit(linearize)
        self.forward = jax.jit(lambda J, v: J(v))
        self.backward = jax.jit(backward)
        self._sizes: dict[tuple[Any, ...], set[int]] = {}

    def size(self, x: Array, /) -> int:
        """At how many examples a batch like ``x`` runs: at least ``len(x)``."""
        sizes = self._sizes.setdefault((x.shape[1:], x.dtype), set())
        batch = len(x)
        if not (fitting := [size for size in sizes if batch <= size <= SPARE * batch]):
            sizes.add(batch)
            return batch
        return min(fitting)


def filled(x: Array, size: int, /) -> jax.Array:
    """A batch as a JAX array, with its last example repeated, ``size`` examples in all.

    A NumPy array is copied: the program reads it later than the caller may write to it.

    Raises:
        OnrError: the array is one of NumPy in float64, which JAX would round to float32 in silence.

    Example:
        >>> filled(np.array([[1.0], [2.0]], "float32"), 3).tolist()
        [[1.0], [2.0], [2.0]]

    """
    xp = jnp if isinstance(x, jax.Array) else np
    if size > len(x):
        x = xp.concatenate([x, xp.repeat(x[-1:], size - len(x), axis=0)])
    if isinstance(x, jax.Array):
        return x
    if x.dtype == np.float64 and jnp.result_type(float) != np.float64:
        raise OnrError(
            "an array of float64, which JAX has under jax_enable_x64 alone: call "
            'jax.config.update("jax_enable_x64", True) first, or give float32'
        )
    placed: jax.Array = jax.device_put(np.array(x))  # jnp.array would compile a copy for each shape
    return placed


def answer(found: jax.Array, x: Array, /) -> Array:
    """The result for the examples of ``x`` alone, as an array of its kind."""
    return found[: len(x)] if isinstance(x, jax.Array) else np.asarray(found)[: len(x)]


def rounding(x: Array, /) -> float:
    """The distance from 1 to the next number of the float type of ``x``.

    Example:
        >>> rounding(np.zeros(2))
        2.220446049250313e-16

    """
    return float(jnp.finfo(x.dtype).eps)  # type: ignore[no-untyped-call]  # jax's
