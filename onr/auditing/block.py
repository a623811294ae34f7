"""A block: some images of an audit with the same seeds in whatever order they are measured."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from onr.auditing.chunked_network import ChunkedNetwork
from onr.auditing.threat import Threat
from onr.protocols import Linearization
from onr.typing import Array

__all__ = ["Block"]


@dataclass(frozen=True)
class Block:
    """Some images, the network, and what the audit has measured of them before its checks.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr.norms import LpNorm
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> x, y = np.full((4, 3), 0.5), np.zeros(4, int)
        >>> chunked = ChunkedNetwork(network, 4)
        >>> block = Block(chunked, x, y, np.arange(4), Threat(LpNorm(2), "0.5"))
        >>> len(block), len(block.first(3)), len(block.take(block.y == 1))
        (4, 3, 0)

    """

    network: ChunkedNetwork
    """The network, which takes the images a few at a time where memory asks for it."""
    x: Array
    """The images, ``(n, *input_shape)``, pixels in [0, 1]."""
    y: np.ndarray
    """Their labels, ``(n,)``."""
    places: np.ndarray
    """Their places among the images of the audit, ``(n,)``, from 0."""
    threat: Threat
    """The ball, and the radii of the audit."""
    seed: int = 0
    """The seed of the audit; :meth:`rng` draws from it."""
    share: float = 1.0
    """The share of the usual number of images that checks look at; less for a fast audit."""
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    """The columns that :mod:`onr.auditing.images` has measured, ``(n,)`` each."""
    moved: Array = None
    """What the attack of the audit found at the largest radius, shaped as ``x``."""

    def __len__(self) -> int:
        """The number of images."""
        return len(self.y)

    @cached_property
    def labels(self) -> Array:
        """The labels as an array of the network's backend."""
        return self.network.asarray(self.y)

    @cached_property
    def here(self) -> Linearization:
        """The linearisation at the images, for ``J^T u`` alone."""
        return self.network.linearize(self.x, jvp=False)

    def rng(self, purpose: str) -> np.random.Generator:
        """A generator that depends on the seed, the purpose and the first image alone."""
        first = int(self.places[0]) if len(self) else 0
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode()), first])

    def first(self, count: int) -> Block:
        """The images among the first ``count`` of the audit, or the share of them."""
        return self.take(self.places < max(1, round(count * self.share)))

    def take(self, which: np.ndarray) -> Block:
        """The images that a mask or an array of indices of this block names."""
        rows = np.flatnonzero(which) if np.asarray(which).dtype == bool else np.asarray(which)
        if np.array_equal(rows, np.arange(len(self))):
            return self
        moved = None if self.moved is None else self.moved[rows]
        values = {name: column[rows] for name, column in self.values.items()}
        return replace(
            self, x=self.x[rows], y=self.y[rows], places=self.places[rows], values=values,
            moved=moved,
        )  # fmt: skip

    def column(self, part: Block, values: Any) -> np.ndarray:
        """Values of some images of this block as a column of the block, NaN for the others."""
        found = np.full(len(self), np.nan)
        found[np.isin(self.places, part.places)] = values
        return found
