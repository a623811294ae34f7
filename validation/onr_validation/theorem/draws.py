"""Seeded draws on which the theorem is checked: random, degenerate and trained networks."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from onr.architectures import (
    Affine,
    Architecture,
    Conv,
    Flatten,
    Layer,
    MaxPool,
    ReLU,
    initial_parameters,
)
from onr.data import pixels
from onr.errors import OnrError
from onr.exact.surds import FASTEST
from onr.norms import LpNorm
from onr.protocols import Norm
from onr.training.config import TrainConfig
from onr.training.factories import make_dataset, make_network
from onr.training.protocols import Backend
from onr.training.runs import Run
from onr_numpy.backend import NumpyBackend
from onr_numpy.exact_network import ExactNetwork
from onr_numpy.network import DenseNetwork
from onr_validation.theorem.check_theorem import DrawCheck, check_theorem

__all__ = [
    "COUNTEREXAMPLES",
    "REPAIRED",
    "Counterexample",
    "Draw",
    "architecture",
    "check_counterexample",
    "check_draws",
    "planted_draws",
    "random_draws",
    "run_draws",
]

INPUT_SHAPE = (3, 4, 4)
CLASSES = 5
INPUTS_PER_NETWORK = 20
DENSE_LIMIT = 2**24
"""How many entries the matrix of a trained layer may have."""


def architecture(layers: str) -> Architecture:
    """A network from a list such as ``24,24`` or ``c4,m2,16``.

    A number is a hidden affine layer of that width, followed by a ReLU. ``cK`` is a 3 x 3
    convolution with K channels, followed by a ReLU. ``mK`` is K x K max pooling. An affine layer to
    5 logits comes last. Inputs are images of 4 x 4 pixels with three channels, because some norms
    need colours.

    Raises:
        OnrError: a word of the list is not understood, or a layer does not fit its input.

    Example:
        >>> [type(layer).__name__ for layer in architecture("c4,16").layers]
        ['Conv', 'ReLU', 'Flatten', 'Affine', 'ReLU', 'Affine']

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


@dataclass(frozen=True)
class Draw:
    """A network, inputs and starts. The check adds norms, radii and step sizes.

    Example:
        >>> model = Architecture((2,), (Affine(1),))
        >>> parameters = {"0.weight": np.array([[2.0, 1.0]]), "0.bias": np.zeros(1)}
        >>> Draw(model, parameters, x=np.zeros((1, 2)), start=np.ones((1, 2))).x.shape
        (1, 2)

    """

    model: Architecture
    parameters: Mapping[str, np.ndarray]
    x: np.ndarray
    start: np.ndarray


def random_draws(layers: str, *, trials: int, seed: int, short: bool = False) -> Iterator[Draw]:
    """Draw random networks, with up to 20 standard normal inputs and starts for each.

    The seed and the index of a network determine the network, its inputs and its starts.

    Args:
        layers: the layers as :func:`architecture` reads them.
        trials: the number of inputs over all networks.
        seed: the seed of everything drawn.
        short: whether exact numbers should stay short. Each network then has one input, weights
            are rounded to float32, and inputs and starts to float16.

    Example:
        >>> [draw.x.shape for draw in random_draws("8", trials=25, seed=0)]
        [(20, 3, 4, 4), (5, 3, 4, 4)]

    """
    model, inputs = architecture(layers), 1 if short else INPUTS_PER_NETWORK
    for index in range(math.ceil(trials / inputs)):
        count = min(inputs, trials - index * inputs)
        rng = np.random.default_rng([seed, index])
        parameters = initial_parameters(model, int(rng.integers(2**31)))
        x, start = (rng.standard_normal((count, *INPUT_SHAPE)) for _ in range(2))
        if short:
            parameters = {name: value.astype(np.float32) for name, value in parameters.items()}
            x, start = x.astype(np.float16), start.astype(np.float16)
        yield Draw(model, parameters, x, start)


