"""Euclidean projections that have no closed form: onto a simplex, and onto lp balls.

The functions take magnitudes ``w >= 0``, shape ``(batch, n)``, and return arrays of that shape; the
caller restores the signs. :class:`onr.norms.LpNorm` is the public interface.
"""

from __future__ import annotations

from onr.arrays import array_namespace, safe
from onr.typing import Array

__all__ = ["project_lp_ball", "project_simplex"]


def project_simplex(w: Array, total: Array | float) -> Array:
    """The closest point of ``{t >= 0, sum t = total}``: ``max(w - tau, 0)``, row by row.

    This function also accepts negative entries in ``w``. Sorting and a cumulative sum give ``tau``
    (Duchi et al., "Efficient projections onto the l1-ball for learning in high dimensions", ICML
    2008). The entries are first moved so that the largest is 0. Entries that are then below
    ``-total`` have weight zero and become ``-total``. All are divided by ``total``, so that neither
    huge entries nor a tiny total overflow.

    Example:
        >>> project_simplex(np.array([[3.0, 2.0]]), 2.0)
        array([[1.5, 0.5]])

    """
    xp = array_namespace(w)
    total = xp.zeros_like(w[:, :1]) + total
    w = xp.maximum(w - xp.max(w, axis=1, keepdims=True), -total)
    # Exact numbers have no range to leave, and the quotient of two integers would be a float.
    scale = xp.ones_like(total) if w.dtype == object else safe(total)
    if w.dtype != object:
        w, total = w / scale, total / scale
    ordered = xp.flip(xp.sort(w, axis=1), axis=1)
    excess = xp.cumulative_sum(ordered, axis=1) - total
    rank = xp.cumulative_sum(xp.ones_like(w), axis=1)
    active = xp.count_nonzero(ordered * rank > excess, axis=1)
    last = xp.maximum(active - 1, xp.zeros_like(active))[:, None]
    tau = xp.take_along_axis(excess, last, axis=1) / xp.take_along_axis(rank, last, axis=1)
    return xp.maximum(w - tau, xp.zeros_like(w)) * scale


def _roots(w: Array, c: Array, p: float) -> Array:
    """Solve ``u + c u^(p-1) = w`` for ``u`` in [0, w], elementwise.

    For ``p < 2`` the unknown is ``s = u^(p-1)``. In both cases Newton's method then runs on a
    convex increasing function from a start above the root, so that it decreases to the root and
    needs no safeguard. The start is at most a constant times the root, because one of the two terms
    is at least ``w / 2``.
    """
    xp = array_namespace(w)
    a, b = (1.0, p - 1) if p >= 2 else (1 / (p - 1), 1.0)
    s = xp.minimum(w ** (1 / a), (w / safe(c)) ** (1 / b))
    for _ in range(12):
        power_a, power_b = s**a, c * s**b
        slope = (a * power_a + b * power_b) / safe(s)
        s = xp.maximum(s - (power_a + power_b - w) / safe(slope), xp.zeros_like(s))
    return s**a


def project_lp_ball(w: Array, p: float) -> Array:
    """The closest point of the unit ball of lp, ``1 < p < inf``, for rows outside it.

    The optimality conditions are ``u + c u^(p-1) = w`` with the one multiplier ``c > 0`` at which
    ``||u||_p = 1``. Both equations are monotone. Newton's method solves the outer equation inside a
    bracket that shrinks with every step; a step that would leave the bracket is a bisection.

    Example:
        >>> project_lp_ball(np.array([[2.0, 2.0]]), 3.0).round(4)
        array([[0.7937, 0.7937]])

    """
    xp = array_namespace(w)
    n = w.shape[1]
    dual = p / (p - 1)
    largest = safe(xp.max(w, axis=1, keepdims=True))
    dual_norm = largest * xp.sum((w / largest) ** dual, axis=1, keepdims=True) ** (1 / dual)
    high = dual_norm
    low = xp.maximum(dual_norm - n ** max(0.0, 1 / dual - 1 / p), xp.zeros_like(dual_norm))
    c = (low + high) / 2
    u, moving = w, largest > 0
    for _ in range(64):
        u = _roots(w, c, p)
        powers = u ** (p - 1)
        mass = xp.sum(u * powers, axis=1, keepdims=True)
        size = mass ** (1 / p)
        low = xp.where(size > 1, c, low)
        high = xp.where(size > 1, high, c)
        decrease = xp.sum(
            powers * u * powers / safe(u + c * (p - 1) * powers), axis=1, keepdims=True
        )
        newton = c + (size - 1) * mass / safe(size * decrease)
        inside = (newton > low) & (newton < high)
        step = xp.where(inside, newton, (low + high) / 2)
        # A converged row stops moving, so that no row depends on the others in its batch.
        moving = moving & (xp.abs(step - c) > 4 * xp.finfo(w.dtype).eps * high)
        if not bool(xp.any(moving)):
            break
        c = xp.where(moving, step, c)
    return u / safe(xp.sum(u**p, axis=1, keepdims=True) ** (1 / p))
