"""The axes of a data set: how much each pixel varies, and in which directions images vary most."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import eigh

from onr.data import Split, pixels
from onr.errors import OnrError

__all__ = ["FLOOR", "components", "deviations"]

FLOOR = 1e-3
"""The shortest axis over the longest, at least: a pixel that never varies has an axis too."""
LARGEST = 12288
"""The covariance of so many pixels (64 x 64 in colour) takes 1.2 GB."""
CHUNK = 1000


def deviations(split: Split) -> dict[str, np.ndarray]:
    """The standard deviation of each pixel, over the largest: the array ``axes``.

    An axis of less than 0.001 is raised to 0.001.

    Example:
        >>> images = np.array([[0.0, 0.5], [1.0, 0.5], [0.0, 0.0], [1.0, 0.0]])
        >>> deviations(Split(images.reshape(4, 1, 1, 2), np.zeros(4, int)))["axes"]
        array([[[1. , 0.5]]])

    Raises:
        OnrError: no pixel varies.

    """
    mean, square = 0.0, 0.0
    for x in _chunks(split):
        mean, square = mean + x.sum(axis=0), square + (x**2).sum(axis=0)
    variance = square / len(split) - (mean / len(split)) ** 2
    return {"axes": _relative(np.maximum(variance, 0)).reshape(split.images.shape[1:])}


def components(split: Split, count: int) -> dict[str, np.ndarray]:
    """The principal components: the arrays ``directions``, ``lengths`` and ``rest``.

    The lengths are the standard deviations of the images along the ``count`` directions in which
    they vary most; ``rest`` is the root mean square of those along all other directions. All are
    divided by the first, and raised to 0.001 where they are less. This is the covariance of
    probabilistic PCA (Tipping and Bishop, 1999), whose Mahalanobis distance is the norm.

    Example:
        >>> images = np.array([[0.0, 0.0], [1.0, 1.0], [0.5, 0.25], [0.5, 0.75]])
        >>> found = components(Split(images.reshape(4, 1, 1, 2), np.zeros(4, int)), 1)
        >>> found["lengths"], float(found["rest"].round(3)), found["directions"].shape
        (array([1.]), 0.234, (1, 1, 1, 2))

    Raises:
        OnrError: there are fewer directions than ``count``, no pixel varies, or the images have too
            many pixels.

    """
    shape = split.images.shape[1:]
    n = math.prod(shape)
    if n > LARGEST:
        raise OnrError(f"images of {n} numbers: expected at most {LARGEST} for their covariance")
    if not 1 <= count < n:
        raise OnrError(f"components = {count}: expected 1 to {n - 1}, for images of {n} numbers")
    total, products = np.zeros(n), np.zeros((n, n))
    for x in _chunks(split):
        total, products = total + x.sum(axis=0), products + x.T @ x
    mean = total / len(split)
    covariance = products / len(split) - np.outer(mean, mean)
    values, vectors = eigh(covariance, subset_by_index=(n - count, n - 1))
    values, rows = np.maximum(values[::-1], 0), vectors[:, ::-1].T
    # Libraries give either sign; with this one the file is the same everywhere.
    rows = rows * np.sign(rows.sum(axis=1, keepdims=True) + 1e-300)
    rest = max(0.0, float(np.trace(covariance) - values.sum())) / (n - count)
    axes = _relative(np.append(values, rest))
    directions = rows.reshape(count, *shape).astype(np.float32)
    return {"directions": directions, "lengths": axes[:-1], "rest": axes[-1]}


def _chunks(split: Split) -> list[np.ndarray] | map[np.ndarray]:
    def read(start: int) -> np.ndarray:
        rows = np.asarray(split.images[start : start + CHUNK])
        flat: np.ndarray = pixels(rows, "float64").reshape(len(rows), -1)
        return flat

    return map(read, range(0, len(split), CHUNK))


def _relative(variances: np.ndarray) -> np.ndarray:
    """Standard deviations over the largest, at least the floor."""
    largest = float(variances.max())
    if not largest > 0:
        raise OnrError("no pixel of these images varies: expected other images, or more")
    found: np.ndarray = np.maximum(np.sqrt(variances / largest), FLOOR)
    return found