def planted_draws(*, trials: int, seed: int) -> Iterator[Draw]:
    """Draw networks with weights in {-1, 0, 1}, so that zeros and ties abound; one input for each.

    The biases are odd multiples of 1/8 in the first layer, of 1/16 in the second, and so on. No
    unit is therefore ever at zero.

    Example:
        >>> draw = next(planted_draws(trials=1, seed=0))
        >>> np.unique(draw.parameters["0.weight"])
        array([-1.,  0.,  1.])

    """
    model = Architecture((6,), (Affine(5), ReLU(), Affine(4), ReLU(), Affine(3)))
    for index in range(trials):
        rng = np.random.default_rng([seed, index, 1])
        parameters = initial_parameters(model, 0)
        for name, value in parameters.items():
            if name.endswith("weight"):
                parameters[name] = rng.integers(-1, 2, value.shape).astype(float)
            else:
                layer = int(name.split(".")[0]) // 2
                odd = 2 * rng.integers(-8, 8, value.shape) + 1
                parameters[name] = odd / 2.0 ** (3 + layer)
        x = rng.integers(-2, 3, (1, 6)).astype(float)
        start = rng.integers(-2, 3, (1, 6)) + np.eye(6)[:1] / 4
        yield Draw(model, parameters, x, start)


def run_draws(run: Run, *, trials: int, seed: int) -> Iterator[Draw]:
    """Draw from a run: its trained network at the first test images, with Gaussian starts.

    Args:
        run: the run with the trained network.
        trials: the number of test images, from the first; each is a draw of its own.
        seed: the seed of the starts.

    Raises:
        OnrError: the run has no checkpoint or diverged, its model is not a sequence of layers, or a
            layer is too large to be a matrix.

    """
    parameters, _ = run.model()
    if not all(np.all(np.isfinite(value)) for value in parameters.values()):
        raise OnrError(f"{run.path} has weights that are nan or infinite: the training diverged")
    config = replace(TrainConfig.read(run.config), device="cpu")
    dataset = make_dataset(config)
    network = make_network(config, NumpyBackend(), dataset, parameters)
    assert isinstance(network, DenseNetwork)  # noqa: S101 - what this backend builds
    sizes = [math.prod(shape) for shape in network.architecture.shapes()]
    largest = max(map(operator.mul, sizes, sizes[1:]))
    if largest > DENSE_LIMIT:
        raise OnrError(
            f"{run.path}: a layer of {largest:,} matrix entries; the theorem is checked on dense "
            f"networks with at most {DENSE_LIMIT:,}, as those trained on digits"
        )
    images = pixels(np.asarray(dataset.test.take(trials).images), "float64")
    for index, image in enumerate(images):
        rng = np.random.default_rng([seed, index, 2])
        start = rng.standard_normal((1, *image.shape)).astype(np.float16)
        yield Draw(network.architecture, network.weights, image[None], start)


def check_draws(
    backend: Backend,
    draws: Iterable[Draw],
    *,
    p: Norm,
    q: Norm,
    alpha: float = math.inf,
    iterations: int = 20,
    fraction: float = 0.5,
    raw_gradient: bool = False,
    exact: bool = False,
    rational: type = FASTEST,
) -> Iterator[DrawCheck]:
    """Check the theorem on each draw with :func:`check_theorem`.

    Args:
        backend: the backend that builds the network under test, in float64. It is not used in
            exact arithmetic, which is always NumPy's.
        draws: the draws to check.
        p: the norm of the domain.
        q: the norm of the co-domain.
        alpha: the step size of Eq. 108 in units of ``eps``.
        iterations: the number of steps of both sequences.
        fraction: ``eps`` as a fraction of the cell's radius.
        raw_gradient: whether Eq. 108 steps along the gradient, not along its duality map.
        exact: whether exact numbers decide. For p = 2 at a finite ``alpha`` they are balls.
        rational: the type of the rationals in exact arithmetic.

    Example:
        >>> draws = random_draws("8", trials=2, seed=0)
        >>> (check,) = check_draws(NumpyBackend(), draws, p=LpNorm(1), q=LpNorm(2))
        >>> check.failure
        ['', '']

    """
    for draw in draws:
        dense = NumpyBackend().build(draw.model, parameters=draw.parameters, dtype="float64")
        check = partial(
            check_theorem,
            x=draw.x,
            start=draw.start,
            p=p,
            q=q,
            alpha=alpha,
            iterations=iterations,
            fraction=fraction,
            raw_gradient=raw_gradient,
        )
        if not exact:
            network = backend.build(draw.model, parameters=draw.parameters, dtype="float64")
            yield check(network, dense)
        elif p.name == "2" and alpha < math.inf:
            yield _in_balls(check, dense)
        else:
            same = ExactNetwork(dense, number=rational)
            yield check(same, same)


