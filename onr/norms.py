"""The lp norms, ``1 <= p <= inf``: values, duality maps, projections and sampling.

:class:`BaseNorm` is the base class for these norms and for the norms of plugins.
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, final

import numpy as np

from onr.arrays import (
    array_namespace,
    column,
    flatten,
    in_float32,
    is_half,
    max_abs,
    on_cpu,
    safe,
    sign,
    sqrt,
)
from onr.errors import NotAvailableError, OnrError
from onr.numerals import written
from onr.projections import project_lp_ball, project_simplex
from onr.protocols import Array, Norm, Ties

__all__ = ["BaseNorm", "LpNorm", "as_norm", "dual_exponent"]

CUBE = 1e8
"""No smaller exponent has a ball that is the cube up to rounding, in any float type."""


class BaseNorm(ABC):
    """Base class of norms: a subclass defines the norm, its dual, duality map and projections.

    The gradient, a projection onto the sphere for points outside the ball, and the errors for what
    a norm lacks are inherited.

    Example:
        >>> norm = LpNorm(1)
        >>> isinstance(norm, BaseNorm), norm.gradient(np.array([[3.0, -2.0]]))
        (True, array([[ 1., -1.]]))

    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The name that resolves to this norm."""

    @property
    @abstractmethod
    def dual(self) -> Norm:
        """The dual norm."""

    @property
    def euclidean(self) -> bool:
        """True if the norm is that of an inner product; false if a subclass says nothing."""
        return False

    @property
    def monotone(self) -> bool:
        """True if entries that shrink never lengthen an example; true if not said otherwise."""
        return True

    @abstractmethod
    def __call__(self, x: Array, /) -> Array:
        """The norm of each example, shape ``(batch,)``."""

    @abstractmethod
    def duality_map(self, z: Array, /, *, ties: Ties = "average") -> Array:
        """A maximiser of ``<v, z>`` over the unit ball (Lemma 1); zero where ``z`` is zero."""

    @abstractmethod
    def project_ball(self, y: Array, /, radius: Array | float) -> Array:
        """The closest point (in l2) of the ball of this radius about zero."""

    @abstractmethod
    def project_face(self, y: Array, direction: Array, /, radius: Array | float) -> Array:
        """The closest point of the face of the ball that ``direction`` exposes."""

    def project_sphere(self, y: Array, /, radius: Array | float) -> Array:
        """A closest point of the sphere: for points outside the ball, the ball projection.

        Raises:
            NotAvailableError: an example lies inside the ball; this norm has no algorithm for it.

        """
        xp = array_namespace(y)
        slack = 0 if y.dtype == object else 100 * xp.finfo(y.dtype).eps
        if bool(xp.any(self(y) < radius * (1 - slack))):
            raise NotAvailableError(
                f"no projection onto the sphere of norm {self.name} from inside it: use a larger "
                "alpha, or alpha = inf"
            )
        return self.project_ball(y, radius)

    def sample_ball(self, rng: np.random.Generator, shape: tuple[int, ...], /) -> np.ndarray:
        """Points drawn uniformly by volume from the unit ball.

        Raises:
            NotAvailableError: this norm has no sampler.

        """
        raise NotAvailableError(f"norm {self.name} has no uniform sampler for its ball")

    @final
    def gradient(self, x: Array, /) -> Array:
        """A subgradient of the norm: the duality map of the dual norm (Eqs. 10, 28, 29)."""
        return self.dual.duality_map(x)

    def __repr__(self) -> str:
        """``<norm NAME>``, with the name that resolves to this norm."""
        return f"<norm {self.name}>"


def dual_exponent(p: float) -> float:
    """The Hoelder conjugate ``p*`` with ``1/p + 1/p* = 1``.

    Example:
        >>> dual_exponent(1), dual_exponent(2), dual_exponent(3)
        (inf, 2.0, 1.5)

    """
    if p == 1:
        return math.inf
    return 1.0 if p == math.inf else p / (p - 1)


def _full_range(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method of a norm overflow in silence, and compute in float32 for arrays of fewer bits.

    The result has the float type of the array.
    """

    @wraps(method)
    def ranged(self: Any, x: Array, /, *others: Any, **options: Any) -> Array:
        half = is_half(x)
        with np.errstate(over="ignore", invalid="ignore"):
            if not half:
                return method(self, x, *others, **options)
            others = tuple(in_float32(o) if hasattr(o, "dtype") else o for o in others)
            found = method(self, in_float32(x), *others, **options)
            return array_namespace(x).astype(found, x.dtype)

    return ranged


