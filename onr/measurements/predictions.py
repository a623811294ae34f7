"""The logits of a network and the classes that it predicts; what is no prediction is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from onr.arrays import in_float32, to_numpy
from onr.errors import ImageError, OnrError
from onr.losses import require_values
from onr.measurements.batches import Inputs
from onr.protocols import Network
from onr.typing import Array

__all__ = ["batch_size", "classes_of", "counting", "logits", "require_labels"]

BATCH, ENTRIES = 250, 2**22
"""A batch has at most ``BATCH`` inputs, and ``ENTRIES`` numbers: 27 images of 3 x 224 x 224."""


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


def classes_of(
    network: Network, x: Array, y: Array, /, *, first: int = 0, where: str = ""
) -> np.ndarray:
    """The classes that the network predicts, ``(batch,)``.

    Args:
        network: the network.
        x: the inputs of a batch, ``(batch, *input_shape)``.
        y: their labels, which must be classes.
        first: the number of inputs before these.
        where: where the inputs are, for errors, such as ``under attack``.

    Raises:
        ImageError: a logit is NaN, all logits of an input are ``-inf``, or a label is no class.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> classes_of(network, np.zeros((2, 3)), np.array([0, 1]))
        array([1, 1])

    """
    found = _sound(network(x), first=first, where=where)
    require_labels(to_numpy(y), found.shape[1], first=first)
    predicted: np.ndarray = found.argmax(axis=1)
    return predicted


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


@contextmanager
def counting(first: int, /) -> Iterator[None]:
    """Let an error inside name an input by its number among all, not in its batch.

    Args:
        first: the number of inputs before the batch.

    Example:
        >>> try:
        ...     with counting(250):
        ...         raise ImageError(3, "a pixel is NaN")
        ... except ImageError as error:
        ...     print(error)
        image 253: a pixel is NaN

    """
    try:
        yield
    except ImageError as error:
        raise error.after(first) from None


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
