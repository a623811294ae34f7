"""The three dense layers that a sequential ReLU network folds into.

Each maps ``(batch, n)`` to ``(batch, m)``. What a layer remembers of its input (a mask, the winners
of each window) is passed back in, so that one layer serves every linearisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np


def _zeros(z: np.ndarray) -> np.ndarray:
    """Zeros of the kind of number that the entries are: numpy's for objects are integers."""
    return z * 0 if z.dtype == object else np.zeros_like(z)


@dataclass(frozen=True)
class Dense:
    """``W x + b`` with ``W`` of shape ``(m, n)``; also a convolution, a normalisation, or both."""

    weight: np.ndarray
    bias: np.ndarray

    def remember(self, z: np.ndarray) -> None:
        """An affine map is its own linearisation."""

    def forward(self, z: np.ndarray, memory: None) -> np.ndarray:
        """The layer's value."""
        value: np.ndarray = z @ self.weight.T + self.bias
        return value

    def jvp(self, v: np.ndarray, memory: None) -> np.ndarray:
        """``W v``."""
        image: np.ndarray = v @ self.weight.T
        return image

    def vjp(self, u: np.ndarray, memory: None) -> np.ndarray:
        """``W^T u``."""
        image: np.ndarray = u @ self.weight
        return image

    def after(self, gradient: np.ndarray) -> np.ndarray:
        """``W G`` for each matrix ``G``, shape ``(batch, n, k)``."""
        product: np.ndarray = self.weight @ gradient
        return product


@dataclass(frozen=True)
class Rectifier:
    """``max(z, 0)``, with derivative 1 where ``z > 0`` and 0 where ``z <= 0``.

    The paper writes ``z >= 0``; at exactly zero we follow the convention of torch.
    """

    def remember(self, z: np.ndarray) -> np.ndarray:
        """The mask."""
        return z > 0

    def forward(self, z: np.ndarray, memory: np.ndarray) -> np.ndarray:
        """The layer's value."""
        return np.where(memory, z, _zeros(z))

    def jvp(self, v: np.ndarray, memory: np.ndarray) -> np.ndarray:
        """``Phi v`` (Eq. 2)."""
        return np.where(memory, v, _zeros(v))

    vjp = jvp


@dataclass(frozen=True)
class Pooling:
    """The maximum over windows; ``windows`` holds the indices of each, shape ``(m, size)``."""

    windows: np.ndarray
    inputs: int

    def remember(self, z: np.ndarray) -> np.ndarray:
        """The index of each window's winner, the first at ties, shape ``(batch, m)``."""
        best = np.argmax(z[:, self.windows], axis=2)
        winners: np.ndarray = self.windows[np.arange(len(self.windows)), best]
        return winners

    def forward(self, z: np.ndarray, memory: np.ndarray) -> np.ndarray:
        """The layer's value."""
        return np.take_along_axis(z, memory, axis=1)

    def jvp(self, v: np.ndarray, memory: np.ndarray) -> np.ndarray:
        """The winners of ``v``."""
        return np.take_along_axis(v, memory, axis=1)

    def vjp(self, u: np.ndarray, memory: np.ndarray) -> np.ndarray:
        """Each output's value at its winner; windows are disjoint."""
        v: np.ndarray = np.zeros((len(u), self.inputs), dtype=u.dtype) + _zeros(u[:, :1])
        np.put_along_axis(v, memory, u, axis=1)
        return v


DenseLayer: TypeAlias = Dense | Rectifier | Pooling


def toeplitz(kernel: np.ndarray, shape: tuple[int, ...], padding: int) -> np.ndarray:
    """The matrix of a stride-1 convolution of images ``(C, H, W)`` (the paper's footnote 1).

    Args:
        kernel: shape ``(out, C, k, k)``; applied as torch does, without flipping.
        shape: ``(C, H, W)``.
        padding: zeros on each side.

    Returns:
        Shape ``(out * H' * W', C * H * W)``.

    """
    out, channels, size, _ = kernel.shape
    _, height, width = shape
    rows, columns = height + 2 * padding - size + 1, width + 2 * padding - size + 1
    matrix = np.zeros((out, rows, columns, channels, height, width), dtype=kernel.dtype)
    for i in range(rows):
        for j in range(columns):
            top, left = i - padding, j - padding
            # A window may lie in the padding alone: its slices are then empty.
            r = slice(max(top, 0), max(top, 0, min(top + size, height)))
            c = slice(max(left, 0), max(left, 0, min(left + size, width)))
            matrix[:, i, j, :, r, c] = kernel[
                :, :, r.start - top : r.stop - top, c.start - left : c.stop - left
            ]
    return matrix.reshape(out * rows * columns, -1)


def pooling_windows(shape: tuple[int, ...], size: int) -> np.ndarray:
    """The flat indices of each ``size x size`` window, shape ``(m, size * size)``."""
    channels, height, width = shape
    rows, columns = height // size, width // size
    index = np.arange(channels * height * width).reshape(shape)
    index = index[:, : rows * size, : columns * size]
    blocks = index.reshape(channels, rows, size, columns, size).transpose(0, 1, 3, 2, 4)
    return blocks.reshape(channels * rows * columns, size * size)
