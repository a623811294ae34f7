"""Theorem 1, checked: Eq. 12 and Eq. 108 run side by side from one start.

Each draw is a network, an input, a radius inside the input's ReLU cell, and a start. If the draw is
generic the two sequences agree, which is decided in one of three arithmetics:

``float``
    float64, to a bound that follows from the rounding of ``f(x_k) - f(x)``, which loses
    ``|f| / (eps ||J v||)`` in relative accuracy, and that is propagated from step to step;
``exact``
    rationals and one square root at a time (:mod:`onr.exact.surds`), by ``==``;
``balls``
    for p = 2 at a finite step, where the sequences differ: that the gap between ``x_k`` and
    ``x + eps v_k`` is at most ``sqrt(2) eps ||x_(k-1) - x|| / alpha`` (:mod:`onr.exact.balls`).

Besides the deviation the check asks, at every step, for what the equality alone would not see: that
``vjp`` is the adjoint of ``jvp``, that both duality maps attain their norms (Lemma 1), and, where
it can be decided, that the activation pattern at ``x_k`` is that at ``x``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from onr.arrays import column, to_numpy
from onr.errors import OnrError
from onr.exact.surds import RATIONAL, below, exact_array, float_array
from onr.jacobians.iterations import Step, projected_gradient_ascent, walk
from onr.losses import LogitDistance
from onr.protocols import Array, BackendNetwork, Norm
from onr_numpy.exact import ExactNetwork
from onr_numpy.network import DenseNetwork
from onr_validation.theorem.comparison import BallComparison, ExactComparison, StepCheck
from onr_validation.theorem.propagation import PROVEN, Propagation

__all__ = ["DrawCheck", "check_theorem"]

MEASURED_TOLERANCE = 1e-6
"""What counts as equal where there is no theorem and so no bound."""


@dataclass(frozen=True)
class DrawCheck:
    """All steps of a batch of draws for one (p, q), in floats for show."""

    p: str
    q: str
    alpha: float
    """In units of eps."""
    arithmetic: str
    """``float``, ``exact`` or ``balls``."""
    raw_gradient: bool
    radius: np.ndarray
    """The p-radius of each input's ReLU cell."""
    eps: np.ndarray
    steps: tuple[StepCheck, ...]
    inside: np.ndarray
    """Whether the last iterate of Eq. 108 has the activation pattern of the input."""

    @property
    def proven(self) -> bool:
        """Whether a theorem speaks of this p, q, alpha and eps."""
        if not (self.p in PROVEN and self.q in PROVEN and np.all(self.eps < self.radius)):
            return False
        if self.arithmetic == "balls":
            return self.alpha >= 2
        return self.alpha == math.inf or (
            self.p != "2" and self.alpha >= 2 and not self.raw_gradient
        )

    @property
    def cause(self) -> list[str]:
        """For each draw the first hypothesis that it violates, empty for a generic draw."""
        return [
            next(
                (
                    f"step {step.norm_step.k}: {c}"
                    for step in self.steps
                    if (c := step.degenerate[i])
                ),
                "",
            )
            for i in range(len(self.eps))
        ]

    @property
    def failure(self) -> list[str]:
        """For each draw what contradicts the theorem; empty if nothing does.

        Steps count up to the first that is degenerate in float64, where nothing can be said from
        there on, and up to the first difference at a degenerate step in exact arithmetic: there a
        sequence that meets a violated hypothesis and does not part is followed on.
        """
        return [self._failure(i) for i in range(len(self.eps))]

    def _failure(self, i: int) -> str:
        exact = self.arithmetic != "float"
        for step in self.steps:
            limit = step.bound[i] if self.proven or exact else MEASURED_TOLERANCE
            reason = step.broken[i]
            if not reason and not step.deviation[i] <= limit:
                reason = f"deviation {step.deviation[i]:.2e} above {limit:.2e}"
            if step.degenerate[i] and not (exact and step.broken[i]) and (reason or not exact):
                return ""
            if reason:
                return f"step {step.norm_step.k}: {reason}"
        return ""

    @property
    def deviation(self) -> np.ndarray:
        """The largest deviation of each draw over its steps."""
        largest: np.ndarray = np.max([step.deviation for step in self.steps], axis=0)
        return largest

    @property
    def bound(self) -> np.ndarray:
        """The largest bound of each draw over its steps."""
        largest: np.ndarray = np.max([step.bound for step in self.steps], axis=0)
        return largest

    @property
    def gain(self) -> np.ndarray:
        """``||f(x_k) - f(x)||_q / eps`` over ``||J v_k||_q`` where the last step started."""
        last = self.steps[-1]
        expected = last.norm_step.value
        ratio: np.ndarray = last.ascent_step.value / np.where(expected > 0, expected, np.nan)
        return ratio


