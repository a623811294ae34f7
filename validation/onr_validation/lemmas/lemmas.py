"""Checks of Lemmas 1 to 3, Eqs. 28 and 29, section 7.1 on vectors with planted zeros and ties."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from onr.arrays import inner
from onr.exact.surds import Rational
from onr.norms import LpNorm
from onr_validation.lemmas.iteration_laws import check_iterations
from onr_validation.lemmas.laws import Arithmetic, Law
from onr_validation.lemmas.projection_laws import check_projections
from onr_validation.lemmas.sampling_laws import check_sampling
from onr_validation.naive import closed_form, conjugate, size

__all__ = ["check_lemmas"]

TABLE = (1.0, 2.0, math.inf)
"""The exponents of Table 1. Exact arithmetic can compute their norms."""
OTHERS = (1.5, 3.0, 7.0)
SIZE = 6
"""How many entries a vector has: few enough to try all ``2^6`` vertices of the cube."""
FAR = 2.0**12
"""A step size beyond which the projections onto the l1 and linf balls no longer change. That holds
for the vectors drawn here because two different entries differ by at least 1/64."""


def check_lemmas(arithmetic: Arithmetic, *, trials: int, seed: int) -> list[Law]:
    """Check every lemma on ``trials`` random draws.

    Args:
        arithmetic: floats, for more exponents, or exact numbers, for the exponents 1, 2 and inf.
        trials: the number of draws for each statement.
        seed: the seed of the draws.

    Returns:
        One law for each statement of the paper, with the outcome of its cases, and in floats those
        of :mod:`onr_validation.lemmas.sampling_laws`.

    Example:
        >>> laws = check_lemmas(Arithmetic(exact=False), trials=4, seed=0)
        >>> all(law.holds for law in laws)
        True

    """
    rng = np.random.default_rng([seed, 3])
    parts = (
        *(_lemma_1, _lemma_2_first, _lemma_2_second, _lemma_2_every_p, _lemma_3, _equations_28_29),
        _section_7_1,
    )
    laws = [law for part in parts for law in part(arithmetic, trials, rng)]
    # Each of these draws is used for many cases.
    for part in (check_projections, check_iterations):
        laws += part(arithmetic, max(2, trials // 3), rng)
    return laws if arithmetic.exact else [*laws, *check_sampling(rng)]


def _vectors(rng: np.random.Generator, trials: int) -> np.ndarray:
    """Draw nonzero vectors of multiples of 1/64 up to 4; every second one has zeros and ties."""
    x = rng.integers(-256, 257, (trials, SIZE)) / 64
    x[::2] = rng.integers(-2, 3, x[::2].shape)
    x[~x.any(axis=1), 0] = 1
    return x


def _wide(rng: np.random.Generator, trials: int) -> np.ndarray:
    """Draw vectors whose entries are powers of two from 1 down to 2^-99, each with a sign."""
    signs, powers = rng.choice([-1.0, 1.0], (trials, SIZE)), rng.integers(0, 100, (trials, SIZE))
    wide: np.ndarray = signs / 2.0**powers
    return wide


def _generic(rng: np.random.Generator, trials: int) -> np.ndarray:
    """Draw vectors of multiples of 1/64 up to 4 with no zero entry and no tie of magnitude."""
    magnitudes = np.array([rng.permutation(np.arange(1, 257))[:SIZE] for _ in range(trials)])
    signed: np.ndarray = magnitudes * rng.choice([-1, 1], magnitudes.shape) / 64
    return signed


def _tied(rng: np.random.Generator, trials: int) -> np.ndarray:
    """Draw vectors of small whole numbers; most have zeros and ties, the first surely has both."""
    x = _vectors(rng, 2 * trials)[::2]
    x[0] = (2, -2, 0, 0, 0, 1)
    return x


def _exponents(arithmetic: Arithmetic) -> tuple[float, ...]:
    return TABLE if arithmetic.exact else TABLE + OTHERS


def _vertices(p: float) -> np.ndarray | None:
    """The vertices of the unit p-ball; ``None`` for ``1 < p < inf``, where the ball is round."""
    if p == 1:
        return np.concatenate([np.eye(SIZE), -np.eye(SIZE)])
    if p == math.inf:
        return np.array(list(itertools.product((-1.0, 1.0), repeat=SIZE)))
    return None


def _lemma_1(arithmetic: Arithmetic, trials: int, rng: np.random.Generator) -> Iterator[Law]:
    attained = Law("Lemma 1, Eqs. 16, 34", "<v*, z> = ||z||_p*", arithmetic.name)
    unit = Law("Lemma 1, Eqs. 38-43", "||v*||_p = 1", arithmetic.name)
    best = Law("Lemma 1, Eq. 36", "no v of the unit ball does better", arithmetic.name)
    special = Law("Lemma 1, Eq. 35", "the closed forms for p = 1, 2, inf", arithmetic.name)
    value = Law("Lemma 1", "||z||_p and ||z||_p* by their definition", arithmetic.name)
    z = arithmetic.array(_vectors(rng, trials))
    wide = arithmetic.array(_wide(rng, trials))
    others = arithmetic.array(_vectors(rng, trials))
    for p in _exponents(arithmetic):
        norm = LpNorm(p)
        v, largest = norm.duality_map(z), size(z, conjugate(p))
        value.equal(norm(z), size(z, p))
        value.equal(norm.dual(z), largest)
        attained.equal(inner(v, z), largest)
        unit.equal(size(v, p), np.ones(trials, dtype=int))
        # For every w the vector w / ||w||_p lies in the unit ball; the inequality is scaled.
        best.at_most(inner(others, z), norm(others) * norm.dual(z))
        vertices = _vertices(p)
        if vertices is not None:
            corners = arithmetic.array(vertices)
            reached = (z @ corners.T).max(axis=1)
            best.equal(reached, norm.dual(z))
        if p in TABLE:
            special.equal(v, closed_form(z, p))
            special.equal(norm.duality_map(wide), closed_form(wide, p))
    yield from (value, attained, unit, best, special)


def _lemma_2_first(arithmetic: Arithmetic, trials: int, rng: np.random.Generator) -> Iterator[Law]:
    name = arithmetic.name
    limit = Law("Lemma 2, Eq. 44", "the sphere projection of v + alpha v~, no zero or tie", name)
    degenerate = Law("Lemma 2, Eq. 44", "the same with zeros and ties", name, expected=False)
    fixed = Law("Lemma 2, Eq. 57", "fixed points of Eq. 16, p in {1, 2, inf}", name)
    v = arithmetic.array(_vectors(rng, trials))
    generic = arithmetic.array(_generic(rng, trials))
    tied = arithmetic.array(_tied(rng, trials))
    alpha = arithmetic.array(np.array([FAR]))[0]
    for p in TABLE:
        norm = LpNorm(p)
        once = norm.duality_map(v)
        fixed.equal(norm.duality_map(once), once)
        if p == 2:
            for step in (alpha / 64, alpha, alpha * 64):
                _angle(limit, norm.project_sphere(v + step * generic, 1), v, step, generic)
            continue
        far = norm.project_sphere(v + alpha * generic, 1)
        limit.equal(far, norm.duality_map(generic))
        far = norm.project_sphere(v + alpha * tied, 1)
        degenerate.equal(far, norm.duality_map(tied))
    yield from (limit, degenerate, fixed)
    if not arithmetic.exact:
        twice = Law("Lemma 2, Eq. 57", "the same for other p", name, expected=False)
        for p in OTHERS:
            once = LpNorm(p).duality_map(v)
            twice.equal(LpNorm(p).duality_map(once), once)
        yield twice


def _angle(law: Law, moved: np.ndarray, v: np.ndarray, alpha: Rational, u: np.ndarray) -> None:
    """For p = 2, check the unit vector ``moved`` of ``v + alpha u`` against the direction of ``u``.

    The sine of the angle between ``moved`` and ``u`` is at most ``|v| / (alpha |u|)``, by the law
    of sines in the triangle of 0, ``alpha u`` and ``alpha u + v``. The squares are compared, which
    need no root.
    """
    along, size = inner(moved, u), inner(u, u)
    law.equal(inner(moved, moved), np.ones(len(moved), dtype=int))
    law.at_most(-along, 0 * along)
    law.at_most(1 - along * along / size, inner(v, v) / (alpha * alpha * size))


def _lemma_2_second(arithmetic: Arithmetic, trials: int, rng: np.random.Generator) -> Iterator[Law]:
    name = arithmetic.name
    limit = Law("Lemma 2, Eqs. 45, 47", "the ball projection of d + alpha v, no zero or tie", name)
    degenerate = Law("Lemma 2, Eqs. 45, 47", "the same with zeros and ties", name, expected=False)
    face = Law("after Lemma 2", "with zeros and ties it is the projection onto a face", name)
    sphere = Law("Lemma 2, Eq. 46", "the sphere projection of alpha v, no zero or tie", name)
    enough = Law("Lemma 2, last part", "alpha = 2 eps is enough, p in {1, inf}", name)
    tight = Law("Lemma 2, last part", "alpha = 1.9 eps is enough", name, expected=False)
    generic = arithmetic.array(_generic(rng, trials))
    tied = arithmetic.array(_tied(rng, trials))
    eps, alpha, nineteen = arithmetic.array(np.array([0.75, FAR, 1.9]))
    for p in TABLE:
        norm = LpNorm(p)
        inside = arithmetic.array(_eps_ball(rng, trials, p))
        direction = norm.duality_map(generic)
        sphere.equal(norm.project_sphere(alpha * generic, eps), eps * direction)
        if p == 2:
            for step in (alpha / 64, alpha, alpha * 64):
                moved = norm.project_ball(inside + step * generic, eps) / eps
                _angle(limit, moved, inside, step, generic)
            continue
        limit.equal(norm.project_ball(inside + alpha * generic, eps), eps * direction)
        far = norm.project_ball(inside + alpha * tied, eps)
        degenerate.equal(far, eps * norm.duality_map(tied))
        face.equal(far, norm.project_face(inside, tied, eps))
        # The point opposite the direction is the start that lies farthest from it.
        opposite = -eps * direction
        for start in (inside, opposite):
            enough.equal(norm.project_ball(start + 2 * eps * direction, eps), eps * direction)
        far = norm.project_ball(opposite + nineteen * eps * direction, eps)
        tight.equal(far, eps * direction)
    yield from (limit, sphere, degenerate, face, enough, tight)


def _eps_ball(rng: np.random.Generator, trials: int, p: float) -> np.ndarray:
    """Draw dyadic points of the p-ball of radius 3/4; for p in {1, inf} half lie on its sphere."""
    x = rng.integers(-48, 49, (trials, SIZE)) / 64
    if p == math.inf:
        x[np.arange(trials), rng.integers(SIZE, size=trials)] = rng.choice([-0.75, 0.75], trials)
    if p == 1:
        x = np.round(x / np.abs(x).sum(axis=1, keepdims=True).clip(min=1 / 64) * 40) / 64
        x[:, 0] += np.where(x[:, 0] < 0, -1, 1) * (0.75 - np.abs(x).sum(axis=1))
    if p == 2:
        x = x / 4
    x[::2] /= 2
    return x


def _lemma_2_every_p(
    arithmetic: Arithmetic, trials: int, rng: np.random.Generator
) -> Iterator[Law]:
    """Check the limits for every p, with the raw gradient as the step.

    Let ``z`` be the projection of ``d + alpha g``, ``||d||_p <= r``, onto the ball or sphere of
    radius ``r``, and ``v`` a maximiser of ``<g, v>`` there. The variational inequality at ``v`` is
    ``alpha <g, v - z> <= <z - d, v - z>``, at most ``4 R^2`` for the largest l2 norm ``R`` in the
    ball. For ``1 < p < inf`` the maximiser is unique, so ``z`` tends to it.
    """
    name = arithmetic.name
    ball = Law("Lemma 2, Eq. 45", "r ||g||_p* - <g, Pi(d + alpha g)> <= 4 R^2 / alpha", name)
    sphere = Law("Lemma 2, Eq. 44", "the same on the sphere", name)
    face = Law("Lemma 2, Eq. 45", "the limit lies in the ball and attains r ||g||_p*", name)
    g = arithmetic.array(_generic(rng, trials))
    (radius, one) = arithmetic.array(np.array([0.75, 1.0]))
    for p in _exponents(arithmetic):
        norm = LpNorm(p)
        start = arithmetic.array(_eps_ball(rng, trials, p if p in TABLE else 1.0))
        largest = size(g, conjugate(p))
        end = norm.project_face(start, g, radius)
        face.equal(inner(g, end), radius * largest)
        face.equal(size(end, p), radius * np.ones(trials, dtype=int))
        widest = 1 if p <= 2 else SIZE if p == math.inf else SIZE ** (1 - 2 / p)
        for step in arithmetic.array(np.array([64.0, FAR, 64 * FAR])):
            for law, r, z in (
                (ball, radius, norm.project_ball(start + step * g, radius)),
                (sphere, one, norm.project_sphere(start + step * g, one)),
            ):
                law.at_most(r * largest, inner(g, z) + 4 * r * r * widest / step)
    yield from (ball, sphere, face)


def _lemma_3(arithmetic: Arithmetic, trials: int, rng: np.random.Generator) -> Iterator[Law]:
    name = arithmetic.name
    law = Law("Lemma 3, Eq. 95", "max(-eps, min(eps, x)) = min(eps, max(-eps, x))", name)
    clip = Law("Eq. 80", "the projection for p = inf is either", name)
    x = arithmetic.array(_vectors(rng, trials))
    for radius in (0.0, 1 / 64, 1.0, 8.0):
        eps = np.broadcast_to(arithmetic.array(np.array([radius])), x.shape)
        either = np.maximum(-eps, np.minimum(eps, x))
        law.equal(either, np.minimum(eps, np.maximum(-eps, x)))
        clip.equal(LpNorm(math.inf).project_ball(x, eps[0, 0]), either)
    yield from (law, clip)


def _equations_28_29(
    arithmetic: Arithmetic, trials: int, rng: np.random.Generator
) -> Iterator[Law]:
    name = arithmetic.name
    subgradient = Law("Eqs. 28, 29", "||y||_p >= ||x||_p + <gradient at x, y - x>", name)
    slope = Law("Eqs. 28, 29", "<gradient, x> = ||x||_p, ||gradient||_p* = 1", name)
    limit = Law("Eq. 30", "sum (|x_i| / ||x||_inf)^p tends to |I| as p grows", name)
    x, y = (arithmetic.array(_vectors(rng, trials)) for _ in range(2))
    for p in _exponents(arithmetic):
        norm = LpNorm(p)
        gradient = norm.gradient(x)
        slope.equal(inner(gradient, x), norm(x))
        slope.equal(norm.dual(gradient), np.ones(trials, dtype=int))
        # Since ||x|| = <g, x>, the subgradient inequality reduces to <g, y> <= ||y||.
        subgradient.at_most(inner(gradient, y), norm(y))
    size = np.abs(x) / np.abs(x).max(axis=1)[:, None]
    tied = size == 1
    count = tied.sum(axis=1)
    second = np.where(tied, 0 * size, size).max(axis=1)
    for p in (8, 64, 512):
        excess = (size**p).sum(axis=1) - count
        limit.at_most(-excess, 0 * excess)
        limit.at_most(excess, (SIZE - count) * second**p)
    yield from (subgradient, slope, limit)
    if not arithmetic.exact:
        yield _limit_of_gradients(x, count, second)
        yield _difference_quotients(trials, rng)


def _limit_of_gradients(x: np.ndarray, count: np.ndarray, second: np.ndarray) -> Law:
    """Bound the distance between the gradients of the p-norm and of the inf-norm as p grows.

    ``I`` is the set of the largest entries and ``t`` the second largest ``|x_i| / ||x||_inf``. The
    sum of Eq. 30 is ``|I|`` up to ``n t^p``. So ``|I| g_i`` is between ``1 - n t^p`` and
    ``|I|^(1/p)`` on ``I``, and ``g_i <= t^(p-1)`` elsewhere.
    """
    law = Law("Eqs. 29, 31-33", "the gradient for p tends to that for inf as p grows", "float")
    for p in (8, 64, 512):
        gap = np.abs(LpNorm(p).gradient(x) - LpNorm(math.inf).gradient(x)).max(axis=1)
        law.at_most(gap, count ** (1 / p) - 1 + SIZE * second ** (p - 1))
    return law


def _difference_quotients(trials: int, rng: np.random.Generator) -> Law:
    law = Law("Eq. 28", "the gradient by central differences, 1 < p < inf", "float")
    x, step = _generic(rng, trials), 1e-4
    for p in (1.5, 2.0, 3.0):
        norm = LpNorm(p)
        gradient = norm.gradient(x)
        for i in range(SIZE):
            move = step * np.eye(SIZE)[i]
            slope = (norm(x + move) - norm(x - move)) / (2 * step)
            # The third derivative is below 1 / x_min^2 = 64^2 here.
            law.at_most(np.abs(slope - gradient[:, i]), 64**2 * step**2 + 0 * slope)
    return law


def _section_7_1(arithmetic: Arithmetic, trials: int, rng: np.random.Generator) -> Iterator[Law]:
    """Check robust regression, with ``y`` in R^4, a 4 x 6 matrix ``X`` and ``w`` in R^6."""
    name = arithmetic.name
    bound = Law("Section 7.1, Eq. 21", "h(y - (X + D) w) <= h(r) + lambda g(w)", name)
    norm_of = Law("Section 7.1, Eq. 20", "||D*||_{g,h} = lambda", name)
    reached = Law("Section 7.1, Eqs. 22, 23", "equality at D* = -lambda r v^T / h(r)", name)
    printed = Law("Section 7.1, Eq. 22", "equality at +lambda r v^T / h(r)", name, expected=False)
    zero = Law("Section 7.1", "h(r) = 0: equality at lambda u v^T", name)
    X = arithmetic.array(rng.integers(-8, 9, (trials, 4, SIZE)) / 4)
    w = arithmetic.array(_vectors(rng, trials))
    y = arithmetic.array(rng.integers(-8, 9, (trials, 4)) / 4 + np.array([0.125, 0, 0, 0]))
    (weight,) = arithmetic.array(np.array([0.375]))
    r = y - (X @ w[:, :, None])[:, :, 0]
    other = arithmetic.array(_vectors(rng, trials))
    for g, h in itertools.product((LpNorm(p) for p in TABLE), repeat=2):
        v = g.dual.duality_map(w)
        square = h.p == 2
        residual, size = h(r), g(w)
        # For h = 2 squares are compared: exact arithmetic has no sum of two different roots.
        cross = weight * residual * size
        target = residual * residual + 2 * cross + weight * weight * size * size
        target = target if square else residual + weight * size
        # D w = -(lambda / h(r)) r <v, w>, so y - (X + D) w is (1 + lambda g(w) / h(r)) r.
        factor = weight * inner(v, w) / residual
        for law, sign in ((reached, 1), (printed, -1)):
            moved = r * (1 + sign * factor)[:, None]
            law.equal(inner(moved, moved) if square else h(moved), target)
        norm_of.equal(inner(v, w), size)
        norm_of.at_most(np.abs(inner(v, other)), g(other))
        # Another perturbation of norm lambda is lambda u b^T with h(u) = 1 and g*(b) = 1.
        u, b = h.duality_map(y), g.dual.duality_map(other)
        change = weight * inner(b, w)
        if square:
            bound.at_most(inner(r, r) - 2 * change * inner(r, u) + change * change, target)
        else:
            bound.at_most(h(r - change[:, None] * u), target)
        # If r = 0, then y - (X + D) w is -D w.
        zero.equal(h(-weight * u * inner(v, w)[:, None]), weight * size)
    yield from (bound, norm_of, reached, printed, zero)
