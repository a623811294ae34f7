"""A certified upper bound of ``||J||_{inf,2}``, and how far above the norm it can be.

The minimum of the bound is at most 1.2533 times the norm, 1.2224 times for ten outputs.
"""

from __future__ import annotations

import math

import numpy as np

from onr.arrays import array_namespace, like, max_abs, safe, to_numpy
from onr.jacobians.rounding import eigenvalue_above, least
from onr.typing import Array

__all__ = ["cube_bound", "nesterov_factor"]

FLOOR = 1e-6
"""The smallest entry of ``y`` relative to the largest: the bound needs positive entries."""


def cube_bound(J: Array, /, *, steps: int = 100, gap: float = 1e-3) -> tuple[Array, Array]:
    """An upper bound of ``||J||_{inf,2}``, the maximum of ``||J v||_2`` over ``||v||_inf <= 1``.

    Cauchy-Schwarz gives ``||J||_{inf,2}^2 <= sum(y) lambda_max(J diag(1/y) J^T)`` for every
    ``y > 0``. Minimising the bound over ``y`` is the dual of Nesterov's semidefinite relaxation
    ("Semidefinite relaxation and nonconvex quadratic optimization", 1998), here of size ``d x d``,
    so the minimum is at most ``pi / 2`` times the square of the norm;
    :func:`nesterov_factor` has the factor of each example.

    A density matrix ``X`` and ``y`` are improved in turn: ``y_i = sqrt(a_i^T X a_i)`` for the
    columns ``a_i`` of ``J``, ``M = J diag(1/y) J^T``, and the next ``X`` is ``M X M / tr(X M^2)``.
    It is a feasible point of the relaxation with at least the value ``tr(X M^2)``, so the distance
    to the minimum is known. The bound holds after every step, and in spite of rounding
    (:func:`~onr.jacobians.rounding.eigenvalue_above`).

    Args:
        J: matrices, shape ``(batch, d, n)``.
        steps: the largest number of steps.
        gap: stop once the bound of every example is at most ``1 + gap`` times the minimum.

    Returns:
        The bound, shape ``(batch,)``; and a root ``R`` of that
        feasible point ``R^T R``, shape ``(batch, min(d, n), d)``. Nesterov's rounding,
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
    best: tuple[Array, ...] | None = None
    for _ in range(steps):
        y = xp.sqrt(xp.sum((root @ J) ** 2, axis=1))
        y = xp.maximum(y, FLOOR * xp.max(y, axis=1, keepdims=True))
        # A zero column does not contribute to the bound.
        y = xp.where(columns, y, xp.zeros_like(y))
        M = (J / safe(y)[:, None, :]) @ xp.matrix_transpose(J)
        best = least(best, (xp.sum(y, axis=1) * xp.linalg.eigvalsh(M)[:, -1], y))
        moved = root @ M
        done = best[0] <= (1 + gap) ** 2 * xp.sum(moved**2, axis=(1, 2))
        if bool(xp.all(done)):
            break
        following = moved / safe(xp.sqrt(xp.sum(moved**2, axis=(1, 2), keepdims=True)))
        root = xp.where(done[:, None, None], root, following)
    assert best is not None  # noqa: S101 - for the type checker; steps >= 1
    y = best[1]
    top = eigenvalue_above(J, safe(y))
    bound = xp.astype(xp.sqrt(xp.sum(xp.astype(y, top.dtype), axis=1) * top), J.dtype)
    # M X M / tr(X M^2) is the feasible point with the value that ended the loop, or a better one.
    root = moved / safe(xp.sqrt(xp.sum(moved**2, axis=(1, 2), keepdims=True)))
    if basis is not None:
        root = root @ xp.matrix_transpose(basis)
    return bound * scale, root


def nesterov_factor(J: Array, bound: Array, root: Array, /) -> Array:
    """A factor ``c >= 1`` with ``bound <= c ||J||_{inf,2}``, from the result of :func:`cube_bound`.

    For ``tr X = 1`` the relaxation has the value ``s(X) = sum_j sqrt(a_j^T X a_j)``. Let
    ``x = X^(1/2) g`` with a Gaussian ``g``. Then ``||J^T x||_1 <= ||J||_{inf,2} ||x||_2``, and the
    expectation of the left side is ``sqrt(2 / pi) s(X)``, so that for every ``X``::

        s(X) <= sqrt(pi / 2) E||X^(1/2) g||_2 ||J||_{inf,2}

    The factor of ``||J||`` depends on the eigenvalues of ``X`` alone. It is 1 at rank 1, and
    concave and symmetric in them, hence at most its value at ``X = I / r``: 1.1107 at rank 2,
    1.1547 at rank 3, 1.2224 at rank 10, and sqrt(pi / 2) = 1.2533 in the limit. The result is that
    factor times ``bound / s(X)``; the second is 1.001 or less once the iteration has converged.

    With the eigenvalues ``m_i`` the expectation is the integral of
    ``(1 - prod_i (1 + 2 e^t m_i)^(-1/2)) e^(-t/2) / (2 sqrt(pi))`` over the real line. The
    integrand is analytic about it and decays as ``e^(-|t|/2)``, so the trapezoidal rule with step
    1/4 between -60 and 60 has an error below 1e-12.

    Args:
        J: matrices, shape ``(batch, d, n)``.
        bound: upper bounds of their norms, shape ``(batch,)``.
        root: roots ``R`` of ``X = R^T R``, shape ``(batch, r, d)``; any trace.

    Returns:
        The factor, shape ``(batch,)``; 1 where ``J`` is zero.

    Example:
        >>> J = np.eye(2)[None]
        >>> nesterov_factor(J, np.array([2**0.5]), J).round(4)
        array([1.1107])

    """
    xp = array_namespace(J)
    scale = safe(max_abs(J))
    mass = xp.sqrt(safe(xp.sum(root**2, axis=(1, 2))))
    images = (root @ (J / scale[:, None, None])) / mass[:, None, None]
    value = xp.sum(xp.sqrt(xp.sum(images**2, axis=1)), axis=1) * scale
    singular = to_numpy(xp.linalg.svdvals(root)).astype(np.float64)
    spectrum = singular**2 / np.maximum(np.sum(singular**2, axis=1, keepdims=True), 1e-300)
    t = np.arange(-60, 60.125, 0.25)
    # log1p and expm1: for t << 0 the difference from 1 is as small as e^t.
    laplace = -np.expm1(-0.5 * np.log1p(2 * np.exp(t)[:, None] * spectrum[:, None]).sum(axis=2))
    expectation = 0.25 * (laplace * np.exp(-t / 2)).sum(axis=1) / (2 * math.sqrt(math.pi))
    factor = math.sqrt(math.pi / 2) * like(expectation, J) * bound / safe(value)
    return xp.where(value > 0, xp.maximum(factor, xp.ones_like(factor)), xp.ones_like(factor))
