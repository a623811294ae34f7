"""The two iterations of the paper, written once for every backend.

An attack and an operator-norm iteration are the same loop of a forward and a backward pass. The
norm iteration (:func:`walk`) linearises once, at ``x``; the attack
(:func:`projected_gradient_ascent`) linearises again at every iterate. Theorem 1 says when the two
coincide. Line by line they correspond:

=====================================  ====================================================
``walk``                                ``projected_gradient_ascent``
=====================================  ====================================================
``J v``                                 ``f(x + delta) - f(x)``, through the loss
``u = gradient of ||.||_q at J v``      ``u = gradient of the loss at f(x + delta)``
``g = J^T u``                           ``g = J(x + delta)^T u``
``v = duality map of g``                ``v = duality map of g``, ``delta = Pi(delta + alpha v)``
=====================================  ====================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from onr.arrays import array_namespace, better, column, on_cpu, safe
from onr.errors import OnrError
from onr.feasible import Feasible
from onr.protocols import (
    Array,
    Linearization,
    Loss,
    Network,
    Norm,
    Ties,
    UncheckedLinearization,
)

__all__ = ["Ascent", "Step", "Trace", "projected_gradient_ascent", "pull_back", "walk"]


@dataclass(frozen=True)
class Step:
    """One iteration, as ``trace`` is called with it.

    Example:
        >>> from onr.jacobians.dense import Matrices
        >>> from onr.norms import LpNorm
        >>> J, two, steps = Matrices(np.array([[[3.0, 4.0]]])), LpNorm(2), []
        >>> _ = walk(J, np.array([[1.0, 0.0]]), p=two, q=two, steps=2, trace=steps.append)
        >>> [step.k for step in steps], [step.value.tolist() for step in steps]
        ([1, 2], [[3.0], [5.0]])

    """

    k: int
    """The number of the step, from 1."""
    forward: Array
    """``u~_k``, shape ``(batch, d)``: ``J v``, or an attack's logits (less the clean ones if the
    loss compares with them).
    """
    u: Array
    """``u_k``, shape ``(batch, d)``: the gradient of the q-norm, or the direction of the loss."""
    gradient: Array
    """``v~_k = J^T u_k``, shaped as the input."""
    v: Array
    """``v_k``, shaped as the input: the next iterate of ``walk``, or an attack's step direction."""
    value: Array
    """The norm, or the loss, at the iterate from which this step started, shape ``(batch,)``."""
    delta: Array | None = None
    """The attack's perturbation after the step; ``None`` for ``walk``."""


Trace = Callable[[Step], None]


@dataclass(frozen=True)
class Ascent:
    """The result of projected gradient ascent on the input."""

    delta: Array
    """The perturbation, shaped as the input, ``||delta||_p <= eps``."""
    value: Array = None
    """The largest loss of the iterates, that at ``x + delta``, shape ``(batch,)``; ``None`` if
    ``keep`` is ``last``, where no loss is computed.
    """
    sound: Array = None
    """NaN where a loss was NaN, or, if ``keep`` is ``last``, a logit; any number elsewhere,
    ``(batch,)``.
    """


