"""A bound on how far rounding can drive the two sequences of Theorem 1 apart, step by step."""

from __future__ import annotations

import math

import numpy as np

from onr.jacobians.iterations import Step
from onr.protocols import Norm
from onr_numpy.network import DenseNetwork
from onr_validation.theorem.comparison import StepCheck
from onr_validation.theorem.identities import said
from onr_validation.theorem.rounding import UNIT, jvp_rounding, value_rounding, vjp_rounding

__all__ = ["PROVEN", "Propagation"]

PROVEN = ("1", "2", "inf")
"""The exponents that Theorem 1 is stated for, both for p and for q."""


class Propagation:
    """Bounds how far rounding can have driven the two sequences apart, step by step.

    ``drift`` bounds ``||(x_k - x) / eps - v_k||_2``. A step maps the drift through the Jacobian,
    the gradient of the q-norm, the adjoint, and the duality map of p.

    For p or q in {1, inf} the map is a sign or an argmax, which is locally constant. A drift that
    is smaller than every entry (or than half the gap between the two largest) vanishes. A larger
    drift leaves float64 unable to decide, and the draw counts as degenerate.

    For an exponent 2 the normalisation turns ``a`` into ``b`` by the angle whose sine is
    ``|P (b - a)| / |b|``, where ``P`` projects off ``a``. The Jacobian passes the drift on through
    ``P J``, whose norm near a fixed point is the second singular value: the power method
    forgets its rounding as it forgets its start.

    Args:
        reference: the network under test as a dense network.
        x: the inputs, shape ``(batch, *input_shape)``.
        v0: the direction from which both sequences start, shaped as ``x``.
        eps: the radius of each input's ball, shape ``(batch,)``.
        p: the norm of the domain.
        q: the norm of the co-domain.
        inside: whether ``eps`` is below the radius of the cell, so that the values must agree too.

    """

    def __init__(
        self,
        reference: DenseNetwork,
        x: np.ndarray,
        v0: np.ndarray,
        eps: np.ndarray,
        p: Norm,
        q: Norm,
        *,
        inside: bool = True,
    ) -> None:
        self.inside = inside
        self.reference, self.x, self.eps, self.p, self.q = reference, x, eps, p, q
        self.point = reference.linearize(x)
        self.at_x = value_rounding(self.point, np.zeros_like(_rows(x)))
        self.jacobian = reference.jacobian(x)
        self.previous = v0
        self.slack = 8 * UNIT * np.sqrt(_rows(x).shape[1])
        self.drift = np.full(len(x), self.slack)
        self.decided = np.ones(len(x), dtype=bool)

    def step(self, a: Step, b: Step) -> StepCheck:
        """Compare one step of Eq. 12 (``a``) with the same step of Eq. 108 (``b``)."""
        norm = np.linalg.norm
        column = self.eps.reshape(-1, *[1] * (self.x.ndim - 1))
        moved = self.x + column * self.previous
        moved_point = self.reference.linearize(moved)
        rounding = value_rounding(moved_point, 2 * UNIT * np.abs(_rows(moved))) + self.at_x
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
        # From a degenerate step on, the two sequences may differ, and from a difference on they do.
        self.decided &= np.array([not cause for cause in degenerate]) & (deviation <= self.drift)
        return StepCheck(a, b, deviation, self.drift, degenerate, broken)

    def _identities(
        self,
        a: Step,
        b: Step,
        forward: np.ndarray,
        forward_error: np.ndarray,
        adjoint_error: np.ndarray,
    ) -> tuple[str, ...]:
        """The identities that fail in each draw at this step, apart from the equal directions."""
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

        if self.inside and self.p.name in PROVEN and self.q.name in PROVEN:
            spread = math.sqrt(d) if self.q.name == "1" else 1.0
            close = np.abs(a.value - b.value) <= spread * forward + 4 * (d + 4) * UNIT * a.value
            text = "||f(x_k) - f(x)||_q / eps is not ||J v_k||_q"
            checks.append((text, close | ~self.decided))
        return said(checks, len(v))


def _gain(J: np.ndarray, off: np.ndarray | None) -> np.ndarray:
    """The norm ``||P J||_2`` of each matrix, where ``P`` projects off the unit vector ``off``."""
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
    """The drift after a normalisation, and why float64 cannot decide it (empty where it can).

    For the domain's p the normalisation is the duality map of Lemma 1: the signs for inf, the
    largest entry for 1. For the co-domain's q it is the gradient of the norm: the signs for 1, the
    largest entry for inf. The drift is NaN for exponents other than 1, 2 and inf.
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
