"""Random perturbations that ignore the network's gradient: the control of every comparison."""

from __future__ import annotations

import numpy as np

from onr.arrays import better, column, like
from onr.attacks.soundness import require_sound
from onr.errors import OnrError
from onr.feasible import Bounds, boxed, require_inside, require_radius, require_range
from onr.protocols import Array, Loss, Network, Norm
from onr.typing import Rng

__all__ = ["Noise"]


class Noise:
    """A random perturbation at the full radius.

    A point is drawn uniformly by volume in the ball and scaled to p-norm ``eps``, so that it is as
    large as the perturbation of any attack; then it is clipped to the box.

    Args:
        p: the norm of the ball.
        loss: selects among several draws.
        eps: the radius, in the units of the input; 0 returns the input.
        restarts: the number of draws. Each example keeps the draw of largest loss, the last among
            equals. With a single draw the network is not evaluated.
        bounds: the box of valid inputs, to which each draw is clipped; ``None`` for no box.

    Raises:
        OnrError: ``eps`` is negative or not finite, or ``restarts`` is less than 1.

    Example:
        >>> from onr import CrossEntropy, LpNorm
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> noise = Noise(p=LpNorm(2), loss=CrossEntropy(), eps=0.1)
        >>> x, y = np.full((4, 3), 0.5), np.zeros(4, int)
        >>> LpNorm(2)(noise(network, x, y, rng=np.random.default_rng(0)) - x).round(6)
        array([0.1, 0.1, 0.1, 0.1])

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

    def __call__(self, network: Network, x: Array, y: Array, /, *, rng: Rng) -> Array:
        """Return the perturbed inputs.

        Raises:
            OnrError: an input is outside the box; with several draws, a label is no class, or a
                logit of an image is NaN.
            NotAvailableError: the norm has no sampler.

        """
        require_inside(x, self.bounds)
        require_range(x, eps=self.eps)
        drawn = self._draw(x, rng)
        if self.restarts == 1:
            return drawn
        clean = network(x) if self.loss.uses_clean else None
        best: tuple[Array, ...] | None = None
        for index in range(self.restarts):
            drawn = drawn if index == 0 else self._draw(x, rng)
            value = self.loss.value(network(drawn), labels=y, clean=clean)
            best = better(best, (value, drawn))
        assert best is not None  # noqa: S101 - for the type checker; restarts >= 1
        value, moved = best
        return require_sound(moved, value, network=network, x=x, y=y, loss=self.loss)

    def _draw(self, x: Array, rng: np.random.Generator) -> Array:
        direction = like(self.p.sample_ball(rng, tuple(x.shape)), x)
        length = column(self.eps / self.p(direction), direction)
        return boxed(x, length * direction, self.bounds, self.p)
