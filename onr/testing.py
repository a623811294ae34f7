"""Checks of the laws of norms, losses, networks and attacks, for the tests of your own ones.

Each function checks one object on random inputs and raises an ``AssertionError`` that names the law
that fails. The project's own norms, losses, backends and attacks are tested with these functions::

    from onr.testing import check_norm

    def test_my_norm():
        check_norm(MyNorm(), (3, 4, 4))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onr.arrays import column, inner
from onr.errors import NotAvailableError, OnrError
from onr.protocols import Attack, Loss, Network, Norm

__all__ = ["adjoint_error", "check_attack", "check_loss", "check_network", "check_norm"]

BATCH = 7
TOLERANCE = 1e-9


def _require(holds: Any, law: str) -> None:
    if not np.all(holds):
        raise AssertionError(law)


def _examples(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Random examples, among them zero entries, ties, zero, and tiny and huge magnitudes."""
    x = rng.standard_normal((BATCH, *shape))
    x[1].reshape(-1)[::2] = 0
    x[2] = np.sign(x[2])
    x[3] = 0
    x[4] *= 1e-12
    x[5] *= 1e6
    return x


def check_norm(norm: Norm, shape: tuple[int, ...], *, seed: int = 0, draws: int = 20) -> None:
    """Check the axioms of a norm, and that its dual, maps, projections and samples belong to it.

    Args:
        norm: the norm.
        shape: the shape of one example.
        seed: the seed of the random inputs.
        draws: the number of random batches.

    Raises:
        AssertionError: a law fails; the message names the law.

    Example:
        >>> from onr.norms import LpNorm
        >>> check_norm(LpNorm(3), (2, 2), draws=2)

    """
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        x, y = _examples(rng, shape), _examples(rng, shape)[::-1].copy()
        _norm_axioms(norm, x, y)
        _duality(norm, x, y)
        for radius in (0.0, 1.0, float(np.median(norm(x)))):
            _ball_projection(norm, x, y, radius)
            _face_projection(norm, x, y, radius)
        _sphere_projection(norm, x, rng)
    _sampling(norm, shape, rng)


def _norm_axioms(norm: Norm, x: np.ndarray, y: np.ndarray) -> None:
    size = norm(x)
    _require(size.shape == (len(x),), "one number for each example")
    _require((size > 0) == (x != 0).reshape(len(x), -1).any(axis=1), "only zero has norm 0")
    for factor in (-3.0, 1e-20):
        _require(
            np.abs(norm(factor * x) - abs(factor) * size) <= TOLERANCE * abs(factor) * size,
            "absolute homogeneity, ||t x|| = |t| ||x||",
        )
    _require(norm(x + y) <= (size + norm(y)) * (1 + TOLERANCE), "the triangle inequality")
    alone = np.concatenate([norm(x[i : i + 1]) for i in range(len(x))])
    _require(
        np.abs(alone - size) <= TOLERANCE * size,
        "the norm of an example does not depend on its batch",
    )


def _duality(norm: Norm, x: np.ndarray, y: np.ndarray) -> None:
    size, dual = norm(x), norm.dual(x)
    zero = size == 0
    scale = size * norm.dual(y) + 1e-300
    _require(np.abs(inner(x, y)) <= scale * (1 + TOLERANCE), "<x, y> <= ||x|| ||y||_*")
    _require(np.abs(norm.dual.dual(x) - size) <= TOLERANCE * size, "the dual's dual is the norm")
    for ties in ("average", "vertex"):
        v = norm.duality_map(x, ties=ties)
        _require(v.shape == x.shape, "the duality map keeps the shape")
        _require(np.isfinite(v), "the duality map is finite")
        _require(np.abs(norm(v) - ~zero) <= TOLERANCE, "the duality map has norm 1, 0 for 0")
        _require(np.abs(inner(v, x) - dual) <= TOLERANCE * dual, "<v, z> = ||z||_* (Lemma 1)")
    gradient = norm.gradient(x)
    _require(np.abs(inner(gradient, x) - size) <= TOLERANCE * size, "<gradient, x> = ||x||")
    gain = norm(y) - inner(gradient, y)
    _require(gain >= -TOLERANCE * norm(y), "the gradient's plane supports the norm")


