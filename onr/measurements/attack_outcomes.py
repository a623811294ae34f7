"""The effect of an attack on each input: the class that is predicted, and the perturbation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onr.arrays import in_float32, to_numpy
from onr.measurements.batches import Inputs, batches
from onr.measurements.predictions import batch_size, classes_of, counting
from onr.protocols import Attack, Network
from onr.typing import Array

__all__ = ["AttackOutcome", "attack_outcome", "attack_outcomes"]

ATTACKED = "under attack"
"""How errors call a perturbed input."""


@dataclass(frozen=True)
class AttackOutcome:
    """The effect of an attack on each input, from which accuracies under attack follow.

    Example:
        >>> outcome = AttackOutcome(predicted=np.array([0, 1]), size=np.array([0.5, 0.25]))
        >>> (outcome.predicted == np.array([0, 0])).tolist()
        [True, False]

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
        >>> from onr.attacks.multitargeted import MultiTargeted
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
            with counting(first):
                moved = further(network, x, y, moved, left, more=more, memory=memory, rng=rng)
            predicted[left] = classes_of(network, moved[left], y[left], first=first, where=ATTACKED)
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
    with counting(first):
        moved = attack(network, x, y, rng=np.random.default_rng([*seed, first]))
    return AttackOutcome(
        classes_of(network, moved, y, first=first, where=ATTACKED), _size(norm, moved, x)
    )


def _size(norm: Callable[[np.ndarray], np.ndarray], moved: Array, x: Array) -> np.ndarray:
    there, here = (to_numpy(in_float32(z)).astype(np.float64) for z in (moved, x))
    return norm(there - here)
