"""The laws of a norm."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onr.arrays import array_namespace, column, inner, to_numpy
from onr.errors import NotAvailableError
from onr.protocols import Norm
from onr.testing.laws import BATCH, TOLERANCE, Law, Laws, law, require
from onr.typing import Array

__all__ = ["array_laws", "check_norm", "norm_laws"]

DRAWS = 4000
"""How many points of the ball are drawn."""


def check_norm(norm: Norm, shape: tuple[int, ...], *, seed: int = 0, draws: int = 20) -> None:
    """Check the axioms of a norm, and that its dual, maps, projections and samples belong to it.

    Args:
        norm: the norm.
        shape: the shape of one example.
        seed: the seed of the random inputs.
        draws: the number of random batches.

    Raises:
        AssertionError: a law is broken; the message says which, and at which input.

    Example:
        >>> from onr.norms import LpNorm
        >>> check_norm(LpNorm(3), (2, 2), draws=2)

    """
    require(norm_laws(norm, shape, seed=seed, draws=draws))


def norm_laws(norm: Norm, shape: tuple[int, ...], *, seed: int = 0, draws: int = 20) -> Laws:
    """The laws that :func:`check_norm` checks, one after the other."""
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        x, y = _examples(rng, shape), np.roll(_examples(rng, shape)[::-1], 1, axis=0)
        yield from _axioms(norm, x, y)
        yield from _duality(norm, x, y)
        for radius in (0.0, 1.0, float(np.median(norm(x)))):
            yield from _ball_projection(norm, x, y, radius)
            yield from _face_projection(norm, x, y, radius)
        yield from _sphere_projection(norm, x, rng)
    yield from _sampling(norm, shape, rng)


def array_laws(
    norm: Norm,
    shape: tuple[int, ...],
    asarray: Callable[[np.ndarray], Array],
    /,
    *,
    seed: int = 0,
) -> Laws:
    """The laws of a norm on the arrays of a backend: the numbers of NumPy's, in such arrays.

    Args:
        norm: the norm.
        shape: the shape of one example.
        asarray: makes an array of the backend, in float64, as ``asarray`` of a network does.
        seed: the seed of the random inputs.

    Example:
        >>> import torch
        >>> from onr.norms import LpNorm
        >>> sum(1 for each in array_laws(LpNorm(2), (3,), torch.asarray) if each.broken)
        0

    """
    rng = np.random.default_rng(seed)
    x, direction = _examples(rng, shape), _examples(rng, shape)
    there, towards = asarray(x), asarray(direction)
    xp = array_namespace(there)
    package = type(there).__module__.partition(".")[0]
    results: dict[str, Callable[[Array, Array], Array]] = {
        "norm": lambda x, z: norm(x),
        "dual norm": lambda x, z: norm.dual(x),
        "gradient": lambda x, z: norm.gradient(x),
        "duality map": lambda x, z: norm.duality_map(z),
        "ball's projection": lambda x, z: norm.project_ball(x, 1.0),
        "face's projection": lambda x, z: norm.project_face(norm.project_ball(x, 1.0), z, 1.0),
    }
    for name, of in results.items():
        expected, found = of(x, direction), of(there, towards)
        kept = isinstance(found, type(there)) and found.dtype == there.dtype
        yield law(
            f"the {name} of {package}'s arrays is such an array", kept, found=type(found).__name__
        )
        apart = np.abs(to_numpy(found) - expected)
        close = apart <= TOLERANCE * (1 + np.abs(expected))
        yield law(f"the {name} of {package}'s arrays is that of NumPy's", close, x=x, z=direction)
        short = of(xp.astype(there, xp.float32), xp.astype(towards, xp.float32))
        yield law(f"the {name} of {package}'s float32 is float32", short.dtype == xp.float32)


def _examples(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Random examples, among them zero entries, ties, zero, and tiny and huge magnitudes."""
    x = rng.standard_normal((BATCH, *shape))
    x[1].reshape(-1)[::2] = 0
    x[2] = np.sign(x[2])
    x[3] = 0
    x[4] *= 1e-12
    x[5] *= 1e6
    return x