def _nearest(
    norm: Norm, y: np.ndarray, found: np.ndarray, other: np.ndarray, radius: float
) -> None:
    """Check the variational inequality of a projection, against points of the ball."""
    size = norm(other)
    inside = other * column(np.minimum(1, radius / np.where(size > 0, size, 1)), other)
    towards = inner(y - found, inside - found)
    scale = inner(y, y) + radius**2 * inner(other, other) / np.where(size > 0, size, 1) ** 2
    _require(towards <= TOLERANCE * scale + 1e-300, "no point of the ball is closer")


def _ball_projection(norm: Norm, y: np.ndarray, other: np.ndarray, radius: float) -> None:
    found = norm.project_ball(y, radius)
    _require(norm(found) <= radius * (1 + TOLERANCE), "the projection is in the ball")
    inside = norm(y) <= radius
    _require(found[inside] == y[inside], "a point of the ball is unchanged, bit for bit")
    again = norm.project_ball(found, radius)
    _require(
        np.abs(again - found) <= TOLERANCE * max(radius, 1e-300),
        "projecting twice equals projecting once",
    )
    _nearest(norm, y, found, other, radius)
    _nearest(norm, y, found, norm.duality_map(y - found), radius)
    each = np.full(len(y), radius)
    _require(norm.project_ball(y, each) == found, "a radius for each example")


def _face_projection(norm: Norm, y: np.ndarray, direction: np.ndarray, radius: float) -> None:
    start = norm.project_ball(y, radius)
    face = norm.project_face(start, direction, radius)
    _require(norm(face) <= radius * (1 + TOLERANCE), "the face is in the ball")
    reach = radius * norm.dual(direction)
    _require(
        np.abs(inner(face, direction) - reach) <= TOLERANCE * reach + 1e-300,
        "the face is where the direction reaches farthest",
    )
    zero = norm(direction) == 0
    moved = np.abs(face[zero] - start[zero])
    _require(moved <= TOLERANCE * radius, "a zero direction moves nothing")
    # For a smooth norm the limit is approached slowly, so that the tolerance depends on alpha.
    size = column(np.where(zero, 1, norm.dual(direction)), direction)
    for alpha in (1e3, 1e6):
        far = norm.project_ball(start + alpha * max(radius, 1e-9) * direction / size, radius)
        apart = inner(face - far, direction / size)
        _require(np.abs(apart) <= 10 * radius / alpha + 1e-9 * radius, "the face is the limit")


def _sphere_projection(norm: Norm, y: np.ndarray, rng: np.random.Generator) -> None:
    for scale in (2.0, 0.5):
        size = norm(y)
        point = y * column(scale / np.where(size > 0, size, 1), y)
        try:
            found = norm.project_sphere(point, 1.0)
        except NotAvailableError:
            continue
        _require(np.abs(norm(found) - 1) <= TOLERANCE, "the projection is on the sphere")
        for _ in range(5):
            other = found + 0.1 * rng.standard_normal(point.shape)
            other = other / column(norm(other), other)
            closer = inner(point - other, point - other) - inner(point - found, point - found)
            _require(closer >= -TOLERANCE, "no point of the sphere is closer")


