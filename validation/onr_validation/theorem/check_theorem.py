"""The check of Theorem 1: Eq. 12 and Eq. 108 run side by side from one start.

Each draw is a network, an input, a radius inside the input's ReLU cell, and a start. The theorem
says that the two sequences of a generic draw agree. One of three arithmetics decides whether they
do:

``float``
    float64. The deviation must stay below a bound on the effect of rounding. The difference
    ``f(x_k) - f(x)`` loses ``|f| / (eps ||J v||)`` in relative accuracy, and the bound propagates
    that loss from step to step.
``exact``
    Rationals with one square root at a time (:mod:`onr.exact.surds`), compared by ``==``.
``balls``
    Balls (:mod:`onr.exact.balls`), for p = 2 at a finite step size. There the sequences differ, and
    the check certifies that the gap between ``x_k`` and ``x + eps v_k`` is at most
    ``sqrt(2) eps ||x_(k-1) - x|| / alpha``. In float64 that bound is compared up to rounding.

Equal sequences alone would not reveal every error. Independent code therefore judges every draw and
step as well (:mod:`onr_validation.theorem.identities`): ``f``, ``J v`` and ``J^T u``, the radius of
the cell and the pattern at ``x_k``, the norms, both duality maps (Lemma 1), the face or the
projection. An identity that fails is a failure of the draw, whether or not the draw is degenerate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from onr.arrays import column, to_numpy
from onr.errors import OnrError
from onr.exact.surds import RATIONAL, below, exact_array, float_array
from onr.jacobians.iterations import Step, projected_gradient_ascent, walk
from onr.losses import LogitDistance
from onr.protocols import Array, BackendNetwork, Norm
from onr_numpy.exact_network import ExactNetwork
from onr_numpy.network import DenseNetwork
from onr_validation.naive import exponent
from onr_validation.theorem.comparison import ExactComparison, GapComparison, StepCheck
from onr_validation.theorem.identities import (
    EDGE,
    Identities,
    radius_is_tight,
    said,
    value_agrees,
)
from onr_validation.theorem.propagation import PROVEN, Propagation

__all__ = ["MEASURED_TOLERANCE", "DrawCheck", "check_theorem"]

MEASURED_TOLERANCE = 1e-6
"""The largest deviation that counts as equal in float64 where no theorem gives a bound."""


@dataclass(frozen=True)
class DrawCheck:
    """All steps of a batch of draws for one pair (p, q), converted to floats.

    Example:
        >>> from onr_validation.theorem.draws import COUNTEREXAMPLES, check_counterexample
        >>> check = check_counterexample(COUNTEREXAMPLES[0], iterations=3)
        >>> check.cause
        ['step 1: J^T u has a zero entry (p = inf)']

    """

    p: str
    q: str
    alpha: float
    """The step size of Eq. 108 in units of eps."""
    arithmetic: str
    """``float``, ``exact`` or ``balls``."""
    raw_gradient: bool
    radius: np.ndarray
    """The radius of each input's ReLU cell in the p-norm, shape ``(batch,)``."""
    eps: np.ndarray
    steps: tuple[StepCheck, ...]
    inside: np.ndarray
    """Whether the last iterate of Eq. 108 has the activation pattern of the input, ``(batch,)``."""
    faults: tuple[str, ...]
    """What is wrong with the network of each draw, or with its cell; empty if nothing is."""

    @property
    def proven(self) -> bool:
        """Whether a theorem covers this p, q, alpha and eps."""
        if not (self.p in PROVEN and self.q in PROVEN and np.all(self.eps < self.radius)):
            return False
        return self.alpha == math.inf or (self.alpha >= 2 and not self.raw_gradient)

    @property
    def cause(self) -> list[str]:
        """The first hypothesis that each draw violates; empty for a generic draw."""
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
        """What contradicts the theorem in each draw; empty if nothing does.

        The deviation counts up to the first degenerate step in float64, which cannot decide what
        follows. Exact arithmetic continues past a degenerate step as long as the two sequences
        agree, and stops at the first degenerate step where they differ. A broken identity counts
        at every step.
        """
        return [self._failure(i) for i in range(len(self.eps))]

    def _failure(self, i: int) -> str:
        if self.faults[i]:
            return self.faults[i]
        exact, together = self.arithmetic != "float", True
        for step in self.steps:
            limit = step.bound[i] if self.proven or exact else MEASURED_TOLERANCE
            reason = step.broken[i]
            if together and not step.deviation[i] <= limit:
                together = False
                if not step.degenerate[i] and not reason:
                    reason = f"deviation {step.deviation[i]:.2e} above {limit:.2e}"
            if step.degenerate[i] and not exact:
                together = False
            if reason:
                return f"step {step.norm_step.k}: {reason}"
        return ""

    @property
    def broken(self) -> list[str]:
        """The first identity that fails in each draw; empty if none does."""
        return [
            self.faults[i] or next((s.broken[i] for s in self.steps if s.broken[i]), "")
            for i in range(len(self.eps))
        ]

    @property
    def deviation(self) -> np.ndarray:
        """The largest deviation over the steps of each draw."""
        largest: np.ndarray = np.max([step.deviation for step in self.steps], axis=0)
        return largest

    @property
    def bound(self) -> np.ndarray:
        """The largest bound over the steps of each draw."""
        largest: np.ndarray = np.max([step.bound for step in self.steps], axis=0)
        return largest

    @property
    def gain(self) -> np.ndarray:
        """The ratio of ``||f(x_k) - f(x)||_q / eps`` to ``||J v_k||_q``; NaN where ``J v_k = 0``.

        Both are taken at the iterates from which the last step started.
        """
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
        reference: the same network as a dense network, from which the ReLU cell and the rounding
            bounds are computed. An :class:`ExactNetwork` makes the check exact.
        x: inputs, shape ``(batch, *input_shape)``, floats.
        start: the direction ``v_0`` from which both sequences start, shaped as ``x``. It is
            normalised here.
        p: the norm of the domain.
        q: the norm of the co-domain.
        alpha: the step size of Eq. 108 in units of ``eps``.
        iterations: the number of steps of both sequences.
        fraction: ``eps`` as a fraction of the cell's radius, or of 1 if the cell has no wall. The
            theorem says nothing from 1 on. In exact arithmetic ``eps`` is an exact number of ten
            binary digits just below the product.
        raw_gradient: whether Eq. 108 steps along the gradient, not along its duality map.

    Raises:
        OnrError: an input lies on the wall of its cell, or the fraction is not positive and finite.
        NotExactError: a norm or a step size leaves the exact numbers.

    Example:
        >>> from onr.norms import LpNorm
        >>> from onr_validation.theorem.draws import random_draws
        >>> from onr_numpy.backend import NumpyBackend
        >>> draw = next(random_draws("8", trials=2, seed=0))
        >>> net = NumpyBackend().build(draw.model, parameters=draw.parameters, dtype="float64")
        >>> check_theorem(net, net, draw.x, draw.start, p=LpNorm(math.inf), q=LpNorm(1)).failure
        ['', '']

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
    floats, first, radii = (v if v.dtype != object else float_array(v) for v in (x, v0, eps))
    arithmetic = "float"
    comparison: Propagation | ExactComparison | GapComparison
    if isinstance(reference, ExactNetwork):
        arithmetic = "exact" if issubclass(reference.number, RATIONAL) else "balls"
    if p.name == "2" and alpha < math.inf and arithmetic != "exact":
        comparison = GapComparison(reference, x, v0, eps, alpha)
    elif isinstance(reference, ExactNetwork):
        comparison = ExactComparison(reference, x, v0, eps, p, q)
    else:
        comparison = Propagation(reference, x, v0, eps, p, q, inside=fraction < 1)
    identities = Identities(
        reference,
        floats,
        first,
        radii,
        p,
        q,
        inside=fraction < 1 - EDGE,
        alpha=alpha,
        raw_gradient=raw_gradient,
        exact=arithmetic != "float",
    )
    steps = []
    for a, b in zip(norm_steps, ascent_steps, strict=False):
        compared = comparison.step(_in_numpy(a), _in_numpy(b, eps))
        also = identities.step(compared.norm_step, compared.ascent_step)
        broken = tuple(
            "; ".join(filter(None, both)) for both in zip(compared.broken, also, strict=True)
        )
        steps.append(replace(compared, broken=broken))
    moved = x + column(eps, x) * _in_numpy(ascent_steps[-1], eps).delta
    pattern = reference.linear_region
    inside = np.all(pattern(moved) == pattern(x), axis=1)
    complete = len(norm_steps) == len(ascent_steps) == iterations
    faults = _faults(network, reference, x, floats, radius, p, complete)
    if arithmetic != "float":
        radius, eps = float_array(radius), float_array(eps)
    return DrawCheck(
        p.name, q.name, alpha, arithmetic, raw_gradient, radius, eps, tuple(steps), inside, faults
    )


