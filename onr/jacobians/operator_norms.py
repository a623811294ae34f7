"""``||J||_{p,q}`` (Eq. 8) for all p and q, and how far each answer can be trusted (Table 1)."""

from __future__ import annotations

import math

import numpy as np

from onr.arrays import array_namespace, device
from onr.errors import OnrError
from onr.exact.surds import NotExactError
from onr.jacobians.bracketed_norms import STARTS, bracketed_norm
from onr.jacobians.dense import Matrices, check_matrices, jacobian
from onr.jacobians.estimates import estimate_operator_norm
from onr.jacobians.exact_norms import attained, exact_norm, exponent
from onr.jacobians.known_norm import OperatorNorm
from onr.jacobians.streamed_norms import (
    Progress,
    largest_column,
    largest_row,
    largest_singular_vector,
)
from onr.norms import LpNorm, as_norm
from onr.numerals import require_whole
from onr.protocols import Array, Linearization, Norm

__all__ = ["OperatorNorm", "operator_norm"]

WHOLE = 64
"""The largest number of passes that are spent on forming ``J`` from its products."""
STEPS = 100
"""The largest number of steps from each start where ``J`` is not formed."""


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
            nor a number >= 1; ``restarts`` or ``steps`` is no whole number >= 1; the norm is
            beyond the largest float; or a lower bound is above its upper bound by more than
            rounding
            (:func:`~onr.jacobians.rounding.not_crossed`), which no input should do.
        NotExactError: ``J`` holds exact numbers and the pair (p, q) has no exact algorithm.

    Example:
        >>> found = operator_norm(np.array([[[3.0, 0.0], [4.0, 1.0]]]), p=math.inf, q=1)
        >>> found.kind, found.value, found.v
        ('exact', array([8.]), array([[1., 1.]]))

    """
    p, q = as_norm(p), as_norm(q)
    require_whole(restarts=restarts, steps=steps)
    rng = rng or np.random.default_rng(0)
    matrices: Array = J
    shape: tuple[int, ...] = ()
    if hasattr(J, "jvp"):
        if min(J.value.shape[1], math.prod(J.input_shape)) > WHOLE:
            return _in_range(_of_products(J, p, q, rng, restarts, steps, on_progress))
        matrices, shape = jacobian(J), J.input_shape
    Matrices(matrices)  # checks the shape
    check_matrices(matrices)
    shape = shape or matrices.shape[2:]
    exact = _exact_if_any(matrices, shape, p, q)
    return _in_range(exact or bracketed_norm(matrices, shape, p, q, rng, restarts, steps))


def _in_range(found: OperatorNorm) -> OperatorNorm:
    """The norms, unless one of finite entries is beyond the largest float."""
    xp = array_namespace(found.lower)
    if found.lower.dtype != object and not bool(xp.all(xp.isfinite(found.lower))):
        raise OnrError(
            f"the operator norm is too large for {found.lower.dtype}: scale the matrices down"
        )
    return found


def _exact_if_any(J: Array, shape: tuple[int, ...], p: Norm, q: Norm) -> OperatorNorm | None:
    """The exact norm; ``None`` if floats have no exact algorithm. Exact numbers must have one."""
    _, d, n = J.shape
    floats = J.dtype != object
    exact = None
    if floats or {exponent(p), exponent(q)} <= {1, 2, math.inf, None}:
        exact = exact_norm(J, shape, p=p, q=q)
    if exact is None and not floats:
        raise NotExactError(
            f"no exact algorithm for p = {p.name}, q = {q.name} and d, n = {d}, {n}: use float "
            "matrices"
        )
    return exact


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
    a, b = exponent(p), exponent(q)
    if a == 1 and isinstance(q, LpNorm):
        v = largest_column(J, q, on_progress=on_progress)
        return attained(J, q, v, "largest column")
    if b == math.inf:
        v = largest_row(J, p, on_progress=on_progress)
        return attained(J, q, v, "largest row")
    if p.euclidean and b == 2:
        v = largest_singular_vector(J, p, on_progress=on_progress)
        return attained(J, q, v, "largest eigenvalue of the Gram matrix")
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
        steps=steps or STEPS,
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