def _sampling(norm: Norm, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    try:
        points = norm.sample_ball(rng, (4000, *shape))
    except NotAvailableError:
        return
    _require(points.shape == (4000, *shape), "a point for each example")
    size = norm(points)
    _require(size <= 1 + TOLERANCE, "samples are in the ball")
    # For uniform samples, ||x||^n is uniform on [0, 1]: mean 1/2, standard error 0.0046.
    volume = np.mean(size ** int(np.prod(shape)))
    _require(abs(volume - 0.5) < 0.025, "samples are uniform by volume")
    center = np.abs(points.mean(axis=0)) / points.std(axis=0)
    _require(center < 6 / np.sqrt(4000), "samples are symmetric")


def adjoint_error(network: Network, x: np.ndarray, v: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The relative error ``|<u, J v> - <J^T u, v>|`` of each example, shape ``(batch,)``, in NumPy.

    The error is divided by ``sqrt(|u|^2 |J v|^2 + |v|^2 |J^T u|^2)`` with Euclidean norms, unless
    that is zero.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)), dtype="float64")
        >>> adjoint_error(network, np.ones((1, 3)), np.ones((1, 3)), np.ones((1, 2))) < 1e-12
        array([ True])

    """
    J = network.linearize(x)
    image, back = J.jvp(v), J.vjp(u)
    scale = np.sqrt(inner(u, u) * inner(image, image) + inner(v, v) * inner(back, back))
    error: np.ndarray = np.abs(inner(u, image) - inner(back, v)) / np.where(scale > 0, scale, 1)
    return error


def check_network(network: Network, x: np.ndarray, *, seed: int = 0) -> None:
    """Check that a NumPy network in float64 has a consistent and correct linearisation.

    The checks are the adjoint identity, linearity, and finite differences.

    Args:
        network: the network.
        x: inputs at which the network is differentiable, shape ``(batch, *input_shape)``.
        seed: the seed of the random directions.

    Raises:
        AssertionError: a law fails; the message names the law.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)), dtype="float64")
        >>> check_network(network, np.random.default_rng(0).random((5, 3)))

    """
    rng = np.random.default_rng(seed)
    here = network.linearize(x)
    _require(x.shape[1:] == network.input_shape == here.input_shape, "the input's shape")
    _require(here.value.shape == (len(x), *here.output_shape), "the output's shape")
    _require(np.abs(here.value - network(x)) <= TOLERANCE, "the value is f(x)")
    v, w = rng.standard_normal((2, *x.shape))
    u = rng.standard_normal(here.value.shape)
    _require(adjoint_error(network, x, v, u) <= TOLERANCE, "<u, J v> = <J^T u, v>")
    sums = here.jvp(2 * v - w) - (2 * here.jvp(v) - here.jvp(w))
    _require(np.abs(sums) <= TOLERANCE * (1 + np.abs(here.jvp(v))), "J v is linear in v")
    step = 1e-6
    slope = (network(x + step * v) - network(x - step * v)) / (2 * step)
    _require(np.abs(slope - here.jvp(v)) <= 1e-5 * (1 + np.abs(slope)), "J v is the derivative")
    alone = network.linearize(x, jvp=False)
    _require(np.abs(alone.value - here.value) <= TOLERANCE, "jvp=False keeps the value")
    _require(np.abs(alone.vjp(u) - here.vjp(u)) <= TOLERANCE, "jvp=False keeps J^T u")


def check_loss(loss: Loss, classes: int = 5, *, seed: int = 0) -> None:
    """Check the gradient of a loss by finite differences, and its direction by its gradient.

    Args:
        loss: the loss.
        classes: the number of classes of the random logits.
        seed: the seed of the random logits and labels.

    Raises:
        AssertionError: a law fails; the message names the law.

    Example:
        >>> from onr.losses import CrossEntropy
        >>> check_loss(CrossEntropy(beta=2))

    """
    rng = np.random.default_rng(seed)
    logits, clean = 3 * rng.standard_normal((2, BATCH, classes))
    labels = rng.integers(0, classes, BATCH)

    def value(z: np.ndarray) -> np.ndarray:
        return np.asarray(loss.value(z, labels=labels, clean=clean))

    gradient = loss.gradient(logits, labels=labels, clean=clean)
    _require(gradient.shape == logits.shape, "a gradient shaped as the logits")
    _require(value(logits).shape == (BATCH,), "one number for each example")
    step = 1e-6
    for index in range(classes):
        moved = step * (np.arange(classes) == index)
        slope = (value(logits + moved) - value(logits - moved)) / (2 * step)
        _require(np.abs(slope - gradient[:, index]) <= 1e-5, "the gradient is the derivative")
    direction = loss.direction(logits, labels=labels, clean=clean)
    cosine = inner(direction, gradient) / np.sqrt(
        inner(direction, direction) * inner(gradient, gradient)
    )
    _require(cosine >= 1 - TOLERANCE, "the direction is a positive multiple of the gradient")


class _Flat:
    """A constant network, which is also its own linearisation; the logits are those of ``x[0]``."""

    def __init__(self, network: Network, x: np.ndarray) -> None:
        self._network, self._first = network, x[:1]
        self.input_shape = network.input_shape
        self.value = np.repeat(network(x[:1]), len(x), axis=0)
        self.output_shape = self.value.shape[1:]

    def __call__(self, x: np.ndarray, /) -> np.ndarray:
        return np.repeat(self.value[:1], len(x), axis=0)

    def linearize(self, x: np.ndarray, /, *, jvp: bool = True) -> _Flat:
        return _Flat(self._network, np.repeat(self._first, len(x), axis=0))

    def jvp(self, v: np.ndarray, /) -> np.ndarray:
        return np.zeros((len(v), *self.output_shape))

    def vjp(self, u: np.ndarray, /) -> np.ndarray:
        return np.zeros((len(u), *self.input_shape))


def check_attack(
    make_attack: Callable[[float], Attack],
    network: Network,
    x: np.ndarray,
    y: np.ndarray,
    *,
    p: Norm,
    eps: float,
) -> None:
    """Check an attack on a NumPy network: where its results lie, and what they depend on.

    ``onr_torch.testing.check_attack`` also checks what an attack does to a torch module.

    Args:
        make_attack: makes the attack for a radius, 0 included, on pixels in [0, 1].
        network: the network to attack.
        x: two or more inputs in [0, 1], shape ``(batch, *input_shape)``, float64.
        y: the labels of the inputs.
        p: the norm of the ball.
        eps: the radius of the ball.

    Raises:
        AssertionError: a law fails; the message names the law.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr.text import attack_by_name, norm
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)), dtype="float64")
        >>> (x, y), p = (np.full((4, 3), 0.5), np.array([0, 1, 0, 1])), norm(2)
        >>> make = attack_by_name("pga").make
        >>> check_attack(lambda eps: make(p, eps, (0, 1)), network, x, y, p=p, eps=0.1)

    """
    attack, before = make_attack(eps), x.copy()

    def found_at(x: np.ndarray, network: Network = network) -> np.ndarray:
        found: np.ndarray = attack(network, x, y, rng=np.random.default_rng(0))
        _require(found.shape == x.shape, "perturbed inputs shaped as the input")
        _require(found.dtype == x.dtype, "the input's float type")
        _require(np.isfinite(found), "finite perturbed inputs")
        _require((found >= 0) & (found <= 1), "the box [0, 1]")
        slack = 1e-6 if x.dtype == np.float32 else TOLERANCE
        size = p(found.astype(np.float64) - x)
        _require(size <= eps * (1 + slack) + slack, "the ball of radius eps")
        return found

    found = found_at(x)
    _require(x == before, "the input is left alone")
    _require(found == found_at(x), "one seed, one result")
    still = make_attack(0.0)(network, x, y, rng=np.random.default_rng(0))
    _require(still == x, "eps = 0 returns the input")
    found_at(x.astype(np.float32))
    try:
        found_at(x, _Flat(network, x))
    except AssertionError as error:
        raise AssertionError(f"where the gradient is zero: {error}") from error
    others = x.copy()
    others[1::2] = 1 - others[1::2]
    apart = np.abs(found_at(others) - found)[::2]
    _require(apart <= TOLERANCE, "an example's result does not depend on the others")
    try:
        attack(network, x - 2, y, rng=np.random.default_rng(0))
    except OnrError:
        return
    raise AssertionError("inputs outside [0, 1] are refused")