def _faults(
    network: BackendNetwork,
    reference: DenseNetwork,
    x: np.ndarray,
    floats: np.ndarray,
    radius: np.ndarray,
    p: Norm,
    complete: bool,
) -> tuple[str, ...]:
    """What is wrong with the network of each draw, with its cell, or with the number of steps."""
    radii = [radius if radius.dtype != object else float_array(radius)]
    if not isinstance(network, DenseNetwork) and exponent(p) is not None:
        # Another backend has a radius of its own, for lp norms.
        radii.append(to_numpy(network.cell_radius(network.asarray(x), p=p)))
    checks = [
        ("a sequence has too few or too many steps", np.full(len(x), complete)),
        value_agrees(network, reference, x),
        *(radius_is_tight(reference, floats, found, p) for found in radii),
    ]
    return said(checks, len(x))


def _radius(reference: DenseNetwork, x: np.ndarray, p: Norm) -> np.ndarray:
    """The radius of each input's cell, in rationals: balls cannot order equally far walls."""
    if isinstance(reference, ExactNetwork):
        reference = ExactNetwork(reference, number=_rational(reference))
        x = exact_array(x, reference.number)
    return reference.cell_radius(x, p=p)


def _rational(reference: ExactNetwork) -> type:
    return reference.number if issubclass(reference.number, RATIONAL) else Fraction


def _exactly(reference: DenseNetwork, value: float) -> Any:
    """``value`` as a rational if the arithmetic of the network is exact, or else unchanged."""
    if isinstance(reference, ExactNetwork):
        return _rational(reference)(*value.as_integer_ratio())
    return value


def _eps(reference: DenseNetwork, radius: np.ndarray, fraction: float) -> np.ndarray:
    """``eps`` as the fraction of each radius, or of 1 where the cell has no wall."""
    if not isinstance(reference, ExactNetwork):
        return fraction * np.where(np.isfinite(radius), radius, 1.0)
    part, number = _exactly(reference, fraction), _rational(reference)
    return np.array(
        [part if r == math.inf else below(part * r, number) for r in radius], dtype=object
    )


def _in_numpy(step: Step, eps: np.ndarray | None = None) -> Step:
    """Convert a step to NumPy; divide ``forward``, ``value`` and ``delta`` by ``eps`` if given."""

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
