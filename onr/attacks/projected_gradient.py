"""The paper's attack, projected gradient ascent, for every norm and loss."""

from __future__ import annotations

import numpy as np

from onr.arrays import better, like
from onr.attacks.soundness import require_sound
from onr.errors import OnrError
from onr.feasible import Bounds, boxed, require_inside, require_radius, require_range
from onr.jacobians.iterations import Ascent, projected_gradient_ascent
from onr.norms import as_norm
from onr.protocols import Array, Loss, Network, Norm
from onr.typing import Rng

__all__ = ["ProjectedGradientAscent"]


class ProjectedGradientAscent:
    """lp-constrained projected gradient ascent on a loss (Eqs. 15 to 18, 108).

    Args:
        p: the norm of the ball; a number is an lp norm.
        loss: the loss to ascend.
        eps: the radius, in the units of the input; 0 returns the input.
        steps: how many iterations from each start.
        alpha: the step size; the paper's ``2 eps / steps`` if not given; ``inf`` takes the limit of
            larger and larger steps.
        restarts: how many random starts, uniform by volume in the ball (Eq. 15).
        bounds: the box of valid inputs, clipped to after each projection; ``None`` for no box.
        keep: ``best`` returns, for each example, the evaluated iterate of largest loss, the last
            among equals; ``last`` returns the last iterate and allows only one start.

    Raises:
        OnrError: an argument is out of its range.

    Example:
        >>> from onr import CrossEntropy, LpNorm
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> attack = ProjectedGradientAscent(p=2, loss=CrossEntropy(), eps=0.1)
        >>> x, y = np.full((4, 3), 0.5), np.zeros(4, int)
        >>> LpNorm(2)(attack(network, x, y, rng=np.random.default_rng(0)) - x).round(6)
        array([0.1, 0.1, 0.1, 0.1])

    """

    def __init__(
        self,
        *,
        p: Norm | float,
        loss: Loss,
        eps: float,
        steps: int = 20,
        alpha: float | None = None,
        restarts: int = 1,
        bounds: Bounds | None = (0.0, 1.0),
        keep: str = "best",
    ) -> None:
        if steps < 1 or restarts < 1:
            raise OnrError(f"steps = {steps}, restarts = {restarts}: expected at least 1 of each")
        if alpha is not None and not alpha > 0:
            raise OnrError(f"alpha = {alpha}: expected a positive number, or inf")
        if keep not in ("best", "last") or (keep == "last" and restarts > 1):
            raise OnrError(f"keep = {keep!r}: expected best, or last with one start")
        self.p, self.loss, self.eps, self.steps = as_norm(p), loss, require_radius(eps), steps
        self.alpha = 2 * eps / steps if alpha is None else alpha
        self.restarts, self.bounds, self.keep = restarts, bounds, keep

    def __call__(self, network: Network, x: Array, y: Array, /, *, rng: Rng) -> Array:
        """Return the perturbed inputs, inside the ball (up to rounding) and inside the box.

        Raises:
            OnrError: an input is outside the box, a label is no class, or a logit or the gradient
                of an image is NaN.
            NotAvailableError: the norm has no sampler.

        """
        require_inside(x, self.bounds)
        require_range(x, eps=self.eps, alpha=self.alpha)
        found = self._ascend(network, x, y, rng)
        best: tuple[Array, ...] = found.sound, found.delta
        for _ in range(self.restarts - 1):
            found = self._ascend(network, x, y, rng)
            best = better(best, (found.sound, found.delta))
        value, moved = best[0], boxed(x, best[1], self.bounds, self.p)
        return require_sound(moved, value, network=network, x=x, y=y, loss=self.loss)

    def _ascend(self, network: Network, x: Array, y: Array, rng: np.random.Generator) -> Ascent:
        start = self.eps * like(self.p.sample_ball(rng, tuple(x.shape)), x)
        return projected_gradient_ascent(
            network,
            x,
            boxed(x, start, self.bounds, self.p) - x,
            loss=self.loss,
            labels=y,
            p=self.p,
            eps=self.eps,
            alpha=self.alpha,
            steps=self.steps,
            bounds=self.bounds,
            keep=self.keep,
        )
