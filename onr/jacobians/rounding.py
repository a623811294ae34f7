"""Bounds that hold in spite of rounding: eigenvalues from above, and bounds that must not cross."""

from __future__ import annotations

from onr.arrays import array_namespace, column
from onr.errors import OnrError
from onr.typing import Array

__all__ = ["eigenvalue_above", "least", "not_crossed"]


def eigenvalue_above(J: Array, y: Array, /) -> Array:
    """An upper bound of ``lambda_max(J diag(1/y) J^T)`` that holds in spite of rounding.

    The matrix and its eigenvalues are computed in float64, whatever the type of ``J``. Their error
    is at most ``(n + 8) eps`` times the trace for the sums of ``n`` products, and a small multiple
    of ``d eps`` times the largest eigenvalue for ``eigvalsh``. The trace is at most ``d`` times the
    largest eigenvalue, so ``1 + 4 d (n + d + 8) eps`` times the computed value is above the true
    one: 1 + 3e-11 for 10 x 3072.

    Args:
        J: matrices, shape ``(batch, d, n)``, of entries far from overflow.
        y: positive numbers, shape ``(batch, n)``; any where the column of ``J`` is zero.

    Returns:
        The bound, shape ``(batch,)``, float64.

    Example:
        >>> import numpy as np
        >>> eigenvalue_above(np.array([[[3.0, 4.0]]]), np.ones((1, 2))).round(6)
        array([25.])

    """
    xp = array_namespace(J)
    _, d, n = J.shape
    B = xp.astype(J, xp.float64) / xp.sqrt(xp.astype(y, xp.float64))[:, None, :]
    largest = xp.linalg.eigvalsh(B @ xp.matrix_transpose(B))[:, -1]
    return largest * (1 + 4 * d * (n + d + 8) * float(xp.finfo(xp.float64).eps))


def least(best: tuple[Array, ...] | None, other: tuple[Array, ...], /) -> tuple[Array, ...]:
    """For each example the candidate with the smaller bound; ``best`` at ties.

    Args:
        best: a bound, shape ``(batch,)``, then arrays ``(batch, ...)`` that belong to it; or None.
        other: another candidate, in the same form.

    Example:
        >>> import numpy as np
        >>> least((np.array([1.0, 5.0]),), (np.array([2.0, 3.0]),))
        (array([1., 3.]),)

    """
    if best is None:
        return other
    won = other[0] < best[0]
    xp = array_namespace(won)
    return tuple(xp.where(column(won, b), b, a) for a, b in zip(best, other, strict=True))


def not_crossed(lower: Array, upper: Array, entries: int, /) -> Array:
    """The upper bounds, raised to the lower ones where the two cross by rounding alone.

    A bracket that is closed has two bounds of the same number, each with its own rounding. Sums of
    ``entries`` numbers in all are off by about ``eps sqrt(entries)``, so bounds may cross by
    ``16 eps sqrt(entries)`` of their value: 3e-4 in float32 and 6e-13 in float64 for 10 x 3072.

    Raises:
        OnrError: a lower bound is above its upper bound by more: one of the two is wrong.

    Example:
        >>> import numpy as np
        >>> not_crossed(np.array([1.0, 2.0]), np.array([1.5, 2.0 - 1e-15]), 4)
        array([1.5, 2. ])

    """
    xp = array_namespace(lower)
    slack = 16 * float(xp.finfo(lower.dtype).eps) * entries**0.5
    crossed = ~(lower <= upper * (1 + slack))
    if bool(xp.any(crossed)):
        index = int(xp.argmax(xp.astype(crossed, xp.int32)))
        raise OnrError(
            f"operator norm of example {index}: the lower bound {float(lower[index]):.9g} is above "
            f"the upper bound {float(upper[index]):.9g}; one of them is wrong, please report it"
        )
    return xp.maximum(upper, lower)