def _axioms(norm: Norm, x: np.ndarray, y: np.ndarray) -> Laws:
    size = norm(x)
    yield law("one number for each example", size.shape == (len(x),), shape=x.shape)
    some = (x != 0).reshape(len(x), -1).any(axis=1)
    yield law("only zero has norm 0", (size > 0) == some, x=x, norm=size)
    for factor in (-3.0, 1e-20):
        scaled = norm(factor * x)
        yield law(
            "absolute homogeneity, ||t x|| = |t| ||x||",
            np.abs(scaled - abs(factor) * size) <= TOLERANCE * abs(factor) * size,
            x=x,
            t=factor,
        )
    yield law(
        "the triangle inequality", norm(x + y) <= (size + norm(y)) * (1 + TOLERANCE), x=x, y=y
    )
    sides = np.sqrt(2 * size**2 + 2 * norm(y) ** 2)
    diagonals = np.sqrt(norm(x + y) ** 2 + norm(x - y) ** 2)
    apart = np.abs(sides - diagonals) * norm.euclidean
    yield law("the parallelogram law, if it is euclidean", apart <= TOLERANCE * sides, x=x, y=y)
    # Monotone norms are those of magnitudes alone (Bauer, Stoer and Witzgall, 1961).
    apart = np.abs(norm(np.abs(x)) - size) * norm.monotone
    yield law("signs do not matter, if it is monotone", apart <= TOLERANCE * size, x=x)
    alone = np.concatenate([norm(x[i : i + 1]) for i in range(len(x))])
    yield law(
        "the norm of an example does not depend on its batch",
        np.abs(alone - size) <= TOLERANCE * size,
        x=x,
    )


def _duality(norm: Norm, x: np.ndarray, y: np.ndarray) -> Laws:
    size, dual = norm(x), norm.dual(x)
    zero = size == 0
    scale = size * norm.dual(y) + 1e-300
    product = np.abs(inner(x, y))
    yield law("<x, y> <= ||x|| ||y||_*", product <= scale * (1 + TOLERANCE), x=x, y=y)
    twice = np.abs(norm.dual.dual(x) - size)
    yield law("the dual's dual is the norm", twice <= TOLERANCE * size, x=x)
    for ties in ("average", "vertex"):
        v = norm.duality_map(x, ties=ties)
        yield law("the duality map keeps the shape", v.shape == x.shape, shape=x.shape, ties=ties)
        yield law("the duality map is finite", np.isfinite(v), z=x, ties=ties)
        unit = np.abs(norm(v) - ~zero)
        yield law("the duality map has norm 1, 0 for 0", unit <= TOLERANCE, z=x, v=v, ties=ties)
        off = np.abs(inner(v, x) - dual)
        yield law("<v, z> = ||z||_* (Lemma 1)", off <= TOLERANCE * dual, z=x, v=v, ties=ties)
    gradient = norm.gradient(x)
    off = np.abs(inner(gradient, x) - size)
    yield law("<gradient, x> = ||x||", off <= TOLERANCE * size, x=x, gradient=gradient)
    gain = norm(y) - inner(gradient, y)
    supports = gain >= -TOLERANCE * norm(y)
    yield law("the gradient's plane supports the norm", supports, x=x, y=y)


def _nearest(norm: Norm, y: np.ndarray, found: np.ndarray, other: np.ndarray, radius: float) -> Law:
    """The variational inequality of a projection, against points of the ball."""
    size = norm(other)
    inside = other * column(np.minimum(1, radius / np.where(size > 0, size, 1)), other)
    towards = inner(y - found, inside - found)
    scale = inner(y, y) + radius**2 * inner(other, other) / np.where(size > 0, size, 1) ** 2
    closest = towards <= TOLERANCE * scale + 1e-300
    return law("no point of the ball is closer", closest, y=y, projection=found, radius=radius)


def _ball_projection(norm: Norm, y: np.ndarray, other: np.ndarray, radius: float) -> Laws:
    found = norm.project_ball(y, radius)
    yield law("the projection keeps the shape", found.shape == y.shape, shape=y.shape)
    small = norm(found) <= radius * (1 + TOLERANCE)
    yield law("the projection is in the ball", small, y=y, projection=found, radius=radius)
    inside = norm(y) <= radius
    same = (found == y) | ~column(inside, y)
    yield law("a point of the ball is unchanged, bit for bit", same, y=y, radius=radius)
    again = np.abs(norm.project_ball(found, radius) - found)
    yield law(
        "projecting twice equals projecting once",
        again <= TOLERANCE * max(radius, 1e-300),
        y=y,
        radius=radius,
    )
    yield _nearest(norm, y, found, other, radius)
    yield _nearest(norm, y, found, norm.duality_map(y - found), radius)
    each = norm.project_ball(y, np.full(len(y), radius))
    yield law("a radius for each example, as an array", each == found, y=y, radius=radius)


