"""Measuring a trained network: predictions, accuracy under attack, singular values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onr.data import pixels
from onr.errors import OnrError
from onr.jacobians.dense import singular_values
from onr.protocols import Attack, Backend, Network

__all__ = [
    "AttackOutcome",
    "attack_outcome",
    "largest_singular_values",
    "logits",
    "predict",
    "target_classes",
]

BATCH = 250


def _batches(count: int) -> list[slice]:
    return [slice(start, start + BATCH) for start in range(0, count, BATCH)]


def logits(backend: Backend, network: Network, images: np.ndarray) -> np.ndarray:
    """The logits ``(N, d)`` of images ``(N, C, H, W)``, uint8 or in [0, 1]."""
    found = []
    for part in _batches(len(images)):
        x = backend.asarray(pixels(images[part], "float64"), network)
        found.append(backend.to_numpy(network(x)))
    return np.concatenate(found)


def predict(backend: Backend, network: Network, images: np.ndarray) -> np.ndarray:
    """The predicted class of each image, as for :func:`logits`; the first among equals."""
    guessed: np.ndarray = logits(backend, network, images).argmax(axis=1)
    return guessed


def target_classes(
    target: str, labels: np.ndarray, logits: np.ndarray, *, rng: np.random.Generator
) -> np.ndarray:
    """The class that each example is to be led to, ``(N,)``.

    Args:
        target: ``next``, the class after the label, the first after the last; ``random``, any
            other, all as likely; ``least-likely``, the other class of smallest logit, the first
            among equals; or a class by its number, which may be the label itself.
        labels: the label of each example.
        logits: of the clean images, ``(N, d)``.
        rng: of the random targets.

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
    """What an attack did to each example, so that any accuracy can be recomputed."""

    predicted: np.ndarray
    """The class that the attacked image was given."""
    size: np.ndarray
    """The norm of its perturbation."""


def attack_outcome(
    backend: Backend,
    network: Network,
    attack: Attack,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    norm: Callable[[np.ndarray], np.ndarray],
    seed: tuple[int, ...],
    on_batch: Callable[[int], None] = lambda done: None,
) -> AttackOutcome:
    """Attack every example once.

    Args:
        backend: of the network.
        network: to attack.
        attack: how.
        images: ``(N, C, H, W)``, uint8 or in [0, 1].
        labels: what the attack's loss refers to: to lead away from, or to for a targeted loss.
        norm: measures the perturbations, in float64.
        seed: of the attack's random starts.
        on_batch: called with the number of examples done.

    """
    predicted, size = [], []
    for part in _batches(len(images)):
        x = backend.asarray(pixels(images[part], "float64"), network)
        y = backend.asarray(labels[part], network)
        attacked = attack(network, x, y, rng=np.random.default_rng([*seed, part.start]))
        predicted.append(backend.to_numpy(network(attacked)).argmax(axis=1))
        moved = backend.to_numpy(attacked).astype(np.float64) - backend.to_numpy(x)
        size.append(norm(moved))
        on_batch(min(part.stop, len(images)))
    return AttackOutcome(np.concatenate(predicted), np.concatenate(size))


def largest_singular_values(backend: Backend, network: Network, images: np.ndarray) -> np.ndarray:
    """The largest singular value of the logits' Jacobian at each image, exact; ``(N,)``."""
    found = []
    for part in _batches(len(images)):
        x = backend.asarray(pixels(images[part], "float64"), network)
        found.append(backend.to_numpy(singular_values(network.linearize(x)))[:, 0])
    return np.concatenate(found)
