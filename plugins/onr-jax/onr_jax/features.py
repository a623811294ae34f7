"""A model without its last affine layer."""

from __future__ import annotations

import jax

from onr.errors import OnrError
from onr_jax.interpreter import Node, evaluate
from onr_jax.programs import Arrays, Call

__all__ = ["without_last_layer"]

SUMS = {"add", "sub", "add_any"}
SAME = {"transpose", "reshape", "convert_element_type", "copy", "squeeze"}


def without_last_layer(call: Call) -> Call:
    """The function that gives what the last affine layer is given, ``(batch, features)``.

    The layer is a product with a matrix that does not depend on the inputs, and perhaps sums with
    such a vector. Its matrix and vector are not part of the result. The result raises an
    :class:`OnrError` if the last operation of the model is another one.

    Example:
        >>> from jax import numpy as jnp
        >>> features = without_last_layer(lambda arrays, x: jax.nn.relu(x) @ arrays[0] + 1)
        >>> features([jnp.ones((2, 3))], jnp.array([[3.0, -4.0]]))
        Array([[3., 0.]], dtype=float32)

    """

    def features(arrays: Arrays, x: jax.Array) -> jax.Array:
        node = evaluate(call, arrays, x)
        while node.primitive in SUMS | SAME:
            dependent = [each for each in node.given if each.depends]
            if len(dependent) != 1:
                break
            (node,) = dependent
        return _what_is_given(node, len(x))

    return features


def _what_is_given(node: Node, batch: int) -> jax.Array:
    dependent = [each.value for each in node.given if each.depends]
    if node.primitive != "dot_general" or len(dependent) != 1:
        last = node.primitive or "none"
        raise OnrError(
            f"the last operation of the model is {last}: features are what an affine layer is given"
        )
    found: jax.Array = dependent[0]
    if found.ndim != 2 or found.shape[0] != batch:
        raise OnrError(
            f"the last affine layer is given shape {found.shape}: expected ({batch}, features)"
        )
    return found
