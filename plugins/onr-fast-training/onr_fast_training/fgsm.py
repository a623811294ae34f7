"""The methods ``rs-fgsm`` and ``n-fgsm``: cross-entropy at one step of the fast gradient method.

Both cost two forward-backward passes a step. The gradient of the attack is taken in evaluation
mode, as in all methods of onr; the authors take it in training mode.
"""

from __future__ import annotations

from dataclasses import dataclass

from onr import CrossEntropy
from onr.protocols import Array, Cost, Network, NormLike, Outputs, Probe
from onr.typing import Kept, Rng
from onr_fast_training.ball import Ball, ball, clipped, require, require_pixels

__all__ = ["OneStep", "n_fgsm", "rs_fgsm"]

CROSS_ENTROPY = CrossEntropy()


@dataclass(frozen=True)
class OneStep:
    """The cost ``l(y, f(x*))``, where ``x*`` is one step of length ``alpha`` from noise.

    The noise is uniform in the ball of radius ``k eps``, and the step is along the duality map of
    the gradient of the cross-entropy ``l``.

    Example:
        >>> rs_fgsm(eps=0.1).settings
        {'p': 'inf', 'eps': 0.1, 'alpha': 0.125}

    """

    ball: Ball
    k: float
    alpha: float
    projected: bool
    """True if ``x*`` is brought back into the ball of radius ``eps``."""

    @property
    def settings(self) -> dict[str, str | float]:
        """The ball, and what the method lets its user choose: ``alpha`` or ``k``."""
        chosen = {"alpha": self.alpha} if self.projected else {"k": self.k}
        return self.ball.settings | chosen

    def perturb(self, network: Network, x: Array, y: Array, /, *, rng: Rng, memory: Kept) -> Probe:
        """Ask for the logits at the perturbed inputs alone."""
        require_pixels(x)
        start = self.ball.noise(x, self.k, rng=rng)
        here = network.linearize(start, jvp=False)
        gradient = here.vjp(CROSS_ENTROPY.direction(here.value, labels=y))
        step = self.ball.step(gradient, self.alpha)
        moved = self.ball.project(x, start - x + step) if self.projected else clipped(start, step)
        return Probe(clean=False, perturbed=(moved,))

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """The cross-entropy at the perturbed inputs."""
        (z,) = outputs.perturbed
        gradient = CROSS_ENTROPY.gradient(z, labels=y)
        return Cost(CROSS_ENTROPY.value(z, labels=y), Outputs(perturbed=(gradient,)))


def rs_fgsm(
    *, p: NormLike = "inf", eps: float | None = None, alpha: float | None = None
) -> OneStep:
    """Build the method ``rs-fgsm``, one step from a random start in the ball.

    ``delta = clip(eta + alpha eps sign grad)`` with ``eta`` uniform in [-eps, eps], clipped to the
    ball.

    E. Wong, L. Rice and J. Z. Kolter, "Fast is better than free", 2020, algorithm 3. It is known to
    collapse at 8/255 and above: the network comes to withstand this one step and no other.

    Args:
        p: the norm of the ball, 2 or inf.
        eps: the radius, pixels in [0, 1]; 0.5 or 8/255 for p = 2 or inf if not given.
        alpha: the length of the step, pixels in [0, 1]; 1.25 eps if not given.

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> rs_fgsm(p=2).ball.eps
        0.5

    """
    region = ball("rs-fgsm", p, eps)
    length = require("rs-fgsm", "alpha", 1.25 * region.eps if alpha is None else alpha, above=0)
    return OneStep(region, 1.0, length, projected=True)


def n_fgsm(*, p: NormLike = "inf", eps: float | None = None, k: float = 2.0) -> OneStep:
    """Build the method ``n-fgsm``, one step after stronger noise, and no clipping to the ball.

    ``delta = eta + eps sign grad(x + eta)`` with ``eta`` uniform in [-k eps, k eps]. The
    perturbation is up to ``(1 + k) eps`` long; the pixels are clipped to [0, 1].

    P. de Jorge et al., "Make some noise: reliable and efficient single-step adversarial training",
    2022.

    Args:
        p: the norm of the ball, 2 or inf.
        eps: the radius, pixels in [0, 1]; 0.5 or 8/255 for p = 2 or inf if not given.
        k: the radius of the noise over eps. The authors take 2, and 4 for a wide residual network
            at 16/255. With 0 this is the fast gradient method, which collapses.

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> n_fgsm(eps=0.1).settings
        {'p': 'inf', 'eps': 0.1, 'k': 2.0}

    """
    region = ball("n-fgsm", p, eps)
    return OneStep(region, require("n-fgsm", "k", k), region.eps, projected=False)
