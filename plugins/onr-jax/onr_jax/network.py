"""A model as a network: its logits, its linearisation, and what measurements need of it."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from onr.errors import OnrError
from onr.protocols import Array, Norm
from onr_jax.features import without_last_layer
from onr_jax.model import Model
from onr_jax.programs import answer, filled

__all__ = ["JaxLinearization", "JaxNetwork"]


class JaxNetwork:
    """A model at inputs of one shape and type; one batch is one call of a compiled program.

    A network takes JAX arrays and gives JAX arrays, and takes NumPy arrays and gives NumPy arrays,
    which may not be written to.

    Args:
        model: what :func:`onr_jax.adapt` gives.
        input_shape: the shape of one input.
        dtype: the float type of inputs.

    Example:
        >>> network = JaxNetwork(Model(jax.nn.relu), (2,), "float32")
        >>> network(jnp.array([[3.0, -4.0]])), network(np.array([[3.0, -4.0]], "float32"))
        (Array([[3., 0.]], dtype=float32), array([[3., 0.]], dtype=float32))
        >>> network.linearize(jnp.array([[3.0, 0.0]])).jvp(jnp.ones((1, 2)))
        Array([[1., 0.]], dtype=float32)

    """

    def __init__(self, model: Model, input_shape: tuple[int, ...], dtype: Any) -> None:
        self.model = model
        """The model, whose arrays are those of the network."""
        self._input_shape, self._dtype = input_shape, np.dtype(dtype)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self._input_shape

    def __call__(self, x: Array, /) -> Array:
        """The logits, shape ``(batch, d)``."""
        programs = self.model.programs
        return answer(programs.value(self.model.arrays, filled(x, programs.size(x))), x)

    def linearize(self, x: Array, /, *, jvp: bool = True) -> JaxLinearization:
        """The linearisation at ``x``, shape ``(batch, *input_shape)``; ``jvp`` changes nothing."""
        return JaxLinearization(self, x)

    def asarray(self, x: np.ndarray, /) -> Array:
        """Inputs in the network's float type; integers (labels) stay integers.

        On the CPU they stay NumPy arrays: what is computed around the network changes its shapes
        too often to be compiled for each. On another device they are JAX arrays there.
        """
        if not np.issubdtype(x.dtype, np.integer):
            x = np.asarray(x, dtype=self._dtype)
        places = {place for array in self.model.arrays for place in array.devices()}
        if any(place.platform == "cpu" for place in places or jax.devices()):
            return x
        return jax.device_put(x, places.pop() if len(places) == 1 else None)

    def parameters(self) -> dict[str, np.ndarray]:
        """A copy of the arrays that the function depends on, by their paths in the pytree.

        What a function closes over is not among them.
        """
        return {name: np.array(value) for name, value in self.model.names.items()}

    def frozen(self) -> JaxNetwork:
        """The network itself: its arrays never change, and it is compiled in any case."""
        return self

    def features(self) -> JaxNetwork:
        """The network without its last affine layer, ``phi^(L-1)``; outputs ``(batch, features)``.

        Raises:
            OnrError: at the first call: the last operation of the model is not an affine layer.

        """
        model = self.model.with_call(without_last_layer(self.model.call))
        return JaxNetwork(model, self._input_shape, self._dtype)

    def activation_pattern(self, x: Array, /) -> Array:
        """Which ReLUs are on, shape ``(batch, units)``, bool.

        :meth:`onr_jax.cells.Cells.pattern` describes the pattern and what is raised.
        """
        return answer(self.model.cells.pattern(self.model.arrays, filled(x, len(x))), x)

    def cell_radius(self, x: Array, /, *, p: Norm) -> Array:
        """The radius of the ReLU cell around each input in the lp norm ``p``, exact; ``(batch,)``.

        The cost is ``n`` jvps for each example. :meth:`onr_jax.cells.Cells.radius` describes the
        radius and which models are refused.
        """
        return answer(self.model.cells.radius(self.model.arrays, filled(x, len(x)), p=p), x)


class JaxLinearization:
    """The linearisation of a network at a batch: one pass now, and one for each product.

    Example:
        >>> network = JaxNetwork(Model(jax.nn.relu), (2,), "float32")
        >>> here = network.linearize(jnp.array([[3.0, -4.0]]))
        >>> here.value.tolist(), here.vjp(jnp.ones((1, 2))).tolist()
        ([[3.0, 0.0]], [[1.0, 0.0]])

    """

    def __init__(self, network: JaxNetwork, x: Array) -> None:
        programs = network.model.programs
        self._size, self._programs = programs.size(x), programs
        self._x = filled(x, self._size)
        value, self._J = programs.linearize(network.model.arrays, self._x)
        self._value = answer(value, x)

    @property
    def value(self) -> Array:
        """``f(x)``, shape ``(batch, d)``."""
        return self._value

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self._x.shape[1:]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of one output, ``(d,)``."""
        shape: tuple[int, ...] = self._value.shape[1:]
        return shape

    def jvp(self, v: Array, /) -> Array:
        """``J v``.

        Raises:
            OnrError: the model has a ``jax.custom_vjp``, which has no forward-mode derivative.

        """
        try:
            return answer(self._programs.forward(self._J, filled(v, self._size)), v)
        except TypeError as error:
            if "custom_vjp" not in str(error):
                raise
            raise OnrError(
                "the model has a jax.custom_vjp, of which JAX knows J^T u and not J v: write it as "
                "a jax.custom_jvp, which gives both"
            ) from error

    def vjp(self, u: Array, /) -> Array:
        """``J^T u``."""
        return answer(self._programs.backward(self._J, filled(u, self._size), self._x), u)
