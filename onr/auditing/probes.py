"""What several checks share: margins, noise, the steps of the audit's attack, paired counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from onr.arrays import column, in_float32, like, to_numpy
from onr.attacks.multitargeted import ROUNDING
from onr.auditing.block import Block
from onr.feasible import ascent, boxed
from onr.losses import Margin
from onr.typing import Array

__all__ = ["broken", "climb", "floats", "gain", "margins", "noise", "slack"]

STEPS = 40
"""The steps of the audit's attack."""


def floats(values: Array, /) -> np.ndarray:
    """An array of any framework in float64.

    Example:
        >>> floats(np.ones(2, np.float16)).dtype
        dtype('float64')

    """
    return to_numpy(in_float32(values)).astype(np.float64)


def margins(logits: Array, labels: np.ndarray, /) -> np.ndarray:
    """The largest other logit minus that of the label, ``(n,)``; positive if misclassified.

    Example:
        >>> margins(np.array([[3.0, 1.0], [0.0, 2.0]]), np.array([0, 0]))
        array([-2.,  2.])

    """
    z, rows = floats(logits), np.arange(len(labels))
    own = z[rows, labels]
    z[rows, labels] = -np.inf
    return np.asarray(z.max(axis=1) - own)


def slack(logits: Array, /) -> np.ndarray:
    """How far a margin may be from 0 by rounding alone, ``(n,)``: 64 units of the largest logit.

    Example:
        >>> slack(np.array([[1.0, -4.0]], np.float32)) < 1e-4
        array([ True])

    """
    z = floats(logits)
    unit = np.finfo(to_numpy(in_float32(logits)).dtype).eps
    return np.asarray(ROUNDING * unit * np.abs(np.where(np.isfinite(z), z, 0)).max(axis=1))


def broken(logits: Array, labels: np.ndarray, /) -> np.ndarray:
    """Whether each image is misclassified beyond rounding, ``(n,)``, bool.

    Example:
        >>> broken(np.array([[3.0, 1.0], [0.0, 2.0], [1.0, 1.0]]), np.array([0, 0, 0]))
        array([False,  True, False])

    """
    return np.asarray(margins(logits, labels) > slack(logits))


def noise(block: Block, radius: float, rng: np.random.Generator, /) -> Array:
    """A random point at p-norm ``radius`` from each image, clipped to the box.

    Raises:
        NotAvailableError: the norm has no sampler.

    """
    drawn = like(block.threat.p.sample_ball(rng, tuple(block.x.shape)), block.x)
    drawn = drawn * column(radius / block.threat.p(drawn), drawn)
    return boxed(block.x, drawn, block.threat.bounds, block.threat.p)


def climb(
    block: Block,
    start: Array,
    /,
    *,
    steps: int = STEPS,
    direction: Callable[[Array], Array] | None = None,
) -> Iterator[tuple[Array, Array]]:
    """The points and logits of an ascent within eps, ``steps + 1`` of them.

    The steps are those of :class:`onr.attacks.multitargeted.MultiTargeted` without its momentum:
    their length decays from eps to 0 like a cosine. Images that are broken go on.

    Args:
        block: the images.
        start: where to begin, in the ball and in the box.
        steps: how many steps.
        direction: the u of ``J^T u``, from the logits; the gradient of the margin if not given.

    """
    network, x, threat = block.network, block.x, block.threat
    loss = Margin()
    moved = start
    for k in range(steps):
        here = network.linearize(moved, jvp=False)
        yield moved, here.value
        u = direction(here.value) if direction else loss.gradient(here.value, labels=block.labels)
        length = threat.radius * (1 + math.cos(math.pi * k / steps)) / 2
        step = ascent(threat.p, here.vjp(u), moved, length, threat.bounds, settling=2 * k >= steps)
        delta = threat.p.project_ball(moved - x + step, threat.radius)
        moved = boxed(x, delta, threat.bounds, threat.p)
    yield moved, network(moved)


def gain(one: np.ndarray, other: np.ndarray, /) -> float:
    """By how many standard errors ``one`` breaks more of the same images than ``other``.

    This is McNemar's statistic, ``(b - c) / sqrt(b + c)``, of the images that one of the two alone
    breaks; 0 if there are none.

    Args:
        one: whether each image is broken by the first attack, ``(n,)``.
        other: the same of the second.

    Example:
        >>> gain(np.ones(9), np.zeros(9)), gain(np.ones(9), np.ones(9))
        (3.0, 0.0)

    """
    b = int(((one > 0) & ~(other > 0)).sum())
    c = int(((other > 0) & ~(one > 0)).sum())
    return (b - c) / math.sqrt(b + c) if b + c else 0.0
