"""The few array helpers that every module of the core shares.

The functions of the core run on NumPy arrays (also of exact rationals) and on torch tensors. What
the two spell differently comes from ``array_api_compat``; a framework is never imported here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, to_device

from onr.exact.surds import NotExactError, square_root
from onr.typing import Array

__all__ = [
    "array_namespace",
    "better",
    "column",
    "device",
    "flatten",
    "inner",
    "like",
    "max_abs",
    "safe",
    "sqrt",
    "to_numpy",
]


def like(values: np.ndarray, array: Array) -> Array:
    """``values`` as the kind of array (framework, device, float type) that ``array`` is.

    Beside exact numbers the values are whole, and become numbers of the same kind.
    """
    xp = array_namespace(array)
    if array.dtype == object:
        whole = values.astype(int)
        if np.any(whole != values):
            raise NotExactError("numbers that are not whole among exact ones")
        return whole.astype(object) + array.reshape(-1)[0] * 0
    return xp.asarray(values, dtype=array.dtype, device=device(array))


def to_numpy(x: Array) -> np.ndarray:
    """The array in NumPy, on the CPU; no copy where there need be none."""
    return np.asarray(to_device(x, "cpu"))


def flatten(x: Array) -> Array:
    """Shape ``(batch, ...)`` to ``(batch, n)``."""
    return x if x.ndim == 2 else x.reshape((x.shape[0], -1))


def column(values: Any, x: Array) -> Any:
    """A scalar as it is, one number an example as a shape that broadcasts against ``x``."""
    if getattr(values, "ndim", 0) == 0:
        return values
    return values.reshape((-1,) + (1,) * (x.ndim - 1))


def safe(denominator: Array) -> Array:
    """The denominator with 1 where it is zero, for numerators that are zero there too."""
    xp = array_namespace(denominator)
    return xp.where(denominator == 0, xp.ones_like(denominator), denominator)


def better(best: tuple[Array, ...] | None, other: tuple[Array, ...], /) -> tuple[Array, ...]:
    """For each example the candidate of larger value; ``best`` among equals.

    Args:
        best: a candidate: its value, shape ``(batch,)``, then arrays ``(batch, ...)`` that belong
            to it; ``None`` if there is none yet.
        other: another one, of the same arrays.

    Example:
        >>> one, two = np.array([1.0, 5.0]), np.array([2.0, 5.0])
        >>> better((one, np.array([10, 50])), (two, np.array([20, 51])))
        (array([2., 5.]), array([20, 50]))

    """
    if best is None:
        return other
    won = other[0] > best[0]
    xp = array_namespace(won)
    return tuple(xp.where(column(won, b), b, a) for a, b in zip(best, other, strict=True))


def sqrt(x: Array) -> Array:
    """The square root of every entry, of exact numbers too."""
    return square_root(x) if x.dtype == object else array_namespace(x).sqrt(x)


def max_abs(x: Array) -> Array:
    """The largest magnitude of each example, shape ``(batch,)``."""
    xp = array_namespace(x)
    return xp.max(xp.abs(flatten(x)), axis=1)


def inner(a: Array, b: Array) -> Array:
    """``<a, b>`` for each example, shape ``(batch,)``."""
    xp = array_namespace(a, b)
    return xp.sum(flatten(a * b), axis=1)
