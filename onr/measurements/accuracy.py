"""Accuracy on clean inputs and under attack, and the effect of an attack on each input."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from onr.arrays import in_float32, to_numpy
from onr.attacks.multitargeted import MultiTargeted
from onr.errors import ImageError, OnrError
from onr.feasible import require_inside
from onr.jacobians.dense import singular_values
from onr.jacobians.lanczos import singular_triplets
from onr.losses import require_values
from onr.measurements.batches import Inputs, Parts, Values, batches
from onr.protocols import Attack, Network, Norm
from onr.typing import Array, Row

__all__ = [
    "AttackOutcome",
    "accuracy",
    "attack_outcome",
    "attack_outcomes",
    "batch_size",
    "classes_of",
    "largest_singular_values",
    "logits",
    "require_labels",
    "share",
    "target_classes",
]

BATCH, ENTRIES = 250, 2**22
"""A batch has at most ``BATCH`` inputs, and ``ENTRIES`` numbers: 27 images of 3 x 224 x 224."""
FEW = 64
"""The most outputs of which the whole Jacobian is formed for its largest singular value."""
TOLERANCE = 1e-3
"""The residual of a largest singular value, relative to that value, that ends its iteration."""


def batch_size(network: Network, /) -> int:
    """How many inputs are attacked at once.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> batch_size(NumpyBackend().build(Architecture((3,), (Affine(2),))))
        250

    """
    return max(1, min(BATCH, ENTRIES // math.prod(network.input_shape)))


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
    size = batch_size(network)
    return np.concatenate(
        [_sound(network(x[k : k + size]), first=k) for k in range(0, len(x), size)]
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
        >>> from onr.measurements.perturbations import paper_attack
        >>> attack = paper_attack(LpNorm(2), 0.1, boxed=False)
        >>> attack_outcome(network, attack, x, y, norm=LpNorm(2), seed=(0,)).size.round(6)
        array([0.1, 0.1, 0.1, 0.1])

    """
    predicted, size = [], []
    count = batch_size(network)
    for index, images, labels in batches(x, y, count):
        first = index * count
        outcome = _afresh(network, attack, images, labels, norm=norm, seed=seed, first=first)
        predicted.append(outcome.predicted)
        size.append(outcome.size)
        on_batch(first + len(images))
    return AttackOutcome(np.concatenate(predicted), np.concatenate(size))


def attack_outcomes(
    network: Network,
    attacks: Sequence[Attack],
    x: Array,
    y: Array,
    /,
    *,
    clean: np.ndarray,
    norm: Callable[[np.ndarray], np.ndarray],
    seeds: Sequence[Sequence[int]],
    targeted: bool = False,
    first: int = 0,
) -> Iterator[AttackOutcome]:
    """Attack one batch at each of several radii, from the smallest to the largest.

    An attack with a method ``further`` is asked to go on from the perturbations that were found at
    the radius before, and for the inputs alone that are not broken yet: a perturbation that breaks
    an input lies in all larger balls, and is kept. Any other attack starts anew on every input.

    Args:
        network: the network to attack.
        attacks: the same attack at increasing radii.
        x: the inputs of the batch, ``(batch, *input_shape)``.
        y: the labels to lead away from, or the classes to lead to.
        clean: the classes that the network predicts at ``x``, ``(batch,)``.
        norm: measures the perturbations, in float64.
        seeds: the seed of each radius, to which ``first`` is appended.
        targeted: whether ``y`` are the classes to lead to.
        first: the number of inputs before these.

    Raises:
        ImageError: a label is no class, or a logit is NaN; the message names the input by its
            number, counted from ``first``.

    Example:
        >>> from onr import LpNorm
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> x, y = np.random.default_rng(0).random((4, 3)), np.zeros(4, int)
        >>> attacks = [MultiTargeted(p=LpNorm(2), eps=eps) for eps in (0.1, 0.5)]
        >>> clean, seeds = classes_of(network, x, y), [(0, 1), (0, 2)]
        >>> given = {"clean": clean, "norm": LpNorm(2), "seeds": seeds}
        >>> [found.size.shape for found in attack_outcomes(network, attacks, x, y, **given)]
        [(4,), (4,)]

    """
    labels, moved = to_numpy(y), x
    predicted, size = clean, np.zeros(len(clean))
    memory: dict[str, Any] = {}
    for place, (attack, seed) in enumerate(zip(attacks, seeds, strict=True), start=1):
        further = getattr(attack, "further", None)
        if further is None:
            yield _afresh(network, attack, x, y, norm=norm, seed=seed, first=first)
            continue
        left = np.flatnonzero((predicted != labels) if targeted else (predicted == labels))
        predicted, size = predicted.copy(), size.copy()
        if len(left):
            rng, more = np.random.default_rng([*seed, first]), place < len(attacks)
            with _counting(first):
                moved = further(network, x, y, moved, left, more=more, memory=memory, rng=rng)
            predicted[left] = _predicted(network, moved[left], y[left], first=first)
            size[left] = _size(norm, moved[left], x[left])
        yield AttackOutcome(predicted, size)


