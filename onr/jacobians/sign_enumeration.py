"""The best of all sign vectors: what decides ``||J||_{p,1}`` and ``||J||_{inf,q}`` exactly."""

from __future__ import annotations

import numpy as np

from onr.arrays import array_namespace, like, max_abs, safe
from onr.norms import LpNorm
from onr.protocols import Array, Norm

__all__ = ["best_signs"]

BLOCK = 2**17
"""How many numbers to work on at a time: about what a core's cache holds."""


def best_signs(A: Array, size: Norm, shape: tuple[int, ...], /) -> Array:
    """A maximiser of ``size(A^T s)`` over ``s`` in ``{-1, 1}^k``, exact.

    A convex function has its maximum over a cube at a vertex. ``s`` and ``-s`` are the same to a
    norm, so ``2^(k - 1)`` vectors are tried; for the Euclidean norm on the Gram matrix alone.

    Args:
        A: shape ``(batch, k, m)``; floats or exact numbers.
        size: a norm on vectors of shape ``shape``.
        shape: what ``size`` takes, ``m`` numbers.

    Returns:
        Shape ``(batch, k)``, the first entry of each example +1; at ties the first in the order of
        counting with +1 as 0.

    """
    xp = array_namespace(A)
    _, k, m = A.shape
    signs = like(_all_signs(k), A)
    if isinstance(size, LpNorm) and size.p == 2:
        if A.dtype != object:  # squares must stay in the range of floats, and ties be ties
            A = A / 2 ** xp.floor(xp.log2(safe(max_abs(A))))[:, None, None]
        gram = A @ xp.matrix_transpose(A)
        # One example at a time, as below: 2^(k - 1) vectors for each at once are much memory.
        best = [xp.argmax(xp.sum((signs @ matrix) * signs, axis=1)) for matrix in gram]
        return xp.take(signs, xp.stack(best), axis=0)
    # A^T s is the sum of what the first and the last entries of s give, each found once.
    last = min(k - 1, max(0, (BLOCK // m).bit_length() - 1))
    heads, tails = signs[:: 2**last, : k - last], signs[: 2**last, k - last :]
    best = []
    for matrix in A:
        first, tail = matrix[: k - last], tails @ matrix[k - last :]
        sizes = [size((head @ first + tail).reshape((-1, *shape))) for head in heads]
        best.append(xp.argmax(xp.concat(sizes)))
    return xp.take(signs, xp.stack(best), axis=0)


def _all_signs(k: int) -> np.ndarray:
    """Those with first entry +1, counted with +1 as 0, the last entry fastest."""
    bits = np.arange(2 ** (k - 1))[:, None] >> np.arange(k - 1, -1, -1)
    return 1 - 2 * (bits & 1)
