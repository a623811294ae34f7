"""Lower and upper bounds of operator norms of matrices that have no exact algorithm."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from onr.arrays import array_namespace, column, device, like, max_abs, safe
from onr.jacobians.dense import Matrices
from onr.jacobians.exact_norms import exact_norm, exponent
from onr.jacobians.inf_1_bound import KRIVINE, grothendieck_bound
from onr.jacobians.inf_2_bound import cube_bound, nesterov_factor
from onr.jacobians.interpolated_bounds import interpolated, neighbours, schur_bound
from onr.jacobians.known_norm import OperatorNorm
from onr.jacobians.multistart import climb
from onr.jacobians.rounding import not_crossed
from onr.norms import LpNorm
from onr.protocols import Array, Norm

__all__ = ["STARTS", "bracketed_norm"]

STEPS = 1000
"""The largest number of steps from each start."""
STARTS, MOST_STARTS, SMALL = 10, 200, 2**16
"""Eq. 12 has ``SMALL / (d n)`` starts of each sort, but between these numbers."""
ROUNDINGS = 3
"""Roundings of the relaxation of (p, q) itself, for each start of another sort."""
HOELDER = "Hoelder's inequality"
RELAXATIONS: dict[tuple[float, float], str] = {
    (math.inf, 2): "Nesterov's relaxation",
    (2, 1): "Nesterov's relaxation",
    (math.inf, 1): "Grothendieck's relaxation",
}
"""Where an upper bound that is not interpolated comes from."""


def bracketed_norm(
    J: Array,
    shape: tuple[int, ...],
    p: Norm,
    q: Norm,
    rng: np.random.Generator,
    restarts: int | None,
    steps: int | None,
) -> OperatorNorm:
    """A lower bound by Eq. 12 from many starts and, for lp norms, an upper bound.

    Args:
        J: matrices of floats, shape ``(batch, d, n)``.
        shape: the shape of one input, of ``n`` entries.
        p: the norm of the domain.
        q: the norm of the co-domain.
        rng: draws the starts.
        restarts: how many starts of each sort; by the size of the matrices if not given.
        steps: the largest number of iterations from each start; 1,000 if not given.

    Example:
        >>> J, rng = np.array([[[3.0, 0.0], [4.0, 1.0]]]), np.random.default_rng(0)
        >>> found = bracketed_norm(J, (2,), LpNorm(3), LpNorm(2), rng, None, None)
        >>> found.kind, bool(found.lower[0] <= found.upper[0])
        ('bracket', True)

    """
    xp = array_namespace(J)
    _, d, n = J.shape
    a, b = exponent(p), exponent(q)
    # A power of two, which changes no digit, keeps every power of an entry in range.
    scale = 2 ** xp.floor(xp.log2(safe(max_abs(J))))
    J = J / column(scale, J)
    search = _of_factor if a == 2 and d < n else _from_starts
    found = search(J, shape, p, q, rng, restarts, steps)
    upper = found.upper
    if upper is not None and a is not None and b is not None:
        if b <= a:
            # Schur's test sees the magnitudes of the entries: of J, not of a factor.
            upper = xp.minimum(upper, schur_bound(J, a, b))
        upper = not_crossed(found.lower, upper, d * n) * scale
    return replace(found, lower=found.lower * scale, upper=upper)


def _from_starts(
    J: Array,
    shape: tuple[int, ...],
    p: Norm,
    q: Norm,
    rng: np.random.Generator,
    restarts: int | None,
    steps: int | None,
) -> OperatorNorm:
    """The bracket but for Schur's test; the entries of ``J`` are at most 2 in magnitude."""
    xp = array_namespace(J)
    batch, d, n = J.shape
    a, b = exponent(p), exponent(q)
    if restarts is None:
        restarts = min(MOST_STARTS, max(STARTS, SMALL // (d * n)))
    columns = q(xp.matrix_transpose(J).reshape((batch * n, d))).reshape((batch, n))
    rows = p.dual(J.reshape((batch * d, *shape))).reshape((batch, d))
    nothing = xp.zeros_like(J[:, :1, :1])
    outputs = xp.concat(
        [_largest(rows, restarts), nothing + like(_directions(rng, restarts, d), J)], axis=1
    )
    starts = [
        _largest(columns, restarts),
        p.duality_map((outputs @ J).reshape((-1, *shape))).reshape((batch, -1, n)),
        nothing + like(_directions(rng, restarts, n), J),
    ]
    upper, guarantee, above = None, None, ""
    if a is not None and b is not None:
        corners = _corners(J, a, b, rng, restarts)
        starts += [corner.starts for corner in corners.values()]
        upper = interpolated({pair: corner.upper for pair, corner in corners.items()}, a, b)
        guarantee = corners[a, b].guarantee if (a, b) in corners else None
        above = f", {RELAXATIONS.get((a, b), HOELDER)}"
    v = xp.concat(starts, axis=1)
    found = climb(J, v, p=p, q=q, shape=shape, steps=steps or STEPS)
    return OperatorNorm(
        found.value,
        upper,
        "lower" if upper is None else "bracket",
        f"Eq. 12 from {v.shape[1]} starts{above}",
        found.v,
        found.u,
        found.iterations,
        found.stationary,
        guarantee,
    )


def _of_factor(
    J: Array,
    shape: tuple[int, ...],
    p: Norm,
    q: Norm,
    rng: np.random.Generator,
    restarts: int | None,
    steps: int | None,
) -> OperatorNorm:
    """The same for ``||J||_{2,q} = ||L||_{2,q}``, where ``J = L Q`` and ``Q Q^T = I``."""
    xp = array_namespace(J)
    turned, L = xp.linalg.qr(xp.matrix_transpose(J))
    L = xp.matrix_transpose(L)
    found = _from_starts(L, L.shape[2:], p, q, rng, restarts, steps)
    v = (turned @ found.v[:, :, None]).reshape((-1, *shape))
    v = v / safe(column(p(v), v))
    image = Matrices(J).jvp(v)
    return replace(found, lower=q(image), v=v, u=q.gradient(image))


@dataclass(frozen=True)
class _Corner:
    """What an entry of Table 1 gives its neighbours: an upper bound, and starts for Eq. 12."""

    upper: Array
    starts: Array
    guarantee: Array | None = None


def _corners(
    J: Array, p: float, q: float, rng: np.random.Generator, restarts: int
) -> dict[tuple[float, float], _Corner]:
    """The entries of Table 1 about (p, q): their maximisers, or the roundings of relaxations."""
    xp = array_namespace(J)
    _, d, n = J.shape
    turned = xp.matrix_transpose(J)

    def corner(a: float, b: float) -> _Corner:
        def directions(root: Array) -> Array:
            count = restarts * (ROUNDINGS if (a, b) == (p, q) else 1)
            return like(rng.standard_normal((count, root.shape[1])), J) @ root

        exact = exact_norm(J, (n,), p=LpNorm(a), q=LpNorm(b))
        if exact is not None:
            return _Corner(exact.lower, exact.v[:, None, :])
        if (a, b) == (math.inf, 2):
            bound, root = cube_bound(J)
            starts = _vertices(directions(root) @ J)
            return _Corner(bound, starts, nesterov_factor(J, bound, root))
        if (a, b) == (2, 1):
            bound, root = cube_bound(turned)
            return _Corner(bound, directions(root), nesterov_factor(turned, bound, root))
        bound, value, root = grothendieck_bound(J)
        factor = xp.where(value > 0, KRIVINE * bound / safe(value), xp.ones_like(bound))
        starts = _vertices(directions(root))
        starts = starts if d > n else _vertices(starts @ J)
        return _Corner(bound, starts, factor)

    return {(a, b): corner(a, b) for a, _ in neighbours(p) for b, _ in neighbours(q)}


def _directions(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Random directions, ``(count, size)``: every other one Gaussian, the others sparse signs.

    Near p = 1 and q = inf the maximisers are few columns or the agreement of few rows. A sparse
    direction has a share of entries +-1 that is uniform in [0, 1], and at least one.
    """
    found = rng.standard_normal((count, size))
    share = rng.random((count, 1))
    kept = rng.random((count, size)) < share
    kept[np.arange(count), rng.integers(size, size=count)] = True
    sparse = np.where(kept, np.sign(found), 0)
    found[1::2] = sparse[1::2]
    return found


def _largest(sizes: Array, count: int) -> Array:
    """The axes of the ``count`` largest entries of each example, ``(batch, count, k)``."""
    xp = array_namespace(sizes)
    order = xp.argsort(sizes, axis=1, descending=True, stable=True)[:, :count]
    axes = xp.arange(sizes.shape[1], device=device(sizes))
    return xp.astype(order[:, :, None] == axes, sizes.dtype)


def _vertices(x: Array) -> Array:
    """The signs of the entries, +1 for zero."""
    xp = array_namespace(x)
    return xp.where(x < 0, -xp.ones_like(x), xp.ones_like(x))
