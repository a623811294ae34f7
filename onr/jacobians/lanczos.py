"""The leading singular triplets of ``J`` from its products alone.

Golub-Kahan-Lanczos bidiagonalisation (Golub and Kahan, 1965; Golub and Van Loan, *Matrix
Computations*, section 10.4) with full reorthogonalisation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from onr.arrays import array_namespace, column, flatten, like
from onr.errors import OnrError
from onr.norms import LpNorm
from onr.protocols import Array, Linearization

__all__ = ["SingularTriplets", "singular_triplets"]

CHECK_EVERY = 5
"""Steps between two convergence tests; each test takes the SVD of a small matrix."""

NEGLIGIBLE = 10
"""A coefficient counts as zero up to this many machine epsilons of the largest one so far."""


@dataclass(frozen=True)
class SingularTriplets:
    """The ``k`` leading singular triplets, ``J v_i = s_i u_i`` and ``J^T u_i = s_i v_i``.

    The values are lower bounds, up to rounding: they are singular values of ``P^T J Q`` for two
    orthonormal bases ``P`` and ``Q``, and the ``i``-th largest of those is at most the ``i``-th
    largest of ``J``. After ``min(d, n)`` iterations ``P^T J Q`` has every singular value of ``J``:
    the values are exact, repeated ones included. The signs of the vectors are arbitrary, and so is
    the basis of the singular space of a repeated value.

    Example:
        >>> from onr.jacobians.dense import Matrices
        >>> J = Matrices(np.diag([3.0, 2.0, 1.0])[None])
        >>> found = singular_triplets(J, 1)
        >>> np.allclose(J.jvp(found.V[:, 0]), found.S * found.U[:, 0])
        True

    """

    U: Array
    """Left singular vectors, orthonormal, shape ``(batch, k, d)``."""
    S: Array
    """Singular values, largest first, shape ``(batch, k)``."""
    V: Array
    """Right singular vectors, orthonormal, shape ``(batch, k, *input_shape)``."""
    residual: Array
    """``sqrt(||J v_i - s_i u_i||_2^2 + ||J^T u_i - s_i v_i||_2^2)``, shape ``(batch, k)``.

    Some singular value of ``J`` lies within the residual of ``s_i``. The residual is computed from
    the coefficients of the iteration, so it leaves out the rounding of the products. It is zero
    after ``min(d, n)`` iterations.
    """
    iterations: int
    """The number of steps for the example that needed most."""
    converged: Array
    """True where every residual is at most ``tolerance * S[:, 0]``, shape ``(batch,)``."""


def singular_triplets(
    linearization: Linearization,
    k: int,
    /,
    *,
    rng: np.random.Generator | None = None,
    steps: int | None = None,
    tolerance: float = 1e-6,
) -> SingularTriplets:
    """The ``k`` largest singular values of ``J`` and their vectors, for each example.

    The iteration starts at a Gaussian ``u_1`` of length 1. The coefficients ``alpha`` and ``beta``
    give all other vectors length 1::

        alpha_j v_j = J^T u_j - beta_j v_(j-1)
        beta_(j+1) u_(j+1) = J v_j - alpha_j u_j

    Then ``J V_m = U_m B_m + beta_(m+1) u_(m+1) e_m^T`` and ``J^T U_m = V_m B_m^T`` with ``B_m``
    lower bidiagonal. The singular values of ``B_m`` are the estimates. An estimate whose right
    singular vector (of ``B_m``) is ``q`` has the residual ``beta_(m+1) |q_m|``. For ``d > n`` the
    iteration runs on ``J^T``: only a start in the smaller space leaves no remainder after
    ``min(d, n)`` steps.

    Where a remainder vanishes earlier (low rank, repeated singular values), its coefficient is set
    to exactly zero and a random vector continues the basis. If the iteration stops before the last
    step, a repeated value may be found only once, and ``converged`` cannot tell; ``tolerance = 0``
    takes every step. ``J = 0`` gives zeros and orthonormal vectors.

    All examples share the random vectors, and each keeps the triplets with which it converged, so
    no result depends on the rest of the batch.

    The function is meant for outputs of many coordinates. For a few logits, the ``d`` vjps of
    :func:`onr.jacobians.dense.jacobian` and one SVD cost less than as many steps, and are exact.

    Args:
        linearization: the network to first order at ``x``; only its ``J`` matters.
        k: how many triplets.
        rng: draws the random vectors; a generator with seed 0 if not given.
        steps: the largest number of steps, at most (and by default) ``min(d, n)``; each costs one
            ``vjp`` and one ``jvp``.
        tolerance: the largest residual, relative to the largest singular value, that counts as
            converged.

    Raises:
        OnrError: ``k`` is not in ``1, ..., min(d, n)``, or ``steps`` is less than ``k``.

    Example:
        >>> from onr.jacobians.dense import Matrices
        >>> found = singular_triplets(Matrices(np.diag([3.0, 2.0, 1.0])[None]), 2)
        >>> found.S.round(6), found.V.shape
        (array([[3., 2.]]), (1, 2, 3))

    """
    rng = rng or np.random.default_rng(0)
    value, input_shape = linearization.value, linearization.input_shape
    xp = array_namespace(value)
    batch, d = value.shape
    n = math.prod(input_shape)
    small, large = min(d, n), max(d, n)
    if not 1 <= k <= small:
        raise OnrError(f"k = {k}: expected 1, ..., min(d, n) = {small} for a {d} x {n} Jacobian")
    if steps is not None and steps < k:
        raise OnrError(f"steps = {steps}: expected at least k = {k}")
    last = small if steps is None else min(steps, small)

    def forward(v: Array) -> Array:
        return linearization.jvp(v.reshape((batch, *input_shape)))

    def backward(u: Array) -> Array:
        return flatten(linearization.vjp(u))

    def gaussian(size: int) -> Array:
        return xp.repeat(like(rng.standard_normal((1, size)), value), batch, axis=0)

    away, back = (backward, forward) if d <= n else (forward, backward)
    scale = xp.zeros_like(value[:, 0])
    near = like(np.zeros((batch, 0, small)), value)
    far = like(np.zeros((batch, 0, large)), value)
    near, _ = _extend(near, gaussian(small), scale, gaussian(small))
    alphas: list[Array] = []
    betas: list[Array] = []
    found: SingularTriplets | None = None
    for m in range(1, last + 1):
        far, alpha = _extend(far, away(near[:, -1]), scale, gaussian(large))
        scale = xp.maximum(scale, alpha)
        if m < small:
            near, beta = _extend(near, back(far[:, -1]), scale, gaussian(small))
            scale = xp.maximum(scale, beta)
        else:
            beta = xp.zeros_like(scale)
        alphas.append(alpha)
        betas.append(beta)
        if m == last or (m >= k and m % CHECK_EVERY == 0 and tolerance > 0):
            fresh = _triplets(near[:, :m], far, alphas, betas, k, tolerance)
            found = fresh if found is None else _merged(found, fresh)
            if bool(xp.all(found.converged)):
                break
    assert found is not None  # noqa: S101 - for the type checker; last >= 1
    U, V = (found.U, found.V) if d <= n else (found.V, found.U)
    return replace(found, U=U, V=V.reshape((batch, k, *input_shape)))


def _extend(basis: Array, w: Array, scale: Array, spare: Array) -> tuple[Array, Array]:
    """Append the normalised remainder of ``w`` to the orthonormal rows; return its length too.

    The remainder is the part of ``w`` orthogonal to the rows. Where it is negligible, the length
    is zero and the new row comes from ``spare``.
    """
    xp = array_namespace(basis)
    norm = LpNorm(2)
    w = _orthogonal(w, basis)
    length = norm(w)
    lost = length <= NEGLIGIBLE * xp.finfo(w.dtype).eps * scale
    w = xp.where(lost[:, None], spare, w)
    # Once more at length 1: after cancellation w may be mostly rounding, in any direction.
    w = _orthogonal(w / norm(w)[:, None], basis)
    w = w / norm(w)[:, None]
    return xp.concat([basis, w[:, None]], axis=1), xp.where(lost, xp.zeros_like(length), length)


def _orthogonal(w: Array, basis: Array) -> Array:
    """``w`` minus its components along the rows of ``basis``, by two Gram-Schmidt passes."""
    for _ in range(2):
        w = w - ((basis @ w[:, :, None]).mT @ basis)[:, 0]
    return w


def _triplets(
    near: Array, far: Array, alphas: list[Array], betas: list[Array], k: int, tolerance: float
) -> SingularTriplets:
    """The leading triplets from the SVD of ``B_m``; ``U`` lies in the space of the start."""
    xp = array_namespace(near)
    m = len(alphas)
    alpha, beta = xp.stack(alphas, axis=1), xp.stack(betas, axis=1)
    B = alpha[:, None] * like(np.eye(m), near) + beta[:, None] * like(np.eye(m, k=-1), near)
    P, S, Qt = xp.linalg.svd(B, full_matrices=False)
    P, S, Qt = P[:, :, :k], S[:, :k], Qt[:, :k]
    residual = beta[:, -1:] * xp.abs(Qt[:, :, -1])
    converged = xp.all(residual <= tolerance * S[:, :1], axis=1)
    return SingularTriplets(P.mT @ near, S, Qt @ far, residual, m, converged)


def _merged(old: SingularTriplets, new: SingularTriplets) -> SingularTriplets:
    """The old triplets where they had converged, the new ones elsewhere."""
    xp = array_namespace(old.S)

    def choose(before: Array, after: Array) -> Array:
        return xp.where(column(old.converged, after), before, after)

    return SingularTriplets(
        choose(old.U, new.U),
        choose(old.S, new.S),
        choose(old.V, new.V),
        choose(old.residual, new.residual),
        new.iterations,
        old.converged | new.converged,
    )
