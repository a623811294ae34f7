"""A certified upper bound of ``||J||_{inf,1}``; its minimum is at most 1.783 times the norm."""

from __future__ import annotations

import math

import numpy as np

from onr.arrays import array_namespace, like, max_abs, safe
from onr.jacobians.rounding import eigenvalue_above, least
from onr.typing import Array

__all__ = ["KRIVINE", "grothendieck_bound"]

KRIVINE = math.pi / (2 * math.log(1 + math.sqrt(2)))
"""An upper bound of Grothendieck's constant, 1.7822 (Krivine, 1979)."""
FLOOR = 1e-6
"""The smallest entries of ``y`` and ``z`` relative to the largest: they must be positive."""


def grothendieck_bound(
    J: Array, /, *, steps: int = 200, gap: float = 1e-3
) -> tuple[Array, Array, Array]:
    """An upper bound of ``||J||_{inf,1}``, the maximum of ``<u, J v>`` over sign vectors u and v.

    Cauchy-Schwarz, used twice, gives for all ``y, z > 0``::

        ||J||_{inf,1} <= sqrt(sum(y) sum(z)) ||diag(z)^(-1/2) J diag(y)^(-1/2)||_2

    The minimum over ``y`` and ``z`` is the dual of Grothendieck's semidefinite relaxation: the
    maximum of ``sum_j sqrt(a_j^T X a_j)``, for the columns ``a_j`` of ``J``, over positive
    semidefinite ``X`` of size ``d x d`` with ones on the diagonal. So it is at most
    :data:`KRIVINE` times the norm.

    Alternating maximisation over the unit vectors of the relaxation finds both. With a root ``R``
    of ``X = R^T R`` it is ``y_j = ||R a_j||_2``, ``M = J diag(1/y) J^T``, ``z_i`` the length of
    column i of ``R M``, and the next ``R`` is ``R M`` with columns of length 1. The value
    ``sum(y)`` never decreases, and is at most the minimum of the bound.

    Args:
        J: matrices, shape ``(batch, d, n)``. If ``d > n`` the transposes are taken, which have the
            same norm.
        steps: the largest number of steps.
        gap: stop once the bound of every example is at most ``1 + gap`` times the minimum.

    Returns:
        The bound, shape ``(batch,)``: it holds for the ``y`` and ``z`` at hand, whether or not the
        iteration has converged, and in spite of rounding
        (:func:`~onr.jacobians.rounding.eigenvalue_above`). The value ``sum(y)`` of the last ``X``,
        shape ``(batch,)``. The last root ``R``, shape ``(batch, k, k)`` with ``k = min(d, n)``:
        ``sign(R^T g)`` with a Gaussian ``g`` is a good start for a lower bound, on the side of the
        outputs if ``d <= n`` and of the inputs otherwise.

    Example:
        >>> bound, value, root = grothendieck_bound(np.array([[[1.0, 1.0], [1.0, -1.0]]]))
        >>> bound.round(3), value.round(3), root.shape
        (array([2.828]), array([2.828]), (1, 2, 2))

    """
    xp = array_namespace(J)
    if J.shape[1] > J.shape[2]:
        J = xp.matrix_transpose(J)
    scale = safe(max_abs(J))
    J = J / scale[:, None, None]
    columns = xp.max(xp.abs(J), axis=1) > 0
    rows = xp.max(xp.abs(J), axis=2) > 0
    root = xp.zeros_like(J[:, :, :1]) + like(np.eye(J.shape[1]), J)
    best: tuple[Array, ...] | None = None
    for _ in range(steps):
        y = _raised(xp.sqrt(xp.sum((root @ J) ** 2, axis=1)), columns)
        M = (J / safe(y)[:, None, :]) @ xp.matrix_transpose(J)
        moved = root @ M
        z = _raised(xp.sqrt(xp.sum(moved**2, axis=1)), rows)
        weights = xp.sqrt(safe(z))
        top = xp.linalg.eigvalsh(M / weights[:, :, None] / weights[:, None, :])[:, -1]
        value = xp.sum(y, axis=1)
        bound = xp.sqrt(value * xp.sum(z, axis=1) * xp.maximum(top, xp.zeros_like(top)))
        best = least(best, (bound, y, z))
        done = best[0] <= (1 + gap) * value
        if bool(xp.all(done)):
            break
        lengths = xp.sqrt(xp.sum(moved**2, axis=1, keepdims=True))
        moved = xp.where(lengths > 0, moved / safe(lengths), root)
        root = xp.where(done[:, None, None], root, moved)
    assert best is not None  # noqa: S101 - for the type checker; steps >= 1
    _, y, z = best
    top = eigenvalue_above(J / xp.sqrt(safe(z))[:, :, None], safe(y))
    y, z = xp.astype(y, top.dtype), xp.astype(z, top.dtype)
    bound = xp.astype(xp.sqrt(xp.sum(y, axis=1) * xp.sum(z, axis=1) * top), J.dtype)
    return bound * scale, value * scale, root


def _raised(x: Array, counted: Array) -> Array:
    """The entries raised to ``FLOOR`` times the largest; zero where they do not count."""
    xp = array_namespace(x)
    x = xp.maximum(x, FLOOR * xp.max(x, axis=1, keepdims=True))
    return xp.where(counted, x, xp.zeros_like(x))
