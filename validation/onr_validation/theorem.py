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
from onr_numpy.network import DenseNetwork

from onr.errors import OnrError
from onr.iterations import Step, projected_gradient_ascent, walk
from onr.losses import LogitDistance
from onr.protocols import Backend, Network, Norm
from onr_validation.rounding import UNIT, jvp_rounding, value_rounding, vjp_rounding

__all__ = ["PROVEN", "CellCheck", "StepCheck", "check_theorem"]

PROVEN = ("1", "2", "inf")
"""The norms that Theorem 1 is stated for, on either side."""
MEASURED_TOLERANCE = 1e-6
"""What counts as equal where there is no theorem and so no bound."""


@dataclass(frozen=True)
class StepCheck:
    """One step of both sequences over a batch of draws, in NumPy."""

    norm_step: Step
    """Eq. 12."""
    ascent_step: Step
    """Eq. 108; its ``forward`` and ``value`` are divided by ``eps``, its ``delta`` too."""
    deviation: np.ndarray
    """``max |(x_k - x) / eps - v_k|``, shape ``(batch,)``."""
    bound: np.ndarray
    """What rounding explains, NaN where there is no theorem."""
    degenerate: tuple[str, ...]
    """For each draw which hypothesis it violates, to rounding, at this step; empty if none."""
    broken: tuple[str, ...]
    """For each draw which identity fails at this step; empty if none."""


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
    propagation = _Propagation(reference, x, v0, eps, p, q)
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


class _Propagation:
    """How far rounding can have driven the two sequences apart, step after step.

    ``drift`` bounds ``||(x_k - x) / eps - v_k||_2``. A step maps it through the Jacobian, the
    gradient of the q-norm, the adjoint, and the duality map of p. Those for 1 and inf are locally
    constant, so that they remove the drift, or, where an entry (or the gap between the two largest)
    is smaller than the drift, are undecided by float64: the draw is then degenerate to rounding.
    The normalisation for an exponent 2 turns ``a`` into ``b`` by the angle whose sine is
    ``|P (b - a)| / |b|``, with ``P`` the projection off ``a``: what the Jacobian passes on is
    ``P J``, whose norm near a fixed point is the second singular value, so that the power method
    forgets its rounding as it forgets its start.
    """

    def __init__(
        self,
        reference: DenseNetwork,
        x: np.ndarray,
        v0: np.ndarray,
        eps: np.ndarray,
        p: Norm,
        q: Norm,
    ) -> None:
        self.reference, self.x, self.eps, self.p, self.q = reference, x, eps, p, q
        self.point = reference.linearize(x)
        self.at_x = value_rounding(self.point, np.zeros_like(_rows(x)))
        self.jacobian = reference.jacobian(x)
        self.previous = v0
        self.slack = 8 * UNIT * np.sqrt(_rows(x).shape[1])
        self.drift = np.full(len(x), self.slack)

    def step(self, a: Step, b: Step) -> StepCheck:
        """Compare one step of Eq. 12 (``a``) with the same step of Eq. 108 (``b``)."""
        norm = np.linalg.norm
        column = self.eps.reshape(-1, *[1] * (self.x.ndim - 1))
        moved = self.x + column * self.previous
        there = self.reference.linearize(moved)
        rounding = value_rounding(there, 2 * UNIT * np.abs(_rows(moved))) + self.at_x
        forward_error = norm(jvp_rounding(self.point, self.previous), axis=1)
        off = a.u if self.q.name == "2" else None
        forward = _gain(self.jacobian, off) * self.drift
        forward += norm(rounding, axis=1) / self.eps + forward_error
        forward += 4 * UNIT * norm(b.forward, axis=1)

        u_drift, u_cause = _normalise(self.q, "J v", a.forward, b.forward, forward, domain=False)
        adjoint_error = norm(vjp_rounding(self.point, a.u), axis=1)
        adjoint_error += norm(vjp_rounding(self.point, b.u), axis=1)
        off = _rows(a.v) if self.p.name == "2" else None
        backward = _gain(self.jacobian.transpose(0, 2, 1), off) * u_drift + adjoint_error
        drift, v_cause = _normalise(
            self.p, "J^T u", _rows(a.gradient), _rows(b.gradient), backward, domain=True
        )
        self.drift = drift + self.slack

        assert b.delta is not None  # noqa: S101 - the ascent records it
        deviation = np.abs(_rows(b.delta) - _rows(a.v)).max(axis=1)
        broken = self._identities(a, b, forward, forward_error, adjoint_error)
        self.previous = a.v
        degenerate = tuple(v or u for u, v in zip(u_cause, v_cause, strict=True))
        return StepCheck(a, b, deviation, self.drift, degenerate, broken)

    def _identities(
        self,
        a: Step,
        b: Step,
        forward: np.ndarray,
        forward_error: np.ndarray,
        adjoint_error: np.ndarray,
    ) -> tuple[str, ...]:
        """What must hold at the step besides the equality of the directions."""
        norm = np.linalg.norm
        v, g, d = _rows(self.previous), _rows(a.gradient), a.forward.shape[1]
        dot = 2 * (v.shape[1] + 4) * UNIT
        apart = np.abs((a.u * a.forward).sum(axis=1) - (g * v).sum(axis=1))
        allowed = norm(a.u, axis=1) * forward_error + norm(v, axis=1) * adjoint_error
        allowed += dot * (norm(g, axis=1) * norm(v, axis=1) + norm(a.u, axis=1) * a.value)
        checks = [("vjp is not the adjoint of jvp", apart <= allowed)]

        for name, one, vector, image in (
            ("p", self.p, a.v, a.gradient),
            ("q", self.q.dual, a.u, a.forward),
        ):
            size = one.dual(image)
            attained = (_rows(vector) * _rows(image)).sum(axis=1)
            tolerance = 16 * (v.shape[1] + 4) * UNIT * size + 1e-300
            unit = np.abs(one(vector) - 1) <= 16 * (v.shape[1] + 4) * UNIT
            reached = (np.abs(attained - size) <= tolerance) & (unit | (size == 0))
            checks.append((f"the duality map of {name} does not attain the norm", reached))

        if self.p.name in PROVEN and self.q.name in PROVEN:
            spread = math.sqrt(d) if self.q.name == "1" else 1.0
            close = np.abs(a.value - b.value) <= spread * forward + 4 * (d + 4) * UNIT * a.value
            checks.append(("||f(x_k) - f(x)||_q / eps is not ||J v_k||_q", close))
        return tuple(
            "; ".join(text for text, holds in checks if not holds[i]) for i in range(len(v))
        )


