"""Inputs a batch at a time, and the values of all batches together."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, Protocol, TypeVar

import numpy as np

from onr.arrays import to_numpy
from onr.typing import Array

__all__ = ["Inputs", "Values", "batches"]

Key = TypeVar("Key", bound=Hashable)


class Inputs(Protocol):
    """Inputs ``(N, *input_shape)`` that are read in slices: an array, or one that is not loaded."""

    def __len__(self) -> int:
        """The number of inputs."""

    def __getitem__(self, part: slice, /) -> Array:
        """These inputs, as the network takes them."""


def batches(x: Inputs, y: Array, size: int) -> Iterator[tuple[int, Array, Array]]:
    """The number of each batch, its inputs and its labels, ``size`` at a time."""
    for index, start in enumerate(range(0, len(x), size)):
        part = slice(start, start + size)
        yield index, x[part], y[part]


class Values(Generic[Key]):
    """One number an input for each of several quantities, gathered over batches."""

    def __init__(self) -> None:
        self._parts: dict[Key, list[np.ndarray]] = {}

    def add(self, key: Key, values: Array) -> None:
        """Append the values of one batch."""
        self._parts.setdefault(key, []).append(to_numpy(values))

    def items(self) -> list[tuple[Key, np.ndarray]]:
        """Each quantity with the values of all inputs, in the order in which they were added."""
        return [(key, np.concatenate(parts)) for key, parts in self._parts.items()]
