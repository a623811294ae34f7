"""The linear region (ReLU cell) of a model around an input: which units are on, how far it reaches.

The model's jaxpr is evaluated with every ``max``, comparison, absolute value and pooling window
held as it is at the input. What is left of a ReLU network is affine, and the values that decide
(pre-activations, the winner of a window minus each other entry) are zero on the walls of the cell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from onr.arrays import to_numpy
from onr.errors import NotAvailableError, OnrError
from onr.norms import LpNorm, as_norm
from onr.protocols import Norm
from onr_jax.interpreter import Node, evaluate
from onr_jax.programs import Arrays, Call, rounding

__all__ = ["Cells"]

STEP = 10
"""How far the check goes from an input, in units of one plus its largest magnitude."""
CHUNK = 256
"""How many of the ``n`` basis vectors pass the model at once."""
COMPARISONS = {"gt", "ge", "lt", "le"}
SMOOTH = frozenset({"logaddexp", "softplus", "elu", "celu", "selu"})
"""Functions that compare their input with zero and are no units that are on or off."""

Values = list[jax.Array]


class Cells:
    """The cells of a model's inputs; what is compiled is compiled once for a shape of inputs.

    Args:
        call: the model as a function of its arrays and a batch.

    Example:
        >>> cells = Cells(lambda arrays, x: jax.nn.relu(x) @ arrays[0])
        >>> arrays, x = [jnp.ones((2, 1))], jnp.array([[3.0, -4.0]])
        >>> cells.pattern(arrays, x), cells.radius(arrays, x, p=2)
        (Array([[ True, False]], dtype=bool), Array([3.], dtype=float32))

    """

    def __init__(self, call: Call) -> None:
        def alone(arrays: Arrays, x: jax.Array, units: Callable[..., Any]) -> Node:
            return evaluate(call, arrays, x[None], rule=units)

        def pattern(arrays: Arrays, x: jax.Array) -> Values:
            units = _Masks()
            evaluate(call, arrays, x[None], rule=units, opaque=SMOOTH)
            return [mask.reshape(-1) for mask in units.masks]

        def here(arrays: Arrays, x: jax.Array) -> tuple[Values, Values]:
            units = _Walls()
            found = alone(arrays, x, units)
            return [*units.values, found.value], units.pattern

        def fixed(arrays: Arrays, x: jax.Array, pattern: Values) -> Values:
            units = _Walls(pattern)
            found = alone(arrays, x, units)
            return [*units.values, found.value]

        def slopes(arrays: Arrays, x: jax.Array, pattern: Values, basis: jax.Array) -> Values:
            def along(v: jax.Array) -> Values:
                run = jax.jvp(lambda z: fixed(arrays, z, pattern), (x,), (v,))
                return [image.reshape(-1) for image in run[1]]

            return jax.vmap(along, out_axes=1)(basis)

        self._pattern = jax.jit(jax.vmap(pattern, in_axes=(None, 0)))
        self._here, self._fixed = jax.jit(here), jax.jit(fixed)
        self._slopes = jax.jit(slopes)

    def pattern(self, arrays: Arrays, x: jax.Array, /) -> jax.Array:
        """Which ReLUs are on, ``z > 0``, shape ``(batch, units)``, bool.

        Units are the values that the model compares with 0: of ``jax.nn.relu``, ``leaky_relu``,
        ``jnp.maximum(z, 0)``, ``jnp.where(z > 0, ...)``, in the order of their computation. A unit
        at exactly zero is off. Smooth activations are never on or off and are left out.

        Raises:
            OnrError: the model has no such unit, or has units with other states, such as ReLU6.

        """
        masks = self._pattern(arrays, x)
        if not masks:
            raise OnrError("the model has no ReLU: it has no activation pattern")
        return jnp.concatenate(masks, axis=1)

    def radius(self, arrays: Arrays, x: jax.Array, /, *, p: Norm | float) -> jax.Array:
        """The largest ``eps`` with ``B_eps^p(x)`` inside the cell (section 3), ``(batch,)``.

        The radius is ``min_j |z_j| / ||grad_x z_j||_{p*}``, exact up to rounding, over the values
        that are zero on the walls. A value whose gradient is zero has no wall. A unit at exactly
        zero with a nonzero gradient gives radius 0, and so does a tie in a pooling window. Without
        hidden units the radius is ``inf``.

        Raises:
            NotAvailableError: ``p`` is no lp norm.
            OnrError: the model has another nonlinearity, which is found at a random point where
                the model differs from its linearisation in the cell; one that contributes less
                than half a percent of the values there in float32 (``6e-6`` in float64) is not.

        """
        p = as_norm(p)
        if not isinstance(p, LpNorm):
            raise NotAvailableError(
                f"no cell radius of a JAX model in norm {p.name}, which does not follow from the "
                "norms of parts: use an lp norm, or a small network of backend numpy"
            )
        found = [self._radius(arrays, example, p.dual) for example in x]
        return jnp.asarray(np.array(found), dtype=x.dtype)

    def _radius(self, arrays: Arrays, x: jax.Array, dual: LpNorm) -> float:
        values, pattern = self._here(arrays, x)
        self._check_affine(arrays, x, values, pattern)
        units = [to_numpy(z).reshape(-1) for z in values[:-1]]
        steepness = [np.zeros_like(z) for z in units]
        n = math.prod(x.shape)
        count = min(n, CHUNK)
        for start in range(0, n, count):
            basis = np.eye(count, n, start).reshape(count, *x.shape)  # rows beyond n are zero
            parts = self._slopes(arrays, x, pattern, jnp.asarray(basis, dtype=x.dtype))
            for index, seen in enumerate(steepness):
                part = dual(to_numpy(parts[index]))
                steepness[index] = dual(np.stack([seen, part], axis=1))
        nearest = math.inf
        for z, steep in zip(units, steepness, strict=True):
            walls = steep > 0
            nearest = min(nearest, *(np.abs(z[walls]) / steep[walls]).tolist(), math.inf)
        return nearest

    def _check_affine(self, arrays: Arrays, x: jax.Array, values: Values, pattern: Values) -> None:
        """Refuse a model that is not affine when the pattern of ``x`` is held fixed.

        With a fixed pattern an affine model is affine everywhere, so the check can go far from
        ``x``, where another nonlinearity makes an error of its own size. The tolerance leaves room
        for the rounding of deep networks.
        """
        size = STEP * (1 + float(jnp.max(jnp.abs(x))))
        step = size * np.random.default_rng(0).standard_normal((1, *x.shape))
        moved = jnp.asarray(step, dtype=x.dtype)
        tangents = self._slopes(arrays, x, pattern, moved)
        tolerance = rounding(x) ** (1 / 3)
        for sign in (1, -1):
            there = self._fixed(arrays, x + sign * moved[0], pattern)
            for near, far, tangent in zip(values, there, tangents, strict=True):
                a, b = to_numpy(near).reshape(-1), to_numpy(far).reshape(-1)
                scale = np.maximum(np.abs(a), np.abs(b)).max(initial=0.0)
                linear = np.isfinite(scale)  # not where an exponential overflows
                if linear:
                    error = np.abs(b - a - sign * to_numpy(tangent)[:, 0]).max(initial=0.0)
                    linear = error <= tolerance * scale
                if not linear:
                    raise OnrError(
                        "the model is not linear in the cell that its ReLUs and max poolings give, "
                        "so it has another nonlinearity: no cell radius is known for it"
                    )


class _Masks:
    """Records where the values that a model compares with zero are positive."""

    def __init__(self) -> None:
        self.masks: Values = []

    def __call__(self, name: str, params: dict[str, Any], given: Sequence[Node]) -> None:
        if name in ("min", "clamp") and _is_float(given[0]):
            raise OnrError(f"the model uses {name}: it has units with other states than on and off")
        if name == "max" or name in COMPARISONS:
            units = [node.value for node in given if node.depends]
            if len(units) == 1 and any(node.zero for node in given):
                self.masks.append(units[0] > 0)


class _Walls:
    """Records what is zero on the walls of the cell, and holds a pattern, that at the input first.

    The pattern has, for each of these, which side of the wall the input is on.
    """

    def __init__(self, pattern: Values | None = None) -> None:
        self.values: Values = []
        self.pattern: Values = []
        self._fixed = pattern

    def __call__(self, name: str, params: dict[str, Any], given: Sequence[Node]) -> Any:
        if not _is_float(given[-1]):
            return None
        values = [node.value for node in given]
        if name in COMPARISONS:
            return self._side(values[0] - values[1], lambda _: getattr(jax.lax, name)(*values))
        if name in ("max", "min"):
            # A ReLU is off at 0: at a tie the value that does not depend on the input is taken.
            return self._chosen(name, *(values if given[0].depends else values[::-1]))
        if name == "clamp":
            return self._chosen("min", self._chosen("max", values[1], values[0]), values[2])
        if name == "abs":
            (z,) = values
            return jnp.where(self._side(z, lambda z: z > 0), z, -z)
        if name in ("reduce_max", "argmax"):
            return self._largest(name, params, values[0])
        if name == "reduce_window_max":
            return self._pooled(params, values[0])
        return None

    def _side(self, wall: jax.Array, side: Callable[[jax.Array], jax.Array]) -> jax.Array:
        """What is decided by the sign of a value."""
        self.values.append(wall)
        return self._kept(lambda: side(wall))

    def _kept(self, own: Callable[[], jax.Array]) -> jax.Array:
        kept = own() if self._fixed is None else self._fixed[len(self.pattern)]
        self.pattern.append(kept)
        return kept

    def _chosen(self, name: str, a: jax.Array, b: jax.Array) -> jax.Array:
        first = self._side(a - b, lambda z: z > 0 if name == "max" else z < 0)
        return jnp.where(first, a, b)

    def _largest(self, name: str, params: dict[str, Any], x: jax.Array) -> jax.Array:
        axes = params["axes"]
        rest = [axis for axis in range(x.ndim) if axis not in axes]
        shape = [x.shape[axis] for axis in rest]
        entries = x.transpose((*rest, *axes)).reshape((*shape, -1))
        winner = self._kept(lambda: jnp.argmax(entries, axis=-1))
        best = jnp.take_along_axis(entries, winner[..., None], axis=-1)
        self.values.append(best - entries)
        return best[..., 0] if name == "reduce_max" else winner.astype(params["index_dtype"])

    def _pooled(self, params: dict[str, Any], x: jax.Array) -> jax.Array:
        windows = _windows(x.shape, params)
        padded = jnp.concatenate([x.reshape(-1), jnp.full(1, -jnp.inf, x.dtype)])
        winner = self._kept(lambda: jnp.argmax(padded[windows], axis=-1))
        chosen = jnp.take_along_axis(jnp.asarray(windows), winner[..., None], axis=-1)
        # Where a window reaches into the padding, its winner stands in.
        others = jnp.where(windows == x.size, chosen, windows)
        best = padded[chosen]
        self.values.append(best - padded[others])
        return best[..., 0]


def _windows(shape: tuple[int, ...], params: dict[str, Any]) -> np.ndarray:
    """The flat index of each window's entries, ``(*outputs, entries)``; ``size`` in the padding."""
    if any(step != 1 for step in params["base_dilation"]):
        raise OnrError(
            "the model has a window over dilated entries: no cell radius is known for it"
        )
    index = np.zeros((1,) * (2 * len(shape)), dtype=int)
    inside = np.ones_like(index, dtype=bool)
    for axis, length in enumerate(shape):
        size, apart = params["window_dimensions"][axis], params["window_dilation"][axis]
        (before, after), step = params["padding"][axis], params["window_strides"][axis]
        starts = np.arange(0, length + before + after - apart * (size - 1), step) - before
        place = starts[:, None] + apart * np.arange(size)
        spread = np.expand_dims(
            place, [a for a in range(2 * len(shape)) if a not in (axis, len(shape) + axis)]
        )
        index = index * length + spread
        inside = inside & (spread >= 0) & (spread < length)
    found: np.ndarray = np.where(inside, index, math.prod(shape))
    return found.reshape((*found.shape[: len(shape)], -1))


def _is_float(node: Node) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(node.value), jnp.floating))
