"""Inputs read batch by batch, and values collected over all batches."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Hashable, Iterator
from typing import Generic, Protocol, TypeVar

import numpy as np

from onr.arrays import in_float32, to_numpy
from onr.errors import OnrError
from onr.typing import Array

__all__ = ["Inputs", "Parts", "Values", "batches"]

Key = TypeVar("Key", bound=Hashable)


class Inputs(Protocol):
    """Inputs ``(N, *input_shape)`` that are read in slices: an array, or data loaded on reading."""

    def __len__(self) -> int:
        """The number of inputs."""

    def __getitem__(self, part: slice, /) -> Array:
        """The inputs of this slice, as the network takes them."""


class Parts(Protocol):
    """What keeps the values of the batches that are finished, for long measurements.

    A batch is named by the number of its first input, the count of its inputs, and their digest.
    """

    def get(self, first: int, count: int, digest: str) -> dict[str, np.ndarray] | None:
        """The values of a batch; ``None`` if the batch is not finished."""

    def put(self, first: int, count: int, digest: str, values: dict[str, np.ndarray]) -> None:
        """Keep the values of a batch that has just been finished."""


def batches(x: Inputs, y: Array, size: int) -> Iterator[tuple[int, Array, Array]]:
    """Yield the number of each batch, its inputs and its labels, ``size`` inputs at a time.

    Raises:
        OnrError: there are no inputs, or there is not one label for each input.

    Example:
        >>> x, y = np.zeros((5, 3)), np.arange(5)
        >>> [(index, len(images), labels.tolist()) for index, images, labels in batches(x, y, 2)]
        [(0, 2, [0, 1]), (1, 2, [2, 3]), (2, 1, [4])]

    """
    return Values[str]().batches(x, y, size)


class Values(Generic[Key]):
    """One value (or row of values) per input for each of several quantities, batch by batch.

    Args:
        parts: keeps the values of each batch, and gives those that it already has.

    Example:
        >>> values = Values[str]()
        >>> for _, images, _ in values.batches(np.array([[1.0], [2.0], [3.0]]), np.zeros(3), 2):
        ...     values.add("norm", images[:, 0])
        >>> values.items()
        [('norm', array([1., 2., 3.]))]

    """

    def __init__(self, parts: Parts | None = None) -> None:
        self._keeping = parts
        self._parts: dict[Key, list[np.ndarray]] = {}
        self._present: dict[Key, np.ndarray] = {}

    def batches(self, x: Inputs, y: Array, size: int) -> Iterator[tuple[int, Array, Array]]:
        """Yield the batches whose values are not kept, as :func:`batches` does.

        The values that are added before the next batch is asked for are those of the batch.

        Raises:
            OnrError: there are no inputs, or there is not one label for each input.

        """
        if len(x) == 0 or len(y) != len(x):
            raise OnrError(f"{len(x)} inputs and {len(y)} labels: expected as many, at least one")
        for index, first in enumerate(range(0, len(x), size)):
            part = slice(first, min(first + size, len(x)))
            count = part.stop - first
            images, digest, kept = x[part], "", None
            if self._keeping is not None:
                content = np.ascontiguousarray(to_numpy(in_float32(images)))
                digest = hashlib.sha256(content.tobytes()).hexdigest()
                kept = self._keeping.get(first, count, digest)
            if kept is not None:
                self._present = {ast.literal_eval(key): values for key, values in kept.items()}
            else:
                yield index, images, y[part]
            present, self._present = self._present, {}
            for key, values in present.items():
                self._parts.setdefault(key, []).append(values)
            if self._keeping is not None and kept is None:
                named = {repr(key): each for key, each in present.items()}
                self._keeping.put(first, count, digest, named)

    def add(self, key: Key, values: Array) -> None:
        """Add values of the present batch. The key is a text, or a tuple of texts and numbers."""
        self._present[key] = to_numpy(values)

    def items(self) -> list[tuple[Key, np.ndarray]]:
        """Each quantity with the values of all inputs, in the order in which they were added."""
        return [(key, np.concatenate(parts)) for key, parts in self._parts.items()]
