"""Seeded draws to check the theorem on: random networks and inputs, and degenerate cases."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onr.architectures import Affine, Architecture, Conv, Flatten, Layer, MaxPool, ReLU
from onr.errors import OnrError
from onr.norms import LpNorm
from onr.protocols import Backend, Norm
from onr_numpy.backend import NumpyBackend
from onr_numpy.network import DenseNetwork
from onr_validation.theorem import CellCheck, check_theorem

__all__ = [
    "COUNTEREXAMPLES",
    "Counterexample",
    "architecture",
    "check_counterexample",
    "check_draws",
]

INPUT_SHAPE = (3, 4, 4)
CLASSES = 5
INPUTS_PER_NETWORK = 20


def architecture(layers: str) -> Architecture:
    """A network from a list such as ``24,24`` or ``c4,m2,16``.

    A number is a hidden affine layer of that width and ``cK`` a 3 x 3 convolution with K channels,
    each with a ReLU; ``mK`` is K x K max pooling. Inputs are images of 4 x 4 pixels with three
    channels, so that norms which need colours have them; an affine layer to 5 logits comes last.

    Raises:
        OnrError: the list is not of that form, or does not fit.

    """
    built: list[Layer] = []
    flat = False
    for word in layers.split(","):
        kind, digits = (word[:1], word[1:]) if word[:1] in ("c", "m") else ("", word)
        if not digits.isdigit() or int(digits) < 1 or (kind and flat):
            raise OnrError(
                f"layers {layers!r}: {word!r} is not understood; expected widths as in 24,24, with "
                "convolutions cK and pooling mK before them, as in c4,m2,16"
            )
        size = int(digits)
        if kind == "c":
            built += [Conv(size), ReLU()]
        elif kind == "m":
            built += [MaxPool(size)]
        else:
            built += [Affine(size), ReLU()] if flat else [Flatten(), Affine(size), ReLU()]
            flat = True
    built += [Affine(CLASSES)] if flat else [Flatten(), Affine(CLASSES)]
    network = Architecture(INPUT_SHAPE, tuple(built))
    network.shapes()
    return network


def check_draws(
    backend: Backend,
    layers: str,
    *,
    p: Norm,
    q: Norm,
    alpha: float,
    trials: int,
    iterations: int,
    seed: int,
) -> Iterator[CellCheck]:
    """Check the theorem on random networks, up to 20 inputs on each.

    A draw is determined by ``(seed, its network's number)``.
    """
    model = architecture(layers)
    for index in range(math.ceil(trials / INPUTS_PER_NETWORK)):
        count = min(INPUTS_PER_NETWORK, trials - index * INPUTS_PER_NETWORK)
        rng = np.random.default_rng([seed, index])
        drawn = int(rng.integers(2**31))
        reference = NumpyBackend().build(model, seed=drawn, dtype="float64")
        yield check_theorem(
            backend,
            backend.build(model, seed=drawn, dtype="float64"),
            reference,
            rng.standard_normal((count, *INPUT_SHAPE)),
            rng.standard_normal((count, *INPUT_SHAPE)),
            p=p,
            q=q,
            alpha=alpha,
            iterations=iterations,
        )


@dataclass(frozen=True)
class Counterexample:
    """A linear network ``f(x) = J x`` and a start on which the theorem's conclusion fails."""

    title: str
    p: float
    q: float
    jacobian: tuple[tuple[float, ...], ...]
    start: tuple[float, ...]


COUNTEREXAMPLES = (
    Counterexample(
        "a zero entry of J^T u: the ball keeps the coordinate, sign(0) does not",
        math.inf,
        1,
        ((-1, -1), (0, -1)),
        (1, -0.5),
    ),
    Counterexample(
        "a tie for the largest entry of J^T u: the ball keeps the difference, 1/|I| does not",
        1,
        1,
        ((1, 0), (0, 1)),
        (0.75, 0.25),
    ),
    Counterexample(
        "p = 3: Eq. 18 applies the duality map twice", 3, 2, ((2, 1), (1, 3)), (1, -0.5)
    ),
)
"""Degenerate draws, and a p that the theorem does not speak of: what its hypotheses are for."""


def check_counterexample(case: Counterexample, *, iterations: int) -> CellCheck:
    """Run both sequences on it, in NumPy."""
    J = np.array(case.jacobian, dtype=float)
    d, n = J.shape
    model = Architecture((n,), (Affine(d),))
    network = DenseNetwork(model, {"0.weight": J, "0.bias": np.zeros(d)})
    return check_theorem(
        NumpyBackend(),
        network,
        network,
        np.zeros((1, n)),
        np.array([case.start], dtype=float),
        p=LpNorm(case.p),
        q=LpNorm(case.q),
        iterations=iterations,
    )
