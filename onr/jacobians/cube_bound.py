"""A certified upper bound of ``||J||_{inf,2}``, at its minimum at most 1.2533 times the truth."""

from __future__ import annotations

import numpy as np

from onr.arrays import array_namespace, like, max_abs, safe
from onr.typing import Array

__all__ = ["cube_bound"]

FLOOR = 1e-6
"""The least ``y`` over the largest: a bound needs positive ones."""


def cube_bound(J: Array, /, *, steps: int = 100, gap: float = 1e-3) -> tuple[Array, Array]:
    """Bound ``||J||_{inf,2} = max ||J v||_2`` over the cube from above.

    For every ``y > 0`` Cauchy-Schwarz gives
    ``||J||_{inf,2}^2 <= sum(y) lambda_max(J diag(1/y) J^T)``. The minimum over ``y`` is the dual of
    Nesterov's semidefinite relaxation ("Semidefinite relaxation and nonconvex quadratic
    optimization", 1998), here of size ``d x d``, and so at most ``pi / 2`` times the square of the
    norm. A multiplicative update of a density matrix ``X`` finds it:
    ``y_i = sqrt(a_i^T X a_i)`` for the columns ``a_i``, ``M = J diag(1/y) J^T`` and
    ``X <- X^(1/2) M X^(1/2)`` over its trace. ``tr(X M^2)`` is the value of a feasible point of
    the relaxation, so that the distance to the minimum is known; the bound holds at every step.

    Args:
        J: shape ``(batch, d, n)``.
        steps: at most so many.
        gap: stop where every example's bound is within this factor of the minimum.

    Returns:
        The bound, shape ``(batch,)``, up to rounding; and a root ``R`` of the last ``X = R^T R``,
        shape ``(batch, min(d, n), d)``: ``sign(J^T R^T g)`` with Gaussian ``g`` is Nesterov's
        rounding, a good start from below.

    """
    xp = array_namespace(J)
    scale = safe(max_abs(J))
    J = J / scale[:, None, None]
    columns = xp.max(xp.abs(J), axis=1) > 0
    # Lengths are the same in coordinates of the span of the columns.
    basis = None
    if J.shape[1] > J.shape[2]:
        basis, J = xp.linalg.qr(J)
    d = J.shape[1]
    root = xp.zeros_like(J[:, :, :1]) + like(np.eye(d) / d**0.5, J)
    best = None
    for _ in range(steps):
        y = xp.sqrt(xp.sum((root @ J) ** 2, axis=1))
        y = xp.maximum(y, FLOOR * xp.max(y, axis=1, keepdims=True))
        # A column of zeros has no part in the bound.
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
