"""Accuracy on clean inputs and under attack, and the effect of an attack on each input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from onr.arrays import to_numpy
from onr.errors import OnrError
from onr.jacobians.dense import singular_values
from onr.measurements.batches import Inputs, batches
from onr.measurements.perturbations import paper_attack
from onr.protocols import Attack, Network, Norm
from onr.typing import Array, Row

__all__ = [
    "AttackOutcome",
    "accuracy",
    "attack_outcome",
    "largest_singular_values",
    "logits",
    "share",
    "target_classes",
]

BATCH = 250


def logits(network: Network, x: Inputs, /) -> np.ndarray:
    """The logits of all inputs, ``(N, d)``; the predicted class is the first largest logit.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> logits(network, np.zeros((5, 3))).shape
        (5, 2)

    """
    parts = range(0, len(x), BATCH)
    return np.concatenate([to_numpy(network(x[k : k + BATCH])) for k in parts])


def share(correct: np.ndarray, /) -> tuple[float, float]:
    """The share of true entries (an accuracy) and its standard error.

    Example:
        >>> share(np.array([True, False]))
        (0.5, 0.3535533905932738)

    """
    found = float(np.mean(correct))
    return found, math.sqrt(found * (1 - found) / len(correct))


def target_classes(
    target: str, labels: np.ndarray, logits: np.ndarray, *, rng: np.random.Generator
) -> np.ndarray:
    """The class that a targeted attack leads each example to, ``(N,)``.

    Args:
        target: ``next`` is the class after the label (class 0 after the last); ``random`` is any
            other class, all equally likely; ``least-likely`` is the other class of smallest logit,
            the first among equals; a number is that class for all, even for examples that have it.
        labels: the label of each example, ``(N,)``.
        logits: the logits of the clean images, ``(N, d)``.
        rng: draws the random targets.

    Raises:
        OnrError: ``target`` is none of these.

    Example:
        >>> labels, clean = np.array([0, 2]), np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
        >>> rng = np.random.default_rng(0)
        >>> [target_classes(t, labels, clean, rng=rng).tolist() for t in ("next", "least-likely")]
        [[1, 0], [2, 0]]

    """
    count, classes = logits.shape
    chosen: np.ndarray
    if target == "next":
        chosen = (labels + 1) % classes
    elif target == "random":
        chosen = (labels + rng.integers(1, classes, count)) % classes
    elif target == "least-likely":
        chosen = np.where(np.arange(classes) == labels[:, None], np.inf, logits).argmin(axis=1)
    elif target.isdecimal() and int(target) < classes:
        chosen = np.full(count, int(target))
    else:
        raise OnrError(
            f"target {target!r}: expected next, random, least-likely or a class, 0 to {classes - 1}"
        )
    return chosen


@dataclass(frozen=True)
class AttackOutcome:
    """The effect of an attack on each input, from which accuracies under attack follow.

    Example:
        >>> outcome = AttackOutcome(predicted=np.array([0, 1]), size=np.array([0.5, 0.25]))
        >>> share(outcome.predicted == np.array([0, 0]))[0]
        0.5

    """

    predicted: np.ndarray
    """The class that the network predicts for the attacked input, ``(N,)``."""
    size: np.ndarray
    """The norm of the perturbation, ``(N,)``, in float64."""


def attack_outcome(
    network: Network,
    attack: Attack,
    x: Inputs,
    y: Array,
    /,
    *,
    norm: Callable[[np.ndarray], np.ndarray],
    seed: tuple[int, ...],
    on_batch: Callable[[int], None] = lambda done: None,
) -> AttackOutcome:
    """Attack every input once.

    Args:
        network: the network to attack.
        attack: the attack.
        x: inputs, ``(N, *input_shape)``.
        y: the labels to lead away from or, for a targeted attack, the classes to lead to.
        norm: measures the perturbations, in float64.
        seed: the seed of the attack's random starts. The generator of a batch is seeded with
            ``[*seed, index of its first input]``.
        on_batch: called after each batch with the number of inputs done so far.

    Example:
        >>> from onr import LpNorm
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> x, y = np.random.default_rng(0).random((4, 3)), np.zeros(4, int)
        >>> attack = paper_attack(LpNorm(2), 0.1, boxed=False)
        >>> attack_outcome(network, attack, x, y, norm=LpNorm(2), seed=(0,)).size.round(6)
        array([0.1, 0.1, 0.1, 0.1])

    """
    predicted, size = [], []
    for index, images, labels in batches(x, y, BATCH):
        rng = np.random.default_rng([*seed, index * BATCH])
        attacked = attack(network, images, labels, rng=rng)
        predicted.append(to_numpy(network(attacked)).argmax(axis=1))
        size.append(norm(to_numpy(attacked).astype(np.float64) - to_numpy(images)))
        on_batch(index * BATCH + len(images))
    return AttackOutcome(np.concatenate(predicted), np.concatenate(size))


def accuracy(
    network: Network,
    x: Inputs,
    y: Array,
    /,
    *,
    p: Norm,
    eps: Sequence[float] = (),
    attack: Callable[[Norm, float], Attack] | None = None,
    seed: int = 0,
) -> list[Row]:
    """Accuracy at clean inputs (``eps`` 0) and under an attack of each radius.

    An input counts as robust if the network still predicts its label for the perturbed input that
    the attack returns. Accuracy under attack is an upper bound on robust accuracy: a better attack
    leaves fewer inputs robust.

    Args:
        network: the network to attack.
        x: inputs, ``(N, *input_shape)``, pixels in [0, 1].
        y: the labels of the inputs.
        p: the norm of the attack.
        eps: the radii of the attack.
        attack: makes the attack for a norm and a radius; by default the paper's, inside the box.
        seed: the seed of the attack's random starts.

    Example:
        >>> from onr import LpNorm
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> x, y = np.random.default_rng(0).random((4, 3)), np.zeros(4, int)
        >>> rows = accuracy(network, x, y, p=LpNorm(2), eps=[0.1])
        >>> [(row["quantity"], row["eps"], row["images"]) for row in rows]
        [('accuracy', 0.0, 4), ('accuracy', 0.1, 4)]

    """
    make = attack or (lambda p, eps: paper_attack(p, eps, boxed=True))
    labels = to_numpy(y)
    rows = []
    for index, radius in enumerate([0.0, *eps]):
        if radius == 0:
            predicted = logits(network, x).argmax(axis=1)
        else:
            outcome = attack_outcome(network, make(p, radius), x, y, norm=p, seed=(seed, index))
            predicted = outcome.predicted
        found, error = share(predicted == labels)
        rows.append(
            {"quantity": "accuracy", "p": p.name, "eps": radius}
            | {"mean": found, "standard_error": error, "images": len(x)}
        )
    return rows


def largest_singular_values(network: Network, x: Inputs, /) -> np.ndarray:
    """The largest singular value of the logits' Jacobian at each input, exact; ``(N,)``.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> found = largest_singular_values(network, np.zeros((4, 3)))
        >>> found.shape, bool((found == found[0]).all())
        ((4,), True)

    """
    found = []
    for start in range(0, len(x), BATCH):
        J = network.linearize(x[start : start + BATCH])
        found.append(to_numpy(singular_values(J))[:, 0])
    return np.concatenate(found)
