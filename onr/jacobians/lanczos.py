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
"""Steps between two tests of convergence: each takes the SVD of the small matrix."""

NEGLIGIBLE = 10
"""A coefficient of at most so many machine epsilons of the largest so far counts as zero."""


@dataclass(frozen=True)
class SingularTriplets:
    """The ``k`` leading triplets, ``J v_i = s_i u_i`` and ``J^T u_i = s_i v_i``.

    The values are lower bounds, up to rounding: they are singular values of ``P^T J Q`` for two
    orthonormal bases ``P`` and ``Q``, and the ``i``-th largest of those is at most the ``i``-th
    largest of ``J``. After ``min(d, n)`` iterations the bases lose nothing and the values are
    exact, repeated ones included. Signs are arbitrary, as is the basis for a repeated value.
    """

    U: Array
    """Left singular vectors, orthonormal, shape ``(batch, k, d)``."""
    S: Array
    """Singular values, largest first, shape ``(batch, k)``."""
    V: Array
    """Right singular vectors, orthonormal, shape ``(batch, k, *input_shape)``."""
    residual: Array
    """``sqrt(||J v_i - s_i u_i||_2^2 + ||J^T u_i - s_i v_i||_2^2)``, shape ``(batch, k)``.

    Some singular value of ``J`` is within it of ``s_i``. It follows from the coefficients and
    leaves out the rounding of the products; after ``min(d, n)`` iterations it is zero.
    """
    iterations: int
    """How many steps were taken, for the example that needed most."""
    converged: Array
    """Whether every residual is at most ``tolerance * S[:, 0]``, shape ``(batch,)``."""


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

    From a Gaussian ``u_1`` of length 1, with ``alpha`` and ``beta`` such that the others have
    length 1 too::

        alpha_j v_j = J^T u_j - beta_j v_(j-1)
        beta_(j+1) u_(j+1) = J v_j - alpha_j u_j

    Then ``J V_m = U_m B_m + beta_(m+1) u_(m+1) e_m^T`` and ``J^T U_m = V_m B_m^T`` with ``B_m``
    lower bidiagonal. The singular values of ``B_m`` are the estimates, and one with the right
    vector ``q`` has the residual ``beta_(m+1) |q_m|``. For ``d > n`` the same runs on ``J^T``: it
    is from the smaller space that nothing is left over after ``min(d, n)`` steps.

    Where nothing is left over earlier (low rank, repeated singular values), the coefficient is set
    to exactly zero and a random vector goes on. A repeated value may come once only if the
    iteration stops before the last step, and ``converged`` cannot tell; ``tolerance = 0`` takes
    every step. ``J = 0`` gives zeros and orthonormal vectors.

    The random vectors are common to all examples, and an example keeps the triplets that it
    converged with: no result depends on the rest of the batch.

    This is for outputs of many coordinates. For a few logits the ``d`` vjps of
    :func:`onr.jacobians.dense.jacobian` and one SVD cost less than as many steps, and are exact.

    Args:
        linearization: ``J``.
        k: how many triplets.
        rng: where the random vectors come from; by default a generator with seed 0.
        steps: the largest number of steps, each one ``vjp`` and one ``jvp``; never more than
            ``min(d, n)``, the default.
        tolerance: the residual, relative to the largest value, that counts as converged.

    Raises:
        OnrError: ``k`` is not in ``1, ..., min(d, n)``, or ``steps`` is less than ``k``.

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
    """The orthonormal rows and one more, from ``w``, and the length of what was new in ``w``.

    Where that is negligible the length is zero, and ``spare`` gives the row.
    """
    xp = array_namespace(basis)
    norm = LpNorm(2)
    w = _orthogonal(w, basis)
    length = norm(w)
    lost = length <= NEGLIGIBLE * xp.finfo(w.dtype).eps * scale
    w = xp.where(lost[:, None], spare, w)
    # Again at length 1: what cancellation has left of w may be rounding, in any direction.
    w = _orthogonal(w / norm(w)[:, None], basis)
    w = w / norm(w)[:, None]
    return xp.concat([basis, w[:, None]], axis=1), xp.where(lost, xp.zeros_like(length), length)


def _orthogonal(w: Array, basis: Array) -> Array:
    """``w`` without its part in the rows of ``basis``, by Gram-Schmidt, twice."""
    for _ in range(2):
        w = w - ((basis @ w[:, :, None]).mT @ basis)[:, 0]
    return w


def _triplets(
    near: Array, far: Array, alphas: list[Array], betas: list[Array], k: int, tolerance: float
) -> SingularTriplets:
    """The triplets of the small matrix, ``U`` on the side of the start."""
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