def _gain(J: np.ndarray, off: np.ndarray | None) -> np.ndarray:
    """``||P J||_2`` of each matrix; ``P`` projects off a unit vector, if one is given."""
    if off is not None:
        J = J - off[:, :, None] * np.einsum("bi,bij->bj", off, J)[:, None, :]
    gram = J @ J.transpose(0, 2, 1) if J.shape[1] <= J.shape[2] else J.transpose(0, 2, 1) @ J
    largest = np.linalg.eigvalsh(gram)[:, -1]
    # The Gram matrix carries a relative error of order d u ||J||^2 of its own.
    whole = np.linalg.norm(J, axis=(1, 2)) ** 2
    found: np.ndarray = 1.0001 * np.sqrt(np.maximum(largest, 0) + 1e-12 * whole)
    return found


def _rows(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1)


def _normalise(
    norm: Norm, what: str, a: np.ndarray, b: np.ndarray, drift: np.ndarray, *, domain: bool
) -> tuple[np.ndarray, list[str]]:
    """The drift after a normalisation, and why it is undecided, draw by draw.

    For the domain's p the map is that of Lemma 1 (``inf``: signs, ``1``: the largest entry); for
    the co-domain's q it is the gradient of the norm, the other way round.
    """
    size = np.abs(a)
    causes = np.full(len(a), "", dtype=object)
    zero = size.max(axis=1) == 0
    after = np.zeros(len(a))
    signs = norm.name == ("inf" if domain else "1")
    largest = norm.name == ("1" if domain else "inf")
    side = f"{'p' if domain else 'q'} = {norm.name}"
    if norm.name == "2":
        smaller = np.minimum(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
        sine = drift / np.where(smaller > 0, smaller, np.inf)
        after = 1.02 * sine  # 2 sin(t / 2) <= 1.02 sin t for sin t <= 0.2
        causes[sine > 0.2] = f"{what} is smaller than its rounding allows ({side})"
    elif signs:
        causes[size.min(axis=1) <= drift] = f"{what} has a zero entry ({side})"
    elif largest:
        ordered = np.sort(size, axis=1)
        second = ordered[:, -2] if size.shape[1] > 1 else np.zeros(len(a))
        causes[ordered[:, -1] - second <= 2 * drift] = f"{what} has a tie for its largest ({side})"
    else:
        after = np.full(len(a), np.nan)
    causes[zero] = f"{what} is zero"
    return after, list(causes)
