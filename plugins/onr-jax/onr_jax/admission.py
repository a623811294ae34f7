"""Checks of a model at inputs of one shape and type: it is a function of each input by itself."""

from __future__ import annotations

import jax
import numpy as np
from jax import numpy as jnp

from onr.arrays import in_float32, to_numpy
from onr.errors import OnrError
from onr.typing import Array
from onr_jax.model import Model
from onr_jax.programs import filled, rounding

__all__ = ["admit", "check_inputs"]

DRAW = (0x6A6178, 1)
"""The seed of the other input, which users hardly draw their own inputs from."""


def check_inputs(x: Array, /) -> None:
    """Check that ``x`` is a batch of floats.

    Raises:
        OnrError: it holds no floats or is empty, or a ``jax.jit`` or ``vmap`` is at work.

    """
    if isinstance(x, jax.core.Tracer):
        raise OnrError(
            "x is traced by jax.jit, vmap or grad: call onr outside of them; it compiles the model"
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise OnrError(f"x holds {x.dtype}: expected floats; images of bytes are x / 255")
    if x.ndim < 2 or x.shape[0] == 0:
        raise OnrError(f"x has shape {x.shape}: expected (batch, ...); one input is x[None]")


def admit(model: Model, x: Array, /) -> None:
    """Check that the logits of an input are the same alone and beside another one.

    Raises:
        OnrError: they are not, or the model fails.

    Example:
        >>> from onr_jax.model import adapt
        >>> try:
        ...     admit(adapt(lambda x: x - x.mean(axis=0)), jnp.eye(2))
        ... except OnrError as error:
        ...     print(str(error)[:63])
        the logits of an input depend on the other inputs of its batch:

    """
    kind = (x.shape[1:], x.dtype)
    if kind in model.admitted:
        return
    first = filled(x[:1], 1)
    drawn = np.random.default_rng(DRAW).random((1, *x.shape[1:]))
    pair = jnp.concatenate([first, jnp.asarray(drawn, dtype=x.dtype)])
    beside = to_numpy(in_float32(model.programs.value(model.arrays, pair)))[:1]
    alone = to_numpy(in_float32(model.programs.value(model.arrays, first)))
    apart, size = np.abs(beside - alone), np.abs(alone).max(initial=0.0)
    if np.isfinite(size) and not (apart <= rounding(x) ** 0.5 * size).all():
        raise OnrError(
            "the logits of an input depend on the other inputs of its batch: expected a function "
            "of each; a batch normalisation of Flax takes use_running_average=True, and "
            "nnx modules take model.eval()"
        )
    model.admitted.add(kind)