def _face_projection(norm: Norm, y: np.ndarray, direction: np.ndarray, radius: float) -> Laws:
    start = norm.project_ball(y, radius)
    face = norm.project_face(start, direction, radius)
    inputs = {"y": start, "direction": direction, "radius": radius}
    yield law("the face keeps the shape", face.shape == y.shape, shape=y.shape)
    yield law("the face is in the ball", norm(face) <= radius * (1 + TOLERANCE), **inputs)
    reach = radius * norm.dual(direction)
    yield law(
        "the face is where the direction reaches farthest",
        np.abs(inner(face, direction) - reach) <= TOLERANCE * reach + 1e-300,
        **inputs,
    )
    zero = norm(direction) == 0
    still = (np.abs(face - start) <= TOLERANCE * np.abs(start)) | ~column(zero, y)
    yield law("a zero direction moves nothing", still, **inputs)
    each = norm.project_face(start, direction, np.full(len(y), radius))
    yield law("a radius of the face for each example, as an array", each == face, **inputs)
    # For a smooth norm the limit is approached slowly, so that the tolerance depends on alpha.
    size = column(np.where(zero, 1, norm.dual(direction)), direction)
    far = []
    for alpha in (1e3, 1e6):
        moved = start + alpha * max(radius, 1e-9) * direction / size
        far.append(norm.project_ball(moved, radius))
        apart = np.abs(inner(face - far[-1], direction / size))
        # By the variational inequality of the projection, in the lengths of l2.
        reached = _length(far[-1] - start) * _length(face - far[-1])
        limit = apart <= 2 * reached / (alpha * max(radius, 1e-9)) + 1e-9 * radius
        yield law("the face is the limit of the ball's projection", limit, **inputs, alpha=alpha)
    left, gone = _length(face - far[1]), _length(far[1] - far[0])
    # A strictly convex norm's limit may be far from reached, but then the face is a single point.
    rounding = 1e-6 * (_length(start) + _length(far[1]))
    near = (left <= 2 * rounding) | (gone > rounding)
    yield law("the point of the face is that limit, and no other", near, **inputs, face=face)


def _length(x: np.ndarray) -> np.ndarray:
    length: np.ndarray = np.sqrt(inner(x, x))
    return length


def _sphere_projection(norm: Norm, y: np.ndarray, rng: np.random.Generator) -> Laws:
    for scale in (2.0, 0.5):
        size = norm(y)
        point = y * column(scale / np.where(size > 0, size, 1), y)
        try:
            found = norm.project_sphere(point, 1.0)
        except NotAvailableError:
            continue
        on = np.abs(norm(found) - 1) <= TOLERANCE
        yield law("the projection is on the sphere", on, y=point, projection=found)
        for _ in range(5):
            other = found + 0.1 * rng.standard_normal(point.shape)
            other = other / column(norm(other), other)
            closer = inner(point - other, point - other) - inner(point - found, point - found)
            yield law("no point of the sphere is closer", closer >= -TOLERANCE, y=point)


def _sampling(norm: Norm, shape: tuple[int, ...], rng: np.random.Generator) -> Laws:
    try:
        points = norm.sample_ball(rng, (DRAWS, *shape))
    except NotAvailableError as error:
        yield Law("samples are uniform by volume", skipped=f"not available: {error}")
        return
    yield law("a sample for each example", points.shape == (DRAWS, *shape), shape=points.shape)
    size = norm(points)
    yield law("samples are in the ball", size <= 1 + TOLERANCE, x=points, norm=size)
    # For uniform samples, ||x||^n is uniform on [0, 1]: mean 1/2, standard error 0.0046.
    volume = float(np.mean(size ** int(np.prod(shape))))
    yield law("samples are uniform by volume", abs(volume - 0.5) < 0.025, mean_volume=volume)
    center = np.abs(points.mean(axis=0)) / points.std(axis=0)
    farthest = float(center.max())
    symmetric = farthest < 6 / np.sqrt(DRAWS)
    yield law("samples are symmetric", symmetric, mean_over_deviation=farthest)
