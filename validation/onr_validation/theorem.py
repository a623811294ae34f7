"""Theorem 1, checked: Eq. 12 and Eq. 108 run side by side from one start.

Each draw is a network, an input, a radius inside the input's ReLU cell, and a start. The two
sequences agree in exact arithmetic if the draw is generic; in float64 they agree to a bound that
follows from the rounding of ``f(x_k) - f(x)``, which loses ``|f| / (eps ||J v||)`` in relative
accuracy, and that is propagated from step to step. The bound is computed for every draw and step,
and the theorem's verdict is that every deviation stays below it.

Besides the deviation the check asks, at every step, for what the equality alone would not see: that
``vjp`` is the adjoint of ``jvp``, and that both duality maps attain their norms (Lemma 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onr.errors import OnrError
from onr.iterations import Step, projected_gradient_ascent, walk
from onr.losses import LogitDistance
from onr.protocols import Backend, Network, Norm
from onr_numpy.network import DenseNetwork
from onr_validation.propagation import PROVEN, Propagation, StepCheck

__all__ = ["CellCheck", "check_theorem"]

MEASURED_TOLERANCE = 1e-6
"""What counts as equal where there is no theorem and so no bound."""


@dataclass(frozen=True)
class CellCheck:
    """All steps of a batch of draws for one (p, q)."""

    p: str
    q: str
    alpha: float
    """In units of eps."""
    radius: np.ndarray
    """The p-radius of each input's ReLU cell."""
    eps: np.ndarray
    steps: tuple[StepCheck, ...]

    @property
    def proven(self) -> bool:
        """Whether Theorem 1 speaks of this p, q and alpha."""
        limit = self.alpha == math.inf or (self.p != "2" and self.alpha >= 2)
        return self.p in PROVEN and self.q in PROVEN and limit

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
        """For each generic draw what contradicts the theorem; empty if nothing does."""
        found = []
        for i, cause in enumerate(self.cause):
            reason = ""
            for step in () if cause else self.steps:
                limit = step.bound[i] if self.proven else MEASURED_TOLERANCE
                if step.broken[i]:
                    reason = step.broken[i]
                elif not step.deviation[i] <= limit:
                    reason = f"deviation {step.deviation[i]:.2e} above {limit:.2e}"
                if reason:
                    reason = f"step {step.norm_step.k}: {reason}"
                    break
            found.append(reason)
        return found

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


def check_theorem(
    backend: Backend,
    network: Network,
    reference: DenseNetwork,
    x: np.ndarray,
    start: np.ndarray,
    *,
    p: Norm,
    q: Norm,
    alpha: float = math.inf,
    iterations: int = 20,
    fraction: float = 0.5,
) -> CellCheck:
    """Run both sequences of Theorem 1 and compare them step by step.

    Args:
        backend: of the network.
        network: the network under test, in float64.
        reference: the same network, dense; gives the cell and the rounding.
        x: inputs, shape ``(batch, *input_shape)``.
        start: ``v_0``, shaped as ``x``; normalised here. Both sequences start there.
        p: the norm of the domain.
        q: the norm of the co-domain.
        alpha: the step size of Eq. 108 in units of ``eps``.
        iterations: how many.
        fraction: ``eps`` as a fraction of the cell's radius, below 1.

    Raises:
        OnrError: an input lies on the wall of its cell, or a fraction is not below 1.

    """
    if not 0 < fraction < 1:
        raise OnrError(f"fraction = {fraction:g}: expected a number between 0 and 1")
    radius = reference.cell_radius(x, p=p)
    if not np.all(radius > 0):
        raise OnrError("an input lies on the wall of its ReLU cell: no ball around it fits")
    eps = fraction * np.where(np.isfinite(radius), radius, 1.0)
    v0 = start / p(start).reshape(-1, *[1] * (x.ndim - 1))
    on_device = backend.asarray(x, network)

    norm_steps: list[Step] = []
    ascent_steps: list[Step] = []
    walk(
        network.linearize(on_device),
        backend.asarray(v0, network),
        p=p,
        q=q,
        steps=iterations,
        trace=norm_steps.append,
    )
    scale = eps.reshape(-1, *[1] * (x.ndim - 1))
    projected_gradient_ascent(
        network,
        on_device,
        backend.asarray(scale * v0, network),
        loss=LogitDistance(q),
        labels=None,
        p=p,
        eps=backend.asarray(eps, network),
        alpha=alpha if alpha == math.inf else backend.asarray(alpha * eps, network),
        steps=iterations,
        trace=ascent_steps.append,
    )
    propagation = Propagation(reference, x, v0, eps, p, q)
    steps = tuple(
        propagation.step(_to_numpy(backend, a), _to_numpy(backend, b, eps))
        for a, b in zip(norm_steps, ascent_steps, strict=True)
    )
    return CellCheck(p.name, q.name, alpha, radius, eps, steps)


def _to_numpy(backend: Backend, step: Step, eps: np.ndarray | None = None) -> Step:
    """The step in NumPy, what is of the size of ``eps`` divided by it."""

    def scaled(values: np.ndarray) -> np.ndarray:
        return values if eps is None else values / eps.reshape(-1, *[1] * (values.ndim - 1))

    return Step(
        step.k,
        scaled(backend.to_numpy(step.forward)),
        backend.to_numpy(step.u),
        backend.to_numpy(step.gradient),
        backend.to_numpy(step.v),
        scaled(backend.to_numpy(step.value)),
        None if step.delta is None else scaled(backend.to_numpy(step.delta)),
    )
