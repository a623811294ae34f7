"""Operator norms from below, by the iteration of Eqs. 11 and 12 from one start or from several."""

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
    """What a norm iteration found. The value is attained by ``v``: a lower bound on the norm."""

    value: Array
    """``||J v||_q``, shape ``(batch,)``."""
    v: Array
    """The direction, ``||v||_p = 1`` (zero where ``J^T u`` became zero)."""
    u: Array
    """``J v``'s dual direction, ``<u, J v> = ||J v||_q``."""
    iterations: int
    converged: Array
    """Whether the last step gained less than the tolerance, shape ``(batch,)``."""


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
    """Estimate ``||J||_{p,q}`` from below: :func:`walk`, and the value where it ends.

    Args:
        linearization: as for :func:`walk`.
        v: as there.
        p: as there.
        q: as there.
        alpha: as there.
        steps: as there; the value at the end costs one ``jvp`` more.
        ties: as there.
        tolerance: relative gain of the last step below which an example counts as converged.
        trace: as there.

    Returns:
        The last iterate.

    """
    step = walk(linearization, v, p=p, q=q, alpha=alpha, steps=steps, ties=ties, trace=trace)
    forward = linearization.jvp(step.v)
    value = q(forward)
    converged = abs(value - step.value) <= tolerance * value
    return NormEstimate(value, step.v, q.gradient(forward), steps, converged)


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
    """Best of several norm iterations from Gaussian starts, chosen for each example.

    The starts are the same for all examples, so that none depends on its place in the batch.

    Args:
        linearization: ``J``.
        p: the norm of the domain.
        q: the norm of the co-domain.
        rng: where the starts come from.
        like_input: an array shaped, typed and placed as the input.
        restarts: how many starts.
        steps: as for :func:`operator_norm_iteration`.
        ties: as there.

    Raises:
        OnrError: no restart.

    """
    if restarts < 1:
        raise OnrError(f"restarts = {restarts}: expected at least 1")
    best: tuple[Array, ...] | None = None
    xp = array_namespace(like_input)
    for _ in range(restarts):
        start = like(rng.standard_normal((1, *like_input.shape[1:])), like_input)
        start = start + xp.zeros_like(like_input)
        found = operator_norm_iteration(linearization, start, p=p, q=q, steps=steps, ties=ties)
        best = better(best, (found.value, found.v, found.u, found.converged))
    assert best is not None  # noqa: S101 - for the type checker; restarts >= 1
    value, v, u, converged = best
    return NormEstimate(value, v, u, steps, converged)
