"""Lower bounds of operator norms: the iteration of Eqs. 11 and 12, from one or several starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onr.arrays import array_namespace, better, like
from onr.errors import OnrError
from onr.jacobians.iterations import Trace, walk
from onr.protocols import Linearization, Norm
from onr.typing import Array, Ties

__all__ = ["NormEstimate", "estimate_operator_norm", "operator_norm_iteration"]


@dataclass(frozen=True)
class NormEstimate:
    """The result of a norm iteration: a lower bound on the norm, attained by ``v``.

    Example:
        >>> from onr.jacobians.dense import Matrices
        >>> from onr.norms import LpNorm
        >>> J, start = Matrices(np.array([[[1.0, -2.0]]])), np.ones((1, 2))
        >>> found = operator_norm_iteration(J, start, p=LpNorm(math.inf), q=LpNorm(1))
        >>> found.v, found.value
        (array([[-1.,  1.]]), array([3.]))

    """

    value: Array
    """``||J v||_q``, shape ``(batch,)``."""
    v: Array
    """The direction, shaped as the input, ``||v||_p = 1`` (zero where ``J^T u`` became zero)."""
    u: Array
    """The dual direction of ``J v``, shape ``(batch, d)``: ``<u, J v> = ||J v||_q``."""
    iterations: int
    """The number of steps from each start."""
    stationary: Array
    """True where the last step changed the value by at most ``tolerance * value``; ``(batch,)``."""


def operator_norm_iteration(
    linearization: Linearization,
    v: Array,
    /,
    *,
    p: Norm,
    q: Norm,
    alpha: float = math.inf,
    steps: int = 10,
    ties: Ties = "average",
    tolerance: float = 1e-6,
    trace: Trace | None = None,
) -> NormEstimate:
    """Estimate ``||J||_{p,q}`` from below by :func:`~onr.jacobians.iterations.walk` from one start.

    Args:
        linearization: the network to first order at ``x``; only its ``J`` matters.
        v: the start, shaped as the input; need not be normalised, but must not be zero.
        p: the norm of the domain.
        q: the norm of the co-domain.
        alpha: the step size (Eq. 11); ``inf`` is the power-method limit (Eq. 12).
        steps: how many iterations; each costs one ``jvp`` and one ``vjp``. The value at the end
            costs one more ``jvp``.
        ties: which representative of the duality map to take for ``p`` (Lemma 1).
        tolerance: an example counts as stationary if the last step changed its value by at most
            this fraction.
        trace: called with each :class:`~onr.jacobians.iterations.Step`.

    Returns:
        The last iterate and its value.

    Raises:
        OnrError: ``steps`` is less than 1.

    Example:
        >>> from onr.jacobians.dense import Matrices
        >>> from onr.norms import LpNorm
        >>> J, two = Matrices(np.array([[[3.0, 0.0], [0.0, 1.0]]])), LpNorm(2)
        >>> found = operator_norm_iteration(J, np.ones((1, 2)), p=two, q=two, steps=20)
        >>> found.value.round(6), found.stationary
        (array([3.]), array([ True]))

    """
    step = walk(linearization, v, p=p, q=q, alpha=alpha, steps=steps, ties=ties, trace=trace)
    forward = linearization.jvp(step.v)
    value = q(forward)
    stationary = abs(value - step.value) <= tolerance * value
    return NormEstimate(value, step.v, q.gradient(forward), steps, stationary)


def estimate_operator_norm(
    linearization: Linearization,
    /,
    *,
    p: Norm,
    q: Norm,
    rng: np.random.Generator,
    like_input: Array,
    restarts: int = 1,
    steps: int = 10,
    ties: Ties = "average",
) -> NormEstimate:
    """The best of several norm iterations from Gaussian starts, chosen for each example.

    All examples share the starts, so that no example depends on its place in the batch.

    Args:
        linearization: the network to first order at ``x``; only its ``J`` matters.
        p: the norm of the domain.
        q: the norm of the co-domain.
        rng: draws the starts.
        like_input: an array with the shape, float type and device of the inputs.
        restarts: how many starts.
        steps: how many iterations from each start; each costs one ``jvp`` and one ``vjp``.
        ties: which representative of the duality map to take for ``p`` (Lemma 1).

    Returns:
        For each example the estimate of largest value, the last among equals.

    Raises:
        OnrError: ``restarts`` or ``steps`` is less than 1.

    Example:
        >>> from onr.jacobians.dense import Matrices
        >>> from onr.norms import LpNorm
        >>> J, x = Matrices(np.array([[[3.0, 0.0], [0.0, 1.0]]])), np.zeros((1, 2))
        >>> norms, rng = {"p": LpNorm(math.inf), "q": LpNorm(1)}, np.random.default_rng(0)
        >>> estimate_operator_norm(J, **norms, rng=rng, like_input=x, restarts=3).value
        array([4.])

    """
    if restarts < 1:
        raise OnrError(f"restarts = {restarts}: expected at least 1")
    best: tuple[Array, ...] | None = None
    xp = array_namespace(like_input)
    for _ in range(restarts):
        start = like(rng.standard_normal((1, *like_input.shape[1:])), like_input)
        start = start + xp.zeros_like(like_input)
        found = operator_norm_iteration(linearization, start, p=p, q=q, steps=steps, ties=ties)
        best = better(best, (found.value, found.v, found.u, found.stationary))
    assert best is not None  # noqa: S101 - for the type checker; restarts >= 1
    value, v, u, stationary = best
    return NormEstimate(value, v, u, steps, stationary)
