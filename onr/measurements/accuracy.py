"""Accuracy, clean and under attack, with what the attack did to each input."""

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
    """The logits of all inputs, ``(N, d)``; the predicted class is the first largest entry."""
    parts = range(0, len(x), BATCH)
    return np.concatenate([to_numpy(network(x[k : k + BATCH])) for k in parts])


def share(correct: np.ndarray, /) -> tuple[float, float]:
    """The share of true entries, as an accuracy, and its standard error.

    Example:
        >>> share(np.array([True, False]))
        (0.5, 0.3535533905932738)

    """
    found = float(np.mean(correct))
    return found, math.sqrt(found * (1 - found) / len(correct))


def target_classes(
    target: str, labels: np.ndarray, logits: np.ndarray, *, rng: np.random.Generator
) -> np.ndarray:
    """The class that each example is to be led to, ``(N,)``.

    Args:
        target: ``next``, the class after the label, the first after the last; ``random``, any
            other, all as likely; ``least-likely``, the other class of smallest logit, the first
            among equals; or a class by its number, which may be the label itself.
        labels: the label of each example.
        logits: those of the clean images, ``(N, d)``.
        rng: draws the random targets.

    Raises:
        OnrError: there is no such target.

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
    """What an attack did to each input; every accuracy under attack follows from it."""

    predicted: np.ndarray
    """The class that the attacked input was given, ``(N,)``."""
    size: np.ndarray
    """The norm of its perturbation, ``(N,)``, in float64."""


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
        network: to attack.
        attack: how.
        x: inputs, ``(N, *input_shape)``.
        y: what the attack's loss refers to: labels to lead away from, or targets to lead to.
        norm: measures the perturbations, in float64.
        seed: of the attack's random starts; a batch's start at ``[*seed, its first index]``.
        on_batch: called with the number of inputs done.

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

    An input counts as robust if the perturbed input that the attack returns still gets its label.
    Accuracy under attack is an upper bound on robust accuracy: a better attack finds less.

    Args:
        network: to attack.
        x: inputs, ``(N, *input_shape)``, pixels in [0, 1].
        y: their labels.
        p: the norm of the attack.
        eps: its radii.
        attack: gives the attack of a norm and a radius; by default the paper's, inside the box.
        seed: of its random starts.

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
    """The largest singular value of the logits' Jacobian at each input, exact; ``(N,)``."""
    found = []
    for start in range(0, len(x), BATCH):
        J = network.linearize(x[start : start + BATCH])
        found.append(to_numpy(singular_values(J))[:, 0])
    return np.concatenate(found)
