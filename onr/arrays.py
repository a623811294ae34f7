"""Array helpers that all modules of the core share.

The functions of the core run on NumPy arrays (also of exact rationals) and on torch tensors.
``array_api_compat`` provides what the two frameworks spell differently, so this module imports
neither torch nor any other framework.
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
    """Convert ``values`` to the framework, device and float type of ``array``.

    If ``array`` holds exact numbers, ``values`` must be whole numbers and are converted to its
    number type.

    Raises:
        NotExactError: ``array`` holds exact numbers and a value is not whole.

    Example:
        >>> like(np.array([0.5, 2.0]), np.zeros(3, dtype=np.float32))
        array([0.5, 2. ], dtype=float32)

    """
    xp = array_namespace(array)
    if array.dtype == object:
        whole = values.astype(int)
        if np.any(whole != values):
            raise NotExactError("numbers that are not whole among exact ones")
        return whole.astype(object) + array.reshape(-1)[0] * 0
    return xp.asarray(values, dtype=array.dtype, device=device(array))


def to_numpy(x: Array) -> np.ndarray:
    """Convert to a NumPy array on the CPU, without a copy where possible.

    Example:
        >>> x = np.zeros(2)
        >>> to_numpy(x) is x
        True

    """
    return np.asarray(to_device(x, "cpu"))


def flatten(x: Array) -> Array:
    """Reshape ``(batch, ...)`` to ``(batch, n)``.

    Example:
        >>> flatten(np.zeros((5, 3, 8, 8))).shape
        (5, 192)

    """
    return x if x.ndim == 2 else x.reshape((x.shape[0], -1))


def column(values: Any, x: Array) -> Any:
    """Reshape ``(batch,)`` to ``(batch, 1, ..., 1)``, which broadcasts against ``x``.

    Scalars are returned unchanged.

    Example:
        >>> column(np.array([1.0, 2.0]), np.zeros((2, 3, 4))).shape
        (2, 1, 1)

    """
    if getattr(values, "ndim", 0) == 0:
        return values
    return values.reshape((-1,) + (1,) * (x.ndim - 1))


def safe(denominator: Array) -> Array:
    """Replace zeros in a denominator by ones, for quotients of the form ``0 / 0``.

    Example:
        >>> safe(np.array([0.0, 4.0]))
        array([1., 4.])

    """
    xp = array_namespace(denominator)
    return xp.where(denominator == 0, xp.ones_like(denominator), denominator)


def better(best: tuple[Array, ...] | None, other: tuple[Array, ...], /) -> tuple[Array, ...]:
    """Choose, for each example, the candidate with the larger value; ``best`` at ties.

    Args:
        best: the first candidate: its value, shape ``(batch,)``, then arrays ``(batch, ...)`` that
            belong to it; ``None`` if there is no candidate yet.
        other: the second candidate, in the same form.

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
    """The square root of every entry; the entries are floats or exact numbers.

    Raises:
        NotExactError: an exact entry is not rational.

    Example:
        >>> sqrt(np.array([4.0, 9.0]))
        array([2., 3.])

    """
    return square_root(x) if x.dtype == object else array_namespace(x).sqrt(x)


def max_abs(x: Array) -> Array:
    """The largest magnitude of each example, shape ``(batch,)``.

    Example:
        >>> max_abs(np.array([[1.0, -3.0], [2.0, 0.0]]))
        array([3., 2.])

    """
    xp = array_namespace(x)
    return xp.max(xp.abs(flatten(x)), axis=1)


def inner(a: Array, b: Array) -> Array:
    """The inner product ``<a, b>`` of each example, shape ``(batch,)``.

    Example:
        >>> inner(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]))
        array([11.])

    """
    xp = array_namespace(a, b)
    return xp.sum(flatten(a * b), axis=1)