@final
class LpNorm(BaseNorm):
    """``||x||_p = (sum |x_i|^p)^(1/p)``, for every real ``p >= 1`` and ``inf``.

    Every method divides by the largest magnitude before it takes a power, so that magnitudes from
    the smallest subnormal number to the largest number of the float type neither underflow nor
    overflow. Only a norm that is itself too large for the float type is ``inf``. Arrays of fewer
    than 32 bits are computed in float32, and the result is rounded; arrays of integers are refused.

    Raises:
        OnrError: ``p`` is no number, nan, or below 1, where the triangle inequality fails.

    Example:
        >>> norm, x = LpNorm(math.inf), np.array([[3.0, -4.0]])
        >>> norm(x), norm.dual(x), norm.duality_map(x)
        (array([4.]), array([7.]), array([[ 1., -1.]]))
        >>> LpNorm(2).project_ball(x, 1.0)
        array([[ 0.6, -0.8]])

    """

    def __init__(self, p: float) -> None:
        given: Any = p  # a Fraction is a number too, and float() would read a text
        known = isinstance(given, numbers.Real) and bool(given >= 1)  # type: ignore[operator]
        if not known:
            raise OnrError(f"p = {p} gives no norm: expected a number >= 1, or inf")
        try:
            self.p = float(given)
        except OverflowError:
            raise OnrError("p is too large for a number: expected at most 1e308, or inf") from None

    @property
    def name(self) -> str:
        """The exponent as text, such as ``2``, ``1.5`` or ``inf``."""
        return written(self.p)

    @property
    def dual(self) -> LpNorm:
        """The norm with the Hoelder conjugate exponent."""
        return LpNorm(dual_exponent(self.p))

    @property
    def euclidean(self) -> bool:
        """True for ``p = 2`` alone."""
        return self.p == 2

    @_full_range
    def __call__(self, x: Array, /) -> Array:
        """``||x||_p`` of each example, shape ``(batch,)``."""
        xp = array_namespace(x)
        if self.p == math.inf:
            return max_abs(x)
        lengths, fits = _lengths(x) if self.p == 2 else (None, None)
        if lengths is not None and fits is None:
            return lengths
        a = xp.abs(flatten(x))
        if self.p == 1:
            return xp.sum(a, axis=1)
        largest = xp.max(a, axis=1)
        scaled = a / _divisor(largest)[:, None]
        if self.p == 2:
            careful = largest * sqrt(xp.sum(scaled * scaled, axis=1))
            return careful if fits is None else xp.where(fits, lengths, careful)
        return largest * xp.sum(scaled**self.p, axis=1) ** (1 / self.p)

    @_full_range
    def duality_map(self, z: Array, /, *, ties: Ties = "average") -> Array:
        """``argmax <v, z>`` over ``||v||_p <= 1`` (Lemma 1, Eqs. 16, 34, 35), shaped as ``z``.

        Where ``z = 0`` the result is 0. For ``1 < p < inf`` the maximiser is unique. For ``p = 1``
        there is a tie if several entries have the largest magnitude, for ``p = inf`` if an entry is
        zero. At ties, ``average`` takes the paper's choice, the mean of the maximisers; ``vertex``
        takes the first of the largest entries (``p = 1``) or sign(0) = +1 (``p = inf``).
        """
        xp = array_namespace(z)
        if self.p == math.inf and ties == "average":
            return sign(z)
        if self.p == 2:
            lengths, fits = _lengths(z)
            if lengths is not None and fits is None:
                return z / column(lengths, z)
            unit = z / safe(column(max_abs(z), z))
            careful = unit / safe(column(sqrt(xp.sum(flatten(unit * unit), axis=1)), z))
            if fits is None:
                return careful
            return xp.where(column(fits, z), z / column(lengths, z), careful)
        a = xp.abs(z)
        largest = column(xp.max(flatten(a), axis=1), z)
        if self.p == math.inf:
            return xp.where(z < 0, -xp.ones_like(z), xp.ones_like(z)) * (largest > 0)
        if self.p == 1:
            tied = a == largest
            if ties == "vertex":
                tied = _first(tied)
            count = xp.count_nonzero(flatten(tied), axis=1)
            # NaN ties with no entry: largest * 0 is NaN for an example that has one.
            share = z / safe(largest) / column(xp.astype(count, z.dtype), z)
            return xp.where(tied, share, largest * 0)
        exponent = dual_exponent(self.p) - 1
        # A power below 1 does not overflow. Scaling could make small entries underflow to zero.
        powers = (a if exponent < 1 else a / safe(largest)) ** exponent
        return xp.sign(z) * powers / safe(column(self(powers), z))

    @_full_range
    def project_ball(self, y: Array, /, radius: Array | float) -> Array:
        """The closest point (in l2) of ``{||v||_p <= radius}``; points inside are unchanged.

        The projection clips for ``p = inf``, scales for ``p = 2`` and sorts for ``p = 1``. Other
        ``p`` solve the optimality conditions up to rounding.
        """
        xp = array_namespace(y)
        r = column(radius, y)
        if self.p == math.inf or (self.p > CUBE and self.p * xp.finfo(y.dtype).eps > 100):
            clipped: Array = y.clip(-r, r)
            return clipped
        if self.p == 2:
            lengths, fits = _lengths(y)
            plain = None
            if lengths is not None:
                size = column(lengths, y)
                factor = xp.where(size > r, r / size, xp.ones_like(size))
                plain = factor >= xp.finfo(y.dtype).smallest_normal
                if fits is not None:
                    plain = plain & column(fits, y)
                if bool(xp.all(plain)):
                    return y * factor
            # In two factors: r / size alone can underflow, and size overflow.
            largest = column(max_abs(y), y)
            unit = y / safe(largest)
            root = column(sqrt(xp.sum(flatten(unit * unit), axis=1)), y)
            careful = xp.where(largest * root > r, unit * (r / safe(root)), y)
            return careful if plain is None else xp.where(plain, y * factor, careful)
        size = column(self(y), y)
        flat, row = flatten(y), flatten(size)
        r = flatten(xp.zeros_like(size) + r)
        a = xp.abs(flat)
        if self.p == 1:
            projected = project_simplex(a, r)
        else:
            # Beyond a quotient of eps^-2 the projection is that of the direction, up to rounding.
            far = xp.max(a, axis=1, keepdims=True) * xp.finfo(y.dtype).eps ** 2
            # Rows inside the ball get a radius that puts them outside; their result is unused.
            scale = safe(xp.where(row > r, xp.maximum(r, far), row))
            w = a / scale * xp.where(row > r, xp.ones_like(row), xp.ones_like(row) * 2)
            projected = xp.where(r > 0, project_lp_ball(w, self.p) * r, xp.zeros_like(a))
        return xp.where(row > r, xp.sign(flat) * projected, flat).reshape(y.shape)

    @_full_range
    def project_face(self, y: Array, direction: Array, /, radius: Array | float) -> Array:
        """``lim project_ball(y + alpha direction, radius)``, ``alpha -> inf`` (Lemma 2, Eq. 45).

        This is the projection onto the face of the ball that ``direction`` exposes. If the face is
        a point, the result is the duality map times the radius. Otherwise the result keeps
        the coordinates of ``y`` where the direction is zero (``p = inf``), or the differences among
        tied entries (``p = 1``). If the direction is zero, the face is the whole ball.
        """
        xp = array_namespace(y, direction)
        r = column(radius, y)
        if self.p == math.inf:
            return xp.where(direction == 0, self.project_ball(y, radius), xp.sign(direction) * r)
        size = column(max_abs(direction), y)
        if self.p == 1:
            signs = flatten(xp.sign(direction))
            tied = flatten(xp.abs(direction) == size)
            row = flatten(xp.zeros_like(size) + r)
            along = flatten(y) * signs
            best = xp.max(xp.where(tied, along, xp.min(along, axis=1, keepdims=True)), axis=1)
            # Entries off the face get a value below the threshold, which is at least -radius.
            weights = project_simplex(xp.where(tied, along - best[:, None], -row), row)
            face = (signs * xp.where(tied, weights, xp.zeros_like(weights))).reshape(y.shape)
        else:
            face = self.duality_map(direction) * r
        return xp.where(size == 0, self.project_ball(y, radius), face)

    @_full_range
    def project_sphere(self, y: Array, /, radius: Array | float) -> Array:
        """A closest point (in l2) of ``{||v||_p = radius}``, which Eqs. 9 and 11 need.

        For a point outside the ball this is the ball projection. For a point inside, ``p = inf``
        moves the first entry of largest magnitude outward, ``p = 1`` moves all entries outward by
        the same amount, and ``p = 2`` scales. Zero entries count as positive; for ``p = 2`` the
        zero vector goes to the first axis.

        Raises:
            NotAvailableError: a point lies inside the ball and ``p`` is not 1, 2 or inf.

        """
        xp = array_namespace(y)
        if self.p not in (1, 2, math.inf):
            return super().project_sphere(y, radius)
        flat = flatten(y)
        row = xp.zeros_like(flat[:, :1]) + column(radius, flat)
        size = self(y)[:, None]
        signs = xp.where(flat < 0, -xp.ones_like(flat), xp.ones_like(flat))
        a = xp.abs(flat)
        largest = xp.max(a, axis=1, keepdims=True)
        first = _first(a == largest)
        if self.p == math.inf:
            inside = xp.where(first, signs * row, flat)
        elif self.p == 1:
            inside = flat + signs * (row - size) / flat.shape[1]
        else:
            unit = flat / safe(largest)
            scaled = unit * (row / safe(self(unit)[:, None]))
            inside = xp.where(size == 0, xp.where(first, row, a), scaled)
        outside = flatten(self.project_ball(y, radius))
        return xp.where(size >= row, outside, inside).reshape(y.shape)

    def sample_ball(self, rng: np.random.Generator, shape: tuple[int, ...], /) -> np.ndarray:
        """Points drawn uniformly by volume from the unit ball, ``shape = (batch, ...)``, float32.

        The sample is ``g / (sum |g_i|^p + z)^(1/p)``, where ``g_i`` has density proportional to
        ``exp(-|t|^p)`` and ``z`` is exponential (Barthe et al., "A probabilistic approach to the
        geometry of the l_p^n-ball", 2005). Here ``g_i`` is normal for ``p = 2``, and else has a
        random sign and ``|g_i| = G^(1/p) U``, with ``G`` from Gamma(1 + 1/p) and ``U`` uniform. For
        ``p = inf`` the entries are uniform in [-1, 1]. A point is in the ball up to rounding.
        """
        batch, entries = shape[0], (shape[0], math.prod(shape[1:]))
        if self.p == math.inf:
            drawn = rng.random(entries, dtype=np.float32)
            drawn *= 2
            drawn -= 1
            return drawn.reshape(shape)
        if self.p == 2:
            drawn = rng.standard_normal(entries, dtype=np.float32)
            drawn *= math.sqrt(0.5)
            mass = np.sum(np.square(drawn), axis=1, dtype=np.float64)
        else:
            signs = rng.integers(0, 2, entries, dtype=np.int8)
            signs += signs  # in place, as below: a new large array would cost as much as the sum
            signs -= 1
            if self.p == 1:
                drawn = rng.standard_exponential(entries, dtype=np.float32)
            else:
                drawn = rng.standard_gamma(1 + 1 / self.p, entries, dtype=np.float32)
                drawn **= 1 / self.p
                drawn *= rng.random(entries, dtype=np.float32)
            mass = np.sum(drawn**self.p, axis=1, dtype=np.float64)
            drawn *= signs
        mass += rng.standard_exponential(batch)
        drawn /= (mass ** (1 / self.p)).astype(np.float32)[:, None]
        return drawn.reshape(shape)


