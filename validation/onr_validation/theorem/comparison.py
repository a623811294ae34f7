"""The comparison of one step of both sequences of Theorem 1, exactly or against the gap's bound."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from onr.arrays import column, flatten, inner
from onr.exact.surds import float_array, require_exact
from onr.jacobians.iterations import Step
from onr.protocols import Norm
from onr_numpy.exact_network import ExactNetwork
from onr_numpy.network import DenseNetwork
from onr_validation.theorem.identities import Held, said

__all__ = ["ExactComparison", "GapComparison", "StepCheck", "missing_hypothesis"]

GAP_ROUNDING = 1e-13
"""What float64 adds to the gap between two unit vectors."""


@dataclass(frozen=True)
class StepCheck:
    """One step of both sequences over a batch of draws, converted to floats.

    Example:
        >>> from onr_validation.theorem.draws import REPAIRED, check_counterexample
        >>> step = check_counterexample(REPAIRED, iterations=2).steps[1]
        >>> step.norm_step.k, step.degenerate
        (2, ('',))
        >>> step.deviation < 1e-12
        array([ True])

    """

    norm_step: Step
    """The step of Eq. 12."""
    ascent_step: Step
    """The step of Eq. 108, with ``forward``, ``value`` and ``delta`` divided by ``eps``."""
    deviation: np.ndarray
    """``max |(x_k - x) / eps - v_k|``, shape ``(batch,)``; 0 only if exactly 0."""
    bound: np.ndarray
    """The deviation that rounding explains: 0 in exact arithmetic, NaN without a theorem."""
    degenerate: tuple[str, ...]
    """The hypothesis that each draw violates at this step; empty if it violates none."""
    broken: tuple[str, ...]
    """The identities that fail in each draw at this step; empty if none fails."""


class ExactComparison:
    """Compares the two sequences step by step with ``==``.

    Args:
        network: the network over rationals.
        x: the inputs, shape ``(batch, *input_shape)``.
        v0: the direction from which both sequences start, shaped as ``x``.
        eps: the radius of each input's ball, shape ``(batch,)``.
        p: the norm of the domain.
        q: the norm of the co-domain.

    """

    def __init__(
        self,
        network: ExactNetwork,
        x: np.ndarray,
        v0: np.ndarray,
        eps: np.ndarray,
        p: Norm,
        q: Norm,
    ) -> None:
        self.network, self.x, self.eps, self.p, self.q = network, x, eps, p, q
        self.pattern = network.linear_region(x)
        self.previous = v0
        self.parted = np.zeros(len(x), dtype=bool)

    def step(self, a: Step, b: Step) -> StepCheck:
        """Compare one step of Eq. 12 (``a``) with the same step of Eq. 108 (``b``)."""
        for values in (a.u, a.v, a.gradient, b.u, b.v, b.gradient, flatten(b.delta)):
            require_exact(values)
        up, down = inner(a.u, a.forward), inner(a.gradient, self.previous)
        checks = [
            ("vjp is not the adjoint of jvp", up, down),
            (
                "the duality map of p does not attain",
                inner(a.v, a.gradient),
                self.p.dual(a.gradient),
            ),
            ("the duality map of q does not attain", up, self.q(a.forward)),
        ]
        holds = [(text, left == right) for text, left, right in checks]
        same = (b.value == a.value) | self.parted
        holds.append(("||f(x_k) - f(x)||_q / eps is not ||J v_k||_q", same))
        moved = self.network.linear_region(self.x + column(self.eps, self.x) * b.delta)
        holds.append(("x_k is outside the cell of x", np.all(moved == self.pattern, axis=1)))
        for text, norm, vector, image in (
            ("the duality map of p has not norm 1", self.p, a.v, a.gradient),
            ("the duality map of q has not norm 1", self.q.dual, a.u, a.forward),
        ):
            holds.append((text, (norm(vector) == 1) | np.all(flatten(image) == 0, axis=1)))
        self.previous = a.v
        one, other = in_floats(a), in_floats(b)
        apart = np.any(flatten(a.v) != flatten(b.delta), axis=1)
        self.parted |= apart
        # Different exact numbers may round to the same float; the gap must stay positive.
        gap = np.maximum(np.abs(flatten(one.v) - flatten(other.delta)).max(axis=1), 5e-324)
        return StepCheck(
            one,
            other,
            np.where(apart, gap, 0.0),
            np.zeros(len(apart)),
            missing_hypothesis(a, b, self.p),
            said(holds, len(self.x)),
        )


class GapComparison:
    """Bounds the gap to the limit for p = 2 at a finite step size, where the sequences differ.

    For ``alpha >= 2 eps`` the gap ``|(x_k - x) / eps - v_k|``, with Eq. 108's own ``v_k``, is at
    most ``sqrt(2) |x_(k-1) - x| / alpha``. Over balls the bound is certified; in float64 it is
    compared up to rounding.

    Args:
        network: the network under test as a dense network, or over balls.
        x: the inputs, shape ``(batch, *input_shape)``.
        v0: the direction from which the sequence starts, shaped as ``x``.
        eps: the radius of each input's ball, shape ``(batch,)``.
        alpha: the step size in units of ``eps``.

    """

    def __init__(
        self, network: DenseNetwork, x: np.ndarray, v0: np.ndarray, eps: np.ndarray, alpha: float
    ) -> None:
        self.network, self.x, self.eps, self.alpha = network, x, eps, alpha
        self.previous = v0

    def step(self, a: Step, b: Step) -> StepCheck:
        """Check that the gap of one step is within its bound."""
        assert b.delta is not None  # noqa: S101 - the ascent records it
        delta, gap = b.delta, b.delta - b.v
        zero = np.all(flatten(b.forward) == 0, axis=1)
        size, bound = inner(gap, gap), inner(self.previous, self.previous)
        broken = ("",) * len(self.x)
        if isinstance(self.network, ExactNetwork):
            bound = 2 * bound / Fraction(self.alpha) ** 2
            broken = said(
                [(text, held | zero) for text, held in self._held(b, size, bound)], len(zero)
            )
            a, b = in_floats(a), in_floats(b)
            size, limit = float_array(size), np.sqrt(float_array(bound))
        else:
            limit = np.sqrt(2 * bound) / self.alpha + GAP_ROUNDING
        self.previous = delta
        degenerate = tuple("J v is zero" if dead else "" for dead in zero)
        return StepCheck(a, b, np.sqrt(size), limit, degenerate, broken)

    def _held(self, b: Step, size: np.ndarray, bound: np.ndarray) -> list[Held]:
        """The identities that balls decide; they cannot decide equality, only closeness."""
        up, steep = inner(b.u, b.forward), inner(b.gradient, b.gradient)
        along = inner(b.v, b.gradient)
        pattern = self.network.linear_region
        moved = pattern(self.x + column(self.eps, self.x) * b.delta)
        return [
            ("vjp is not the adjoint of jvp", _close(inner(b.gradient, self.previous), up)),
            ("the duality map of q does not attain", _close(b.value, up)),
            ("the duality map of p has not norm 1", _close(inner(b.v, b.v), 1)),
            ("the duality map of p does not attain", (along > 0) & _close(along * along, steep)),
            ("the gap is larger than its bound", size <= bound),
            ("x_k is outside the cell of x", np.all(moved == pattern(self.x), axis=1)),
        ]


def _close(x: np.ndarray, y: np.ndarray | int) -> np.ndarray:
    """Whether ``x`` and ``y`` differ by at most ``y / 2^64``; ``y`` is not negative."""
    close: np.ndarray = np.abs(x - y) <= y * Fraction(1, 2**64)
    return close


def missing_hypothesis(a: Step, b: Step, p: Norm) -> tuple[str, ...]:
    """The hypothesis that each draw violates at a step: a case that Eq. 83 or Lemma 2 drops.

    ``J v`` counts as zero only if it is zero in both sequences. ``J^T u`` is zero exactly where
    ``J v`` is, since ``<J^T u, v> = ||J v||_q``. A zero ``J^T u`` elsewhere violates no hypothesis
    and counts as an error.

    Args:
        a: the step of Eq. 12.
        b: the same step of Eq. 108.
        p: the norm of the domain.

    Returns:
        The violated hypothesis for each draw; empty for a draw that violates none.

    Example:
        >>> from onr.norms import LpNorm
        >>> u, gradient, v = np.ones((1, 2)), np.array([[0.0, 2.0]]), np.array([[0.0, 1.0]])
        >>> step = Step(1, u, u, gradient, v, np.ones(1))
        >>> missing_hypothesis(step, step, LpNorm(float("inf")))
        ('J^T u has a zero entry (p = inf)',)

    """
    size = np.abs(flatten(a.gradient))
    some = np.any(size > 0, axis=1)
    tied = np.sum(size == size.max(axis=1, keepdims=True), axis=1) > 1
    dead = np.all(np.concatenate([flatten(x.forward) == 0 for x in (a, b)], axis=1), axis=1)
    cases = [
        ("J v is zero", dead),
        ("J^T u has a zero entry (p = inf)", some & np.any(size == 0, axis=1) & (p.name == "inf")),
        ("J^T u has a tie for its largest (p = 1)", some & tied & (p.name == "1")),
    ]
    return tuple(next((text for text, met in cases if met[i]), "") for i in range(len(size)))


def in_floats(step: Step) -> Step:
    """Round the exact numbers of a step to floats, for display."""
    return Step(
        step.k,
        float_array(step.forward),
        float_array(step.u),
        float_array(step.gradient),
        float_array(step.v),
        float_array(step.value),
        None if step.delta is None else float_array(step.delta),
    )
