"""Coordinates in which an ellipsoid's axes are those of the coordinates.

Each kind maps a batch of examples linearly into coordinates ``(batch, m)`` and back, and keeps
lengths. Scaling by the axes maps the coordinates of examples to coordinates of examples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from typing import Any

import numpy as np

from onr.arrays import array_namespace, device, flatten
from onr.errors import OnrError
from onr.exact.surds import NotExactError
from onr.protocols import Array

__all__ = ["LARGEST_RATIO", "Components", "Coordinates", "Cosines", "Pixels", "require_axes"]

LARGEST_RATIO = 1e4
"""The longest axis over the shortest, at most: float32 tells their squares apart."""


def require_axes(axes: np.ndarray, where: str) -> np.ndarray:
    """Return the semi-axes in float64.

    Raises:
        OnrError: an axis is not positive or not finite, or one is more than 10,000 times another.

    Example:
        >>> require_axes(np.array([1, 2]), "mine")
        array([1., 2.])

    """
    found = np.asarray(axes)
    if found.dtype.kind not in "fiu" or not found.size:
        raise OnrError(f"{where}: axes are {found.dtype}, {found.size} of them: expected floats")
    found = found.astype(np.float64)
    if not (np.isfinite(found).all() and found.min() > 0):
        raise OnrError(
            f"{where}: the axes run from {found.min():g} to {found.max():g}: expected "
            "positive finite numbers"
        )
    if found.max() > LARGEST_RATIO * found.min():
        raise OnrError(
            f"{where}: the axes run from {found.min():g} to {found.max():g}: expected a ratio of "
            f"at most {LARGEST_RATIO:g}, so raise the short ones"
        )
    return found


class Coordinates(ABC):
    """A linear map of examples into coordinates that keeps lengths, and the axes there."""

    aligned = False
    """Whether the axes are those of the pixels."""

    def __init__(self) -> None:
        self._kept: dict[Any, Array] = {}

    @abstractmethod
    def into(self, x: Array) -> Array:
        """The coordinates ``(batch, m)`` of examples ``(batch, *shape)``."""

    @abstractmethod
    def back(self, c: Array, shape: tuple[int, ...]) -> Array:
        """The examples ``(batch, *shape)`` of these coordinates."""

    @abstractmethod
    def semi_axes(self, shape: tuple[int, ...]) -> np.ndarray:
        """The semi-axes ``(m,)`` for examples of this shape."""

    def axes(self, x: Array) -> Array:
        """The semi-axes ``(m,)`` as an array of the kind of ``x``."""
        shape = tuple(x.shape[1:])
        return self._as(x, "axes", shape, lambda: self.semi_axes(shape))

    def _as(self, x: Array, what: str, key: Any, make: Any) -> Array:
        """A constant as an array of the kind of ``x``; copied to a device once."""
        if x.dtype == object:
            return _exact(make(), x)
        xp = array_namespace(x)
        place = what, key, xp.__name__, x.dtype, str(device(x))
        if place not in self._kept:
            self._kept[place] = xp.asarray(np.array(make()), dtype=x.dtype, device=device(x))
        return self._kept[place]

    def __getstate__(self) -> dict[str, Any]:
        """What is copied to another process: not the arrays of devices."""
        return self.__dict__ | {"_kept": {}}


def _exact(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Floats as exact numbers of the kind of those in ``x``: each is a quotient of integers."""
    zero = x.reshape(-1)[0] * 0
    pairs = [value.as_integer_ratio() for value in values.reshape(-1).tolist()]
    found = np.empty(values.size, dtype=object)
    found[:] = [(zero + top) / (zero + bottom) for top, bottom in pairs]
    return found.reshape(values.shape)


class Pixels(Coordinates):
    """The pixels themselves.

    Args:
        axes: the semi-axes, an array that broadcasts to the shape of an example.
        where: what an error calls them.

    Example:
        >>> Pixels(np.array([[1.0], [0.5]]), "mine").semi_axes((2, 3))
        array([1. , 1. , 1. , 0.5, 0.5, 0.5])

    """

    aligned = True

    def __init__(self, axes: np.ndarray, where: str) -> None:
        super().__init__()
        self._axes, self._where = require_axes(axes, where), where

    def into(self, x: Array) -> Array:
        """The entries of each example."""
        return flatten(x)

    def back(self, c: Array, shape: tuple[int, ...]) -> Array:
        """The entries in the shape of an example."""
        return c.reshape((-1, *shape))

    def semi_axes(self, shape: tuple[int, ...]) -> np.ndarray:
        """The axes, broadcast to the shape.

        Raises:
            OnrError: they do not broadcast to it.

        """
        try:
            return np.broadcast_to(self._axes, shape).reshape(-1)
        except ValueError:
            raise OnrError(
                f"{self._where} has axes of shape {self._axes.shape}, and the examples have shape "
                f"{shape}: expected a norm of their shape"
            ) from None


