"""What every draw and every step must satisfy besides the theorem, judged by independent code.

Equal sequences alone would not reveal every error: both sequences use the same norms and the same
network. Here the products, the norms, the duality maps, the ball, the cell and its radius are
compared with :mod:`onr_validation.naive` and :mod:`onr_validation.theorem.naive_network`, in
float64. No hypothesis of the theorem excuses a draw in which one of these identities fails.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

import numpy as np

from onr.arrays import to_numpy
from onr.jacobians.iterations import Step
from onr.protocols import BackendNetwork, Norm
from onr_numpy.network import DenseNetwork
from onr_validation.naive import conjugate, exponent, size, steepest
from onr_validation.theorem.naive_network import NaivePoint, naive_point

__all__ = ["EDGE", "Held", "Identities", "radius_is_tight", "said", "value_agrees"]

TOLERANCE = 1e-9
"""How far two float64 computations of one number may differ, relative to its largest term."""
ROUNDING = 1e-13
"""How far ``f(x)`` may be off, relative to ``f`` with all signs positive."""
EDGE = 1e-6
"""The cell must hold a ball of ``1 - EDGE`` times its radius, and none of ``1 + EDGE`` times."""

WRONG_RADIUS = "the radius of the cell is wrong"

Held: TypeAlias = tuple[str, np.ndarray]
"""An identity in the words of its failure, and whether it holds in each draw."""


def said(checks: Sequence[Held], draws: int) -> tuple[str, ...]:
    """The identities that fail in each draw, in words; empty for a draw in which none fails.

    Example:
        >>> said([("J v is wrong", np.array([True, False]))], 2)
        ('', 'J v is wrong')

    """
    return tuple("; ".join(text for text, holds in checks if not holds[i]) for i in range(draws))


def _rows(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1)


def _points(reference: DenseNetwork) -> partial[NaivePoint]:
    return partial(naive_point, reference.architecture, reference.weights)


def value_agrees(network: BackendNetwork, reference: DenseNetwork, x: np.ndarray) -> Held:
    """Whether ``f(x)`` is that of the naive network, up to rounding.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> model = Architecture((2,), (Affine(1),))
        >>> net = DenseNetwork(model, {"0.weight": np.ones((1, 2)), "0.bias": np.zeros(1)})
        >>> value_agrees(net, net, np.ones((1, 2)))[1]
        array([ True])

    """
    point = _points(reference)(x.astype(float), slopes=False)
    found = to_numpy(network(network.asarray(x))).astype(float)
    holds: np.ndarray = np.abs(found - point.value).max(axis=1) <= ROUNDING * point.magnitude
    return "f(x) is wrong", holds


def radius_is_tight(reference: DenseNetwork, x: np.ndarray, radius: np.ndarray, p: Norm) -> Held:
    """Whether the pattern at ``x`` holds just inside ``radius`` and breaks just outside.

    The worst direction leads straight to the nearest wall, where a unit's pre-activation vanishes.
    The naive network is evaluated at ``x`` plus 1 - 1e-6 and 1 + 1e-6 times the radius along it.

    Args:
        reference: the network.
        x: the inputs, shape ``(batch, *input_shape)``.
        radius: what the code under test gives, shape ``(batch,)``.
        p: the norm of the ball.

    Example:
        >>> from onr.architectures import Affine, Architecture, ReLU
        >>> from onr.norms import LpNorm
        >>> model = Architecture((2,), (Affine(1), ReLU()))
        >>> net = DenseNetwork(model, {"0.weight": np.ones((1, 2)), "0.bias": np.zeros(1)})
        >>> x = np.ones((1, 2))
        >>> [radius_is_tight(net, x, np.array([r]), LpNorm(1))[1].item() for r in (1.9, 2, 2.1)]
        [False, True, False]

    """
    at, b, batch = _points(reference), exponent(p), len(x)
    point = at(x)
    slopes, z = point.slopes, point.walls
    steep = np.any(slopes != 0, axis=2)
    if not steep.any():
        return WRONG_RADIUS, np.array(radius == math.inf)
    if b is None:  # a plugin's norm has no naive twin
        steepness = p.dual(slopes.reshape(-1, *x.shape[1:])).reshape(z.shape)
    else:
        steepness = size(slopes, conjugate(b))
    distance = np.where(steep, np.abs(z) / np.where(steep, steepness, 1.0), math.inf)
    rows, nearest = np.arange(batch), np.argmin(distance, axis=1)
    finite = np.isfinite(distance[rows, nearest]) & (radius > 0) & np.isfinite(radius)
    slope = np.where(finite[:, None], slopes[rows, nearest], 1.0)
    unit = _rows(p.duality_map(slope.reshape(x.shape))) if b is None else steepest(slope, b)
    away = np.where(finite, radius, 0.0) * -np.sign(z[rows, nearest])
    toward = (away[:, None] * unit).reshape(x.shape)
    ends = [x + (1 + sign * EDGE) * toward for sign in (-1, 1)]
    pattern = at(np.concatenate(ends), slopes=False).pattern
    inside, outside = np.all(pattern.reshape(2, batch, -1) == point.pattern, axis=2)
    none = ~steep.any(axis=1) & (radius == math.inf)
    holds: np.ndarray = none | (finite & inside & ~outside)
    return WRONG_RADIUS, holds


class Identities:
    """Judges every step of both sequences of a batch of draws.

    Args:
        reference: the network.
        x: the inputs, shape ``(batch, *input_shape)``, floats.
        v0: the direction from which both sequences start, shaped as ``x``, floats.
        eps: the radius of each input's ball, shape ``(batch,)``, floats.
        p: the norm of the domain.
        q: the norm of the co-domain.
        inside: whether ``eps`` is below the radius of the cell, by more than rounding.
        alpha: the step size of Eq. 108 in units of ``eps``.
        raw_gradient: whether Eq. 108 steps along the gradient.
        exact: whether the steps were computed without rounding.

    Example:
        >>> from onr_validation.theorem.draws import REPAIRED, check_counterexample
        >>> check_counterexample(REPAIRED, iterations=2).steps[0].broken
        ('',)

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
        inside: bool,
        alpha: float,
        raw_gradient: bool,
        exact: bool,
    ) -> None:
        self.at, self.x, self.eps = _points(reference), x, eps
        self.p, self.q = exponent(p), exponent(q)
        self.inside, self.alpha, self.raw_gradient, self.exact = inside, alpha, raw_gradient, exact
        self.point = self.at(x)
        self.v, self.delta = _rows(v0), _rows(v0)
        self.image, self.pattern = self._moved(self.delta)
        self.k = 0

    def step(self, a: Step, b: Step) -> tuple[str, ...]:
        """The identities that fail in each draw; ``a`` is a step of Eq. 12, ``b`` of Eq. 108."""
        self.k += 1
        J, draws = self.point.jacobian, len(self.x)
        whole = np.linalg.norm(J, axis=(1, 2))
        assert b.delta is not None  # noqa: S101 - the ascent records it
        delta, b_gradient = _rows(b.delta), _rows(b.gradient)
        moved = ROUNDING * self.point.magnitude / self.eps

        def near(found: np.ndarray, wanted: np.ndarray, terms: np.ndarray) -> np.ndarray:
            close: np.ndarray = np.abs(found - wanted).max(axis=1) <= TOLERANCE * terms
            return close

        checks = [
            ("a step is missing", np.full(draws, a.k == b.k == self.k)),
            (
                "J v is wrong",
                near(a.forward, np.einsum("bij,bj->bi", J, self.v), whole * size(self.v, 2)),
            ),
            (
                "J^T u is wrong",
                near(_rows(a.gradient), np.einsum("bij,bi->bj", J, a.u), whole * size(a.u, 2)),
            ),
            (
                "f(x_k) - f(x) is wrong",
                np.abs(b.forward - self.image).max(axis=1)
                <= 4 * moved + TOLERANCE * size(b.forward, math.inf),
            ),
        ]
        if self.inside:
            wanted = np.einsum("bij,bj->bi", J, self.delta)
            gap = np.abs(b.forward - wanted).max(axis=1)
            slack = 0 if self.exact else 4 * moved
            wanted_back = np.einsum("bij,bi->bj", J, b.u)
            checks += [
                (
                    "f(x_k) - f(x) is not J (x_k - x)",
                    gap <= slack + TOLERANCE * whole * size(self.delta, 2),
                ),
                ("J^T u at x_k is wrong", near(b_gradient, wanted_back, whole * size(b.u, 2))),
            ]
        checks += self._duality("12", a, raw=False) + self._duality("108", b, raw=self.raw_gradient)
        checks += self._ball(b, delta)
        if self.k == 1 and self.p is not None:
            unit = np.abs(size(self.v, self.p) - 1) <= TOLERANCE
            checks.append(("the start has not norm 1", unit))
        self.v, self.delta = _rows(a.v), delta
        self.image, self.pattern = self._moved(delta)
        if self.inside:
            same = np.all(self.pattern == self.point.pattern, axis=1)
            checks.append(("x_k is outside the cell of x", same))
        return said(checks, draws)

    def _moved(self, delta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``(f(x_k) - f(x)) / eps`` and the pattern at ``x_k``."""
        x = self.x + (self.eps[:, None] * delta).reshape(self.x.shape)
        there = self.at(x, slopes=False)
        return (there.value - self.point.value) / self.eps[:, None], there.pattern

    def _duality(self, equation: str, step: Step, *, raw: bool) -> list[Held]:
        """Whether ``v`` and ``u`` are unit vectors that attain the norms of ``J^T u`` and ``J v``.

        They are zero where ``J^T u`` or ``J v`` is zero. If ``raw``, ``v`` is ``J^T u`` itself.
        """
        checks: list[Held] = []
        pairs = []
        if self.q is not None:
            value = np.abs(step.value - size(step.forward, self.q))
            checks.append((f"Eq. {equation}: the q-norm is wrong", value <= TOLERANCE * step.value))
            pairs.append(("u", step.u, step.forward, conjugate(self.q)))
        if raw:
            same = np.all(_rows(step.v) == _rows(step.gradient), axis=1)
            checks.append((f"Eq. {equation}: the step is not along J^T u", same))
        elif self.p is not None:
            pairs.append(("v", _rows(step.v), _rows(step.gradient), self.p))
        for name, vector, image, p in pairs:
            want = size(image, conjugate(p))
            reached = np.abs((vector * image).sum(axis=1) - want) <= TOLERANCE * (
                size(vector, 2) * size(image, 2)
            )
            unit = np.abs(size(vector, p) - (want > 0)) <= TOLERANCE
            checks.append((f"Eq. {equation}: {name} does not attain the norm", reached))
            checks.append((f"Eq. {equation}: {name} has not norm 1", unit))
        return checks

    def _ball(self, b: Step, delta: np.ndarray) -> list[Held]:
        """Whether ``x_k`` is the projection of the step onto the ball, divided by ``eps``.

        ``z`` is the projection of ``y`` onto the unit ball if and only if it lies in the ball and
        ``||y - z||_p* <= <y - z, z>``, which no point of the ball exceeds. In the limit of large
        steps ``z`` lies in the face that the step's direction exposes.
        """
        if self.p is None:
            return []
        checks = [("x_k is outside the ball", size(delta, self.p) <= 1 + TOLERANCE)]
        v = _rows(b.v)
        if self.alpha == math.inf:
            reach = (v * delta).sum(axis=1)
            want = size(v, conjugate(self.p))
            holds = np.abs(reach - want) <= TOLERANCE * size(v, 2) * size(delta, 2)
            checks.append(("x_k is not in the face of J^T u", holds))
        else:
            rest = self.delta + self.alpha * v - delta
            pull, reach = size(rest, conjugate(self.p)), (rest * delta).sum(axis=1)
            holds = pull - reach <= TOLERANCE * (1 + self.alpha) * (1 + size(delta, 2))
            checks.append(("x_k is not the projection of the step", holds))
        return checks
