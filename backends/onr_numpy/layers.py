"""The three dense layers that a sequential ReLU network folds into.

Each layer maps ``(batch, n)`` to ``(batch, m)``. Layers hold no state: ``remember`` returns what
the derivative at an input depends on (a mask, the winner of each window), and the caller passes it
to ``forward``, ``jvp`` and ``vjp``. One layer thus serves every linearisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

__all__ = ["Dense", "DenseLayer", "Pooling", "Rectifier", "pooling_windows", "toeplitz"]


def _zeros(z: np.ndarray) -> np.ndarray:
    """Zeros of the number type of the entries; ``np.zeros_like`` fills object arrays with ints."""
    return z * 0 if z.dtype == object else np.zeros_like(z)


@dataclass(frozen=True)
class Dense:
    """``W x + b`` with ``W`` of shape ``(m, n)``; also a convolution, a normalisation, or both.

    Example:
        >>> layer = Dense(np.array([[1.0, 2.0]]), np.array([0.5]))
        >>> layer.forward(np.array([[1.0, 1.0]]), None)
        array([[3.5]])

    """

    weight: np.ndarray
    bias: np.ndarray

    def remember(self, z: np.ndarray) -> None:
        """Remember nothing: the derivative of an affine map does not depend on the input."""

    def forward(self, z: np.ndarray, memory: None) -> np.ndarray:
        """``W z + b``."""
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

    Example:
        >>> layer, z = Rectifier(), np.array([[-1.0, 0.0, 2.0]])
        >>> layer.forward(z, layer.remember(z))
        array([[0., 0., 2.]])

    """

    def remember(self, z: np.ndarray) -> np.ndarray:
        """The mask ``z > 0``."""
        return z > 0

    def forward(self, z: np.ndarray, memory: np.ndarray) -> np.ndarray:
        """``max(z, 0)``, given the mask."""
        return np.where(memory, z, _zeros(z))

    def jvp(self, v: np.ndarray, memory: np.ndarray) -> np.ndarray:
        """``Phi v`` (Eq. 2): ``v`` where the mask is true, zero elsewhere."""
        return np.where(memory, v, _zeros(v))

    vjp = jvp


@dataclass(frozen=True)
class Pooling:
    """The maximum over disjoint windows of a vector with ``inputs`` entries.

    ``windows`` holds the indices of each window's entries, shape ``(m, size)``.

    Example:
        >>> layer = Pooling(np.array([[0, 1], [2, 3]]), inputs=4)
        >>> z = np.array([[3.0, 1.0, 2.0, 5.0]])
        >>> layer.forward(z, layer.remember(z))
        array([[3., 5.]])

    """

    windows: np.ndarray
    inputs: int

    def remember(self, z: np.ndarray) -> np.ndarray:
        """The index of each window's winner, the first at ties, shape ``(batch, m)``."""
        best = np.argmax(z[:, self.windows], axis=2)
        winners: np.ndarray = self.windows[np.arange(len(self.windows)), best]
        return winners

    def forward(self, z: np.ndarray, memory: np.ndarray) -> np.ndarray:
        """The entry of ``z`` at the winner of each window."""
        return np.take_along_axis(z, memory, axis=1)

    def jvp(self, v: np.ndarray, memory: np.ndarray) -> np.ndarray:
        """The entry of ``v`` at the winner of each window."""
        return np.take_along_axis(v, memory, axis=1)

    def vjp(self, u: np.ndarray, memory: np.ndarray) -> np.ndarray:
        """Put each entry of ``u`` at its window's winner, zero elsewhere; windows are disjoint."""
        v: np.ndarray = np.zeros((len(u), self.inputs), dtype=u.dtype) + _zeros(u[:, :1])
        np.put_along_axis(v, memory, u, axis=1)
        return v


DenseLayer: TypeAlias = Dense | Rectifier | Pooling


def toeplitz(kernel: np.ndarray, shape: tuple[int, ...], padding: int) -> np.ndarray:
    """The matrix of a stride-1 convolution of images ``(C, H, W)`` (the paper's footnote 1).

    Args:
        kernel: shape ``(out, C, k, k)``; applied as torch does, without flipping.
        shape: the shape ``(C, H, W)`` of one image.
        padding: how many zeros are added on each side.

    Returns:
        Shape ``(out * H' * W', C * H * W)``.

    Example:
        >>> toeplitz(np.array([[[[1.0, 2.0], [3.0, 4.0]]]]), (1, 2, 3), 0)
        array([[1., 2., 0., 3., 4., 0.],
               [0., 1., 2., 0., 3., 4.]])

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
    """The flat indices of each ``size x size`` window, shape ``(m, size * size)``.

    Example:
        >>> pooling_windows((1, 2, 4), 2)
        array([[0, 1, 4, 5],
               [2, 3, 6, 7]])

    """
    channels, height, width = shape
    rows, columns = height // size, width // size
    index = np.arange(channels * height * width).reshape(shape)
    index = index[:, : rows * size, : columns * size]
    blocks = index.reshape(channels, rows, size, columns, size).transpose(0, 1, 3, 2, 4)
    return blocks.reshape(channels * rows * columns, size * size)
