"""The directions that are measured along: those of the paper's attack, and random ones."""

from __future__ import annotations

import numpy as np

from onr.arrays import array_namespace, column, flatten, like
from onr.attacks.projected_gradient import ProjectedGradientAscent
from onr.losses import CrossEntropy
from onr.norms import LpNorm
from onr.protocols import Network, Norm
from onr.typing import Array

__all__ = [
    "STEPS",
    "absolute_correlation",
    "absolute_cosine",
    "adversarial",
    "paper_attack",
    "random_of_length",
]

STEPS = 10
"""The iterations of every attack, as in the paper (section 5.1)."""


def paper_attack(p: Norm, eps: float, *, boxed: bool) -> ProjectedGradientAscent:
    """The paper's attack: ten steps of ``2 eps / 10`` from a random start, on cross-entropy.

    Args:
        p: the norm of the ball.
        eps: its radius.
        boxed: whether the perturbed inputs are kept to pixels in [0, 1], as an adversary must keep
            them. Where directions are measured they are not, so that they are as long as ``eps``.

    """
    bounds = (0.0, 1.0) if boxed else None
    return ProjectedGradientAscent(p=p, loss=CrossEntropy(), eps=eps, bounds=bounds, steps=STEPS)


def adversarial(
    network: Network, x: Array, y: Array, *, p: Norm, eps: float, seed: tuple[int, ...]
) -> Array:
    """The perturbations that the paper's attack finds, shaped as ``x``; not kept to the box."""
    attack = paper_attack(p, eps, boxed=False)
    return attack(network, x, y, rng=np.random.default_rng(seed)) - x


def random_of_length(x: Array, length: Array, *, seed: int) -> Array:
    """Directions uniform on the l2 sphere, of these lengths ``(batch,)``."""
    z = like(np.random.default_rng([seed, 1]).standard_normal(tuple(x.shape)), x)
    return z * column(length / LpNorm(2)(z), z)


def absolute_cosine(a: Array, b: Array) -> Array:
    """``|<a, b>| / (||a|| ||b||)`` of each example; NaN where one of the two is zero.

    A singular vector has no sign, so that only the magnitude has a meaning.
    """
    xp = array_namespace(a)
    a, b = flatten(a), flatten(b)
    norm = LpNorm(2)
    return xp.abs(xp.sum(a * b, axis=1)) / (norm(a) * norm(b))


def absolute_correlation(a: Array, b: Array) -> Array:
    """The same of both less their means over the coordinates, as the paper's code has it."""
    a, b = flatten(a), flatten(b)
    return absolute_cosine(a - a.mean(axis=1)[:, None], b - b.mean(axis=1)[:, None])
