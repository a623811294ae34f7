"""The methods ``gat`` and ``nuat``: one attack step, guided by a distance that training pays for.

The attack ascends the cross-entropy, and in every second step of training the cross-entropy plus
the weighted distance. A step costs one forward-backward pass for the attack, one more forward pass
in every second step, and the forward-backward passes of the clean and of the perturbed inputs that
are paid for. All of the attack is in evaluation mode; the authors take the clean outputs in
training mode there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from onr import CrossEntropy
from onr.protocols import Array, Cost, Moment, Network, NormLike, Outputs, Probe
from onr.typing import Kept, Rng
from onr_fast_training.ball import Ball, ball, require, require_pixels
from onr_fast_training.distances import Distance, NuclearNorm, SquaredSoftmax

__all__ = ["Guided", "cost_with_distance", "gat", "nuat"]

CROSS_ENTROPY = CrossEntropy()
LATE = 0.86
"""The progress of training at which GAT raises its weight: after 86 of the authors' 100 epochs."""
RISEN = 0.9
"""The progress at which the weight of NuAT is full: after 90 of the authors' 100 epochs."""


def cost_with_distance(distance: Distance, weight: float, outputs: Outputs, y: Array) -> Cost:
    """The cross-entropy of the clean logits plus the weighted distance to the perturbed ones.

    Example:
        >>> z = np.zeros((1, 2))
        >>> outputs = Outputs(clean=z, perturbed=(z,))
        >>> cost_with_distance(SquaredSoftmax(), 10.0, outputs, np.array([0])).value.round(4)
        array([0.6931])

    """
    (moved,) = outputs.perturbed
    far = distance(moved, outputs.clean)
    value = CROSS_ENTROPY.value(outputs.clean, labels=y) + weight * far.value
    gradient = CROSS_ENTROPY.gradient(outputs.clean, labels=y) + weight * far.clean
    return Cost(value, Outputs(clean=gradient, perturbed=(weight * far.moved,)))


@dataclass(frozen=True)
class Guided:
    """The cost ``l(y, f(x)) + lam distance(f(x*), f(x))``, with ``lam`` as training goes on.

    ``x*`` is ``x`` with noise of half the radius, moved by ``eps`` along the duality map of the
    gradient of ``l + lam distance`` in every second step and of ``l`` in the others, then projected
    onto the ball.

    Example:
        >>> gat(eps=0.1).at_moment(Moment(step=1, progress=0.9)).weight
        40.0

    """

    ball: Ball
    distance: Distance
    chosen: dict[str, str | float]
    """The weight and its schedule, for the record of a run."""
    schedule: Callable[[float], float]
    """The weight at a progress in [0, 1)."""
    weight: float
    """The weight of the distance."""
    guides: bool = True
    """Whether the attack ascends the distance too."""

    @property
    def settings(self) -> dict[str, str | float]:
        """The ball, and the weight with its schedule."""
        return self.ball.settings | self.chosen

    def at_moment(self, moment: Moment, /) -> Guided:
        """The method of a step: its weight, and whether the distance guides its attack."""
        weight, guides = self.schedule(moment.progress), moment.step % 2 == 1
        return replace(self, weight=weight, guides=guides)

    def perturb(self, network: Network, x: Array, y: Array, /, *, rng: Rng, memory: Kept) -> Probe:
        """Ask for the logits at the clean and at the perturbed inputs."""
        require_pixels(x)
        start = self.ball.signs(x, 0.5, rng=rng)
        there = network.linearize(start, jvp=False)
        if self.guides and self.weight > 0:
            far = self.distance(there.value, network(x))
            ascended = CROSS_ENTROPY.gradient(there.value, labels=y) + self.weight * far.moved
        else:  # a multiple of the gradient that does not underflow
            ascended = CROSS_ENTROPY.direction(there.value, labels=y)
        step = self.ball.step(there.vjp(ascended), self.ball.eps)
        return Probe(perturbed=(self.ball.project(x, start - x + step),))

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """The cost and its gradients in the clean and in the perturbed logits."""
        return cost_with_distance(self.distance, self.weight, outputs, y)


def gat(
    *, p: NormLike = "inf", eps: float | None = None, lam: float = 10.0, late: float = 4.0
) -> Guided:
    """Build the method ``gat``, guided adversarial training.

    It pays ``l(y, f(x)) + lam ||softmax f(x*) - softmax f(x)||_2^2``. The noise is +- eps/2 in each
    pixel; for p = 2 it is uniform in the ball of radius eps/2.

    G. Sriramanan, S. Addepalli, A. Baburaj and R. V. Babu, "Guided adversarial attack for
    evaluating and enhancing adversarial defenses", 2020; the settings are those of the authors'
    script for CIFAR-10.

    Args:
        p: the norm of the ball, 2 or inf.
        eps: the radius, pixels in [0, 1]; 0.5 or 8/255 for p = 2 or inf if not given.
        lam: the weight.
        late: the factor of the weight in the last 14 % of training.

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> gat(eps=0.1).settings
        {'p': 'inf', 'eps': 0.1, 'lam': 10.0, 'late': 4.0}

    """
    require("gat", "lam", lam)
    require("gat", "late", late)
    return Guided(
        ball("gat", p, eps),
        SquaredSoftmax(),
        {"lam": lam, "late": late},
        lambda progress: lam * late if progress >= LATE else lam,
        lam,
    )


def nuat(*, p: NormLike = "inf", eps: float | None = None, lam: float = 4.0) -> Guided:
    """Build the method ``nuat``, nuclear norm adversarial training.

    It pays ``l(y, f(x)) + lam ||f(x*) - f(x)||_* / batch``, the nuclear norm of the matrix of the
    batch's changes of the logits. The noise is that of :func:`gat`. The weight rises linearly from
    0 to ``lam`` over the first 90 % of training. Under ``torchrun`` each process takes the norm of
    its own rows, as batch normalisation takes their statistics.

    G. Sriramanan, S. Addepalli, A. Baburaj and R. V. Babu, "Towards efficient and effective
    adversarial training", 2021. The authors' script for CIFAR-10 and ResNet-18 has 4.5
    for ``lam``, raises it once an epoch, and takes the norm of logits, as here.

    Args:
        p: the norm of the ball, 2 or inf.
        eps: the radius, pixels in [0, 1]; 0.5 or 8/255 for p = 2 or inf if not given.
        lam: the weight in the end.

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> nuat().at_moment(Moment(step=0, progress=0.45)).weight
        2.0

    """
    require("nuat", "lam", lam)
    return Guided(
        ball("nuat", p, eps),
        NuclearNorm(),
        {"lam": lam},
        lambda progress: lam * min(1.0, progress / RISEN),
        lam,
    )
