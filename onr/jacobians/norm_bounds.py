"""Upper bounds of ``||J||_{p,q}`` for lp norms, where no algorithm finds it."""

from __future__ import annotations

import math

from onr.arrays import array_namespace, max_abs, safe
from onr.norms import dual_exponent
from onr.protocols import Array

__all__ = ["interpolated", "schur_bound"]

NODES = (1.0, 2.0, math.inf)
FLOOR = 1e-12
"""The least entry of ``J^T u`` over the largest, or of ``x``, that Schur's test goes on from."""


def interpolated(corners: dict[tuple[float, float], Array], p: float, q: float, /) -> Array:
    """Bound ``||J||_{p,q}`` by the nearest cells of Table 1 (Hoelder's inequality).

    ``||u||_q <= ||u||_a^(1 - t) ||u||_b^t`` for ``1/q = (1 - t)/a + t/b`` makes the operator norm
    log-convex in ``1/q`` for a fixed p, and, as it is that of ``J^T`` from ``q*`` to ``p*``, in
    ``1/p`` for a fixed q. (Riesz-Thorin, which moves both at once, fails for real matrices with
    constant 1 where ``q < p``.)

    Args:
        corners: upper bounds, shape ``(batch,)``, at least at :func:`neighbours` of p and q.
        p: the exponent of the domain.
        q: the exponent of the co-domain.

    Returns:
        Shape ``(batch,)``; at a cell of Table 1 what was given there.

    """
    bound: Array = 1.0
    for a, weight_a in neighbours(p):
        for b, weight_b in neighbours(q):
            bound = bound * corners[a, b] ** (weight_a * weight_b)
    return bound


def neighbours(p: float, /) -> list[tuple[float, float]]:
    """The exponents of Table 1 about ``p``, with the weights that give ``1/p`` from theirs."""
    if p in NODES:
        return [(p, 1.0)]
    low, high = (1.0, 2.0) if p < 2 else (2.0, math.inf)
    weight = (1 / p - 1 / high) / (1 / low - 1 / high)
    return [(low, weight), (high, 1 - weight)]


def schur_bound(J: Array, p: float, q: float, /, *, steps: int = 50) -> Array:
    """Bound ``||J||_{p,q}`` for ``q <= p`` by that of the magnitudes, from Schur's test.

    For ``A = |J|`` and every ``x > 0`` two uses of Hoelder's inequality give ``||A v||_q^q <=
    sum_j |v_j|^q w_j <= ||v||_p^q ||w||_(p / (p - q))`` with ``w_j = x_j^(1 - q) (A^T (A
    x)^(q - 1))_j``. At the maximiser for ``A``, which the power method finds from a positive start
    (Boyd, "The power method for lp norms", 1974), both are equalities: for a nonnegative ``J`` the
    bound is the norm itself once the iteration has converged.

    Args:
        J: shape ``(batch, d, n)``.
        p: the exponent of the domain.
        q: the exponent of the co-domain, at most ``p``, and finite.
        steps: iterations; the bound holds at each, and the best is returned.

    Returns:
        Shape ``(batch,)``, up to rounding.

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
            break  # the maximiser of a nonnegative matrix is the vector of ones
        # The smallest entries are kept positive: a bound needs positive ones, and x^(1 - q) finite.
        step = (g / safe(xp.max(g, axis=1, keepdims=True))) ** (dual - 1)
        x = xp.maximum(step, xp.full_like(step, FLOOR ** min(1, dual - 1)))
    return best * scale
