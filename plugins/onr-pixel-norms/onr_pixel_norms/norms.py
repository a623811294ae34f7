"""The group norms ``sum_g ||x_g||_2`` and ``max_g ||x_g||_2`` over the pixels ``g`` of an image.

Both reduce to an lp norm of the vector of pixel lengths ``||x_g||_2``: a projection keeps each
pixel's colour direction and projects the lengths onto the l1 or linf ball.
"""

from __future__ import annotations

import math

import numpy as np
from array_api_compat import array_namespace

from onr.errors import OnrError
from onr.norms import BaseNorm, LpNorm
from onr.protocols import Array, Ties

__all__ = ["PixelMax", "PixelSum"]


def lengths(x: Array) -> Array:
    """The l2 norm of each pixel's colours: ``(batch, C, ...)`` to ``(batch, pixels)``."""
    if x.ndim < 3:
        raise OnrError(
            f"pixel norms take images (batch, channels, ...), got an array of shape "
            f"{tuple(x.shape)}: use them for --p"
        )
    xp = array_namespace(x)
    channels = x.reshape((x.shape[0], x.shape[1], -1))
    colours = xp.permute_dims(channels, (0, 2, 1)).reshape((-1, x.shape[1]))
    return LpNorm(2)(colours).reshape((x.shape[0], -1))


def spread(values: Array, x: Array) -> Array:
    """Reshape one number per pixel, ``(batch, pixels)``, to broadcast against ``x``."""
    return values.reshape((x.shape[0], 1, *x.shape[2:]))


def unit_colours(x: Array, size: Array) -> Array:
    """Each pixel's colours divided by their length ``size``; zero where the length is zero."""
    xp = array_namespace(x)
    largest = spread(xp.where(size == 0, xp.ones_like(size), size), x)
    return x / largest


class PixelSum(BaseNorm):
    """The norm ``sum over pixels of ||colours||_2``.

    Example:
        >>> x = np.zeros((1, 3, 2, 2))
        >>> x[0, :, 0, 0], x[0, :, 1, 1] = (3, 0, 4), (0, 2, 0)
        >>> PixelSum()(x)
        array([7.])

    """

    name = "pixel-sum"

    @property
    def dual(self) -> PixelMax:
        """The dual norm, the length of the longest pixel."""
        return PixelMax()

    def __call__(self, x: Array, /) -> Array:
        """The norm of each example, shape ``(batch,)``."""
        return LpNorm(1)(lengths(x))

    def duality_map(self, z: Array, /, *, ties: Ties = "average") -> Array:
        """The colour direction of the longest pixel; zero where ``z`` is zero.

        At ties the longest pixels share it equally (``average``), or the first one takes it
        (``vertex``).
        """
        size = lengths(z)
        return unit_colours(z, size) * spread(LpNorm(1).duality_map(size, ties=ties), z)

    def project_ball(self, y: Array, /, radius: Array | float) -> Array:
        """Shorten the pixels by projecting their lengths onto the l1 ball; exact."""
        xp = array_namespace(y)
        size = lengths(y)
        kept = unit_colours(y, size) * spread(LpNorm(1).project_ball(size, radius), y)
        inside = xp.sum(size, axis=1) <= radius
        return xp.where(inside.reshape((-1,) + (1,) * (y.ndim - 1)), y, kept)

    def project_face(self, y: Array, direction: Array, /, radius: Array | float) -> Array:
        """Keep the part of ``y`` along the longest pixels of ``direction``; exact.

        Where the direction is zero, this is the projection onto the ball.
        """
        xp = array_namespace(y, direction)
        size = lengths(direction)
        towards = unit_colours(direction, size)
        along = xp.sum((y * towards).reshape((y.shape[0], y.shape[1], -1)), axis=1)
        face = towards * spread(LpNorm(1).project_face(along, size, radius), y)
        nowhere = xp.max(size, axis=1) == 0
        stay = nowhere.reshape((-1,) + (1,) * (y.ndim - 1))
        return xp.where(stay, self.project_ball(y, radius), face)

    def sample_ball(self, rng: np.random.Generator, shape: tuple[int, ...], /) -> np.ndarray:
        """Draw points uniform by volume in the unit ball, float64.

        Pixel lengths are drawn with density ``r^(C-1) exp(-r)`` and scaled as those of the l1 ball.
        """
        directions, batch = _directions(rng, shape), shape[0]
        radii = rng.standard_gamma(shape[1], (batch, directions[0, 0].size))
        radii /= (radii.sum(axis=1) + rng.standard_exponential(batch))[:, None]
        return directions * radii.reshape(batch, 1, *shape[2:])


class PixelMax(BaseNorm):
    """The norm ``max over pixels of ||colours||_2``.

    Example:
        >>> x = np.zeros((1, 3, 2, 2))
        >>> x[0, :, 0, 0], x[0, :, 1, 1] = (3, 0, 4), (0, 2, 0)
        >>> PixelMax()(x)
        array([5.])

    """

    name = "pixel-max"

    @property
    def dual(self) -> PixelSum:
        """The dual norm, the sum of the pixel lengths."""
        return PixelSum()

    def __call__(self, x: Array, /) -> Array:
        """The norm of each example, shape ``(batch,)``."""
        return LpNorm(math.inf)(lengths(x))

    def duality_map(self, z: Array, /, *, ties: Ties = "average") -> Array:
        """Every pixel's colour direction; zero where ``z`` is zero.

        The colour direction of a black pixel is 0 (``average``) or the first channel (``vertex``).
        """
        xp = array_namespace(z)
        size = lengths(z)
        unit = unit_colours(z, size)
        if ties == "average":
            return unit
        first = xp.cumulative_sum(xp.ones_like(z), axis=1) == 1
        lit = (xp.max(size, axis=1) > 0).reshape((-1,) + (1,) * (z.ndim - 1))
        black = spread(size == 0, z) & lit
        return xp.where(black & first, xp.ones_like(unit), unit)

    def project_ball(self, y: Array, /, radius: Array | float) -> Array:
        """Shorten every pixel longer than ``radius`` to that length; exact."""
        xp = array_namespace(y)
        size = lengths(y)
        allowed = LpNorm(math.inf).project_ball(size, radius)
        return xp.where(spread(allowed == size, y), y, unit_colours(y, size) * spread(allowed, y))

    def project_face(self, y: Array, direction: Array, /, radius: Array | float) -> Array:
        """Give every pixel the length ``radius`` and the colour direction of ``direction``; exact.

        A pixel whose direction is zero is projected onto the ball instead.
        """
        xp = array_namespace(y, direction)
        size = lengths(direction)
        reach = xp.zeros_like(size) + _row(radius)
        face = unit_colours(direction, size) * spread(reach, y)
        return xp.where(spread(size == 0, y), self.project_ball(y, radius), face)

    def sample_ball(self, rng: np.random.Generator, shape: tuple[int, ...], /) -> np.ndarray:
        """Draw points uniform by volume in the unit ball, each pixel in its l2 ball; float64."""
        directions = _directions(rng, shape)
        radii = rng.random((shape[0], 1, *shape[2:])) ** (1 / shape[1])
        return directions * radii


def _row(radius: Array | float) -> Array | float:
    return radius if getattr(radius, "ndim", 0) == 0 else radius[:, None]  # type: ignore[index]  # an array by then


def _directions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A uniform colour direction for each pixel, shape ``(batch, C, ...)``."""
    if len(shape) < 3:
        raise OnrError(f"pixel norms take images (batch, channels, ...), got shape {shape}")
    directions = rng.standard_normal(shape)
    unit: np.ndarray = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return unit
