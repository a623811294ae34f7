"""The norms: weighted l2 in pixels, in frequencies and along directions, and their names."""

from __future__ import annotations

from pathlib import Path
from typing import final

import numpy as np

from onr.arrays import (
    array_namespace,
    column,
    in_float32,
    max_abs,
    on_cpu,
)
from onr.errors import OnrError
from onr.exact.surds import NotExactError
from onr.norms import BaseNorm, LpNorm
from onr.numerals import number, written
from onr.protocols import Array, Ties
from onr_ellipsoids.coordinates import Coordinates, Cosines
from onr_ellipsoids.files import read_ellipsoid
from onr_ellipsoids.secular import project_ellipsoid

__all__ = ["Ellipsoid", "ellipsoid", "ellipsoid_dual", "frequency"]

TWO = LpNorm(2)


@final
class Ellipsoid(BaseNorm):
    """``||x|| = ||c / a||_2`` with coordinates ``c`` of ``x`` and semi-axes ``a``.

    The ball of radius r is the ellipsoid with the semi-axes ``r a``. The dual norm has the axes
    ``1 / a``. Examples are divided by their largest magnitude first, so that no size of them
    overflows or underflows. Halves are computed in float32.

    Example:
        >>> from onr_ellipsoids.coordinates import Pixels
        >>> norm = Ellipsoid("mine", "mine-dual", Pixels(np.array([1.0, 0.5]), "mine"))
        >>> x = np.array([[3.0, 2.0]])
        >>> norm(x), norm.dual(x).round(4), norm.duality_map(x).round(4)
        (array([5.]), array([3.1623]), array([[0.9487, 0.1581]]))
        >>> norm.project_ball(x, 2.0).round(4)
        array([[1.7254, 0.5057]])

    """

    euclidean = True

    def __init__(
        self, name: str, dual_name: str, coordinates: Coordinates, *, inverse: bool = False
    ) -> None:
        self._name, self._dual_name = name, dual_name
        self._coordinates, self._inverse = coordinates, inverse

    @property
    def name(self) -> str:
        """The name that resolves to this norm."""
        return self._name

    @property
    def monotone(self) -> bool:
        """True if the axes are those of the pixels."""
        return self._coordinates.aligned

    @property
    def dual(self) -> Ellipsoid:
        """The norm with the reciprocal axes."""
        return Ellipsoid(self._dual_name, self._name, self._coordinates, inverse=not self._inverse)

    def __call__(self, x: Array, /) -> Array:
        """The norm of each example, shape ``(batch,)``."""
        c, axes, largest = self._scaled(x)
        with np.errstate(over="ignore"):
            size = largest * TWO(c / axes)
        return size if x.dtype == object else array_namespace(x).astype(size, x.dtype)

    def duality_map(self, z: Array, /, *, ties: Ties = "average") -> Array:
        """The maximiser ``a^2 c / ||a c||_2`` of ``<v, z>``; there are no ties; 0 where z is 0."""
        c, axes, _ = self._scaled(z)
        return self._back(axes * TWO.duality_map(axes * c), z)

    def project_ball(self, y: Array, /, radius: Array | float) -> Array:
        """The closest point of the ball, to rounding, by the secular equation.

        Raises:
            NotExactError: an exact point is outside the ball; its projection has no closed form.

        """
        xp = array_namespace(y)
        inside = self(y) <= radius
        if y.dtype == object:
            if bool(xp.all(inside)):
                return y
            raise NotExactError(
                f"norm {self.name}: the projection of a point outside the ball is not of the form "
                "a + b sqrt(m); use floats"
            )
        c, axes, largest = self._scaled(y)
        r = (
            xp.zeros_like(largest) + in_float32(radius)
            if hasattr(radius, "dtype")
            else (xp.zeros_like(largest) + radius)
        )
        size = TWO(c / axes)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            ratio = xp.where(inside, xp.ones_like(r), r / largest / size)
        v = project_ellipsoid(c, axes, ratio[:, None])
        length = TWO(v / axes)
        v = v * (r / xp.where(length > 0, length, xp.ones_like(length)))[:, None]
        return xp.where(column(inside, y), y, self._back(v, y))

    def project_face(self, y: Array, direction: Array, /, radius: Array | float) -> Array:
        """The point of the ball that the direction exposes; for a zero direction, the projection.

        Raises:
            NotExactError: a direction is zero, and an exact point outside the ball.

        """
        xp = array_namespace(y, direction)
        nowhere = max_abs(direction) == 0
        face = self.duality_map(direction) * column(radius, y)
        if on_cpu(y) and not bool(xp.any(nowhere)):
            return face
        return xp.where(column(nowhere, y), self.project_ball(y, radius), face)

    def sample_ball(self, rng: np.random.Generator, shape: tuple[int, ...], /) -> np.ndarray:
        """Points uniform by volume in the unit ball: the image of uniform points of the l2 ball."""
        drawn = TWO.sample_ball(rng, shape).astype(np.float64)
        c = self._coordinates.into(drawn)
        found: np.ndarray = self._coordinates.back(c * self._axes(drawn), shape[1:])
        return found

    def _axes(self, x: Array) -> Array:
        axes = self._coordinates.axes(x)
        return 1 / axes if self._inverse else axes

    def _scaled(self, x: Array) -> tuple[Array, Array, Array]:
        """Coordinates of ``x / largest``, the axes, and ``largest``; halves widened to float32."""
        wide = in_float32(x)
        largest = max_abs(wide)
        if x.dtype == object:  # exact numbers have no range to leave
            return self._coordinates.into(x), self._axes(x), 1
        xp = array_namespace(wide)
        ones = xp.ones_like(largest)
        largest = xp.where((largest > 0) & xp.isfinite(largest), largest, ones)
        return self._coordinates.into(wide / column(largest, wide)), self._axes(wide), largest

    def _back(self, c: Array, x: Array) -> Array:
        found = self._coordinates.back(c, tuple(x.shape[1:]))
        return found if x.dtype == object else array_namespace(x).astype(found, x.dtype)


