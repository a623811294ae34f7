"""A function of an array, with the arrays that it depends on: what every JAX model becomes."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from onr.errors import OnrError
from onr_jax.cells import Cells
from onr_jax.programs import Arrays, Call, Programs

__all__ = ["Model", "adapt", "is_float"]


def adapt(
    model: Any,
    variables: Any = None,
    /,
    *,
    each: bool = False,
    input_shape: tuple[int, ...] | None = None,
) -> Model:
    """Make a model for the functions of ``import onr`` of a function of JAX arrays.

    What is given is compiled when it is first used, once for each shape of inputs, and stays
    compiled as long as the result is kept. The arrays inside are those of now: a model that is
    trained further, or an nnx module that changes, is adapted again.

    Args:
        model: a pure function of a batch ``(batch, *input_shape)`` that gives logits
            ``(batch, d)``. A pytree that can be called, such as an Equinox module or a
            ``flax.nnx.Module``, is one. With ``variables`` it is a function of these and a batch,
            as the ``apply`` of a ``flax.linen.Module``.
        variables: a pytree of arrays, the first argument of ``model``.
        each: whether the function takes one example ``input_shape`` and gives ``(d,)``, as those of
            Equinox do; it is then vmapped.
        input_shape: the shape of one input; only ``JaxBackend.build`` needs it.

    Raises:
        OnrError: the model cannot be called.

    Example:
        >>> import jax, onr, onr_jax
        >>> variables = {"W": jax.numpy.array([[3.0, 0.0], [4.0, 1.0]])}
        >>> model = onr_jax.adapt(lambda v, x: x @ v["W"].T, variables)
        >>> onr.operator_norm(model, jax.numpy.ones((1, 2)), p="inf", q=1).value
        Array([8.], dtype=float32)

    """
    if isinstance(model, Model):
        return model
    if not callable(model):
        raise OnrError(
            f"the model is a {type(model).__name__}: expected a function of a batch of JAX arrays, "
            "or onr_jax.adapt(function, variables)"
        )
    return Model(model, variables, each=each, input_shape=input_shape)


class Model:
    """What :func:`adapt` makes: the function, the arrays that it depends on, and its programs.

    Example:
        >>> model = adapt(lambda v, x: x @ v["W"], {"W": jnp.ones((3, 2))})
        >>> list(model.names)
        ['W']
        >>> model.call(model.arrays, jnp.ones((4, 3))).shape
        (4, 2)

    """

    def __init__(
        self,
        function: Callable[..., Any],
        variables: Any = None,
        *,
        each: bool = False,
        input_shape: tuple[int, ...] | None = None,
    ) -> None:
        self.input_shape = input_shape
        self.admitted: set[tuple[Any, ...]] = set()
        """The shapes and types of inputs at which the model was found to be a function of each."""
        self._each, self._given = each, variables is not None
        # A function that is no pytree is a single leaf, which is no array.
        leaves, self._structure = jax.tree_util.tree_flatten_with_path(
            (function, variables) if self._given else (function,)
        )
        self._static = [None if _is_array(leaf) else leaf for _, leaf in leaves]
        self._places = [place for place, (_, leaf) in enumerate(leaves) if _is_array(leaf)]
        self.arrays: Arrays = [jnp.asarray(leaves[place][1]) for place in self._places]
        """The arrays that the function depends on, as arguments of what is compiled."""
        named = [_name(leaves[place][0][1:]) for place in self._places]
        self.names = dict(zip(named, self.arrays, strict=True))
        """The same by name: the path in the pytree, as ``params.Dense_0.kernel``."""
        self.programs, self.cells = Programs(self.call), Cells(self.call)

    def call(self, arrays: Arrays, x: jax.Array) -> jax.Array:
        """The logits of a batch, ``(batch, d)``, as a function of both arguments.

        Raises:
            OnrError: the function raises, or its result is no array of floats of this shape.

        """
        leaves = list(self._static)
        for place, array in zip(self._places, arrays, strict=True):
            leaves[place] = array
        function, *variables = jax.tree_util.tree_unflatten(self._structure, leaves)
        function = partial(function, *variables) if self._given else function
        shape = f"{tuple(x.shape)}, {x.dtype}"
        hint = "" if self._each else "; a model of one example is onr_jax.adapt(model, each=True)"
        try:
            found = jax.vmap(function)(x) if self._each else function(x)
        except OnrError:
            raise
        except Exception as error:
            lines = str(error).strip().splitlines()
            reason = f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
            raise OnrError(f"the model fails at x of shape {shape}: {reason}{hint}") from error
        if not isinstance(found, jax.Array) or found.ndim != 2 or found.shape[0] != x.shape[0]:
            given = f"shape {found.shape}" if isinstance(found, jax.Array) else type(found).__name__
            raise OnrError(
                f"the model gives {given} at x of shape {shape}: expected logits "
                f"({x.shape[0]}, d){hint}"
            )
        if not is_float(found):
            raise OnrError(f"the model gives {found.dtype}: expected floats, the logits")
        return found

    def with_variables(self, variables: Any) -> Model:
        """The same function of other variables of this structure, and what is compiled of it."""
        other = copy(self)
        other.arrays = jax.tree_util.tree_leaves(variables)
        other.names = dict(zip(self.names, other.arrays, strict=True))
        return other

    def with_call(self, call: Call) -> Model:
        """A model of another function of the same arrays and inputs."""
        other = Model(call, self.arrays, input_shape=self.input_shape)
        other.names, other.admitted = self.names, self.admitted
        return other


def is_float(x: jax.Array) -> bool:
    """Whether an array holds floats.

    Example:
        >>> is_float(jnp.ones(2)), is_float(jnp.arange(2))
        (True, False)

    """
    return bool(jnp.issubdtype(x.dtype, jnp.floating))


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".") or "variables"
