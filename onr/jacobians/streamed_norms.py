"""Maximisers of ``||J v||_q`` for Jacobians of many outputs: exact, and ``J`` is never stored.

Row k of ``J`` is ``J^T e_k``, one vjp. Each function takes the ``d`` rows one after another and
keeps one or two vectors of ``n`` numbers an example, and for (2, 2) a ``d x d`` matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from onr.arrays import array_namespace, better, column, device, flatten, like, max_abs, safe
from onr.jacobians.dense import check_matrices
from onr.norms import LpNorm
from onr.protocols import Array, Linearization, Norm

__all__ = ["Progress", "largest_column", "largest_row", "largest_singular_vector", "riesz"]

Progress = Callable[[int, int], None]
"""Called with the number of passes through the network that are done, and of all."""


def _rows(J: Linearization, total: int, on_progress: Progress) -> Iterator[Array]:
    """The rows ``J^T e_k`` one after another, each shaped as the input, their entries checked."""
    d = J.value.shape[1]
    for k in range(d):
        row = J.vjp(_unit(J.value, k))
        check_matrices(row.reshape((row.shape[0], 1, -1)))
        yield row
        on_progress((k + 1) * total // d, total)


def _unit(value: Array, k: int) -> Array:
    unit = np.zeros((1, value.shape[1]))
    unit[0, k] = 1
    return array_namespace(value).zeros_like(value) + like(unit, value)


def largest_row(J: Linearization, p: Norm, /, *, on_progress: Progress) -> Array:
    """A maximiser for (p, inf): the duality map of the row of largest p*-norm, ``d`` vjps.

    It is the first of the largest rows, shape ``(batch, *input_shape)``; zero where ``J`` is.

    Example:
        >>> from onr.jacobians.dense import Matrices
        >>> J = Matrices(np.array([[[3.0, 0.0], [0.0, 4.0]]]))
        >>> largest_row(J, LpNorm(2), on_progress=lambda done, total: None)
        array([[0., 1.]])

    """
    best: tuple[Array, ...] | None = None
    for row in _rows(J, J.value.shape[1], on_progress):
        best = better(best, (p.dual(row), row))
    assert best is not None  # noqa: S101 - for the type checker; d >= 1
    return p.duality_map(best[1])


def largest_column(J: Linearization, q: LpNorm, /, *, on_progress: Progress) -> Array:
    """A maximiser for (1, q): the axis of the column of largest q-norm, ``d`` vjps.

    The q-norm of each column grows row by row. The sum of ``(|entry| / largest)^q`` is kept with
    the largest magnitude so far, which neither overflows nor underflows. It is the first of the
    largest columns, shape ``(batch, *input_shape)``.

    Example:
        >>> from onr.jacobians.dense import Matrices
        >>> J = Matrices(np.array([[[3.0, 0.0], [3.0, 4.0]]]))
        >>> largest_column(J, LpNorm(2), on_progress=lambda done, total: None)
        array([[1., 0.]])

    """
    xp = array_namespace(J.value)
    shape = (J.value.shape[0], math.prod(J.input_shape))
    largest = total = xp.zeros(shape, dtype=J.value.dtype, device=device(J.value))
    for row in _rows(J, J.value.shape[1], on_progress):
        a = xp.abs(flatten(row))
        before, largest = largest, xp.maximum(largest, a)
        if q.p < math.inf:
            scale = safe(largest)
            total = total * (before / scale) ** q.p + (a / scale) ** q.p
    size = largest if q.p == math.inf else largest * total ** (1 / q.p)
    index = xp.argmax(size, axis=1)
    axes = xp.arange(size.shape[1], device=device(size))
    v = xp.astype(axes[None, :] == index[:, None], size.dtype)
    return v.reshape((-1, *J.input_shape))


def riesz(p: Norm, rows: Array, /) -> Array:
    """The vectors ``r`` with ``<row, v> = <r, v>_p`` in the inner product of the norm ``p``.

    It is the duality map times the dual norm; for l2, the rows themselves.

    Example:
        >>> riesz(LpNorm(2), np.array([[3.0, 4.0]]))
        array([[3., 4.]])

    """
    if isinstance(p, LpNorm):
        return rows
    return p.duality_map(rows) * column(p.dual(rows), rows)


def largest_singular_vector(J: Linearization, p: Norm, /, *, on_progress: Progress) -> Array:
    """A maximiser for (p, 2), for the norm p of an inner product.

    With the adjoint ``J*`` of that inner product it is ``J* w`` of length 1, ``w`` the top
    eigenvector of ``J J*``. Column k of this Gram matrix is ``J (J* e_k)``: ``d`` vjps and ``d``
    jvps.

    Returns:
        For p = 2 the right singular vector of the largest singular value, shape
        ``(batch, *input_shape)``; zero where ``J`` is zero.

    Example:
        >>> from onr.jacobians.dense import Matrices
        >>> J = Matrices(np.array([[[3.0, 0.0], [0.0, 4.0]]]))
        >>> abs(largest_singular_vector(J, LpNorm(2), on_progress=lambda done, total: None))
        array([[0., 1.]])

    """
    xp = array_namespace(J.value)
    columns, scales = [], []
    for row in _rows(J, 2 * J.value.shape[1], on_progress):
        scale = max_abs(row)
        columns.append(J.jvp(riesz(p, row / column(safe(scale), row))))
        scales.append(scale)
    # Column k is J J* e_k / s_k. Divide by the largest s_k and the largest entry before the
    # product, so that the squares of large or small entries stay in range.
    s = xp.stack(scales, axis=1)
    G = xp.stack(columns, axis=2)
    G = G / column(safe(max_abs(G)), G) * (s / safe(max_abs(s))[:, None])[:, None, :]
    _, vectors = xp.linalg.eigh((G + xp.matrix_transpose(G)) / 2)
    v = J.vjp(vectors[:, :, -1])
    return p.duality_map(v)
