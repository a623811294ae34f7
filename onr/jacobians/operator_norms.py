"""``||J||_{p,q}`` (Eq. 8) for all p and q, and how far each answer can be trusted (Table 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onr.arrays import array_namespace, column, device, like, safe
from onr.errors import OnrError
from onr.exact.surds import NotExactError
from onr.jacobians.dense import Matrices, check_matrices, jacobian
from onr.jacobians.estimates import NormEstimate, estimate_operator_norm, operator_norm_iteration
from onr.jacobians.inf_2_bound import cube_bound
from onr.jacobians.interpolated_bounds import interpolated, neighbours, schur_bound
from onr.jacobians.lanczos import singular_triplets
from onr.jacobians.sign_enumeration import best_signs
from onr.norms import LpNorm, as_norm
from onr.protocols import Array, Linearization, Norm

__all__ = ["OperatorNorm", "operator_norm"]

ENUMERATED = 16
"""The largest number of signs that are enumerated (``2^15`` vectors)."""
WHOLE = 64
"""The largest number of passes that are spent on forming ``J`` from its products."""


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
    """Steps of Eq. 12, or of Golub-Kahan-Lanczos, from each start; 0 without an iteration."""
    converged: Array
    """True where the iteration from the best start had stopped gaining, shape ``(batch,)``."""

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
    restarts: int = 10,
    steps: int = 100,
) -> OperatorNorm:
    """``||J||_{p,q} = max ||J v||_q`` over ``||v||_p = 1`` (Eq. 8), for each example.

    ==================  =======  ==========================================================
    p = 1, any q        exact    the largest q-norm of a column
    any p, q = inf      exact    the largest p*-norm of a row
    (2, 2)              exact    the largest eigenvalue of the Gram matrix
    any p, q = 1        exact    enumeration of ``2^(d-1)`` signs, up to d = 16
    p = inf, any q      exact    enumeration of ``2^(n-1)`` signs, up to n = 16
    (inf, 2), (2, 1)    bracket  :mod:`onr.jacobians.inf_2_bound`, within a factor of 1.2546
                                 once it has converged
    other lp norms      bracket  Hoelder between the rows above; for q <= p also Schur's
                                 test, which closes the bracket for nonnegative matrices
                                 as it converges
    norms of plugins    lower    Eq. 12 alone, where no exact row applies
    ==================  =======  ==========================================================

    The lower bounds are Eq. 12 from the largest column, the largest row, the roundings of the
    relaxation, and Gaussian starts, until the best of the starts stops gaining. Ties are broken
    towards vertices, because averages have fixed points that are not maxima.

    Args:
        J: matrices, shape ``(batch, d, n)``, of floats or, for the exact rows except (2, 2), of
            exact numbers; or a linearisation. Where ``min(d, n)`` is at most 64, ``J`` is formed
            from the linearisation by that many products. Otherwise the result is a lower bound
            from products alone: Golub-Kahan-Lanczos for (2, 2), Eq. 12 for the rest.
        p: the norm of the domain; a number is an lp norm.
        q: the norm of the co-domain; a number is an lp norm.
        rng: draws the starts; a generator with seed 0 if not given, so that results repeat.
        restarts: how many Gaussian starts.
        steps: the largest number of iterations from each start.

    Raises:
        OnrError: the matrices have another shape or type (16-bit floats too: torch has no
            eigenvalues for them), or entries that are nan or infinite; p or q is neither a norm
            nor a number >= 1; or ``restarts`` or ``steps`` is less than 1.
        NotExactError: ``J`` holds exact numbers and the pair (p, q) has no exact algorithm.

    Example:
        >>> found = operator_norm(np.array([[[3.0, 0.0], [4.0, 1.0]]]), p=math.inf, q=1)
        >>> found.kind, found.value, found.v
        ('exact', array([8.]), array([[1., 1.]]))

    """
    p, q = as_norm(p), as_norm(q)
    if restarts < 1 or steps < 1:
        raise OnrError(f"restarts = {restarts}, steps = {steps}: expected at least 1 of each")
    rng = rng or np.random.default_rng(0)
    if not hasattr(J, "jvp"):
        return _of_matrices(J, (), p, q, rng, restarts, steps)
    n = math.prod(J.input_shape)
    if min(J.value.shape[1], n) > WHOLE:
        return _of_products(J, p, q, rng, restarts, steps)
    return _of_matrices(jacobian(J), J.input_shape, p, q, rng, restarts, steps)


def _exponent(norm: Norm) -> float | None:
    return norm.p if isinstance(norm, LpNorm) else None


def _of_matrices(
    J: Array,
    shape: tuple[int, ...],
    p: Norm,
    q: Norm,
    rng: np.random.Generator,
    restarts: int,
    steps: int,
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
    if (a, b) == (2, 2):
        return _largest_singular_value(J, shape, p, q)
    return _bracket(J, shape, p, q, rng, restarts, steps)


def _attained(J: Array, q: Norm, v: Array, how: str) -> OperatorNorm:
    """The exact result whose maximiser is ``v``."""
    xp = array_namespace(J)
    image = Matrices(J).jvp(v)
    value = q(image)
    converged = xp.ones_like(value == value)
    return OperatorNorm(value, value, "exact", how, v, q.gradient(image), 0, converged)


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
    return array_namespace(J).take(like(np.eye(size), J), index, axis=0)


def _largest_singular_value(J: Array, shape: tuple[int, ...], p: Norm, q: Norm) -> OperatorNorm:
    xp = array_namespace(J)
    scaled = J / safe(xp.max(xp.abs(J), axis=(1, 2), keepdims=True))
    transposed = xp.matrix_transpose(scaled)
    small = scaled @ transposed if J.shape[1] <= J.shape[2] else transposed @ scaled
    _, vectors = xp.linalg.eigh(small)
    top = vectors[:, :, -1]
    v = Matrices(scaled, shape).vjp(top) if J.shape[1] <= J.shape[2] else top.reshape((-1, *shape))
    v = v / safe(column(p(v), v))
    return _attained(J, q, v, "largest eigenvalue of the Gram matrix")


def _bracket(
    J: Array,
    shape: tuple[int, ...],
    p: Norm,
    q: Norm,
    rng: np.random.Generator,
    restarts: int,
    steps: int,
) -> OperatorNorm:
    """A lower bound by Eq. 12 from many starts and, for lp norms, an upper bound."""
    xp = array_namespace(J)
    batch, _, n = J.shape
    a, b = _exponent(p), _exponent(q)
    upper, outputs = None, None
    if a is not None and b is not None:
        upper, outputs = _upper(J, a, b, rng, restarts)
    starts = [
        _largest_column(J, shape, p, q).v.reshape((batch, 1, n)),
        _largest_row(J, shape, p, q).v.reshape((batch, 1, n)),
        xp.zeros_like(J[:, :1]) + like(rng.standard_normal((restarts, n)), J),
    ]
    if outputs is not None:
        starts.append(p.duality_map((outputs @ J).reshape((-1, *shape))).reshape((batch, -1, n)))
    v = xp.concat(starts, axis=1)
    copies = v.shape[1]
    matrices, v, done, found = Matrices(J, shape, copies), v.reshape((-1, *shape)), 0, None
    while True:
        chunk = min(10, steps - done)
        fresh = operator_norm_iteration(matrices, v, p=p, q=q, steps=chunk, ties="vertex")
        found = fresh if found is None else _merged(found, fresh, copies)
        v, done = found.v, done + chunk
        index = _best(found, copies)
        if done == steps or bool(xp.all(xp.take(found.converged, index, axis=0))):
            break

    def pick(x: Array) -> Array:
        return xp.take(x, index, axis=0)

    return OperatorNorm(
        pick(found.value),
        None if upper is None else xp.maximum(upper, pick(found.value)),
        "lower" if upper is None else "bracket",
        f"Eq. 12 from {copies} starts" + ("" if upper is None else ", Hoelder's inequality"),
        pick(found.v),
        pick(found.u),
        done,
        pick(found.converged),
    )


def _best(found: NormEstimate, copies: int) -> Array:
    """The row of each example's best start, of ``batch * copies`` rows; shape ``(batch,)``."""
    xp = array_namespace(found.value)
    best = xp.argmax(found.value.reshape((-1, copies)), axis=1)
    return best + copies * xp.arange(best.shape[0], device=device(best))


