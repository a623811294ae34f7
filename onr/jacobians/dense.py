"""Jacobians as explicit matrices: how to form them, and their use as linearisations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onr.arrays import array_namespace, device, like
from onr.errors import OnrError
from onr.protocols import Array, Linearization

__all__ = ["Matrices", "check_matrices", "jacobian", "right_singular_vectors", "singular_values"]


@dataclass(frozen=True)
class Matrices:
    """A :class:`Linearization` whose Jacobians are given as explicit matrices.

    Args:
        J: the matrices, shape ``(batch, d, n)``.
        shape: the shape of one input; ``(n,)`` if not given.
        copies: apply each matrix to this many consecutive examples; it is stored and read once.

    Raises:
        OnrError: ``J`` does not have three axes; pass ``J[None]`` for one matrix.

    Example:
        >>> J = Matrices(np.array([[[1.0, 2.0], [3.0, 4.0]]]))
        >>> J.jvp(np.array([[1.0, 0.0]]))
        array([[1., 3.]])

    """

    J: Array
    shape: tuple[int, ...] = ()
    copies: int = 1

    def __post_init__(self) -> None:
        if getattr(self.J, "ndim", 0) != 3:
            raise OnrError(
                f"matrices of shape {tuple(getattr(self.J, 'shape', ()))}: expected "
                "(batch, d, n); write J[None] for one matrix"
            )

    @property
    def value(self) -> Array:
        """The value of the linear map at zero: zeros, shape ``(batch * copies, d)``."""
        batch, d, _ = self.J.shape
        xp = array_namespace(self.J)
        return xp.zeros((batch * self.copies, d), dtype=self.J.dtype, device=device(self.J))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.shape or (self.J.shape[2],)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of one output, ``(d,)``."""
        return (self.J.shape[1],)

    def jvp(self, v: Array, /) -> Array:
        """``J v``, shape ``(batch * copies, d)``."""
        batch, d, n = self.J.shape
        transposed = array_namespace(self.J).matrix_transpose(self.J)
        return (v.reshape((batch, self.copies, n)) @ transposed).reshape((-1, d))

    def vjp(self, u: Array, /) -> Array:
        """``J^T u``, shape ``(batch * copies, *input_shape)``."""
        batch, d, _ = self.J.shape
        rows = u.reshape((batch, self.copies, d)) @ self.J
        return rows.reshape((-1, *self.input_shape))


def check_matrices(J: Array, /) -> None:
    """Check the entries of matrices ``(batch, d, n)``: floats of 32 bits or more, or exact numbers.

    Raises:
        OnrError: an entry is nan or infinite, the type is another one, or there is no entry.

    """
    xp = array_namespace(J)
    if J.dtype == object:
        return
    if not xp.isdtype(J.dtype, "real floating"):
        raise OnrError(f"matrices of {J.dtype}: expected floats, or exact numbers as objects")
    if xp.finfo(J.dtype).bits < 32:
        raise OnrError(f"matrices of {J.dtype}: expected 32 bits or more, as float() gives")
    if 0 in J.shape:
        raise OnrError(f"matrices of shape {tuple(J.shape)}: expected at least one, with entries")
    if not bool(xp.all(xp.isfinite(J))):
        raise OnrError("a matrix with an entry that is nan or infinite: it has no norm")


def jacobian(linearization: Linearization, /) -> Array:
    """The Jacobian of each example as a matrix, shape ``(batch, d, n)``, exact.

    It costs ``d`` vjps, or ``n`` jvps if ``n < d``.

    Example:
        >>> J = np.arange(6.0).reshape(1, 2, 3)
        >>> np.array_equal(jacobian(Matrices(J)), J)
        True

    """
    value = linearization.value
    xp = array_namespace(value)
    batch, d = value.shape
    shape = linearization.input_shape
    n = math.prod(shape)
    parts = []
    for index in range(min(d, n)):
        unit = xp.zeros_like(value[:, :1]) + like(np.eye(min(d, n))[index], value)
        if d <= n:
            parts.append(linearization.vjp(unit).reshape((batch, n)))
        else:
            parts.append(linearization.jvp(unit.reshape((batch, *shape))))
    return xp.stack(parts, axis=1 if d <= n else 2)


def singular_values(linearization: Linearization, /) -> Array:
    """All ``min(d, n)`` singular values of ``J``, largest first, shape ``(batch, min(d, n))``.

    Example:
        >>> singular_values(Matrices(np.array([[[3.0, 0.0], [0.0, 4.0]]])))
        array([[4., 3.]])

    """
    J = jacobian(linearization)
    return array_namespace(J).linalg.svdvals(J)


def right_singular_vectors(J: Array, /) -> tuple[Array, Array]:
    """Singular values and right singular vectors of matrices, NaN where the vector is arbitrary.

    A singular value counts as zero if it is at most ``max(d, n) eps`` times the largest one of its
    matrix, the rounding of an SVD. Every vector is then as good as any other, so it is NaN, and
    the statistics of a measurement leave it out.

    Args:
        J: matrices, shape ``(batch, d, n)``.

    Returns:
        The singular values, largest first, shape ``(batch, k)`` with ``k = min(d, n)``; and the
        vectors, shape ``(batch, k, n)``.

    Example:
        >>> S, V = right_singular_vectors(np.array([[[3.0, 0.0], [0.0, 0.0]]]))
        >>> S, abs(V)
        (array([[3., 0.]]), array([[[ 1.,  0.],
                [nan, nan]]]))

    """
    xp = array_namespace(J)
    _, S, V = xp.linalg.svd(J, full_matrices=False)
    known = S[:, :1] * max(J.shape[1:]) * xp.finfo(J.dtype).eps < S
    return S, xp.where(known[:, :, None], V, xp.full_like(V, xp.nan))