class Cosines(Coordinates):
    """The two-dimensional discrete cosine transform (DCT-II) of each channel.

    The coefficient ``(i, j)`` has the frequency ``f = sqrt(i^2 + j^2)``, in half periods over the
    image, and the semi-axis ``max(1, f)^-power``. Vectors have one frequency.

    Example:
        >>> Cosines(1.0).semi_axes((1, 2, 3)).round(3)
        array([1.   , 1.   , 0.5  , 1.   , 0.707, 0.447])

    """

    def __init__(self, power: float) -> None:
        super().__init__()
        self._power = power

    def into(self, x: Array) -> Array:
        """The coefficients of each example.

        Raises:
            NotExactError: cosines are irrational.

        """
        if x.dtype == object:
            raise NotExactError("norm frequency: cosines are irrational; use floats")
        xp = array_namespace(x)
        c = x @ xp.matrix_transpose(self._matrix(x, -1))
        return flatten(c if x.ndim < 3 else self._matrix(x, -2) @ c)

    def back(self, c: Array, shape: tuple[int, ...]) -> Array:
        """The examples of these coefficients."""
        x = c.reshape((-1, *shape))
        x = x @ self._matrix(x, -1)
        return x if x.ndim < 3 else array_namespace(x).matrix_transpose(self._matrix(x, -2)) @ x

    def semi_axes(self, shape: tuple[int, ...]) -> np.ndarray:
        """A power of the frequencies.

        Raises:
            OnrError: the axes of so many frequencies differ by a factor of more than 10,000.

        """
        last = np.arange(shape[-1]) ** 2.0
        square = last if len(shape) < 2 else np.arange(shape[-2])[:, None] ** 2.0 + last
        axes = np.maximum(1.0, square) ** (-self._power / 2)
        require_axes(axes, f"norm frequency, power {self._power:g}, shape {shape}")
        return np.broadcast_to(axes, shape).reshape(-1)

    def _matrix(self, x: Array, axis: int) -> Array:
        size = int(x.shape[axis])
        return self._as(x, "cosines", size, lambda: _cosines(size))


@cache
def _cosines(n: int) -> np.ndarray:
    """The orthogonal matrix of the DCT-II: row k has the frequency k."""
    k, i = np.arange(n)[:, None], np.arange(n)[None, :]
    matrix: np.ndarray = np.sqrt(2 / n) * np.cos(np.pi * (i + 0.5) * k / n)
    matrix[0] /= np.sqrt(2)
    return matrix


class Components(Coordinates):
    """Some orthonormal directions with an axis each, and one axis for all that is left.

    The coordinates are those along the directions and, after them, the entries of what is left.

    Args:
        directions: orthonormal, ``(k, *shape)``.
        lengths: the semi-axes along the directions, ``(k,)``.
        rest: the semi-axis of every direction that is orthogonal to them.
        where: what an error calls them.

    Example:
        >>> along = Components(np.array([[0.6, 0.8]]), np.array([1.0]), 0.5, "mine")
        >>> abs(along.into(np.array([[1.2, 1.6]]))).round(6)
        array([[2., 0., 0.]])

    """

    def __init__(
        self, directions: np.ndarray, lengths: np.ndarray, rest: float, where: str
    ) -> None:
        super().__init__()
        self._shape, self._where = directions.shape[1:], where
        rows = directions.reshape(len(directions), -1).astype(np.float64)
        if lengths.shape != (len(rows),) or len(rows) > rows.shape[1]:
            raise OnrError(
                f"{where} has {len(rows)} directions in {rows.shape[1]} dimensions and lengths of "
                f"shape {lengths.shape}: expected one for each direction"
            )
        if not np.allclose(rows @ rows.T, np.eye(len(rows)), atol=1e-4):
            raise OnrError(f"{where}: the directions are not orthonormal")
        turned, triangle = np.linalg.qr(rows.T)  # orthonormal beyond the digits of the file
        self._rows = (turned * np.sign(np.diag(triangle))).T
        self._lengths = require_axes(np.append(lengths, rest), where)

    def into(self, x: Array) -> Array:
        """The coordinates along the directions, then what is left.

        Raises:
            NotExactError: the directions are rounded.
            OnrError: the examples have another shape.

        """
        if x.dtype == object:
            raise NotExactError(f"{self._where}: directions are irrational; use floats")
        self._require(tuple(x.shape[1:]))
        flat, rows = flatten(x), self._directions(x)
        along = flat @ array_namespace(x).matrix_transpose(rows)
        return array_namespace(x).concat([along, flat - along @ rows], axis=1)

    def back(self, c: Array, shape: tuple[int, ...]) -> Array:
        """The examples of these coordinates."""
        count = len(self._rows)
        return (c[:, :count] @ self._directions(c) + c[:, count:]).reshape((-1, *shape))

    def semi_axes(self, shape: tuple[int, ...]) -> np.ndarray:
        """The lengths, and the rest for each entry of what is left."""
        self._require(shape)
        return np.append(self._lengths[:-1], np.full(self._rows.shape[1], self._lengths[-1]))

    def _directions(self, x: Array) -> Array:
        return self._as(x, "directions", (), lambda: self._rows)

    def _require(self, shape: tuple[int, ...]) -> None:
        if shape != self._shape:
            raise OnrError(
                f"{self._where} has directions of shape {self._shape}, and the examples have shape "
                f"{shape}: expected a norm of their shape"
            )
