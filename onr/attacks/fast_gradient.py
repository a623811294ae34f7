"""One step along the gradient, from the input itself."""

from __future__ import annotations

from onr.errors import OnrError
from onr.feasible import Bounds, boxed, require_inside, require_radius
from onr.protocols import Array, Loss, Network, Norm
from onr.typing import Rng

__all__ = ["FastGradient"]


class FastGradient:
    """The fast gradient method: ``x + eps v``, with ``v`` the duality map of the loss's gradient.

    For ``p = inf`` this is the fast gradient sign method (Goodfellow et al., 2015). It is one step
    of projected gradient ascent from ``delta = 0`` with ``alpha = inf``. At ties for ``p = 1`` the
    step is shared among them; where the gradient is zero the input is returned.

    Args:
        p: the norm of the ball.
        loss: what to ascend.
        eps: the radius, in the units of the input; 0 returns the input.
        bounds: the box of valid inputs, clipped to after the step.

    Raises:
        OnrError: ``eps`` is no radius, or the loss has no direction at the input itself.

    """

    def __init__(
        self, *, p: Norm, loss: Loss, eps: float, bounds: Bounds | None = (0.0, 1.0)
    ) -> None:
        if loss.uses_clean:
            raise OnrError(
                f"loss {loss.name} compares with the clean logits, and has no direction at the "
                "input itself: choose another loss, or an attack that starts elsewhere, as pga"
            )
        self.p, self.loss, self.eps, self.bounds = p, loss, require_radius(eps), bounds

    def __call__(self, network: Network, x: Array, y: Array, /, *, rng: Rng) -> Array:
        """The perturbed inputs, on the sphere of radius ``eps`` before the box; ``rng`` is unused.

        Raises:
            OnrError: an input is outside the box.

        """
        require_inside(x, self.bounds)
        here = network.linearize(x)
        gradient = here.vjp(self.loss.direction(here.value, labels=y))
        return boxed(x, self.eps * self.p.duality_map(gradient), self.bounds)
