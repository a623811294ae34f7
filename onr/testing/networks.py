"""The laws of a network, and the small network on which parts are tried."""

from __future__ import annotations

import numpy as np

from onr.architectures import Affine, Architecture, Flatten, ReLU
from onr.arrays import inner, like, to_numpy
from onr.protocols import BackendNetwork, Network
from onr.registry import load
from onr.testing.laws import CLOSE, TOLERANCE, Laws, law, require
from onr.typing import Array

__all__ = ["adjoint_error", "check_network", "network_laws", "small_network"]

SMALL = Architecture((1, 6, 6), (Flatten(), Affine(12), ReLU(), Affine(4)))
"""Four classes of images of 36 pixels."""
SHORT = 1e-7
"""The length of the steps that a difference quotient takes in the inputs."""
ROUNDING = 1e-8
"""What rounding leaves of a difference of outputs of size 1, over such a step."""


def small_network(
    backend: str = "onr_numpy:numpy", *, images: int = 8
) -> tuple[BackendNetwork, Array, Array]:
    """A small network in float64, images in [0, 1], and the labels that it predicts for most.

    Args:
        backend: the registered backend that builds the network.
        images: how many images.

    Returns:
        The network, images ``(images, 1, 6, 6)`` and labels ``(images,)`` from 0 to 3; every fourth
        label is not the predicted one.

    Example:
        >>> network, x, y = small_network()
        >>> x.shape, network(x).shape, int((network(x).argmax(axis=1) == y).sum())
        ((8, 1, 6, 6), (8, 4), 6)

    """
    network = load("backend", backend)().build(SMALL, seed=0, dtype="float64")
    x = network.asarray(np.random.default_rng(0).random((images, *SMALL.input_shape)))
    labels = to_numpy(network(x)).argmax(axis=1)
    labels[3::4] = (labels[3::4] + 1) % 4
    return network, x, network.asarray(labels)


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
    return _adjoint_error(v, u, to_numpy(J.jvp(like(v, x))), to_numpy(J.vjp(like(u, x))))


def _adjoint_error(v: np.ndarray, u: np.ndarray, Jv: np.ndarray, Ju: np.ndarray) -> np.ndarray:
    scale = np.sqrt(inner(u, u) * inner(Jv, Jv) + inner(v, v) * inner(Ju, Ju))
    error: np.ndarray = np.abs(inner(u, Jv) - inner(Ju, v)) / np.where(scale > 0, scale, 1)
    return error


def check_network(network: Network, x: Array, *, seed: int = 0) -> None:
    """Check that a network in float64 has a consistent and correct linearisation.

    The checks are the adjoint identity, linearity, and finite differences.

    Args:
        network: the network.
        x: inputs at which the network is differentiable, shape ``(batch, *input_shape)``, as arrays
            of the network's backend.
        seed: the seed of the random directions.

    Raises:
        AssertionError: a law is broken; the message says which, and at which input.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)), dtype="float64")
        >>> check_network(network, np.random.default_rng(0).random((5, 3)))

    """
    require(network_laws(network, x, seed=seed))


def network_laws(network: Network, x: Array, *, seed: int = 0) -> Laws:
    """The laws that :func:`check_network` checks, one after the other."""
    rng = np.random.default_rng(seed)
    here, alone = network.linearize(x), network.linearize(x, jvp=False)
    shapes = tuple(x.shape[1:]) == tuple(network.input_shape) == tuple(here.input_shape)
    yield law("the input's shape", shapes, x=tuple(x.shape), network=network.input_shape)
    value = to_numpy(here.value)
    yield law("the output's shape", value.shape == (len(x), *here.output_shape), value=value.shape)
    f = np.abs(value).max() + 1
    v, w = rng.standard_normal((2, *x.shape))
    u = rng.standard_normal(value.shape)

    def values(x: Array) -> np.ndarray:
        return to_numpy(network(x))

    def jvp(v: np.ndarray) -> np.ndarray:
        return to_numpy(here.jvp(like(v, x)))

    yield law("the value is f(x)", np.abs(value - values(x)) <= TOLERANCE * f, x=x)
    Jv, Ju = jvp(v), to_numpy(here.vjp(like(u, x)))
    yield law("J v is shaped as the output", Jv.shape == value.shape, shape=Jv.shape)
    yield law("J^T u is shaped as the input", Ju.shape == tuple(x.shape), shape=Ju.shape)
    small = _adjoint_error(v, u, Jv, Ju) <= TOLERANCE
    yield law("<u, J v> = <J^T u, v>", small, x=x, v=v, u=u)
    sums = np.abs(jvp(2 * v - w) - (2 * Jv - jvp(w)))
    yield law("J v is linear in v", sums <= TOLERANCE * (1 + np.abs(Jv)), x=x, v=v, w=w)
    # A short step seldom leaves the linear region of a ReLU network.
    short = SHORT * like(v / np.sqrt(inner(v, v)).reshape((-1,) + (1,) * (v.ndim - 1)), x)
    slope = (values(x + short) - values(x - short)) / (2 * SHORT)
    slope *= np.sqrt(inner(v, v))[:, None]
    off = np.abs(slope - Jv) <= CLOSE * np.abs(slope).max() + ROUNDING * f * np.sqrt(v[0].size)
    yield law("J v is the derivative", off, x=x, v=v, Jv=Jv, slope=slope)
    same = np.abs(to_numpy(alone.value) - value) <= TOLERANCE * f
    yield law("jvp=False keeps the value", same, x=x)
    same = np.abs(to_numpy(alone.vjp(like(u, x))) - Ju) <= TOLERANCE * (1 + np.abs(Ju))
    yield law("jvp=False keeps J^T u", same, x=x, u=u)
    single = np.concatenate([values(x[i : i + 1]) for i in range(len(x))])
    apart = np.abs(single - value) <= TOLERANCE * f
    yield law("an output does not depend on the other inputs", apart, x=x)
