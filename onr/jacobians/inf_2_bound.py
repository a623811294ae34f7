"""A certified upper bound of ``||J||_{inf,2}``; its minimum is at most 1.2533 times the norm."""

from __future__ import annotations

import numpy as np

from onr.arrays import array_namespace, like, max_abs, safe
from onr.typing import Array

__all__ = ["cube_bound"]

FLOOR = 1e-6
"""The smallest entry of ``y`` relative to the largest: the bound needs positive entries."""


def cube_bound(J: Array, /, *, steps: int = 100, gap: float = 1e-3) -> tuple[Array, Array]:
    """An upper bound of ``||J||_{inf,2}``, the maximum of ``||J v||_2`` over ``||v||_inf <= 1``.

    Cauchy-Schwarz gives ``||J||_{inf,2}^2 <= sum(y) lambda_max(J diag(1/y) J^T)`` for every
    ``y > 0``. Minimising the bound over ``y`` is the dual of Nesterov's semidefinite relaxation
    ("Semidefinite relaxation and nonconvex quadratic optimization", 1998), here of size ``d x d``,
    so the minimum is at most ``pi / 2`` times the square of the norm.

    A multiplicative update of a density matrix ``X`` finds the minimum:
    ``y_i = sqrt(a_i^T X a_i)`` for the columns ``a_i`` of ``J``, ``M = J diag(1/y) J^T``, and the
    next ``X`` is ``X^(1/2) M X^(1/2)`` divided by its trace. ``tr(X M^2)`` is the value of a
    feasible point of the relaxation, so the distance to the minimum is known. The bound holds
    after every step.

    Args:
        J: matrices, shape ``(batch, d, n)``.
        steps: the largest number of steps.
        gap: stop once the bound of every example is at most ``1 + gap`` times the minimum.

    Returns:
        The bound, shape ``(batch,)``, valid up to rounding; and a root ``R`` of the last
        ``X = R^T R``, shape ``(batch, min(d, n), d)``. Nesterov's rounding,
        ``sign(J^T R^T g)`` with a Gaussian ``g``, is a good start for a lower bound.

    Example:
        >>> bound, root = cube_bound(np.eye(2)[None])
        >>> bound.round(6), root.shape
        (array([1.414214]), (1, 2, 2))

    """
    xp = array_namespace(J)
    scale = safe(max_abs(J))
    J = J / scale[:, None, None]
    columns = xp.max(xp.abs(J), axis=1) > 0
    # J may be written in a basis of the span of its columns: lengths stay the same.
    basis = None
    if J.shape[1] > J.shape[2]:
        basis, J = xp.linalg.qr(J)
    d = J.shape[1]
    root = xp.zeros_like(J[:, :, :1]) + like(np.eye(d) / d**0.5, J)
    best = None
    for _ in range(steps):
        y = xp.sqrt(xp.sum((root @ J) ** 2, axis=1))
        y = xp.maximum(y, FLOOR * xp.max(y, axis=1, keepdims=True))
        # A zero column does not contribute to the bound.
        y = xp.where(columns, y, xp.zeros_like(y))
        M = (J / safe(y)[:, None, :]) @ xp.matrix_transpose(J)
        bound = xp.sum(y, axis=1) * xp.linalg.eigvalsh(M)[:, -1]
        best = bound if best is None else xp.minimum(best, bound)
        moved = root @ M
        done = best <= (1 + gap) ** 2 * xp.sum(moved**2, axis=(1, 2))
        if bool(xp.all(done)):
            break
        values, vectors = xp.linalg.eigh(moved @ root)
        values = xp.maximum(values, xp.zeros_like(values))
        values = xp.sqrt(values / safe(xp.sum(values, axis=1, keepdims=True)))
        following = (vectors * values[:, None, :]) @ xp.matrix_transpose(vectors)
        root = xp.where(done[:, None, None], root, following)
    if basis is not None:
        root = root @ xp.matrix_transpose(basis)
    return xp.sqrt(best) * scale, root
