"""Points drawn from unit balls lie in the ball, and are uniform by volume."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from onr.norms import LpNorm
from onr_validation.lemmas.laws import Law
from onr_validation.naive import size

__all__ = ["check_sampling"]

EXPONENTS = (1.0, 2.0, 3.0, math.inf)
POINTS, WIDTH = 20_000, 3
DEVIATIONS = 3.0
"""The distribution function of N draws is off by more than ``t / sqrt(N)`` with probability at most
``2 exp(-2 t^2)`` (Massart, 1990), 3e-8 for t = 3. Those of N and M draws differ by more than
``t sqrt(1/N + 1/M)`` with probability at most ``2.2 exp(-2 t^2)`` (Wei and Dudley, 2012).
"""


def check_sampling(rng: np.random.Generator) -> Iterator[Law]:
    """Check draws from balls in three dimensions, in floats.

    The share of the ball within the radius r is ``r^n``, so that ``||v||_p^n`` is uniform on
    [0, 1]. Each entry of ``v`` is distributed as in the points of a cube that lie in the ball.

    Example:
        >>> [law.verdict for law in check_sampling(np.random.default_rng(0))]
        ['holds', 'holds', 'holds']

    """
    inside = Law("Draws from a ball", "||v||_p <= 1", "float")
    radii = Law("Draws from a ball", "||v||_p^n is uniform on [0, 1]", "float")
    entries = Law("Draws from a ball", "the entries are those of a cube's points in it", "float")
    shares = (np.arange(POINTS) + 0.5) / POINTS
    for p in EXPONENTS:
        v = LpNorm(p).sample_ball(rng, (POINTS, WIDTH))
        inside.at_most(size(v, p), np.ones(POINTS))
        off = np.abs(np.sort(size(v, p) ** WIDTH) - shares)
        radii.at_most(off, np.full(POINTS, DEVIATIONS / math.sqrt(POINTS)))
        cube = rng.uniform(-1, 1, (8 * POINTS, WIDTH))
        kept = cube[size(cube, p) <= 1]
        bound = DEVIATIONS * math.sqrt(1 / POINTS + 1 / len(kept))
        for one, other in zip(v.T, kept.T, strict=True):
            grid = np.sort(one)
            off = np.abs(np.searchsorted(np.sort(other), grid) / len(kept) - shares)
            entries.at_most(off, np.full(POINTS, bound))
    yield from (inside, radii, entries)
