"""The perturbations that measurements use: those of the paper's attack, and random ones."""

from __future__ import annotations

import math

import numpy as np

from onr.arrays import array_namespace, column, flatten, like, safe
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
"""The number of iterations of every attack, as in the paper (section 5.1)."""


def paper_attack(p: Norm, eps: float, *, boxed: bool) -> ProjectedGradientAscent:
    """The paper's attack: ten steps of ``2 eps / 10`` from a random start, on cross-entropy.

    Args:
        p: the norm of the ball.
        eps: the radius of the ball.
        boxed: whether the perturbed inputs are kept to pixels in [0, 1], as an adversary must keep
            them. Measurements of directions do not keep them, so that the length is ``eps``.

    Example:
        >>> attack = paper_attack(LpNorm(2), 0.5, boxed=False)
        >>> attack.steps, attack.alpha, attack.bounds
        (10, 0.1, None)

    """
    bounds = (0.0, 1.0) if boxed else None
    return ProjectedGradientAscent(p=p, loss=CrossEntropy(), eps=eps, bounds=bounds, steps=STEPS)


def adversarial(
    network: Network, x: Array, y: Array, *, p: Norm, eps: float, seed: tuple[int, ...]
) -> Array:
    """The perturbations that the paper's attack finds, shaped as ``x``; not kept to the box.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> x, y = np.random.default_rng(0).random((4, 3)), np.zeros(4, int)
        >>> z = adversarial(network, x, y, p=LpNorm(2), eps=0.5, seed=(0,))
        >>> LpNorm(2)(z).round(6)
        array([0.5, 0.5, 0.5, 0.5])

    """
    attack = paper_attack(p, eps, boxed=False)
    return attack(network, x, y, rng=np.random.default_rng(seed)) - x


def random_of_length(x: Array, length: Array, *, seed: int) -> Array:
    """Random directions, uniform on the l2 sphere of radius ``length``, shape ``(batch,)``.

    Example:
        >>> z = random_of_length(np.zeros((2, 3)), np.array([1.0, 2.0]), seed=0)
        >>> LpNorm(2)(z).round(6)
        array([1., 2.])

    """
    z = like(np.random.default_rng([seed, 1]).standard_normal(tuple(x.shape)), x)
    return z * column(length / LpNorm(2)(z), z)


def absolute_cosine(a: Array, b: Array) -> Array:
    """``|<a, b>| / (||a||_2 ||b||_2)`` of each example; NaN where one of the two is zero.

    The sign of a singular vector is arbitrary, so only the magnitude has a meaning.

    Example:
        >>> absolute_cosine(np.array([[1.0, 0.0]]), np.array([[-3.0, 4.0]]))
        array([0.6])

    """
    xp = array_namespace(a)
    a, b = flatten(a), flatten(b)
    norm = LpNorm(2)
    lengths = norm(a) * norm(b)
    cosine = xp.abs(xp.sum(a * b, axis=1)) / safe(lengths)
    return xp.where(lengths > 0, cosine, xp.full_like(cosine, math.nan))


def absolute_correlation(a: Array, b: Array) -> Array:
    """``|cos|`` after subtracting each array's mean over coordinates, as in the paper's code.

    Example:
        >>> absolute_correlation(np.array([[1.0, 2.0, 3.0]]), np.array([[9.0, 5.0, 1.0]])).round(6)
        array([1.])

    """
    a, b = flatten(a), flatten(b)
    return absolute_cosine(a - a.mean(axis=1)[:, None], b - b.mean(axis=1)[:, None])
