"""Jacobians as explicit matrices: from their ``vjp``, and as linearisations of their own."""

from __future__ import annotations

from dataclasses import dataclass

from onr.arrays import array_namespace
from onr.errors import OnrError
from onr.protocols import Array, Linearization

__all__ = ["Matrices", "jacobian", "singular_values"]


@dataclass(frozen=True)
class Matrices:
    """Explicit matrices, shape ``(batch, d, n)``, as the :class:`Linearization` that they are.

    Raises:
        OnrError: not three axes; one matrix ``J`` is ``J[None]``.

    """

    J: Array

    def __post_init__(self) -> None:
        if getattr(self.J, "ndim", 0) != 3:
            raise OnrError(
                f"matrices of shape {tuple(getattr(self.J, 'shape', ()))}: expected "
                "(batch, d, n); write J[None] for one matrix"
            )

    @property
    def value(self) -> Array:
        """The linear map at zero: zero, shape ``(batch, d)``."""
        return array_namespace(self.J).zeros_like(self.J[:, :, 0])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """``(n,)``."""
        return (self.J.shape[2],)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """``(d,)``."""
        return (self.J.shape[1],)

    def jvp(self, v: Array, /) -> Array:
        """``J v``, ``(batch, n)`` to ``(batch, d)``."""
        return (self.J @ v[:, :, None])[:, :, 0]

    def vjp(self, u: Array, /) -> Array:
        """``J^T u``, ``(batch, d)`` to ``(batch, n)``."""
        return (u[:, None, :] @ self.J)[:, 0, :]


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
