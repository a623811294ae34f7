"""The laws of a backend, which are held against the NumPy backend from equal weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from onr.architectures import Affine, Architecture, Flatten, Normalize, ReLU, initial_parameters
from onr.arrays import to_numpy
from onr.data import Split
from onr.errors import OnrError
from onr.norms import LpNorm
from onr.protocols import BackendNetwork
from onr.registry import load
from onr.testing.laws import TOLERANCE, Laws, law, offered, require
from onr.testing.networks import network_laws
from onr.training.optimizers import Optimizer
from onr.training.protocols import Backend

__all__ = ["backend_laws", "check_backend"]

LAYERS = (Normalize((0.5,), (0.25,)), Flatten(), Affine(12), ReLU(), Affine(8), ReLU(), Affine(4))
MODEL = Architecture((1, 3, 3), LAYERS)


def check_backend(backend: Backend, model: Architecture = MODEL, *, seed: int = 0) -> None:
    """Check the networks and the learner of a backend.

    From equal weights they must agree with those of the NumPy backend in float64. What a backend
    lacks it says by an :class:`onr.errors.NotAvailableError`: ``features``, ``activation_pattern``,
    ``cell_radius`` and ``learner`` are then not checked. Not checked at all is ``read_parameters``.

    Args:
        backend: the backend.
        model: an architecture that the NumPy backend takes too.
        seed: the seed of the weights and of the inputs.

    Raises:
        AssertionError: a law is broken; the message says which, and at which input.

    Example:
        >>> from onr_numpy.backend import NumpyBackend
        >>> check_backend(NumpyBackend())

    """
    require(backend_laws(backend, model, seed=seed))


def backend_laws(backend: Backend, model: Architecture = MODEL, *, seed: int = 0) -> Laws:
    """The laws that :func:`check_backend` checks, one after the other."""
    drawn = initial_parameters(model, seed)
    network = backend.build(model, seed=seed, dtype="float64")
    twin = load("backend", "onr_numpy:numpy")().build(model, seed=seed, dtype="float64")
    pixels = np.random.default_rng(seed).random((6, *model.input_shape))
    x = network.asarray(pixels)
    yield from _building(backend, model, network, drawn, pixels)
    yield from network_laws(network, x, seed=seed)
    yield _agrees("the logits are those of the NumPy backend", network(x), twin(pixels), pixels)
    frozen = network.frozen()
    yield _agrees("frozen() is the same function", frozen(x), twin(pixels), pixels)
    yield from offered("features", lambda: _features(network, x, pixels, drawn))
    yield from offered("activation_pattern", lambda: _pattern(network, twin, x, pixels))
    yield from offered("cell_radius", lambda: _cells(network, twin, x, pixels))
    yield from _adopting(backend, network, x)
    yield from offered("learner", lambda: _learning(backend, model, pixels))


def _agrees(text: str, found: Any, wanted: np.ndarray, x: np.ndarray) -> Any:
    values = to_numpy(found)
    if values.shape != wanted.shape:
        return law(text, False, shape=values.shape, wanted=wanted.shape)
    apart = np.abs(values - wanted)
    return law(text, apart <= TOLERANCE * (1 + np.abs(wanted)), x=x, found=values, wanted=wanted)


def _building(
    backend: Backend,
    model: Architecture,
    network: BackendNetwork,
    drawn: dict[str, np.ndarray],
    pixels: np.ndarray,
) -> Laws:
    shape = tuple(network.input_shape)
    yield law("input_shape is that of the model", shape == model.input_shape, input_shape=shape)
    found = network.parameters()
    yield law("parameters() has the names of the model's", found.keys() == drawn.keys())
    for name in found.keys() & drawn.keys():
        same = found[name].shape == drawn[name].shape and (found[name] == drawn[name]).all()
        yield law("a seed draws the weights that it draws on every backend", same, weight=name)
        if found[name].flags.writeable:
            found[name][...] = 7
    fresh = network.parameters()
    kept = all((fresh[name] == drawn[name]).all() for name in fresh.keys() & drawn.keys())
    yield law("parameters() is a copy", kept)
    again = backend.build(lambda: model, parameters=fresh, dtype="float64")
    x = network.asarray(pixels)
    yield _agrees(
        "a network of these parameters is the same", again(x), to_numpy(network(x)), pixels
    )
    single = backend.build(model, seed=0)
    kind = to_numpy(single(single.asarray(pixels))).dtype
    yield law("float32 unless another type is asked for", kind == np.float32, dtype=str(kind))
    labels = to_numpy(network.asarray(np.arange(3)))
    yield law("asarray keeps whole numbers", labels.dtype.kind == "i", dtype=str(labels.dtype))
    back = to_numpy(x)
    yield law("asarray keeps floats", back.dtype == np.float64 and (back == pixels).all(), x=pixels)
    try:
        backend.build(model, device="no such device")
        refused = False
    except OnrError:
        refused = True
    yield law("an unknown device is refused by an OnrError", refused, device="no such device")


def _features(
    network: BackendNetwork, x: Any, pixels: np.ndarray, drawn: dict[str, np.ndarray]
) -> Laws:
    found = to_numpy(network.features()(x))
    last = max(int(name.partition(".")[0]) for name in drawn)
    weight, bias = drawn[f"{last}.weight"], drawn[f"{last}.bias"]
    fits = found.shape == (len(pixels), weight.shape[1])
    yield law("features has a row for each example", fits, shape=found.shape)
    if fits:
        text = "the last layer of the features is the network"
        yield _agrees(text, found @ weight.T + bias, to_numpy(network(x)), pixels)


def _pattern(network: BackendNetwork, twin: BackendNetwork, x: Any, pixels: np.ndarray) -> Laws:
    found, wanted = to_numpy(network.activation_pattern(x)), twin.activation_pattern(pixels)
    text = "the activation pattern is that of the NumPy backend"
    same = found.shape == wanted.shape and found == wanted
    yield law(text, same, x=pixels)


def _cells(network: BackendNetwork, twin: BackendNetwork, x: Any, pixels: np.ndarray) -> Laws:
    for p in (1, 2, np.inf):
        found = network.cell_radius(x, p=LpNorm(p))
        wanted = np.asarray(twin.cell_radius(pixels, p=LpNorm(p)))
        yield _agrees("cell_radius is that of the NumPy backend", found, wanted, pixels)


def _adopting(backend: Backend, network: BackendNetwork, x: Any) -> Laws:
    for given, said in ((object(), "an object that is no model"), (None, "None")):
        try:
            backend.adopt(given, x)
            refused = False
        except OnrError:
            refused = True
        yield law("adopt refuses what is no model by an OnrError", refused, model=said)


def _learning(backend: Backend, model: Architecture, pixels: np.ndarray) -> Laws:
    """Steps of training are those of the NumPy backend, and a state is where they go on."""
    method = load("method", "onr_paper:standard")()
    split = Split(pixels, np.arange(len(pixels)) % model.classes)
    numpy = load("backend", "onr_numpy:numpy")()

    def begun(maker: Backend) -> Any:
        network = maker.build(model, seed=1, dtype="float64")
        return maker.learner(network, method, split, optimizer=Optimizer("sgd"))

    def stepped(learner: Any, count: int) -> list[float]:
        rng, rows = np.random.default_rng(0), np.arange(len(pixels))
        return [float(to_numpy(learner.step(rows, lr=0.05, rng=rng))) for _ in range(count)]

    mine, twin = begun(backend), begun(numpy)
    costs, wanted = np.array(stepped(mine, 3)), np.array(stepped(twin, 3))
    yield law("a step costs what it does in NumPy", np.abs(costs - wanted) <= 1e-9, cost=costs)
    state, after = mine.state(), twin.network.parameters()
    for name, value in after.items():
        found = state.get(f"model.{name}")
        same = found is not None and np.abs(to_numpy(found) - value).max() <= TOLERANCE
        yield law("a step of training is that of the NumPy backend", same, weight=name)
    saved = {name: np.array(value) for name, value in state.items()}
    further = stepped(mine, 2)
    mine.load_state(saved)
    yield law("training goes on from a state as it did", stepped(mine, 2) == further)
    inside = {name: to_numpy(value) * 0 for name, value in mine.weights().items()}
    outside = mine.network.parameters()
    with mine.holding({name: value * 0 for name, value in mine.weights().items()}):
        held = mine.network.parameters()
        same = all((held[name] == 0).all() for name in inside)
        yield law("holding(weights) gives the network these weights", same)
    back = mine.network.parameters()
    same = all((back[name] == outside[name]).all() for name in outside)
    yield law("after holding(weights) the training has its own back", same)