def _in_balls(check: Callable[..., DrawCheck], dense: DenseNetwork) -> DrawCheck:
    from onr.exact.balls import Ball, decided  # the optional flint

    def work() -> DrawCheck:
        network = ExactNetwork(dense, number=Ball)
        return check(network, network)

    return decided(work)


@dataclass(frozen=True)
class Counterexample:
    """A linear network ``f(x) = J x`` and a start on which the theorem's conclusion fails.

    Example:
        >>> case = Counterexample("a step below 2 eps", math.inf, 1, ((2, 1),), (1, -1), alpha=1.9)
        >>> check_counterexample(case, iterations=2).deviation > 0.01
        array([ True])

    """

    title: str
    p: float
    q: float
    jacobian: tuple[tuple[float, ...], ...]
    start: tuple[float, ...]
    alpha: float = math.inf
    raw_gradient: bool = False

    def shown_by(self, check: DrawCheck) -> bool:
        """Whether the check shows what the case is for, and nothing else is wrong.

        The two sequences of a case differ by at least :data:`LEAST_DEVIATION`, and a hypothesis or
        the theorem's range is named. Those of the :data:`REPAIRED` case agree.

        Example:
            >>> case = COUNTEREXAMPLES[0]
            >>> case.shown_by(check_counterexample(case, iterations=3))
            True

        """
        if any(check.broken):
            return False
        if self.raw_gradient:
            return not any(check.failure) and not any(check.cause)
        named = bool(check.cause[0]) or not check.proven
        return named and bool(check.deviation[0] >= LEAST_DEVIATION)


LEAST_DEVIATION = 0.01
"""By how much the sequences of a counterexample must differ, in units of ``eps``."""

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
        "a step below 2 eps does not reach the other side of the cube",
        math.inf,
        1,
        ((2, 1),),
        (1, -1),
        alpha=1.9,
    ),
    Counterexample(
        "a step below 2 eps does not reach the other vertex", 1, 1, ((1, 2),), (1, 0), alpha=1.9
    ),
    Counterexample(
        "p = 3: Eq. 18 applies the duality map twice", 3, 2, ((2, 1), (1, 3)), (1, -0.5)
    ),
)
"""One case for each hypothesis of the theorem: without the hypothesis the conclusion fails."""

REPAIRED = replace(
    COUNTEREXAMPLES[-1],
    title="p = 3, stepping along the gradient itself: the two agree again",
    raw_gradient=True,
)
"""The case p = 3 with a step along the gradient itself, whose limit is Eq. 12."""


def check_counterexample(
    case: Counterexample, *, iterations: int, exact: bool = False
) -> DrawCheck:
    """Run both sequences of Theorem 1 on a counterexample, in NumPy.

    Args:
        case: the counterexample.
        iterations: the number of steps of both sequences.
        exact: whether exact numbers decide, not floats.

    Example:
        >>> check_counterexample(COUNTEREXAMPLES[1], iterations=2, exact=True).cause
        ['step 1: J^T u has a tie for its largest (p = 1)']

    """
    J = np.array(case.jacobian, dtype=float)
    d, n = J.shape
    draw = Draw(
        Architecture((n,), (Affine(d),)),
        {"0.weight": J, "0.bias": np.zeros(d)},
        np.zeros((1, n)),
        np.array([case.start], dtype=float),
    )
    (check,) = check_draws(
        NumpyBackend(),
        [draw],
        p=LpNorm(case.p),
        q=LpNorm(case.q),
        alpha=case.alpha,
        iterations=iterations,
        raw_gradient=case.raw_gradient,
        exact=exact,
    )
    return check
