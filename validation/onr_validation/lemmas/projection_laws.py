"""The projections onto balls and spheres are closest points, by the inequalities that say so."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from onr.arrays import inner
from onr.exact.surds import Rational
from onr.norms import LpNorm
from onr_validation.lemmas.laws import Arithmetic, Law
from onr_validation.naive import conjugate, size

__all__ = ["check_projections", "closest_in_ball", "closest_on_sphere"]

TABLE = (1.0, 2.0, math.inf)
OTHERS = (1.5, 3.0, 7.0)
RADII = (0.0, 0.25, 1.0, 3.0, 64.0)
WIDTH = 5


def check_projections(
    arithmetic: Arithmetic, trials: int, rng: np.random.Generator
) -> Iterator[Law]:
    """Check the projections of points inside, on and outside balls and spheres.

    Example:
        >>> laws = check_projections(Arithmetic(exact=False), 4, np.random.default_rng(0))
        >>> [law.verdict for law in laws]
        ['holds', 'holds']

    """
    ball = Law("Eqs. 9, 17", "the ball projection is the closest point, every p", arithmetic.name)
    sphere = Law("Eqs. 9, 11", "the sphere projection is a closest point", arithmetic.name)
    y = rng.integers(-64, 65, (trials, WIDTH)) / 32
    y[::2] = rng.integers(-1, 2, y[::2].shape)
    y[-1] = 0
    one = arithmetic.array(np.ones(1))[0]
    points = arithmetic.array(np.repeat(y, len(RADII), axis=0))
    radii = arithmetic.array(np.tile(RADII, len(y)))
    positive = radii > 0
    for p in TABLE if arithmetic.exact else TABLE + OTHERS:
        norm = LpNorm(p)
        # A radius for each point, then one for all.
        for at, radius in ((points, radii), (points[:: len(RADII)], one)):
            closest_in_ball(ball, at, norm.project_ball(at, radius), radius, p)
        if p in TABLE:
            for at, radius in ((points[positive], radii[positive]), (points[:: len(RADII)], one)):
                closest_on_sphere(sphere, at, norm.project_sphere(at, radius), radius, p)
    yield from (ball, sphere)


def closest_in_ball(
    law: Law, y: np.ndarray, z: np.ndarray, radius: np.ndarray | Rational, p: float
) -> None:
    """Check that ``z`` is the closest point to ``y`` in the ball of this radius, or of each row's.

    It is if and only if it lies in the ball and ``<y - z, w - z> <= 0`` for every ``w`` of the
    ball, that is ``radius ||y - z||_p* <= <y - z, z>``. For p = 2 squares are compared, which need
    no root.

    Example:
        >>> law, y = Law("", "", "float"), np.array([[3.0, 4.0]])
        >>> closest_in_ball(law, y, y / 5, 1.0, 2)
        >>> law.verdict
        'holds'

    """
    rest = y - z
    reach = inner(rest, z)
    if p == 2:
        law.at_most(inner(z, z), radius * radius + 0 * reach)
        law.at_most(-reach, 0 * reach)
        law.at_most(radius * radius * inner(rest, rest), reach * reach)
    else:
        law.at_most(size(z, p), radius + 0 * reach)
        law.at_most(radius * size(rest, conjugate(p)), reach)


def closest_on_sphere(
    law: Law, y: np.ndarray, z: np.ndarray, radius: np.ndarray | Rational, p: float
) -> None:
    """Check that ``z`` is a closest point to ``y`` on the sphere of this radius, p in {1, 2, inf}.

    From outside it is the closest point of the ball. From inside the nearest point of a face is at
    the distance ``radius - |y|_inf`` (p = inf), ``(radius - |y|_1) / sqrt(n)`` (p = 1) or
    ``radius - |y|_2`` (p = 2).

    Example:
        >>> law, y = Law("", "", "float"), np.array([[0.25, 0.5]])
        >>> closest_on_sphere(law, y, np.array([[0.25, 1.0]]), 1.0, math.inf)
        >>> law.verdict
        'holds'

    """
    length = size(y, p)
    radius = radius + 0 * length
    inside, far = length < radius, z - y
    law.equal(size(z, p), radius)
    if not inside.all():
        closest_in_ball(law, y[~inside], z[~inside], radius[~inside], p)
    if inside.any():
        gap = (radius - length)[inside]
        share = y.shape[1] if p == 1 else 1
        law.equal(inner(far, far)[inside] * share, gap * gap)
