"""The method ``trades``: ascend and pay the Kullback-Leibler divergence to the clean outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onr.arrays import like
from onr.errors import OnrError
from onr.protocols import Array, Cost, Network, NormLike, Outputs, Probe
from onr.typing import Kept, Rng
from onr_fast_training.ball import Ball, ball, require, require_pixels
from onr_fast_training.distances import Divergence, softmax
from onr_fast_training.guided import cost_with_distance

__all__ = ["Trades", "trades"]

NOISE = 1e-3
"""The deviation of the Gaussian noise at the start; at ``x`` itself the gradient is zero."""


@dataclass(frozen=True)
class Trades:
    """The cost ``l(y, f(x)) + lam KL(f(x) || f(x*))``, where ``x*`` ascends the divergence.

    Example:
        >>> trades(eps=0.1).settings
        {'p': 'inf', 'eps': 0.1, 'lam': 6.0, 'steps': 10, 'alpha': 0.025}

    """

    ball: Ball
    lam: float
    steps: int
    alpha: float

    @property
    def settings(self) -> dict[str, str | float]:
        """The ball, the weight, and the steps of the attack with their length."""
        mine: dict[str, str | float] = {"lam": self.lam, "steps": self.steps, "alpha": self.alpha}
        return self.ball.settings | mine

    def perturb(self, network: Network, x: Array, y: Array, /, *, rng: Rng, memory: Kept) -> Probe:
        """Ask for the logits at the clean and at the perturbed inputs."""
        require_pixels(x)
        here = softmax(network(x))
        moved = x + NOISE * like(rng.standard_normal(tuple(x.shape), dtype=np.float32), x)
        for _ in range(self.steps):
            there = network.linearize(moved, jvp=False)
            gradient = there.vjp(softmax(there.value) - here)
            step = self.ball.step(gradient, self.alpha)
            moved = self.ball.project(x, moved - x + step)
        return Probe(perturbed=(moved,))

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """The cost and its gradients in the clean and in the perturbed logits."""
        return cost_with_distance(Divergence(), self.lam, outputs, y)


def trades(
    *,
    p: NormLike = "inf",
    eps: float | None = None,
    lam: float = 6.0,
    steps: int = 10,
    alpha: float | None = None,
) -> Trades:
    """Build the method ``trades``.

    Projected gradient ascent on ``KL(softmax f(x) || softmax f(x*))`` from Gaussian noise of
    deviation 0.001 finds ``x*``. A step of training costs a forward pass at ``x``, a
    forward-backward pass for each step of the attack, and the passes of the clean and of the
    perturbed inputs.

    H. Zhang et al., "Theoretically principled trade-off between robustness and accuracy", 2019,
    algorithm 1. Where the authors' code takes 0.007 steps at eps = 0.031, the default here is
    eps/4, 2/255 at 8/255. It attacks in evaluation mode, as here.

    Args:
        p: the norm of the ball, 2 or inf.
        eps: the radius, pixels in [0, 1]; 0.5 or 8/255 for p = 2 or inf if not given.
        lam: the weight, which is beta in the authors' code and 1/lambda in the paper.
        steps: the number of steps of the attack.
        alpha: their length, pixels in [0, 1]; eps/4 for p = inf and 2 eps / steps for p = 2 if not
            given.

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> trades(p=2, eps=0.5).alpha
        0.1

    """
    if steps < 1:
        raise OnrError(f"method trades, steps = {steps}: expected at least 1")
    region = ball("trades", p, eps)
    if alpha is None:
        alpha = region.eps / 4 if region.norm.p == math.inf else 2 * region.eps / steps
    require("trades", "alpha", alpha, above=0)
    return Trades(region, require("trades", "lam", lam), steps, alpha)
