"""The ball that a rule trains for, and what a rule does in it: noise, a step, a projection.

The rules were written for ``p = inf``. What they do there has a counterpart in ``p = 2``: the sign
of a gradient becomes its duality map, the gradient divided by its l2 norm; uniform noise in the
cube becomes uniform noise in the ball; clipping becomes the projection onto the ball.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

import onr
from onr.arrays import like, on_cpu
from onr.errors import OnrError
from onr.feasible import boxed, require_inside
from onr.norms import LpNorm
from onr.protocols import Array, NormLike
from onr.typing import Rng

__all__ = ["Ball", "ball", "clipped", "require", "require_pixels"]

PIXELS = (0.0, 1.0)
USUAL_EPS = {math.inf: 8 / 255, 2.0: 0.5}
"""The usual radii in the literature for pixels in [0, 1]."""


@dataclass(frozen=True)
class Ball:
    """The perturbations of lp norm at most ``eps``, for ``p`` 2 or inf.

    Example:
        >>> Ball(LpNorm(math.inf), 0.1).settings
        {'p': 'inf', 'eps': 0.1}

    """

    norm: LpNorm
    eps: float

    @property
    def settings(self) -> dict[str, str | float]:
        """The norm by name, and the radius."""
        return {"p": self.norm.name, "eps": self.eps}

    def noise(self, x: Array, size: float, /, *, rng: Rng) -> Array:
        """``x`` moved by noise that is uniform in the ball of radius ``size eps``, in [0, 1]."""
        drawn = like(self.norm.sample_ball(rng, tuple(x.shape)), x)
        return clipped(x, size * self.eps * drawn)

    def signs(self, x: Array, size: float, /, *, rng: Rng) -> Array:
        """``x`` moved by ``+- size eps`` in every pixel for ``p = inf``, in [0, 1].

        For ``p = 2`` this is :meth:`noise`: no ball has corners there.
        """
        if self.norm.p < math.inf:
            return self.noise(x, size, rng=rng)
        drawn = rng.integers(0, 2, tuple(x.shape), dtype=np.int8)
        return clipped(x, size * self.eps * (2 * like(drawn, x) - 1))

    def step(self, gradient: Array, length: float, /) -> Array:
        """A step of this length along the duality map of the gradient; zero where that is zero."""
        return length * self.norm.duality_map(gradient)

    def project(self, x: Array, delta: Array, /) -> Array:
        """``x`` plus the projection of ``delta`` onto the ball, in [0, 1]."""
        return clipped(x, self.norm.project_ball(delta, self.eps))


def clipped(x: Array, delta: Array) -> Array:
    """``x + delta``, in [0, 1].

    Example:
        >>> clipped(np.array([[0.5, 0.9]]), np.array([[0.25, 0.25]]))
        array([[0.75, 1.  ]])

    """
    return boxed(x, delta, PIXELS)


def ball(method: str, p: NormLike, eps: float | None) -> Ball:
    """The ball of a method.

    Args:
        method: the name of the method, for messages.
        p: the norm, 2 or inf.
        eps: the radius, pixels in [0, 1]; 0.5 or 8/255 for p = 2 or inf if not given.

    Raises:
        OnrError: the norm is another one, or the radius is not a positive finite number.

    Example:
        >>> ball("gat", "inf", None).eps == 8 / 255
        True

    """
    norm = onr.norm(p)
    if not isinstance(norm, LpNorm) or norm.p not in USUAL_EPS:
        raise OnrError(f"method {method}, p = {norm.name}: expected 2 or inf")
    radius = USUAL_EPS[norm.p] if eps is None else eps
    return Ball(norm, require(method, "eps", radius, above=0))


def require(method: str, name: str, value: float, /, *, above: float | None = None) -> float:
    """Return a finite number that is at least 0, or above a bound.

    Raises:
        OnrError: the number is not.

    Example:
        >>> require("gat", "lam", 0.0)
        0.0

    """
    if above is None and not 0 <= value < math.inf:
        raise OnrError(f"method {method}, {name} = {value:g}: expected a finite number >= 0")
    if above is not None and not above < value < math.inf:
        raise OnrError(f"method {method}, {name} = {value:g}: expected a finite number > {above:g}")
    return value


def require_pixels(x: Array) -> None:
    """Check on the CPU that pixels lie in [0, 1]; on another device the look would wait for it.

    Raises:
        OnrError: a pixel is outside, or nan.

    Example:
        >>> require_pixels(np.array([[0.0, 1.0]]))

    """
    if on_cpu(x):
        require_inside(x, PIXELS)