def _merged(old: NormEstimate, new: NormEstimate, copies: int) -> NormEstimate:
    """The old estimates of each example whose best start had converged, the new ones elsewhere.

    This keeps an example independent of how long the others take.
    """
    xp = array_namespace(old.value)
    settled = xp.repeat(xp.take(old.converged, _best(old, copies), axis=0), copies)

    def choose(before: Array, after: Array) -> Array:
        return xp.where(column(settled, after), before, after)

    return NormEstimate(
        choose(old.value, new.value),
        choose(old.v, new.v),
        choose(old.u, new.u),
        new.iterations,
        choose(old.converged, new.converged),
    )


def _upper(
    J: Array, p: float, q: float, rng: np.random.Generator, restarts: int
) -> tuple[Array, Array | None]:
    """An upper bound; and logit directions to start from if the bound used (inf, 2), else None."""
    xp = array_namespace(J)
    outputs = None

    def corner(a: float, b: float) -> Array:
        nonlocal outputs
        exact = min(J.shape[1:]) <= ENUMERATED and (a, b) == (math.inf, 1)
        exact = exact or (b == 1 and J.shape[1] <= ENUMERATED)
        exact = exact or (a == math.inf and J.shape[2] <= ENUMERATED)
        if exact or a == 1 or b == math.inf or (a, b) == (2, 2):
            return operator_norm(J, p=a, q=b).lower
        if (a, b) == (math.inf, 2):
            bound, root = cube_bound(J)
            normals = like(rng.standard_normal((restarts, root.shape[1])), J)
            outputs = normals @ root
            return bound
        if (a, b) == (2, 1):
            return cube_bound(xp.matrix_transpose(J))[0]
        # (inf, 1): the norm of the identity between l1 and l2 is sqrt(d), or sqrt(n)
        return xp.minimum(J.shape[1] ** 0.5 * corner(math.inf, 2), J.shape[2] ** 0.5 * corner(2, 1))

    corners = {(a, b): corner(a, b) for a, _ in neighbours(p) for b, _ in neighbours(q)}
    bound = interpolated(corners, p, q)
    if q <= p:
        bound = xp.minimum(bound, schur_bound(J, p, q))
    return bound, outputs


def _of_products(
    J: Linearization,
    p: Norm,
    q: Norm,
    rng: np.random.Generator,
    restarts: int,
    steps: int,
) -> OperatorNorm:
    """A lower bound from ``jvp`` and ``vjp`` alone."""
    value = J.value
    if (_exponent(p), _exponent(q)) == (2, 2):
        top = singular_triplets(J, 1, rng=rng, steps=steps)
        v = top.V[:, 0]
        image = J.jvp(v)
        how, u = "Golub-Kahan-Lanczos", q.gradient(image)
        return OperatorNorm(q(image), None, "lower", how, v, u, top.iterations, top.converged)
    xp = array_namespace(value)
    shape = (value.shape[0], *J.input_shape)
    template = xp.zeros(shape, dtype=value.dtype, device=device(value))
    found = estimate_operator_norm(
        J, p=p, q=q, rng=rng, like_input=template, restarts=restarts, steps=steps, ties="vertex"
    )
    return OperatorNorm(
        found.value,
        None,
        "lower",
        f"Eq. 12 from {restarts} starts",
        found.v,
        found.u,
        found.iterations,
        found.converged,
    )
