"""Signs that a training run cannot succeed, checked before or during training."""

from __future__ import annotations

import numpy as np

from onr.data import Split, pixels
from onr.protocols import Norm

__all__ = ["at_chance", "class_distance"]

IMAGES = 500


def class_distance(split: Split, norm: Norm) -> float:
    """The median distance from an image to the closest image of another class.

    Only the first 500 images are compared with each other. The value is infinite if they have a
    single class. If eps exceeds half this distance, balls around images of different classes
    overlap, and no classifier can be constant on each of them.

    Args:
        split: the images and their labels.
        norm: measures the distance, pixels in [0, 1].

    Example:
        >>> from onr.norms import LpNorm
        >>> images = np.array([0.0, 0.5, 0.75]).reshape(3, 1, 1, 1)
        >>> class_distance(Split(images, np.array([0, 1, 1])), LpNorm(2))
        0.5

    """
    some = split.take(min(IMAGES, len(split)))
    x, labels = pixels(np.asarray(some.images), "float64"), some.labels
    closest = [
        np.min(norm(others - image)) if len(others) else np.inf
        for image, label in zip(x, labels, strict=True)
        for others in [x[labels != label]]
    ]
    return float(np.median(closest))


def at_chance(accuracy: float, labels: np.ndarray) -> bool:
    """Whether an accuracy is no better than that of always naming the most frequent class.

    An accuracy up to two standard errors above that share counts as no better.

    Args:
        accuracy: the accuracy, in [0, 1].
        labels: the labels on which the accuracy was measured, ``(N,)``.

    Example:
        >>> labels = np.arange(1000) % 10
        >>> at_chance(0.11, labels), at_chance(0.2, labels)
        (True, False)

    """
    share = np.bincount(labels).max() / len(labels)
    return bool(accuracy <= share + 2 * np.sqrt(share * (1 - share) / len(labels)))
