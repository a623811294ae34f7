"""Accuracy on clean inputs and under attack, and the effect of an attack on each input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from onr.arrays import in_float32, to_numpy
from onr.errors import ImageError, OnrError
from onr.jacobians.dense import singular_values
from onr.losses import require_values
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
    "require_labels",
    "share",
    "target_classes",
]

BATCH = 250


def logits(network: Network, x: Inputs, /) -> np.ndarray:
    """The logits of all inputs, ``(N, d)``; the predicted class is the first largest logit.

    Raises:
        ImageError: a logit is NaN, or all logits of an input are ``-inf``, so that no class is
            predicted.
        OnrError: there are no inputs, or fewer than two logits.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> logits(network, np.zeros((5, 3))).shape
        (5, 2)

    """
    if len(x) == 0:
        raise OnrError("no inputs: expected at least one")
    return np.concatenate(
        [_sound(network(x[k : k + BATCH]), first=k) for k in range(0, len(x), BATCH)]
    )


def _sound(logits: Array, *, first: int, where: str = "") -> np.ndarray:
    """The logits as a NumPy array, of inputs from number ``first`` on; refuse what is no class."""
    found = to_numpy(in_float32(logits))
    if found.ndim != 2 or found.shape[1] < 2:
        raise OnrError(
            f"the network gives outputs of shape {found.shape}: expected two logits or more for "
            "each image; a single output z for two classes is torch.cat([0 * z, z], 1)"
        )
    best = found.max(axis=1)
    try:
        require_values(np.where(best == -math.inf, math.nan, best), found, where=where)
    except ImageError as error:
        raise error.after(first) from None
    return found


def require_labels(labels: np.ndarray, classes: int, *, first: int = 0) -> None:
    """Check that the labels are classes.

    Args:
        labels: the labels, ``(N,)``.
        classes: the number of classes.
        first: the number of images before these.

    Raises:
        ImageError: a label is not a whole number in ``[0, classes)``; the message names the image.
        OnrError: there is not one label for each image.

    Example:
        >>> require_labels(np.array([0, 2]), 3)

    """
    if labels.ndim != 1:
        raise OnrError(f"labels have shape {labels.shape}: expected one for each image")
    wrong = ~np.isin(labels, np.arange(classes))
    if wrong.any():
        index = int(wrong.argmax())
        raise ImageError(
            first + index,
            f"label {labels[index]} is no class: expected a whole number, 0 to {classes - 1}",
        )


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
            the first among equals, that is not masked by ``-inf``; a number is that class for all,
            even for examples that have it.
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
        other = (np.arange(classes) != labels[:, None]) & (logits > -np.inf)
        chosen = np.where(other, logits, np.inf).argmin(axis=1)
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

    Raises:
        ImageError: a label is no class, or a logit is NaN at an input, during the attack or at
            what the attack returns; the message names the input by its number in ``x``.

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
        first = index * BATCH
        try:
            attacked = attack(network, images, labels, rng=rng)
        except ImageError as error:
            raise error.after(first) from None
        found = _sound(network(attacked), first=first, where="under attack")
        require_labels(to_numpy(labels), found.shape[1], first=first)
        predicted.append(found.argmax(axis=1))
        moved, there = (to_numpy(in_float32(z)).astype(np.float64) for z in (attacked, images))
        size.append(norm(moved - there))
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

    Raises:
        ImageError: a label is no class, or a logit is NaN; no accuracy counts such an input.

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
            clean = logits(network, x)
            require_labels(labels, clean.shape[1])
            predicted = clean.argmax(axis=1)
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

    Raises:
        ImageError: a value is not finite.

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
        largest = to_numpy(singular_values(J))[:, 0]
        if not np.isfinite(largest).all():
            index = int(np.isfinite(largest).argmin())
            raise ImageError(
                start + index,
                f"the largest singular value of its Jacobian is {largest[index]}: expected a "
                "network with finite derivatives",
            )
        found.append(largest)
    return np.concatenate(found)
