"""The operator norms of matrices for which an exact algorithm is known."""

from __future__ import annotations

import math

from onr.arrays import array_namespace, column, device, like, safe
from onr.jacobians.dense import Matrices
from onr.jacobians.known_norm import OperatorNorm
from onr.jacobians.sign_enumeration import best_signs
from onr.jacobians.streamed_norms import riesz
from onr.norms import LpNorm
from onr.protocols import Array, Linearization, Norm

__all__ = ["attained", "exact_norm", "exponent"]

ENUMERATED = 16
"""The largest number of signs that are enumerated (``2^15`` vectors)."""


def exact_norm(J: Array, shape: tuple[int, ...], /, *, p: Norm, q: Norm) -> OperatorNorm | None:
    """The exact norm of matrices, by the first row that applies; ``None`` if none does.

    Exact numbers have the same rows but the last, that of inner products, whose eigenvalues are
    floats.

    Args:
        J: matrices, shape ``(batch, d, n)``, of floats or exact numbers.
        shape: the shape of one input, of ``n`` entries.
        p: the norm of the domain.
        q: the norm of the co-domain.

    Example:
        >>> J = np.array([[[3.0, 0.0], [4.0, 1.0]]])
        >>> exact_norm(J, (2,), p=LpNorm(1), q=LpNorm(2)).value
        array([5.])
        >>> exact_norm(J, (2,), p=LpNorm(3), q=LpNorm(2)) is None
        True

    """
    _, d, n = J.shape
    a, b = exponent(p), exponent(q)
    if a == 1 or n == 1:
        return _largest_column(J, shape, p, q)
    if b == math.inf or d == 1:
        return _largest_row(J, shape, p, q)
    if b == 1 and d <= ENUMERATED and (a != math.inf or d <= n):
        s = best_signs(J, p.dual, shape)
        how = f"enumeration of {2 ** (d - 1)} sign vectors of the logits"
        return attained(J, q, p.duality_map(Matrices(J, shape).vjp(s)), how)
    if a == math.inf and n <= ENUMERATED:
        s = best_signs(array_namespace(J).matrix_transpose(J), q, (d,))
        how = f"enumeration of {2 ** (n - 1)} sign vectors of the inputs"
        return attained(J, q, s.reshape((-1, *shape)), how)
    if J.dtype != object and p.euclidean and b == 2:
        return _largest_singular_value(J, shape, p, q)
    return None


def exponent(norm: Norm, /) -> float | None:
    """The exponent of an lp norm; ``None`` for another norm.

    Example:
        >>> exponent(LpNorm(2))
        2.0

    """
    return norm.p if isinstance(norm, LpNorm) else None


def attained(J: Array | Linearization, q: Norm, v: Array, how: str, /) -> OperatorNorm:
    """The exact result whose maximiser is ``v``.

    Example:
        >>> J = np.array([[[3.0, 0.0], [4.0, 1.0]]])
        >>> attained(J, LpNorm(1), np.array([[1.0, 1.0]]), "signs").value
        array([8.])

    """
    image = (J if hasattr(J, "jvp") else Matrices(J)).jvp(v)
    value = q(image)
    xp = array_namespace(value)
    still, one = xp.ones_like(value == value), xp.ones_like(value)
    return OperatorNorm(value, value, "exact", how, v, q.gradient(image), 0, still, one)


def _largest_column(J: Array, shape: tuple[int, ...], p: Norm, q: Norm) -> OperatorNorm:
    xp = array_namespace(J)
    batch, d, n = J.shape
    sizes = q(xp.matrix_transpose(J).reshape((batch * n, d))).reshape((batch, n))
    v = _one_hot(xp.argmax(sizes, axis=1), n, J).reshape((batch, *shape))
    return attained(J, q, v / column(p(v), v), "largest column")


def _largest_row(J: Array, shape: tuple[int, ...], p: Norm, q: Norm) -> OperatorNorm:
    xp = array_namespace(J)
    batch, d, _ = J.shape
    sizes = p.dual(J.reshape((batch * d, *shape))).reshape((batch, d))
    row = Matrices(J, shape).vjp(_one_hot(xp.argmax(sizes, axis=1), d, J))
    return attained(J, q, p.duality_map(row), "largest row")


def _largest_singular_value(J: Array, shape: tuple[int, ...], p: Norm, q: Norm) -> OperatorNorm:
    xp = array_namespace(J)
    scaled = J / safe(xp.max(xp.abs(J), axis=(1, 2), keepdims=True))
    transposed = xp.matrix_transpose(scaled)
    of_rows = J.shape[1] <= J.shape[2] or not isinstance(p, LpNorm)
    if isinstance(p, LpNorm):
        small = scaled @ transposed if of_rows else transposed @ scaled
    else:
        rows = riesz(p, scaled.reshape((-1, *shape))).reshape(J.shape)
        small = rows @ transposed
    _, vectors = xp.linalg.eigh(small)
    top = vectors[:, :, -1]
    # Libraries give either sign; with this one the maximiser is the same on every device.
    largest = _one_hot(xp.argmax(xp.abs(top), axis=1), top.shape[1], J)
    top = top * xp.sign(xp.sum(largest * top, axis=1))[:, None]
    v = Matrices(scaled, shape).vjp(top) if of_rows else top.reshape((-1, *shape))
    v = riesz(p, v)
    v = v / safe(column(p(v), v))
    return attained(J, q, v, "largest eigenvalue of the Gram matrix")


def _one_hot(index: Array, size: int, J: Array) -> Array:
    """The rows ``index`` of the identity matrix, shape ``(batch, size)``."""
    hot = array_namespace(index).arange(size, device=device(index))[None, :] == index[:, None]
    if J.dtype == object:
        return like(hot.astype(float), J)
    return array_namespace(J).astype(hot, J.dtype)
