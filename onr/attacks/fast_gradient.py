"""The fast gradient method: one step along the gradient, from the input itself."""

from __future__ import annotations

from onr.attacks.soundness import require_sound
from onr.errors import OnrError
from onr.feasible import Bounds, boxed, require_inside, require_radius, require_range
from onr.protocols import Array, Loss, Network, Norm
from onr.typing import Rng

__all__ = ["FastGradient"]


class FastGradient:
    """The fast gradient method: ``x + eps v``, where ``v`` is the duality map of the gradient.

    For ``p = inf`` this is the fast gradient sign method (Goodfellow et al., 2015). It is one step
    of projected gradient ascent from ``delta = 0`` with ``alpha = inf``. For ``p = 1``, tied
    entries of the gradient share the step. Where the gradient is zero the input is returned.

    Args:
        p: the norm of the ball.
        loss: the loss to ascend.
        eps: the radius, in the units of the input; 0 returns the input.
        bounds: the box of valid inputs, to which the result is clipped; ``None`` for no box.

    Raises:
        OnrError: ``eps`` is negative or not finite, or the loss has no direction at the input
            itself (a loss that compares with the clean logits).

    Example:
        >>> from onr import CrossEntropy, LpNorm
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> attack = FastGradient(p=LpNorm(float("inf")), loss=CrossEntropy(), eps=0.1)
        >>> x, y, rng = np.full((1, 3), 0.5), np.array([0]), np.random.default_rng(0)
        >>> abs(attack(network, x, y, rng=rng) - x).round(6)
        array([[0.1, 0.1, 0.1]])

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
        """Return the perturbed inputs, at distance ``eps`` before clipping; ``rng`` is unused.

        Raises:
            OnrError: an input is outside the box, a label is no class, or a logit or the gradient
                of an image is NaN.

        """
        require_inside(x, self.bounds)
        require_range(x, eps=self.eps)
        here = network.linearize(x, jvp=False)
        gradient = here.vjp(self.loss.direction(here.value, labels=y))
        delta = self.eps * self.p.duality_map(gradient)
        moved = boxed(x, delta, self.bounds, self.p)
        value = self.loss.value(here.value, labels=y)
        return require_sound(moved, value, network=network, x=x, y=y, loss=self.loss)
