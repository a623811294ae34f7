"""Upper bounds of ``||J||_{p,q}`` for lp norms, for pairs (p, q) without an exact algorithm."""

from __future__ import annotations

import math

from onr.arrays import array_namespace, max_abs, safe
from onr.norms import dual_exponent
from onr.protocols import Array

__all__ = ["interpolated", "neighbours", "schur_bound"]

NODES = (1.0, 2.0, math.inf)
FLOOR = 1e-12
"""Schur's test raises smaller entries of ``J^T u`` (relative to the largest) or ``x`` to this."""


def interpolated(corners: dict[tuple[float, float], Array], p: float, q: float, /) -> Array:
    """Bound ``||J||_{p,q}`` by the nearest entries of Table 1 (Hoelder's inequality).

    ``||u||_q <= ||u||_a^(1 - t) ||u||_b^t`` for ``1/q = (1 - t)/a + t/b``, so the operator norm is
    log-convex in ``1/q`` for a fixed p. The norm of ``J^T`` from ``q*`` to ``p*`` is the same, so
    it is log-convex in ``1/p`` for a fixed q. (Riesz-Thorin moves both exponents at once, but fails
    for real matrices with constant 1 where ``q < p``.)

    Args:
        corners: upper bounds, each of shape ``(batch,)``, by exponents ``(a, b)``; at least for
            every ``a`` in the :func:`neighbours` of p and every ``b`` in those of q.
        p: the exponent of the domain.
        q: the exponent of the co-domain.

    Returns:
        The bound, shape ``(batch,)``; at an entry of Table 1 the bound that was given for it.

    Example:
        >>> corners = {(2.0, 2.0): np.array([4.0]), (2.0, math.inf): np.array([1.0])}
        >>> interpolated(corners, 2.0, 4.0)
        array([2.])

    """
    bound: Array = 1.0
    for a, weight_a in neighbours(p):
        for b, weight_b in neighbours(q):
            bound = bound * corners[a, b] ** (weight_a * weight_b)
    return bound


def neighbours(p: float, /) -> list[tuple[float, float]]:
    """The exponents of Table 1 next to ``p``, each with its weight in the mean of reciprocals.

    Example:
        >>> neighbours(4.0)  # 1/4 = 0.5 * 1/2 + 0.5 * 1/inf
        [(2.0, 0.5), (inf, 0.5)]

    """
    if p in NODES:
        return [(p, 1.0)]
    low, high = (1.0, 2.0) if p < 2 else (2.0, math.inf)
    weight = (1 / p - 1 / high) / (1 / low - 1 / high)
    return [(low, weight), (high, 1 - weight)]


def schur_bound(J: Array, p: float, q: float, /, *, steps: int = 50) -> Array:
    """Bound ``||J||_{p,q}`` for ``q <= p`` by the norm of ``|J|``, which Schur's test bounds.

    For ``A = |J|`` and every ``x > 0``, Hoelder's inequality used twice gives
    ``||A v||_q^q <= sum_j |v_j|^q w_j <= ||v||_p^q ||w||_(p / (p - q))`` with
    ``w_j = x_j^(1 - q) (A^T (A x)^(q - 1))_j``. Both are equalities at the maximiser for ``A``,
    which the power method finds from a positive start (Boyd, "The power method for lp norms",
    1974). For a nonnegative ``J`` the bound is therefore the norm itself once the iteration has
    converged.

    Args:
        J: matrices, shape ``(batch, d, n)``.
        p: the exponent of the domain.
        q: the exponent of the co-domain, at most ``p``, and finite.
        steps: how many iterations; the bound holds after each, and the smallest is returned.

    Returns:
        The bound, shape ``(batch,)``, valid up to rounding.

    Example:
        >>> schur_bound(np.array([[[1.0, 1.0], [1.0, 1.0]]]), 3.0, 1.5).round(6)
        array([2.519842])

    """
    xp = array_namespace(J)
    scale = safe(max_abs(J))
    A = xp.abs(J) / scale[:, None, None]
    dual = dual_exponent(p)
    x = xp.ones_like(A[:, 0, :])
    best = None
    for _ in range(steps):
        image = (A @ x[:, :, None])[:, :, 0]
        largest = safe(xp.max(image, axis=1, keepdims=True))
        powers = (image / largest) ** (q - 1) * (image > 0)
        g = (powers[:, None, :] @ A)[:, 0, :]
        w = x ** (1 - q) * g
        if p == q:
            size = xp.max(w, axis=1)
        else:
            exponent = 1.0 if p == math.inf else p / (p - q)
            top = safe(xp.max(w, axis=1))
            size = top * xp.sum((w / top[:, None]) ** exponent, axis=1) ** (1 / exponent)
        bound = size ** (1 / q) * largest[:, 0] ** (1 - 1 / q)
        best = bound if best is None else xp.minimum(best, bound)
        if p == math.inf:
            break  # for p = inf the vector of ones maximises a nonnegative matrix
        # Raise the smallest entries: the bound needs x > 0 and a finite x^(1 - q).
        step = (g / safe(xp.max(g, axis=1, keepdims=True))) ** (dual - 1)
        x = xp.maximum(step, xp.full_like(step, FLOOR ** min(1, dual - 1)))
    return best * scale
