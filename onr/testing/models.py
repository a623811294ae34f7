"""The laws of a model, as a plugin registers it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from onr.architectures import Architecture, Normalize
from onr.arrays import to_numpy
from onr.registry import load
from onr.testing.laws import Laws, law, require
from onr.testing.networks import network_laws

__all__ = ["check_model", "model_laws"]


def check_model(
    model: Callable[..., Any],
    *,
    input_shape: tuple[int, ...] = (1, 8, 8),
    classes: int = 10,
    backend: str | None = None,
) -> None:
    """Check that a model is built for a shape and a number of classes, and what its network does.

    Args:
        model: the target that is registered, ``model(input_shape, classes, **options)``.
        input_shape: the shape of one image.
        classes: the number of classes.
        backend: the backend that builds the network; if not given, that of NumPy for an
            ``Architecture`` and that of torch for any other model.

    Raises:
        AssertionError: a law is broken; the message says which, and at which input.

    Example:
        >>> from onr_paper.models import mlp
        >>> check_model(mlp, input_shape=(1, 4, 4), classes=3)

    """
    require(model_laws(model, input_shape=input_shape, classes=classes, backend=backend))


def model_laws(
    model: Callable[..., Any],
    *,
    input_shape: tuple[int, ...] = (1, 8, 8),
    classes: int = 10,
    backend: str | None = None,
) -> Laws:
    """The laws that :func:`check_model` checks, one after the other."""
    takes = inspect.signature(model).parameters
    channels = input_shape[0]
    given: dict[str, Any] = {}
    if "normalize" in takes:
        given["normalize"] = Normalize((0.5,) * channels, (0.25,) * channels)
    if "pretrained" in takes:
        given["pretrained"] = False

    def make() -> Any:
        return model(input_shape, classes, **given)

    if backend is None:
        plain = isinstance(make(), Architecture)
        backend = "onr_numpy:numpy" if plain else "onr_torch:torch"
    builder = load("backend", backend)()
    network = builder.build(make, seed=0, dtype="float64")
    shape = tuple(network.input_shape)
    yield law("images of the shape that was asked for", shape == input_shape, input_shape=shape)
    x = network.asarray(np.random.default_rng(0).random((4, *input_shape)))
    logits = to_numpy(network(x))
    yield law("a logit for each class", logits.shape == (4, classes), shape=logits.shape)
    yield law("logits are finite", np.isfinite(logits), x=x)
    again = builder.build(make, seed=0, dtype="float64").parameters()
    weights = network.parameters()
    same = weights.keys() == again.keys() and all(
        (value == again[name]).all() for name, value in weights.items()
    )
    yield law("one seed, one network", same, seed=0)
    yield from network_laws(network, x)
