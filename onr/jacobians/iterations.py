"""The two loops of the paper, once, for every backend.

An attack and an operator-norm iteration are the same loop over the same two verbs. The norm
iteration linearises once and walks; the attack linearises anew wherever it stands. Theorem 1 says
when the two coincide, and can be read off the two functions below: line by line,

=====================================  ====================================================
``walk``                                ``projected_gradient_ascent``
=====================================  ====================================================
``J v``                                 ``f(x + delta) - f(x)``, through the loss
``u = gradient of ||.||_q there``       ``u = gradient of the loss there``
``g = J^T u``                           ``g = J(x + delta)^T u``
``v = duality map of g``                ``v = duality map of g``, ``delta = Pi(delta + alpha v)``
=====================================  ====================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from onr.arrays import better, column, safe
from onr.errors import OnrError
from onr.feasible import boxed
from onr.protocols import Array, Linearization, Loss, Network, Norm, Ties

__all__ = [
    "Ascent",
    "Step",
    "projected_gradient_ascent",
    "walk",
]


@dataclass(frozen=True)
class Step:
    """One iteration, for those who ask: ``k`` counts from 1, arrays have the batch axis."""

    k: int
    forward: Array
    """``u~_k``: what came out of the network before the normalisation, shape ``(batch, d)``."""
    u: Array
    gradient: Array
    """``v~_k = J^T u_k``, shaped as the input."""
    v: Array
    value: Array
    """The norm, or the loss, at the iterate that this step started from, shape ``(batch,)``."""
    delta: Array | None = None
    """The attack's perturbation after the step."""


Trace = Callable[[Step], None]


@dataclass(frozen=True)
class Ascent:
    """What an ascent on the input found."""

    delta: Array
    """The perturbation, shaped as the input, ``||delta||_p <= eps``."""
    value: Array
    """The loss there, shape ``(batch,)``; ``None`` for the last iterate, which is not evaluated."""


def walk(
    linearization: Linearization,
    v: Array,
    /,
    *,
    p: Norm,
    q: Norm,
    alpha: float = math.inf,
    steps: int = 10,
    ties: Ties = "average",
    trace: Trace | None = None,
) -> Step:
    """Walk from ``v`` towards a maximiser of ``||J v||_q`` on the p-sphere (Eqs. 9 to 12).

    ``alpha = inf`` is the power-method limit (Eq. 12), which for ``p = q = 2`` is the power method
    itself (Eq. 6); a finite ``alpha`` is projected gradient ascent (Eq. 11). With ``alpha = inf``
    the value never decreases.

    Args:
        linearization: ``J``.
        v: the start, shaped as the input; need not be normalised; from zero there is no way on.
        p: the norm of the domain.
        q: the norm of the co-domain.
        alpha: the step size.
        steps: how many iterations; each costs one ``jvp`` and one ``vjp``.
        ties: which representative of the duality map to take for ``p`` (Lemma 1).
        trace: called with each :class:`Step`.

    Returns:
        The last step; its ``v`` has p-norm 1, or, with ``alpha = inf``, is zero where
        ``J^T u = 0``.

    Raises:
        OnrError: there is no step to take.

    """
    if steps < 1:
        raise OnrError(f"steps = {steps}: expected at least 1")
    v = v / safe(column(p(v), v))
    for k in range(1, steps + 1):
        forward = linearization.jvp(v)
        u = q.gradient(forward)
        g = linearization.vjp(u)
        v = p.duality_map(g, ties=ties) if alpha == math.inf else p.project_sphere(v + alpha * g, 1)
        step = Step(k, forward, u, g, v, q(forward))
        if trace is not None:
            trace(step)
    return step


def projected_gradient_ascent(
    network: Network,
    x: Array,
    delta: Array,
    /,
    *,
    loss: Loss,
    labels: Array,
    p: Norm,
    eps: Array | float,
    alpha: Array | float = math.inf,
    steps: int = 10,
    bounds: tuple[float, float] | None = None,
    keep: str = "last",
    raw_gradient: bool = False,
    trace: Trace | None = None,
) -> Ascent:
    """Maximise the loss over the p-ball of radius ``eps`` about ``x`` (Eqs. 15, 17, 18, 108).

    Eq. 108 is this with :class:`onr.losses.LogitDistance`. The step is along the duality map of
    the gradient, and ``alpha = inf`` is the limit of the projection (Lemma 2, second part), which
    is the projection onto a face of the ball, not the duality map again: where the two differ,
    Theorem 1 does not hold.

    Args:
        network: linearised anew at every iterate.
        x: the inputs.
        delta: the start, inside the ball. For a :class:`~onr.losses.LogitDistance` not zero, where
            the loss has no direction.
        loss: what to ascend.
        labels: what the loss refers to, shape ``(batch,)``.
        p: the norm of the ball.
        eps: its radius, a number or one for each example.
        alpha: the step size, in the units of ``x``: a number, or a finite one for each example.
        steps: how many iterations; each costs one forward and one backward pass, and to keep the
            best costs one forward more.
        bounds: the box that inputs must stay in. It is clipped to after the projection onto the
            ball, which cannot leave the ball of a norm that depends on magnitudes alone: for ``x``
            in the box, clipping shrinks each entry.
        keep: ``last`` returns the last iterate, ``best`` the evaluated one of largest loss.
        raw_gradient: step along the gradient itself; for ``p`` outside {1, 2, inf} Eq. 18
            normalises twice, and only this has Eq. 12 as its limit.
        trace: called with each :class:`Step`.

    Raises:
        OnrError: ``keep`` is neither.

    """
    if keep not in ("last", "best"):
        raise OnrError(f"keep = {keep!r}: expected last or best")
    clean = network(x) if loss.uses_clean else None
    limit = getattr(alpha, "ndim", 0) == 0 and alpha == math.inf
    best: tuple[Array, ...] | None = None
    for k in range(1, steps + 1):
        here = network.linearize(x + delta)
        value = loss.value(here.value, labels=labels, clean=clean)
        if keep == "best":
            best = better(best, (value, delta))
        u = loss.direction(here.value, labels=labels, clean=clean)
        g = here.vjp(u)
        v = g if raw_gradient else p.duality_map(g)
        if limit:
            delta = p.project_face(delta, v, eps)
        else:
            delta = p.project_ball(delta + column(alpha, v) * v, eps)
        if bounds is not None:
            delta = boxed(x, delta, bounds) - x
        if trace is not None:
            moved = here.value if clean is None else here.value - clean
            trace(Step(k, moved, u, g, v, value, delta))
    if keep == "last":
        return Ascent(delta, None)
    value = loss.value(network(x + delta), labels=labels, clean=clean)
    value, delta = better(best, (value, delta))
    return Ascent(delta, value)
