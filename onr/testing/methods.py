"""The laws of a training method."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from onr.arrays import inner, like, to_numpy
from onr.data import Split
from onr.jacobians.dense import Matrices
from onr.protocols import (
    BackendNetwork,
    Cost,
    Method,
    Outputs,
    PenalizingMethod,
    Penalty,
    Probe,
)
from onr.registry import load
from onr.testing.laws import CLOSE, STEP, Laws, law, require
from onr.testing.networks import small_network
from onr.training.optimizers import Optimizer
from onr.typing import Array

__all__ = ["check_method", "method_laws"]

SETTLING = 50
"""So many steps at fixed weights precede the look at what is paid for them."""
ROUNDING = 1e-8
"""What rounding leaves of a difference quotient of costs of size 1."""


def check_method(method: Method, backend: str = "onr_numpy:numpy", *, seed: int = 0) -> None:
    """Check what a method asks for, and that its gradients are those of its cost.

    The method is tried on :func:`small_network`. What it pays for weights (a ``penalty``) is tried
    on two matrices, after so many steps at them that a search which goes on from its memory has
    settled.

    Args:
        method: the method.
        backend: the backend of the network.
        seed: the seed of the method's draws and of the random directions.

    Raises:
        AssertionError: a law is broken; the message says which, and at which input.

    Example:
        >>> from onr_paper.methods import Standard
        >>> check_method(Standard())

    """
    require(method_laws(method, backend, seed=seed))


def method_laws(method: Method, backend: str = "onr_numpy:numpy", *, seed: int = 0) -> Laws:
    """The laws that :func:`check_method` checks, one after the other."""
    network, x, y = small_network(backend)
    before = to_numpy(x).copy()

    def probe(memory: Array = None) -> Probe:
        rng = np.random.default_rng(seed)
        return method.perturb(network, x, y, rng=rng, memory=memory)

    yield from _settings(method)
    asked = probe()
    yield law("the input is left alone", to_numpy(x) == before, x=before)
    for name, array in _inputs(asked):
        found = to_numpy(array)
        yield law(f"{name} is shaped as x", found.shape == before.shape, shape=found.shape)
        yield law(f"{name} is finite", np.isfinite(found), x=before, found=found)
    pairs = zip(_inputs(asked), _inputs(probe()), strict=True)
    same = all((to_numpy(one) == to_numpy(other)).all() for (_, one), (_, other) in pairs)
    yield law("one seed, one probe", same, seed=seed)
    outputs = _outputs(network, x, asked)
    cost = method.objective(outputs, y)
    value = to_numpy(cost.value)
    yield law("one cost for each example", value.shape == (len(x),), shape=value.shape)
    yield law("the costs are finite", np.isfinite(value), x=before, cost=value)
    yield from _gradients(method, outputs, cost, y, seed)
    if cost.memory is not None:
        rows = cost.memory.shape[0] == len(x)
        yield law("a row of memory for each example", rows, shape=tuple(cost.memory.shape))
        for _, array in _inputs(probe(cost.memory)):
            kept = to_numpy(array).shape == before.shape
            yield law("what it kept is taken back", kept, memory=tuple(cost.memory.shape))
    if isinstance(method, PenalizingMethod):
        yield from _penalty(method, seed)
    yield from _step(method, backend, network, before, to_numpy(y))


def _settings(method: Method) -> Laws:
    settings = dict(method.settings)
    plain = all(
        isinstance(name, str) and isinstance(value, str | int | float)
        for name, value in settings.items()
    )
    yield law("settings are texts and numbers by name", plain, settings=settings)
    if plain:
        written = json.loads(json.dumps(settings)) == settings
        yield law("settings can be written to a file", written, settings=settings)


def _inputs(probe: Probe) -> Iterator[tuple[str, Array]]:
    """The arrays of a probe by name."""
    for place, array in enumerate(probe.perturbed):
        yield f"perturbed input {place}", array
    if probe.direction is not None:
        yield "the direction", probe.direction


def _outputs(network: BackendNetwork, x: Array, probe: Probe) -> Outputs:
    """The outputs that a probe asks for."""
    here = network.linearize(x)
    return Outputs(
        clean=here.value if probe.clean else None,
        perturbed=tuple(network(each) for each in probe.perturbed),
        tangent=None if probe.direction is None else here.jvp(probe.direction),
        evaluated=here.value if probe.evaluated else None,
    )


def _gradients(method: Method, outputs: Outputs, cost: Cost, y: Array, seed: int) -> Laws:
    """The cost along a random direction of each output, by a central difference."""
    rng = np.random.default_rng([seed, 1])
    given, value = cost.gradients, to_numpy(cost.value)
    count = len(given.perturbed) == len(outputs.perturbed)
    yield law("a gradient, or None, for each perturbed input", count, given=len(given.perturbed))
    if not count:
        return
    for name, place, z, gradient in _pairs(outputs, given):
        said = name if place is None else f"{name}[{place}]"
        if z is None:
            asked = gradient is None
            yield law(f"no gradient in {said}, for which the probe did not ask", asked)
            continue
        u = rng.standard_normal(tuple(z.shape))
        ends = [
            to_numpy(method.objective(_moved(outputs, name, place, z + s * like(u, z)), y).value)
            for s in (STEP, -STEP)
        ]
        slope = (ends[0] - ends[1]) / (2 * STEP)
        claimed = np.zeros(len(slope)) if gradient is None else inner(to_numpy(gradient), u)
        # Half of the examples moved: the cost of the others stays.
        half = u.copy()
        half[::2] = 0
        partly = method.objective(_moved(outputs, name, place, z + like(half, z)), y).value
        apart = np.abs(to_numpy(partly) - value)
        apart[1::2] = 0
        yield law(
            f"the gradient in {said} is that of the cost",
            np.abs(slope - claimed) <= CLOSE * np.abs(slope) + ROUNDING * (1 + np.abs(value)),
            output=to_numpy(z),
            direction=u,
            slope_of_the_cost=slope,
            of_the_gradient=claimed,
        )
        yield law(
            "the cost of an example does not depend on the others",
            apart <= ROUNDING * (1 + np.abs(value)),
            output=to_numpy(z),
        )


def _pairs(outputs: Outputs, gradients: Outputs) -> Iterator[tuple[str, int | None, Array, Array]]:
    """Each output with the gradient in it, by the name of the field and the place in it."""
    for name in ("clean", "tangent", "evaluated"):
        yield name, None, getattr(outputs, name), getattr(gradients, name)
    for place, pair in enumerate(zip(outputs.perturbed, gradients.perturbed, strict=True)):
        yield "perturbed", place, *pair


def _moved(outputs: Outputs, name: str, place: int | None, z: Array) -> Outputs:
    """The outputs with one of them replaced."""
    value: Any = z
    if place is not None:
        value = (*outputs.perturbed[:place], z, *outputs.perturbed[place + 1 :])
    return replace(outputs, **{name: value})


class _Matrix(Matrices):
    """A weight matrix as a linear map of a batch of one."""

    def weight_vjp(self, v: np.ndarray, u: np.ndarray, /) -> np.ndarray:
        """The gradient of ``<u, W v>`` in the weight."""
        return np.outer(u, v)


class _Weight:
    """A weight matrix, whose convolution is itself, as that of an affine layer."""

    def __init__(self, name: str, matrix: np.ndarray) -> None:
        self.name, self._matrix = name, matrix

    def matrix(self) -> _Matrix:
        """The weight as a linear map."""
        return _Matrix(self._matrix[None])

    convolution = matrix


def _penalty(method: PenalizingMethod, seed: int) -> Laws:
    """The penalty along a random direction of each weight, by a central difference."""
    rng = np.random.default_rng([seed, 2])
    shapes = {"0.weight": (5, 6), "2.weight": (4, 5)}
    # One singular value is well above the others, so that a search for it settles.
    weights = {
        name: 0.1 * rng.standard_normal(shape) + np.outer(*map(rng.standard_normal, shape))
        for name, shape in shapes.items()
    }

    def paid(changed: Mapping[str, np.ndarray], memory: Mapping[str, Array]) -> Penalty:
        every = [_Weight(name, value) for name, value in {**weights, **changed}.items()]
        return method.penalty(every, rng=np.random.default_rng(seed), memory=memory)

    settled: Mapping[str, Array] = {}
    for _ in range(SETTLING):
        settled = paid({}, settled).memory
    here = paid({}, settled)
    known = here.gradients.keys() <= weights.keys()
    yield law("a penalty has gradients in weights alone", known, weights=sorted(here.gradients))
    for name, value in weights.items():
        u = rng.standard_normal(value.shape)
        up, down = (float(paid({name: value + s * u}, settled).value) for s in (STEP, -STEP))
        slope = (up - down) / (2 * STEP)
        gradient = here.gradients.get(name)
        claimed = 0.0 if gradient is None else float(np.sum(np.asarray(gradient) * u))
        yield law(
            "the gradient of the penalty is that of its value",
            abs(slope - claimed) <= CLOSE * abs(slope) + ROUNDING * (1 + abs(float(here.value))),
            weight=name,
            slope_of_the_value=slope,
            of_the_gradient=claimed,
        )


def _step(
    method: Method, backend: str, network: BackendNetwork, x: np.ndarray, y: np.ndarray
) -> Laws:
    """Two steps of training, the second with what the first remembers."""
    train = Split(x, y)
    learner = load("backend", backend)().learner(network, method, train, optimizer=Optimizer())
    rng = np.random.default_rng(0)
    for _ in range(2):
        cost = to_numpy(learner.step(np.arange(len(y)), lr=0.01, rng=rng))
        yield law("a step of training has a finite cost", np.isfinite(cost).all(), cost=float(cost))
    finite = all(np.isfinite(value).all() for value in learner.state().values())
    yield law("a step of training gives finite weights", finite)
