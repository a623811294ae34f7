"""Measuring a trained network: predictions, accuracy under attack, singular values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onr.data import Split, pixels
from onr.jacobians import singular_values
from onr.protocols import Attack, Backend, Network

__all__ = ["AttackOutcome", "attack_accuracy", "largest_singular_values", "predict"]

BATCH = 250


def _batches(count: int) -> list[slice]:
    return [slice(start, start + BATCH) for start in range(0, count, BATCH)]


def predict(backend: Backend, network: Network, images: np.ndarray) -> np.ndarray:
    """The predicted class of each image ``(N, C, H, W)``, uint8 or in [0, 1]."""
    guessed = []
    for part in _batches(len(images)):
        logits = backend.to_numpy(
            network(backend.asarray(pixels(images[part], "float64"), network))
        )
        guessed.append(logits.argmax(axis=1))
    return np.concatenate(guessed)


@dataclass(frozen=True)
class AttackOutcome:
    """What an attack did to each example, so that any accuracy can be recomputed."""

    correct: np.ndarray
    """Whether the attacked image was still classified as its label."""
    size: np.ndarray
    """The norm of its perturbation."""


def attack_accuracy(
    backend: Backend,
    network: Network,
    attack: Attack,
    split: Split,
    *,
    norm: Callable[[np.ndarray], np.ndarray],
    seed: tuple[int, ...],
    on_batch: Callable[[int], None] = lambda done: None,
) -> AttackOutcome:
    """Attack every example once, with its true label.

    Args:
        backend: of the network.
        network: to attack.
        attack: how.
        split: the examples.
        norm: measures the perturbations, in float64.
        seed: of the attack's random starts.
        on_batch: called with the number of examples done.

    """
    correct, size = [], []
    for part in _batches(len(split)):
        x = backend.asarray(pixels(split.images[part], "float64"), network)
        y = backend.asarray(split.labels[part], network)
        attacked = attack(network, x, y, rng=np.random.default_rng([*seed, part.start]))
        logits = backend.to_numpy(network(attacked))
        correct.append(logits.argmax(axis=1) == split.labels[part])
        moved = backend.to_numpy(attacked).astype(np.float64) - backend.to_numpy(x)
        size.append(norm(moved))
        on_batch(min(part.stop, len(split)))
    return AttackOutcome(np.concatenate(correct), np.concatenate(size))


def largest_singular_values(backend: Backend, network: Network, images: np.ndarray) -> np.ndarray:
    """The largest singular value of the logits' Jacobian at each image, exact; ``(N,)``."""
    found = []
    for part in _batches(len(images)):
        x = backend.asarray(pixels(images[part], "float64"), network)
        found.append(backend.to_numpy(singular_values(network.linearize(x)))[:, 0])
    return np.concatenate(found)
