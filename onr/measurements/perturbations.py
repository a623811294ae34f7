"""The directions that are measured along: of an attack, and random ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from onr.arrays import array_namespace, column, flatten, like
from onr.experiments import Subject
from onr.norms import LpNorm
from onr.protocols import Array, Attack, Norm
from onr.registry import load
from onr.registry import norm as norm_named

__all__ = ["absolute_correlation", "absolute_cosine", "adversarial", "attack", "random_of_length"]

STEPS = 10
"""Of every attack, as in the paper (section 5.1)."""


def attack(p: Norm, eps: float, *, boxed: bool, **options: Any) -> Attack:
    """The paper's attack: ten steps of ``2 eps / 10`` from a random start, on cross-entropy.

    Args:
        p: the norm of the ball.
        eps: its radius.
        boxed: whether it keeps to pixels in [0, 1], as an adversary must. Where directions are
            measured it does not, so that they are as long as the radius says.
        options: of ``pga``, in place of these.

    """
    usual = {"loss": load("loss", "cross-entropy")(), "steps": STEPS}
    bounds = (0.0, 1.0) if boxed else None
    made: Attack = load("attack", "pga")(p=p, eps=eps, bounds=bounds, **{**usual, **options})
    return made


def adversarial(subject: Subject, x: Array, y: Array, *, p: str, eps: float, seed: int) -> Array:
    """The perturbations that the attack finds, shaped as ``x``; not kept to the box."""
    rng = np.random.default_rng([subject.config.seed, seed])
    return attack(norm_named(p), eps, boxed=False)(subject.network, x, y, rng=rng) - x


def random_of_length(x: Array, length: Array, *, seed: int) -> Array:
    """Directions uniform on the l2 sphere, of these lengths ``(batch,)``."""
    z = like(np.random.default_rng([seed, 1]).standard_normal(tuple(x.shape)), x)
    return z * column(length / LpNorm(2)(z), z)


def absolute_cosine(a: Array, b: Array) -> Array:
    """``|<a, b>| / (||a|| ||b||)`` of each example; NaN where one is zero.

    A singular vector has no sign, so that the magnitude alone has a meaning.
    """
    xp = array_namespace(a)
    a, b = flatten(a), flatten(b)
    norm = LpNorm(2)
    return xp.abs(xp.sum(a * b, axis=1)) / (norm(a) * norm(b))


def absolute_correlation(a: Array, b: Array) -> Array:
    """The same of the two less their means over the coordinates, as the paper's code has it."""
    a, b = flatten(a), flatten(b)
    return absolute_cosine(a - a.mean(axis=1)[:, None], b - b.mean(axis=1)[:, None])
