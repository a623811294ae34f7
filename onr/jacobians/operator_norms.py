"""``||J||_{p,q}`` (Eq. 8) for all p and q, and how far each answer can be trusted (Table 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from onr.arrays import array_namespace, column, device, like, max_abs, safe
from onr.errors import OnrError
from onr.exact.surds import NotExactError
from onr.jacobians.dense import Matrices, check_matrices, jacobian
from onr.jacobians.estimates import estimate_operator_norm
from onr.jacobians.inf_1_bound import KRIVINE, grothendieck_bound
from onr.jacobians.inf_2_bound import cube_bound, nesterov_factor
from onr.jacobians.interpolated_bounds import interpolated, neighbours, schur_bound
from onr.jacobians.multistart import climb
from onr.jacobians.rounding import not_crossed
from onr.jacobians.sign_enumeration import best_signs
from onr.jacobians.streamed_norms import (
    Progress,
    largest_column,
    largest_row,
    largest_singular_vector,
    riesz,
)
from onr.norms import LpNorm, as_norm
from onr.protocols import Array, Linearization, Norm

__all__ = ["OperatorNorm", "operator_norm"]

ENUMERATED = 16
"""The largest number of signs that are enumerated (``2^15`` vectors)."""
WHOLE = 64
"""The largest number of passes that are spent on forming ``J`` from its products."""
STEPS, STEPS_OF_PRODUCTS = 1000, 100
"""The largest number of steps from each start, of formed Jacobians and of products alone."""
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


@dataclass(frozen=True)
class OperatorNorm:
    """What is known of ``||J||_{p,q}``, for each example.

    Example:
        >>> found = operator_norm(np.array([[[3.0, 0.0], [4.0, 1.0]]]), p=3, q=1.5)
        >>> found.kind, bool(found.lower[0] <= found.upper[0])
        ('bracket', True)

    """

    lower: Array
    """``||J v||_q``, shape ``(batch,)``: a lower bound, as ``v`` attains it; the norm if exact."""
    upper: Array | None
    """An upper bound, shape ``(batch,)``; equal to ``lower`` if exact, ``None`` if unknown."""
    kind: str
    """``exact``, ``bracket`` (both bounds are known) or ``lower``; all hold up to rounding."""
    how: str
    """The algorithm, in words."""
    v: Array
    """The maximiser, or the best direction found, ``(batch, *input_shape)``: ``||v||_p = 1``; it
    may be zero where ``J`` is zero.
    """
    u: Array
    """The dual direction of ``J v``, shape ``(batch, d)``: ``||u||_{q*} = 1`` and
    ``<u, J v> = ||J v||_q``; zero where ``J v`` is zero.
    """
    iterations: int
    """Steps of Eq. 12 from each start that was followed to the end; 0 without an iteration."""
    stationary: Array
    """True where the iteration from the best start had come to rest, shape ``(batch,)``.

    It says that more steps would not raise ``lower``. It does not say that ``lower`` is the
    maximum: another start may lead higher. Only ``kind == "exact"`` says that.
    """
    guarantee: Array | None
    """A factor with ``upper <= guarantee * ||J||_{p,q}``, shape ``(batch,)``; 1 if exact.

    For (inf, 2) and (2, 1) it follows from the solution of the relaxation
    (:func:`~onr.jacobians.inf_2_bound.nesterov_factor`), and is at most 1.2546 once that has
    converged; for (inf, 1) it is at most 1.784. ``None`` for other pairs: no factor is known.
    """

    def __repr__(self) -> str:
        """The kind and the bounds; the directions are large."""
        return f"OperatorNorm(kind={self.kind!r}, lower={self.lower}, upper={self.upper})"

    @property
    def value(self) -> Array:
        """``lower``, which is the norm itself if ``kind`` is ``exact``."""
        return self.lower


def operator_norm(
    J: Array | Linearization,
    /,
    *,
    p: Norm | float,
    q: Norm | float,
    rng: np.random.Generator | None = None,
    restarts: int | None = None,
    steps: int | None = None,
    on_progress: Progress = lambda done, total: None,
) -> OperatorNorm:
    """``||J||_{p,q} = max ||J v||_q`` over ``||v||_p = 1`` (Eq. 8), for each example.

    ==================  =======  ==========================================================
    p = 1, any q        exact    the largest q-norm of a column
    any p, q = inf      exact    the largest p*-norm of a row
    (2, 2)              exact    the largest eigenvalue of the Gram matrix; so for every norm p
                                 of an inner product (``p.euclidean``) and q = 2
    any p, q = 1        exact    enumeration of ``2^(d-1)`` signs, up to d = 16
    p = inf, any q      exact    enumeration of ``2^(n-1)`` signs, up to n = 16
    (inf, 2), (2, 1)    bracket  :mod:`onr.jacobians.inf_2_bound`, within a factor of 1.2546
                                 once it has converged, and of ``guarantee`` always
    (inf, 1)            bracket  :mod:`onr.jacobians.inf_1_bound`, within a factor of 1.784
                                 once it has converged, and of ``guarantee`` always
    other lp norms      bracket  Hoelder between the rows above; for q <= p also Schur's
                                 test, which closes the bracket for nonnegative matrices
                                 as it converges
    norms of plugins    lower    Eq. 12 alone, where no exact row applies
    ==================  =======  ==========================================================

    The lower bounds are the best of Eq. 12 (:func:`~onr.jacobians.multistart.climb`) from many
    starts: the largest columns and rows, random inputs and outputs (Gaussian and sparse signs),
    the maximisers of the exact entries of Table 1 about (p, q), and the roundings of the
    relaxations there. For p = 2 and
    d < n both bounds are those of the d x d factor ``L`` of ``J = L Q``, which has the same norm.

    Args:
        J: matrices, shape ``(batch, d, n)``, of floats or, for the exact rows except (2, 2), of
            exact numbers; or a linearisation. Where ``min(d, n)`` is at most 64, ``J`` is formed
            from the linearisation by that many products. Otherwise ``J`` is never stored: the
            first three rows of the table (for p = 1 with an lp norm q) take ``d`` vjps, and for
            (2, 2) ``d`` jvps besides (:mod:`onr.jacobians.streamed_norms`). The rest is then a
            lower bound, Eq. 12 from Gaussian starts.
        p: the norm of the domain; a number is an lp norm.
        q: the norm of the co-domain; a number is an lp norm.
        rng: draws the starts; a generator with seed 0 if not given, so that results repeat.
        restarts: how many starts of each sort. If not given, 10, and up to 200 for small matrices,
            ``2^16 / (d n)``.
        steps: the largest number of iterations from each start. If not given, 1,000, and 100 where
            ``J`` is not formed.
        on_progress: called after every row of a ``J`` that is not stored, with the number of
            products so far and in all; each costs one pass of the whole batch through the network.

    Raises:
        OnrError: the matrices have another shape or type (16-bit floats too: torch has no
            eigenvalues for them), or they or a linearisation's products have entries that are nan
            or infinite; p or q is neither a norm
            nor a number >= 1; ``restarts`` or ``steps`` is less than 1; or a lower bound is above
            its upper bound by more than rounding
            (:func:`~onr.jacobians.rounding.not_crossed`), which no input should do.
        NotExactError: ``J`` holds exact numbers and the pair (p, q) has no exact algorithm.

    Example:
        >>> found = operator_norm(np.array([[[3.0, 0.0], [4.0, 1.0]]]), p=math.inf, q=1)
        >>> found.kind, found.value, found.v
        ('exact', array([8.]), array([[1., 1.]]))

    """
    p, q = as_norm(p), as_norm(q)
    for name, count in (("restarts", restarts), ("steps", steps)):
        if count is not None and count < 1:
            raise OnrError(f"{name} = {count}: expected at least 1")
    rng = rng or np.random.default_rng(0)
    if not hasattr(J, "jvp"):
        return _of_matrices(J, (), p, q, rng, restarts, steps)
    n = math.prod(J.input_shape)
    if min(J.value.shape[1], n) > WHOLE:
        return _of_products(J, p, q, rng, restarts, steps, on_progress)
    return _of_matrices(jacobian(J), J.input_shape, p, q, rng, restarts, steps)


def _exponent(norm: Norm) -> float | None:
    return norm.p if isinstance(norm, LpNorm) else None


def _is_exact(p: float, q: float, d: int, n: int) -> bool:
    """Whether :func:`_of_matrices` has an exact row for matrices ``d x n`` of floats."""
    table = p == 1 or q == math.inf or (p, q) == (2, 2) or 1 in (d, n)
    return table or (q == 1 and d <= ENUMERATED) or (p == math.inf and n <= ENUMERATED)


def _of_matrices(
    J: Array,
    shape: tuple[int, ...],
    p: Norm,
    q: Norm,
    rng: np.random.Generator,
    restarts: int | None,
    steps: int | None,
) -> OperatorNorm:
    """The first row that applies in the table of :func:`operator_norm`."""
    Matrices(J)  # checks the shape
    check_matrices(J)
    _, d, n = J.shape
    shape = shape or (n,)
    a, b = _exponent(p), _exponent(q)
    not_exact = NotExactError(
        f"no exact algorithm for p = {p.name}, q = {q.name} and d, n = {d}, {n}: use float matrices"
    )
    if J.dtype == object and not {a, b} <= {1, 2, math.inf, None}:
        raise not_exact
    if a == 1 or n == 1:
        return _largest_column(J, shape, p, q)
    if b == math.inf or d == 1:
        return _largest_row(J, shape, p, q)
    if b == 1 and d <= ENUMERATED and (a != math.inf or d <= n):
        s = best_signs(J, p.dual, shape)
        how = f"enumeration of {2 ** (d - 1)} sign vectors of the logits"
        return _attained(J, q, p.duality_map(Matrices(J, shape).vjp(s)), how)
    if a == math.inf and n <= ENUMERATED:
        s = best_signs(array_namespace(J).matrix_transpose(J), q, (d,))
        how = f"enumeration of {2 ** (n - 1)} sign vectors of the inputs"
        return _attained(J, q, s.reshape((-1, *shape)), how)
    if J.dtype == object:
        raise not_exact
    if p.euclidean and b == 2:
        return _largest_singular_value(J, shape, p, q)
    return _bracket(J, shape, p, q, rng, restarts, steps)


def _attained(J: Array | Linearization, q: Norm, v: Array, how: str) -> OperatorNorm:
    """The exact result whose maximiser is ``v``."""
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
    return _attained(J, q, v / column(p(v), v), "largest column")


def _largest_row(J: Array, shape: tuple[int, ...], p: Norm, q: Norm) -> OperatorNorm:
    xp = array_namespace(J)
    batch, d, _ = J.shape
    sizes = p.dual(J.reshape((batch * d, *shape))).reshape((batch, d))
    row = Matrices(J, shape).vjp(_one_hot(xp.argmax(sizes, axis=1), d, J))
    return _attained(J, q, p.duality_map(row), "largest row")


def _one_hot(index: Array, size: int, J: Array) -> Array:
    """The rows ``index`` of the identity matrix, shape ``(batch, size)``."""
    hot = array_namespace(index).arange(size, device=device(index))[None, :] == index[:, None]
    if J.dtype == object:
        return like(hot.astype(float), J)
    return array_namespace(J).astype(hot, J.dtype)


def _largest(sizes: Array, count: int) -> Array:
    """The axes of the ``count`` largest entries of each example, ``(batch, count, k)``."""
    xp = array_namespace(sizes)
    order = xp.argsort(sizes, axis=1, descending=True, stable=True)[:, :count]
    axes = xp.arange(sizes.shape[1], device=device(sizes))
    return xp.astype(order[:, :, None] == axes, sizes.dtype)


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
    return _attained(J, q, v, "largest eigenvalue of the Gram matrix")


def _bracket(
    J: Array,
    shape: tuple[int, ...],
    p: Norm,
    q: Norm,
    rng: np.random.Generator,
    restarts: int | None,
    steps: int | None,
) -> OperatorNorm:
    """A lower bound by Eq. 12 from many starts and, for lp norms, an upper bound."""
    xp = array_namespace(J)
    _, d, n = J.shape
    a, b = _exponent(p), _exponent(q)
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
    a, b = _exponent(p), _exponent(q)
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

        if _is_exact(a, b, d, n):
            found = operator_norm(J, p=a, q=b)
            return _Corner(found.lower, found.v[:, None, :])
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


def _vertices(x: Array) -> Array:
    """The signs of the entries, +1 for zero."""
    xp = array_namespace(x)
    return xp.where(x < 0, -xp.ones_like(x), xp.ones_like(x))


def _of_products(
    J: Linearization,
    p: Norm,
    q: Norm,
    rng: np.random.Generator,
    restarts: int | None,
    steps: int | None,
    on_progress: Progress,
) -> OperatorNorm:
    """The exact norm from a stream of products, or a lower bound."""
    a, b = _exponent(p), _exponent(q)
    if a == 1 and isinstance(q, LpNorm):
        v = largest_column(J, q, on_progress=on_progress)
        return _attained(J, q, v, "largest column")
    if b == math.inf:
        v = largest_row(J, p, on_progress=on_progress)
        return _attained(J, q, v, "largest row")
    if p.euclidean and b == 2:
        v = largest_singular_vector(J, p, on_progress=on_progress)
        return _attained(J, q, v, "largest eigenvalue of the Gram matrix")
    value = J.value
    xp = array_namespace(value)
    shape = (value.shape[0], *J.input_shape)
    template = xp.zeros(shape, dtype=value.dtype, device=device(value))
    found = estimate_operator_norm(
        J,
        p=p,
        q=q,
        rng=rng,
        like_input=template,
        restarts=restarts or STARTS,
        steps=steps or STEPS_OF_PRODUCTS,
        ties="vertex",
    )
    check_matrices(found.value[:, None, None])  # nan or infinite if an entry of J is
    return OperatorNorm(
        found.value,
        None,
        "lower",
        f"Eq. 12 from {restarts or STARTS} starts",
        found.v,
        found.u,
        found.iterations,
        found.stationary,
        None,
    )