def ellipsoid(file: str) -> Ellipsoid:
    """The norm whose axes are in a file (:func:`onr_ellipsoids.files.read_ellipsoid`).

    Raises:
        OnrError: the file is missing or damaged, or its axes are no axes.

    Example:
        >>> np.savez(tmp_path / "mine.npz", axes=[1.0, 0.5])
        >>> ellipsoid(str(tmp_path / "mine.npz"))(np.array([[3.0, 2.0]]))
        array([5.])

    """
    path = Path(file).expanduser().absolute()
    names = f"ellipsoid:{path}", f"ellipsoid-dual:{path}"
    return Ellipsoid(*names, read_ellipsoid(path))


def ellipsoid_dual(file: str) -> Ellipsoid:
    """The dual of the norm whose axes are in a file.

    Example:
        >>> np.savez(tmp_path / "mine.npz", axes=[1.0, 0.5])
        >>> ellipsoid_dual(str(tmp_path / "mine.npz"))(np.array([[3.0, 8.0]]))
        array([5.])

    """
    return ellipsoid(file).dual


def frequency(power: str = "1") -> Ellipsoid:
    """The l2 norm of the cosine transform in which frequency f counts ``max(1, f)^power`` times.

    The dual of ``frequency:P`` is ``frequency:-P``. With a positive power the ball lies in the l2
    ball of the same radius, and touches it at low frequencies.

    Raises:
        OnrError: the power is no finite number.

    Example:
        >>> flat, checks = np.ones((1, 1, 4, 4)), np.indices((4, 4)).sum(axis=0) % 2 * 2.0 - 1
        >>> frequency()(flat), frequency()(checks[None, None]).round(2)
        (array([4.]), array([15.83]))

    """
    value = number(power)
    if not np.isfinite(value):
        raise OnrError(f"norm frequency:{power}: expected a finite power")
    return Ellipsoid(
        f"frequency:{written(value)}", f"frequency:{written(0 - value)}", Cosines(value)
    )
