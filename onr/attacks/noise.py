"""A perturbation that knows nothing of the network: the control of every comparison."""

from __future__ import annotations

import numpy as np

from onr.arrays import array_namespace, column, like
from onr.errors import OnrError
from onr.feasible import Bounds, boxed, require_inside, require_radius
from onr.protocols import Array, Loss, Network, Norm

__all__ = ["Noise"]


class Noise:
    """A random direction at the full radius.

    The direction is that of a point uniform by volume in the ball; before the box its p-norm is
    exactly ``eps``, so that it is as large as the perturbation of any attack.

    Args:
        p: the norm of the ball.
        loss: which of several draws to keep.
        eps: the radius, in the units of the input; 0 returns the input.
        restarts: draws, of which each example keeps that of largest loss, the first among equals.
            One draw asks nothing of the network.
        bounds: the box of valid inputs, clipped to after the step.

    Raises:
        OnrError: an argument out of its range.

    """

    def __init__(
        self,
        *,
        p: Norm,
        loss: Loss,
        eps: float,
        restarts: int = 1,
        bounds: Bounds | None = (0.0, 1.0),
    ) -> None:
        if restarts < 1:
            raise OnrError(f"restarts = {restarts}: expected at least 1")
        self.p, self.loss, self.eps = p, loss, require_radius(eps)
        self.restarts, self.bounds = restarts, bounds

    def __call__(
        self, network: Network, x: Array, y: Array, /, *, rng: np.random.Generator
    ) -> Array:
        """The perturbed inputs.

        Raises:
            OnrError: an input is outside the box.
            NotAvailableError: the norm has no sampler.

        """
        require_inside(x, self.bounds)
        best = self._draw(x, rng)
        if self.restarts == 1:
            return best
        xp = array_namespace(x)
        clean = network(x) if self.loss.uses_clean else None
        value = self.loss.value(network(best), labels=y, clean=clean)
        for _ in range(self.restarts - 1):
            other = self._draw(x, rng)
            found = self.loss.value(network(other), labels=y, clean=clean)
            won = found > value
            best = xp.where(column(won, x), other, best)
            value = xp.where(won, found, value)
        return best

    def _draw(self, x: Array, rng: np.random.Generator) -> Array:
        direction = self.p.sample_ball(rng, tuple(x.shape))
        direction = direction / column(self.p(direction), direction)
        return boxed(x, like(self.eps * direction, x), self.bounds)
