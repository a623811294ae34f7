"""One step of both sequences of Theorem 1, and the verdict on it where arithmetic is exact."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from onr.arrays import column, flatten, inner
from onr.exact.surds import float_array, require_exact
from onr.jacobians.iterations import Step
from onr.protocols import Norm
from onr_numpy.exact import ExactNetwork

__all__ = ["BallComparison", "ExactComparison", "StepCheck", "missing_hypothesis"]


@dataclass(frozen=True)
class StepCheck:
    """One step of both sequences over a batch of draws, in floats."""

    norm_step: Step
    """Eq. 12."""
    ascent_step: Step
    """Eq. 108; its ``forward`` and ``value`` are divided by ``eps``, its ``delta`` too."""
    deviation: np.ndarray
    """``max |(x_k - x) / eps - v_k|``, shape ``(batch,)``; positive where not zero."""
    bound: np.ndarray
    """What the arithmetic explains: 0 where it is exact, NaN where there is no theorem."""
    degenerate: tuple[str, ...]
    """For each draw which hypothesis it violates at this step; empty if none."""
    broken: tuple[str, ...]
    """For each draw which identity fails at this step; empty if none."""


class ExactComparison:
    """Both sequences compared by ``==``.

    Args:
        network: the network.
        x: the inputs.
        v0: where both sequences start.
        eps: the radii, shape ``(batch,)``.
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
            ("||f(x_k) - f(x)||_q / eps is not ||J v_k||_q", b.value, a.value),
        ]
        holds = [(text, left == right) for text, left, right in checks]
        moved = self.network.linear_region(self.x + column(self.eps, self.x) * b.delta)
        holds.append(("x_k is outside the cell of x", np.all(moved == self.pattern, axis=1)))
        for text, norm, vector, image in (
            ("the duality map of p has not norm 1", self.p, a.v, a.gradient),
            ("the duality map of q has not norm 1", self.q.dual, a.u, a.forward),
        ):
            holds.append((text, (norm(vector) == 1) | np.all(flatten(image) == 0, axis=1)))
        broken = tuple(
            "; ".join(text for text, held in holds if not held[i]) for i in range(len(self.x))
        )
        self.previous = a.v
        one, other = in_floats(a), in_floats(b)
        apart = np.any(flatten(a.v) != flatten(b.delta), axis=1)
        # Exact numbers that differ may have the same floats.
        gap = np.maximum(np.abs(flatten(one.v) - flatten(other.delta)).max(axis=1), 5e-324)
        return StepCheck(
            one,
            other,
            np.where(apart, gap, 0.0),
            np.zeros(len(apart)),
            missing_hypothesis(a, b, self.p),
            broken,
        )


class BallComparison:
    """The gap of p = 2 at a finite step size, certified.

    Args:
        network: the network, over balls.
        x: the inputs.
        eps: the radii, shape ``(batch,)``.
        v0: where the sequence starts.
        alpha: the step size in units of ``eps``.

    """

    def __init__(
        self, network: ExactNetwork, x: np.ndarray, v0: np.ndarray, eps: np.ndarray, alpha: float
    ) -> None:
        self.network, self.x, self.eps, self.alpha = network, x, eps, alpha
        self.pattern = network.linear_region(x)
        self.previous = v0

    def step(self, a: Step, b: Step) -> StepCheck:
        """Is ``|(x_k - x) / eps - v_k| <= sqrt(2) |x_(k-1) - x| / alpha``; ``v_k`` of Eq. 108."""
        assert b.delta is not None  # noqa: S101 - the ascent records it
        gap = b.delta - b.v
        size, bound = inner(gap, gap), inner(self.previous, self.previous)
        bound = 2 * bound / Fraction(self.alpha) ** 2
        moved = self.network.linear_region(self.x + column(self.eps, self.x) * b.delta)
        up, steep = inner(b.u, b.forward), inner(b.gradient, b.gradient)
        along = inner(b.v, b.gradient)
        # Balls do not decide equality, but that two numbers are as close as this.
        holds = [
            ("vjp is not the adjoint of jvp", _close(inner(b.gradient, self.previous), up)),
            ("the duality map of q does not attain", _close(b.value, up)),
            ("the duality map of p has not norm 1", _close(inner(b.v, b.v), 1)),
            ("the duality map of p does not attain", (along > 0) & _close(along * along, steep)),
            ("the gap is larger than its bound", size <= bound),
            ("x_k is outside the cell of x", np.all(moved == self.pattern, axis=1)),
        ]
        broken = tuple(
            "; ".join(text for text, held in holds if not held[i]) for i in range(len(self.x))
        )
        self.previous = b.delta
        return StepCheck(
            in_floats(a),
            in_floats(b),
            np.sqrt(float_array(size)),
            np.sqrt(float_array(bound)),
            ("",) * len(self.x),
            broken,
        )


def _close(x: np.ndarray, y: np.ndarray | int) -> np.ndarray:
    """Whether they differ by at most one part in ``2^64`` of ``y``, which is not negative."""
    close: np.ndarray = np.abs(x - y) <= y * Fraction(1, 2**64)
    return close


def missing_hypothesis(a: Step, b: Step, p: Norm) -> tuple[str, ...]:
    """What makes a step degenerate, draw by draw: exactly where Eq. 83 and Lemma 2 drop a case.

    ``J v`` is zero where both sequences say so. ``J^T u`` then is too, and nowhere else, as
    ``<J^T u, v> = ||J v||_q``: no hypothesis excuses it.
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
    """The step rounded, to show it."""
    return Step(
        step.k,
        float_array(step.forward),
        float_array(step.u),
        float_array(step.gradient),
        float_array(step.v),
        float_array(step.value),
        None if step.delta is None else float_array(step.delta),
    )
