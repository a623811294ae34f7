"""Array helpers that all modules of the core share.

The functions of the core run on NumPy arrays (also of exact rationals), on torch tensors, and on
the arrays of other frameworks that ``array_api_compat`` knows, such as JAX's. It provides what they
spell differently, so this module imports no framework. Arrays may be immutable: ``x += y`` is an
addition for them, and :func:`put` writes entries.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_jax_array, to_device

from onr.errors import OnrError
from onr.exact.surds import NotExactError, square_root
from onr.typing import Array

__all__ = [
    "array_namespace",
    "better",
    "column",
    "device",
    "flatten",
    "in_float32",
    "inner",
    "is_half",
    "like",
    "max_abs",
    "on_cpu",
    "put",
    "safe",
    "sent",
    "sign",
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
    if getattr(array, "is_cuda", False):
        return sent(xp.asarray(np.asarray(values, order="C"), dtype=array.dtype), array)
    return xp.asarray(values, dtype=array.dtype, device=device(array))


def sent(values: Array, array: Array) -> Array:
    """Convert ``values``, on the CPU, to the framework and the device of ``array``.

    A copy to a GPU from pinned memory does not wait for what the GPU was given to do before.

    Example:
        >>> sent(np.arange(3), np.zeros(2))
        array([0, 1, 2])

    """
    xp = array_namespace(array)
    if not getattr(array, "is_cuda", False):
        return xp.asarray(values, device=device(array))
    return xp.asarray(values).pin_memory().to(array.device, non_blocking=True)


def to_numpy(x: Array) -> np.ndarray:
    """Convert to a NumPy array on the CPU, without a copy where possible.

    Example:
        >>> x = np.zeros(2)
        >>> to_numpy(x) is x
        True

    """
    # NumPy reads an array of JAX from any device; its devices have no names.
    return np.asarray(x if is_jax_array(x) else to_device(x, "cpu"))


def on_cpu(x: Array) -> bool:
    """Whether reading a value of ``x`` costs nothing; on another device it waits for the device.

    Example:
        >>> on_cpu(np.zeros(2))
        True

    """
    if isinstance(x, np.ndarray):
        return True
    known = getattr(x, "is_cpu", None)  # torch's, at a tenth of the cost
    if known is not None:
        return bool(known)
    place = device(x)
    return str(getattr(place, "platform", place)) == "cpu"  # JAX numbers its devices, as cpu:0


@cache
def _precision(dtype: Any) -> str:
    """``exact`` for objects, ``half`` for floats below 32 bits, ``float``, or empty for others."""
    if isinstance(dtype, np.dtype):
        kind = {"O": "exact", "f": "float"}.get(dtype.kind, "")
        kind = "float" if dtype.name == "bfloat16" else kind  # a type that NumPy does not have
    else:
        kind = "float" if getattr(dtype, "is_floating_point", True) else ""
    return "half" if kind == "float" and getattr(dtype, "itemsize", 4) < 4 else kind


def is_half(x: Array) -> bool:
    """Whether ``x`` holds floats of fewer than 32 bits, such as bfloat16.

    Raises:
        OnrError: ``x`` holds neither floats nor exact numbers.

    Example:
        >>> is_half(np.zeros(2, dtype=np.float16)), is_half(np.zeros(2))
        (True, False)

    """
    found = _precision(x.dtype)
    if not found:
        raise OnrError(
            f"an array of {str(x.dtype).removeprefix('torch.')}: expected floats; images of bytes "
            "are x / 255"
        )
    return found == "half"


def in_float32(x: Array) -> Array:
    """``x`` with halves widened to float32, in which sums and ranks keep their digits.

    Raises:
        OnrError: ``x`` holds neither floats nor exact numbers.

    Example:
        >>> in_float32(np.zeros(2, dtype=np.float16)).dtype, in_float32(np.zeros(2)).dtype
        (dtype('float32'), dtype('float64'))

    """
    if not is_half(x):
        return x
    xp = array_namespace(x)
    return xp.astype(x, xp.float32)


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
    """Choose, for each example, the candidate with the larger value; ``other`` at ties.

    A value that is NaN is never lost: it is chosen, and stays chosen, so that one look at the last
    result tells whether any value was NaN.

    Args:
        best: the first candidate: its value, shape ``(batch,)``, then arrays ``(batch, ...)`` that
            belong to it; ``None`` if there is no candidate yet.
        other: the second candidate, in the same form.

    Example:
        >>> one, two = np.array([1.0, 5.0, 9.0]), np.array([2.0, 5.0, 8.0])
        >>> better((one, np.array([10, 50, 90])), (two, np.array([20, 51, 80])))
        (array([2., 5., 9.]), array([20, 51, 90]))

    """
    if best is None:
        return other
    won = (other[0] >= best[0]) | (other[0] != other[0])
    xp = array_namespace(won)
    return tuple(xp.where(column(won, b), b, a) for a, b in zip(best, other, strict=True))


def put(x: Array, index: Any, values: Any, /) -> Array:
    """``x`` with these entries replaced: ``x`` itself, written to, or a new array if it cannot be.

    Args:
        x: the array, to which only the caller refers.
        index: which entries, as in ``x[index]``.
        values: what they become.

    Example:
        >>> put(np.zeros(3), np.array([0, 2]), 1.0)
        array([1., 0., 1.])

    """
    if hasattr(x, "at"):  # an immutable array, as JAX's
        return x.at[index].set(values)
    x[index] = values
    return x


def sqrt(x: Array) -> Array:
    """The square root of every entry; the entries are floats or exact numbers.

    Raises:
        NotExactError: an exact entry is not rational.

    Example:
        >>> sqrt(np.array([4.0, 9.0]))
        array([2., 3.])

    """
    return square_root(x) if x.dtype == object else array_namespace(x).sqrt(x)


def sign(x: Array) -> Array:
    """The sign of every entry, 0 for 0 and NaN for NaN.

    Example:
        >>> sign(np.array([-2.0, 0.0, np.nan]))
        array([-1.,  0., nan])

    """
    xp = array_namespace(x)
    # torch's own sign of NaN is 0. That of xp corrects this, at four times the cost.
    own = None if isinstance(x, np.ndarray) or not on_cpu(x) else getattr(x, "sign", None)
    if own is not None and bool(xp.isfinite(xp.sum(x))):
        found: Array = own()
        return found
    return xp.sign(x)


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
