"""Signs that a training cannot work, said before or while it runs."""

from __future__ import annotations

import numpy as np

from onr.data import Split, pixels
from onr.protocols import Norm

__all__ = ["at_chance", "class_distance"]

IMAGES = 500


def class_distance(split: Split, norm: Norm) -> float:
    """How far apart classes are: the median distance of an image to one of another class.

    Over the first 500 images, to the closest among these; infinite for a single class. Balls of
    half this radius about images of different classes overlap, and a classifier that is constant on
    them does not exist.
    """
    some = split.take(min(IMAGES, len(split)))
    x, labels = pixels(some.images, "float64"), some.labels
    closest = [
        np.min(norm(others - image)) if len(others) else np.inf
        for image, label in zip(x, labels, strict=True)
        for others in [x[labels != label]]
    ]
    return float(np.median(closest))


def at_chance(accuracy: float, labels: np.ndarray) -> bool:
    """Whether an accuracy is no better than naming the most frequent class, to two errors."""
    share = np.bincount(labels).max() / len(labels)
    return bool(accuracy <= share + 2 * np.sqrt(share * (1 - share) / len(labels)))