def _lengths(x: Array) -> tuple[Array | None, Array | None]:
    """The l2 norms from plain squares, where these neither overflow nor underflow.

    They take half the passes over memory. To look where they fit would wait for another device
    than the CPU.

    Returns:
        The lengths, 1 where the squares do not fit, or ``None`` if they were not tried; and where
        they fit, or ``None`` if they do at all examples. What fits depends on the example alone.

    """
    if x.dtype == object or not on_cpu(x) or not len(x):
        return None, None
    xp = array_namespace(x)
    squares = xp.sum(x * x, axis=tuple(range(1, x.ndim)))  # to flatten may take a copy
    known = xp.finfo(x.dtype)
    # Above this sum, entries whose squares underflow weigh less than its rounding.
    least = known.smallest_normal / known.eps * math.prod(x.shape[1:])
    if least < float(xp.min(squares)) and float(xp.max(squares)) < math.inf:
        return sqrt(squares), None
    fits = (least < squares) & (squares < math.inf)
    return sqrt(xp.where(fits, squares, xp.ones_like(squares))), fits


def _divisor(largest: Array) -> Array:
    """The largest magnitudes with 1 in place of zeros and infinities, by which one can divide."""
    if largest.dtype == object:
        return safe(largest)
    xp = array_namespace(largest)
    return xp.where((largest > 0) & xp.isfinite(largest), largest, xp.ones_like(largest))


def _first(mask: Array) -> Array:
    """The mask with only the first true entry of each example kept."""
    xp = array_namespace(mask)
    flat = flatten(mask)
    rank = xp.cumulative_sum(xp.astype(flat, xp.int32), axis=1)
    return (flat & (rank == 1)).reshape(mask.shape)


def as_norm(norm: Norm | float) -> Norm:
    """Return a norm unchanged, and the lp norm for a number (``math.inf`` included).

    Raises:
        OnrError: ``norm`` is neither a norm nor a number, or is a number below 1.

    Example:
        >>> as_norm(2), as_norm(LpNorm(math.inf))
        (<norm 2>, <norm inf>)

    """
    if isinstance(norm, numbers.Real) and not isinstance(norm, bool):
        return LpNorm(norm)  # type: ignore[arg-type]  # a Real that LpNorm converts
    if isinstance(norm, bool | type) or not callable(norm):
        raise OnrError(
            f"p or q = {norm!r}: expected a number, as 2 or math.inf, or a norm, which "
            "onr.norm gives by its name"
        )
    return norm


# What the registered names 1, 2 and inf load.
l1 = partial(LpNorm, 1.0)
l2 = partial(LpNorm, 2.0)
linf = partial(LpNorm, math.inf)
