"""The best of all sign vectors, which gives ``||J||_{p,1}`` and ``||J||_{inf,q}`` exactly."""

from __future__ import annotations

import numpy as np

from onr.arrays import array_namespace, like, max_abs, safe
from onr.norms import LpNorm
from onr.protocols import Array, Norm

__all__ = ["best_signs"]

BLOCK = 2**17
"""How many numbers are worked on at a time: about as many as a core's cache holds."""


def best_signs(A: Array, size: Norm, shape: tuple[int, ...], /) -> Array:
    """A maximiser of ``size(A^T s)`` over ``s`` in ``{-1, 1}^k``, exact.

    A convex function attains its maximum over a cube at a vertex. A norm gives ``s`` and ``-s``
    the same value, so ``2^(k - 1)`` vectors are tried. The Euclidean norm needs only the Gram
    matrix.

    Args:
        A: matrices, shape ``(batch, k, m)``; floats or exact numbers.
        size: a norm of arrays of shape ``(batch, *shape)``.
        shape: the shape of one vector ``A^T s``, with ``m`` entries.

    Returns:
        The signs, shape ``(batch, k)``, each with the first entry +1. At ties it is the maximiser
        that comes first when signs are counted as binary numbers, +1 as digit 0.

    Example:
        >>> best_signs(np.array([[[1.0, 2.0], [-1.0, -3.0]]]), LpNorm(1), (2,))
        array([[ 1., -1.]])

    """
    xp = array_namespace(A)
    _, k, m = A.shape
    signs = like(_all_signs(k), A)
    if isinstance(size, LpNorm) and size.p == 2:
        if A.dtype != object:  # a power of two keeps squares in range and ties exact
            A = A / 2 ** xp.floor(xp.log2(safe(max_abs(A))))[:, None, None]
        gram = A @ xp.matrix_transpose(A)
        # One example at a time: 2^(k - 1) vectors for each one at once would need much memory.
        best = [xp.argmax(xp.sum((signs @ matrix) * signs, axis=1)) for matrix in gram]
        return xp.take(signs, xp.stack(best), axis=0)
    # A^T s is a part from the first entries of s plus one from the last; each is computed once.
    last = min(k - 1, max(0, (BLOCK // m).bit_length() - 1))
    heads, tails = signs[:: 2**last, : k - last], signs[: 2**last, k - last :]
    best = []
    for matrix in A:
        first, tail = matrix[: k - last], tails @ matrix[k - last :]
        sizes = [size((head @ first + tail).reshape((-1, *shape))) for head in heads]
        best.append(xp.argmax(xp.concat(sizes)))
    return xp.take(signs, xp.stack(best), axis=0)


def _all_signs(k: int) -> np.ndarray:
    """The sign vectors with first entry +1, counted as binary numbers with +1 as digit 0."""
    bits = np.arange(2 ** (k - 1))[:, None] >> np.arange(k - 1, -1, -1)
    return 1 - 2 * (bits & 1)