def _afresh(
    network: Network,
    attack: Attack,
    x: Array,
    y: Array,
    *,
    norm: Callable[[np.ndarray], np.ndarray],
    seed: Sequence[int],
    first: int,
) -> AttackOutcome:
    """Attack every input of a batch, with the generator of ``[*seed, first]``."""
    with _counting(first):
        moved = attack(network, x, y, rng=np.random.default_rng([*seed, first]))
    return AttackOutcome(_predicted(network, moved, y, first=first), _size(norm, moved, x))


def classes_of(network: Network, x: Array, y: Array, /, *, first: int = 0) -> np.ndarray:
    """The classes that the network predicts, ``(batch,)``.

    Args:
        network: the network.
        x: the inputs of a batch, ``(batch, *input_shape)``.
        y: their labels, which must be classes.
        first: the number of inputs before these.

    Raises:
        ImageError: a logit is NaN, all logits of an input are ``-inf``, or a label is no class.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> classes_of(network, np.zeros((2, 3)), np.array([0, 1]))
        array([1, 1])

    """
    return _predicted(network, x, y, first=first, where="")


@contextmanager
def _counting(first: int) -> Iterator[None]:
    """Let an error name an input by its number among all, not in its batch."""
    try:
        yield
    except ImageError as error:
        raise error.after(first) from None


def _predicted(
    network: Network, x: Array, y: Array, *, first: int, where: str = "under attack"
) -> np.ndarray:
    found = _sound(network(x), first=first, where=where)
    require_labels(to_numpy(y), found.shape[1], first=first)
    predicted: np.ndarray = found.argmax(axis=1)
    return predicted


def _size(norm: Callable[[np.ndarray], np.ndarray], moved: Array, x: Array) -> np.ndarray:
    there, here = (to_numpy(in_float32(z)).astype(np.float64) for z in (moved, x))
    return norm(there - here)


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
    parts: Parts | None = None,
) -> list[Row]:
    """Accuracy at clean inputs (``eps`` 0) and under an attack of each radius.

    An input counts as robust if the network still predicts its label for the perturbed input that
    the attack returns. Accuracy under attack is an upper bound on robust accuracy: a better attack
    leaves fewer inputs robust. Radii are attacked from the smallest to the largest
    (:func:`attack_outcomes`), so that accuracy never rises with the radius under an attack that
    goes on from there.

    Args:
        network: the network to attack.
        x: inputs, ``(N, *input_shape)``, pixels in [0, 1].
        y: the labels of the inputs.
        p: the norm of the attack.
        eps: the radii of the attack, positive.
        attack: makes the attack for a norm and a radius; ``multitargeted`` if not given.
        seed: the seed of the attack's random starts.
        parts: keeps the values of each batch, so that the measurement can go on from there.

    Returns:
        The rows, the clean inputs first, then the radii in the order of ``eps``.

    Raises:
        ImageError: a pixel is outside [0, 1], a label is no class, or a logit is NaN; no accuracy
            counts such an input.

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
    make = attack or (lambda p, eps: MultiTargeted(p=p, eps=eps))
    radii = sorted(set(eps) - {0.0})
    attacks = [make(p, radius) for radius in radii]
    seeds = [(seed, index + 1) for index in range(len(radii))]
    values, size = Values[float](parts), batch_size(network)
    for index, images, labels in values.batches(x, y, size):
        first = index * size
        with _counting(first):
            require_inside(images, (0.0, 1.0))
        clean = classes_of(network, images, labels, first=first)
        true = to_numpy(labels)
        values.add(0.0, clean == true)
        found = attack_outcomes(
            network, attacks, images, labels, clean=clean, norm=p, seeds=seeds, first=first
        )
        for radius, outcome in zip(radii, found, strict=True):
            values.add(radius, outcome.predicted == true)
    correct = dict(values.items())
    rows = []
    for radius in [0.0, *eps]:
        mean, error = share(correct[radius])
        rows.append(
            {"quantity": "accuracy", "p": p.name, "eps": radius}
            | {"mean": mean, "standard_error": error, "images": len(x)}
        )
    return rows


def largest_singular_values(network: Network, x: Array, /, *, first: int = 0) -> np.ndarray:
    """The largest singular value of the logits' Jacobian at each input of a batch, ``(batch,)``.

    Exact for at most 64 outputs. For more it is a lower bound by Lanczos, which goes on until the
    residual is at most 1e-3 of the value.

    Args:
        network: the network.
        x: the inputs of a batch, ``(batch, *input_shape)``.
        first: the number of inputs before these.

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
    J = network.linearize(x)
    if J.output_shape[0] <= FEW:
        values = singular_values(J)
    else:
        values = singular_triplets(J, 1, rng=np.random.default_rng(0), tolerance=TOLERANCE).S
    largest = to_numpy(values)[:, 0]
    if not np.isfinite(largest).all():
        index = int(np.isfinite(largest).argmin())
        raise ImageError(
            first + index,
            f"the largest singular value of its Jacobian is {largest[index]}: expected a "
            "network with finite derivatives",
        )
    return largest