def check_theorem(
    network: BackendNetwork,
    reference: DenseNetwork,
    x: np.ndarray,
    start: np.ndarray,
    *,
    p: Norm,
    q: Norm,
    alpha: float = math.inf,
    iterations: int = 20,
    fraction: float = 0.5,
    raw_gradient: bool = False,
) -> DrawCheck:
    """Run both sequences of Theorem 1 and compare them step by step.

    Args:
        network: the network under test, in float64, or an :class:`ExactNetwork`.
        reference: the same network, dense; gives the cell and the rounding.
        x: inputs, shape ``(batch, *input_shape)``, floats.
        start: ``v_0``, shaped as ``x``; normalised here. Both sequences start there.
        p: the norm of the domain.
        q: the norm of the co-domain.
        alpha: the step size of Eq. 108 in units of ``eps``.
        iterations: how many.
        fraction: ``eps`` as a fraction of the cell's radius; the theorem is silent from 1 on, and
            an exact number of ten binary digits just below is taken in exact arithmetic.
        raw_gradient: step along the gradient itself in Eq. 108.

    Raises:
        OnrError: an input lies on the wall of its cell, or a fraction is not positive.
        NotExactError: a norm or a step size leaves the exact numbers.

    """
    if not 0 < fraction < math.inf:
        raise OnrError(f"fraction = {fraction:g}: expected a positive number")
    x, start = x.astype(np.float64), start.astype(np.float64)
    radius = _radius(reference, x, p)
    if isinstance(reference, ExactNetwork):
        x, start = exact_array(x, reference.number), exact_array(start, reference.number)
    if not np.all(radius > 0):
        raise OnrError("an input lies on the wall of its ReLU cell: no ball around it fits")
    eps = _eps(reference, radius, fraction)
    v0 = start / column(p(start), start)
    step_size: Array | float = alpha
    if alpha < math.inf:
        step_size = network.asarray(_exactly(reference, alpha) * eps)
    on_device = network.asarray(x)

    norm_steps: list[Step] = []
    ascent_steps: list[Step] = []
    walk(
        network.linearize(on_device),
        network.asarray(v0),
        p=p,
        q=q,
        steps=iterations,
        trace=norm_steps.append,
    )
    projected_gradient_ascent(
        network,
        on_device,
        network.asarray(column(eps, x) * v0),
        loss=LogitDistance(q),
        labels=None,
        p=p,
        eps=network.asarray(eps),
        alpha=step_size,
        steps=iterations,
        raw_gradient=raw_gradient,
        trace=ascent_steps.append,
    )
    comparison: Propagation | ExactComparison | BallComparison
    arithmetic = "float"
    if not isinstance(reference, ExactNetwork):
        comparison = Propagation(reference, x, v0, eps, p, q, inside=fraction < 1)
    elif issubclass(reference.number, RATIONAL):
        arithmetic = "exact"
        comparison = ExactComparison(reference, x, v0, eps, p, q)
    else:
        arithmetic = "balls"
        comparison = BallComparison(reference, x, v0, eps, alpha)
    steps = tuple(
        comparison.step(_in_numpy(a), _in_numpy(b, eps))
        for a, b in zip(norm_steps, ascent_steps, strict=True)
    )
    moved = x + column(eps, x) * _in_numpy(ascent_steps[-1], eps).delta
    pattern = reference.linear_region
    inside = np.all(pattern(moved) == pattern(x), axis=1)
    if arithmetic != "float":
        radius, eps = float_array(radius), float_array(eps)
    return DrawCheck(p.name, q.name, alpha, arithmetic, raw_gradient, radius, eps, steps, inside)


def _radius(reference: DenseNetwork, x: np.ndarray, p: Norm) -> np.ndarray:
    """The cell's radius, exact rather than a ball: that of two equal walls a ball cannot decide."""
    if isinstance(reference, ExactNetwork):
        reference = ExactNetwork(reference, number=_rational(reference))
        x = exact_array(x, reference.number)
    return reference.cell_radius(x, p=p)


def _rational(reference: ExactNetwork) -> type:
    return reference.number if issubclass(reference.number, RATIONAL) else Fraction


def _exactly(reference: DenseNetwork, value: float) -> Any:
    """The float as a rational, if the network's arithmetic is exact."""
    if isinstance(reference, ExactNetwork):
        return _rational(reference)(*value.as_integer_ratio())
    return value


def _eps(reference: DenseNetwork, radius: np.ndarray, fraction: float) -> np.ndarray:
    """That fraction of each radius, of 1 where there is no wall."""
    if not isinstance(reference, ExactNetwork):
        return fraction * np.where(np.isfinite(radius), radius, 1.0)
    part, number = _exactly(reference, fraction), _rational(reference)
    return np.array(
        [part if r == math.inf else below(part * r, number) for r in radius], dtype=object
    )


def _in_numpy(step: Step, eps: np.ndarray | None = None) -> Step:
    """The step in NumPy, what is of the size of ``eps`` divided by it."""

    def scaled(values: np.ndarray) -> np.ndarray:
        return values if eps is None else values / column(eps, values)

    return Step(
        step.k,
        scaled(to_numpy(step.forward)),
        to_numpy(step.u),
        to_numpy(step.gradient),
        to_numpy(step.v),
        scaled(to_numpy(step.value)),
        None if step.delta is None else scaled(to_numpy(step.delta)),
    )
