"""The whole Jacobian from its ``vjp``, and its singular values."""

from __future__ import annotations

from onr.arrays import array_namespace
from onr.protocols import Array, Linearization

__all__ = ["jacobian", "singular_values"]


def jacobian(linearization: Linearization, /) -> Array:
    """``J``, shape ``(batch, d, n)``, exact, by ``d`` vjps."""
    value = linearization.value
    xp = array_namespace(value)
    rows = []
    for index in range(value.shape[1]):
        u = xp.zeros_like(value)
        u[:, index] = 1
        rows.append(linearization.vjp(u).reshape((value.shape[0], -1)))
    return xp.stack(rows, axis=1)


def singular_values(linearization: Linearization, /) -> Array:
    """All ``min(d, n)`` singular values of ``J``, largest first, shape ``(batch, min(d, n))``."""
    J = jacobian(linearization)
    return array_namespace(J).linalg.svdvals(J)