def pull_back(here: Linearization, u: Array, /) -> Array:
    """``J^T u``; on another device than the CPU without a look at it, which would wait for it.

    Example:
        >>> from onr.jacobians.dense import Matrices
        >>> pull_back(Matrices(np.array([[[3.0, 4.0]]])), np.array([[2.0]]))
        array([[6., 8.]])

    """
    if on_cpu(u) or not hasattr(here, "vjp_unchecked"):
        return here.vjp(u)
    return cast(UncheckedLinearization, here).vjp_unchecked(u)


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

    A finite ``alpha`` is projected gradient ascent (Eq. 11). ``alpha = inf`` is its power-method
    limit (Eq. 12), for ``p = q = 2`` the power method itself (Eq. 6); there the value never
    decreases.

    Args:
        linearization: the network to first order at ``x``; only its ``J`` matters.
        v: the start, shaped as the input; need not be normalised, but must not be zero.
        p: the norm of the domain.
        q: the norm of the co-domain.
        alpha: the step size.
        steps: how many iterations; each costs one ``jvp`` and one ``vjp``.
        ties: which representative of the duality map to take for ``p`` (Lemma 1).
        trace: called with each :class:`Step`.

    Returns:
        The last step. Its ``v`` has p-norm 1; with ``alpha = inf`` it is zero where ``J^T u = 0``.

    Raises:
        OnrError: ``steps`` is less than 1.
        NotAvailableError: with a finite ``alpha`` a point falls inside the p-sphere, and the norm
            has no projection onto the sphere from inside.

    Example:
        >>> from onr.jacobians.dense import Matrices
        >>> from onr.norms import LpNorm
        >>> J = Matrices(np.array([[[1.0, -2.0]]]))
        >>> walk(J, np.ones((1, 2)), p=LpNorm(math.inf), q=LpNorm(1), steps=1).v
        array([[-1.,  1.]])

    """
    if steps < 1:
        raise OnrError(f"steps = {steps}: expected at least 1")
    v = v / safe(column(p(v), v))
    for k in range(1, steps + 1):
        forward = linearization.jvp(v)
        u = q.gradient(forward)
        g = linearization.vjp(u)
        v = p.duality_map(g, ties=ties) if alpha == math.inf else p.project_sphere(v + alpha * g, 1)
        if trace is not None or k == steps:
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

    With :class:`onr.losses.LogitDistance` this is Eq. 108. Each step goes along the duality map of
    the gradient. ``alpha = inf`` is the limit of larger and larger steps (Lemma 2, second part): a
    projection onto a face of the ball. The duality map can be another point of that face; where
    the two differ, Theorem 1 does not hold.

    Args:
        network: the network; it is linearised at every iterate.
        x: the inputs, shape ``(batch, *input_shape)``.
        delta: the start, inside the ball. It must not be zero for a
            :class:`~onr.losses.LogitDistance`, which has no direction at zero.
        loss: the loss to ascend.
        labels: the labels that the loss refers to, shape ``(batch,)``.
        p: the norm of the ball.
        eps: the radius of the ball, one number or one for each example.
        alpha: the step size, in the units of ``x``: one number, or a finite one for each example.
        steps: how many iterations; each costs one forward and one backward pass. ``keep="best"``
            costs one more forward pass at the end.
        bounds: the box that inputs must stay in, or ``None``. Each step projects onto the ball,
            then clips to the box (:class:`~onr.feasible.Feasible`).
        keep: ``last`` returns the last iterate; ``best``, for each example, the evaluated iterate
            of largest loss, the last among equals. An example keeps the loss NaN, whenever it was.
        raw_gradient: step along the gradient instead of its duality map. For ``p`` outside
            {1, 2, inf}, Eq. 18 normalises twice, and only the raw gradient has Eq. 12 as its limit.
        trace: called with each :class:`Step`.

    Returns:
        The perturbation, and its loss if ``keep`` is ``best``.

    Raises:
        OnrError: ``keep`` is neither ``last`` nor ``best``.

    Example:
        >>> from onr import CrossEntropy, LpNorm
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> x, ball = np.full((1, 3), 0.5), {"p": LpNorm(math.inf), "eps": 0.1}
        >>> aim = {"loss": CrossEntropy(), "labels": np.array([0])}
        >>> abs(projected_gradient_ascent(network, x, 0 * x, **aim, **ball).delta)
        array([[0.1, 0.1, 0.1]])

    """
    if keep not in ("last", "best"):
        raise OnrError(f"keep = {keep!r}: expected last or best")
    clean = network(x) if loss.uses_clean else None
    limit = getattr(alpha, "ndim", 0) == 0 and alpha == math.inf
    best: tuple[Array, ...] | None = None
    sound = None
    feasible = Feasible(x, p, eps, bounds, in_l2=raw_gradient)
    for k in range(1, steps + 1):
        here = network.linearize(x + delta, jvp=False)
        if keep == "best" or trace is not None:
            value = loss.value(here.value, labels=labels, clean=clean)
        if keep == "best":
            best = better(best, (value, delta))
        else:  # the largest logit tells of NaN at a tenth of the cost of a loss
            xp = array_namespace(here.value)
            largest = xp.max(here.value, axis=1)
            sound = largest if sound is None else xp.maximum(sound, largest)
        u = loss.direction(here.value, labels=labels, clean=clean)
        g = pull_back(here, u)
        v = g if raw_gradient else p.duality_map(g)
        if limit:
            delta = feasible.limit(delta, v)
        else:
            step = column(alpha, v) * v
            step += delta
            delta = feasible.nearest(step)
        if trace is not None:
            moved = here.value if clean is None else here.value - clean
            trace(Step(k, moved, u, g, v, value, delta))
        del here  # the memory of its graph serves the next one
    if keep == "last":
        return Ascent(delta, sound=sound)
    value = loss.value(network(x + delta), labels=labels, clean=clean)
    value, delta = better(best, (value, delta))
    return Ascent(delta, value, value)
