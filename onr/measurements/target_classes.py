"""The classes that a targeted attack leads to."""

from __future__ import annotations

import numpy as np

from onr.errors import OnrError

__all__ = ["target_classes"]


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
