"""The attack of the paper, for every norm and loss of the registry."""

from __future__ import annotations

import numpy as np

from onr.arrays import array_namespace, column, like
from onr.errors import OnrError
from onr.iterations import projected_gradient_ascent
from onr.protocols import Array, Loss, Network, Norm

__all__ = ["ProjectedGradientAscent"]


class ProjectedGradientAscent:
    """lp-constrained projected gradient ascent on a loss (Eqs. 15 to 18, 108).

    Args:
        p: the norm of the ball.
        loss: what to ascend.
        eps: the radius, in the units of the input; 0 returns the input.
        steps: iterations from each start.
        alpha: the step size; the paper's ``2 eps / steps`` if not given, ``inf`` for the limit.
        restarts: random starts, uniform by volume in the ball (Eq. 15).
        bounds: the box of valid inputs, clipped to after each projection.
        keep: ``best`` returns, for each example, the evaluated iterate of largest loss; ``last``
            the last one, of the only start.

    Raises:
        OnrError: an argument out of its range.

    """

    def __init__(
        self,
        *,
        p: Norm,
        loss: Loss,
        eps: float,
        steps: int = 10,
        alpha: float | None = None,
        restarts: int = 1,
        bounds: tuple[float, float] | None = (0.0, 1.0),
        keep: str = "best",
    ) -> None:
        if not 0 <= eps < float("inf"):
            raise OnrError(f"eps = {eps}: expected a finite number >= 0")
        if steps < 1 or restarts < 1:
            raise OnrError(f"steps = {steps}, restarts = {restarts}: expected at least 1 of each")
        if alpha is not None and not alpha > 0:
            raise OnrError(f"alpha = {alpha}: expected a positive number, or inf")
        if keep not in ("best", "last") or (keep == "last" and restarts > 1):
            raise OnrError(f"keep = {keep!r}: expected best, or last with one start")
        self.p, self.loss, self.eps, self.steps = p, loss, eps, steps
        self.alpha = 2 * eps / steps if alpha is None else alpha
        self.restarts, self.bounds, self.keep = restarts, bounds, keep

    def __call__(
        self, network: Network, x: Array, y: Array, /, *, rng: np.random.Generator
    ) -> Array:
        """The perturbed inputs, inside the ball (to rounding) and inside the box.

        Raises:
            OnrError: an input is outside the box.

        """
        xp = array_namespace(x)
        if self.bounds is not None:
            low, high = self.bounds
            if bool(xp.any(x < low)) or bool(xp.any(x > high)):
                raise OnrError(
                    f"inputs reach outside [{low:g}, {high:g}]: expected pixels in these bounds; "
                    "put the normalisation inside the model"
                )
        best_delta, best_value = None, None
        for _ in range(self.restarts):
            start = self.eps * like(self.p.sample_ball(rng, tuple(x.shape)), x)
            found = projected_gradient_ascent(
                network,
                x,
                self._boxed(x, start) - x,
                loss=self.loss,
                labels=y,
                p=self.p,
                eps=self.eps,
                alpha=self.alpha,
                steps=self.steps,
                bounds=self.bounds,
                keep=self.keep,
            )
            if best_delta is None:
                best_delta, best_value = found.delta, found.value
            else:
                won = found.value > best_value
                best_delta = xp.where(column(won, x), found.delta, best_delta)
                best_value = xp.where(won, found.value, best_value)
        return self._boxed(x, best_delta)

    def _boxed(self, x: Array, delta: Array) -> Array:
        if self.bounds is None:
            return x + delta
        xp = array_namespace(x)
        low, high = (xp.zeros_like(x) + bound for bound in self.bounds)
        return xp.minimum(xp.maximum(x + delta, low), high)
