"""Inputs read batch by batch, and values collected over all batches."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, Protocol, TypeVar

import numpy as np

from onr.arrays import to_numpy
from onr.errors import OnrError
from onr.typing import Array

__all__ = ["Inputs", "Values", "batches"]

Key = TypeVar("Key", bound=Hashable)


class Inputs(Protocol):
    """Inputs ``(N, *input_shape)`` that are read in slices: an array, or data loaded on reading."""

    def __len__(self) -> int:
        """The number of inputs."""

    def __getitem__(self, part: slice, /) -> Array:
        """The inputs of this slice, as the network takes them."""


def batches(x: Inputs, y: Array, size: int) -> Iterator[tuple[int, Array, Array]]:
    """Yield the number of each batch, its inputs and its labels, ``size`` inputs at a time.

    Raises:
        OnrError: there are no inputs, or there is not one label for each input.

    Example:
        >>> x, y = np.zeros((5, 3)), np.arange(5)
        >>> [(index, len(images), labels.tolist()) for index, images, labels in batches(x, y, 2)]
        [(0, 2, [0, 1]), (1, 2, [2, 3]), (2, 1, [4])]

    """
    if len(x) == 0 or len(y) != len(x):
        raise OnrError(f"{len(x)} inputs and {len(y)} labels: expected as many, at least one")
    for index, start in enumerate(range(0, len(x), size)):
        part = slice(start, start + size)
        yield index, x[part], y[part]


class Values(Generic[Key]):
    """One value (or row of values) per input for each of several quantities, batch by batch.

    Example:
        >>> values = Values[str]()
        >>> values.add("norm", np.array([1.0, 2.0]))
        >>> values.add("norm", np.array([3.0]))
        >>> values.items()
        [('norm', array([1., 2., 3.]))]

    """

    def __init__(self) -> None:
        self._parts: dict[Key, list[np.ndarray]] = {}

    def add(self, key: Key, values: Array) -> None:
        """Append the values of one batch."""
        self._parts.setdefault(key, []).append(to_numpy(values))

    def items(self) -> list[tuple[Key, np.ndarray]]:
        """Each quantity with the values of all inputs, in the order in which they were added."""
        return [(key, np.concatenate(parts)) for key, parts in self._parts.items()]
