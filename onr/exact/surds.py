"""Exact numbers for the core: rationals, and one square root at a time.

The functions of the core also run on arrays of ``dtype=object`` that hold these numbers. A rational
is a ``fractions.Fraction``, or python-flint's ``fmpq``, which is faster. A norm with exponent 2
needs the square root of a rational. The results of the core then have the form ``a + b sqrt(m)``
with rational ``a``, ``b``, ``m``, because the duality map divides by the largest entry first, which
removes a square root before the next one is taken. A result of another form raises
:class:`NotExactError`; nothing is ever rounded.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from functools import total_ordering
from typing import Any, TypeAlias

import numpy as np

from onr.errors import OnrError

__all__ = [
    "FASTEST",
    "RATIONAL",
    "NotExactError",
    "Rational",
    "Surd",
    "below",
    "exact_array",
    "float_array",
    "require_exact",
    "sign",
    "square_root",
]

Rational: TypeAlias = Any
"""``Fraction``, ``flint.fmpq`` or ``int``; ``Fraction`` and ``fmpq`` do not mix."""

FASTEST: type = Fraction
"""The preferred type of rationals: ``flint.fmpq`` if python-flint is installed."""
with suppress(ModuleNotFoundError):
    FASTEST = importlib.import_module("flint").fmpq

RATIONAL: Any = Fraction | FASTEST | int
"""The types of rationals, for ``isinstance``."""
INEXACT = (float, int)
"""Types that the parts of a :class:`Surd` must not have."""


class NotExactError(OnrError):
    """A result is neither rational nor of the form ``a + b sqrt(m)``, or an input is not exact."""


def _no_float(x: Any) -> Any:
    if isinstance(x, float):
        raise NotExactError("a float among exact numbers")
    return x


def _parts(x: Any) -> tuple[Rational, Rational, Rational]:
    return (x.a, x.b, x.m) if isinstance(x, Surd) else (x, 0, 0)


def _sign(x: Rational) -> int:
    top = x.numerator
    return int(top > 0) - int(top < 0)


def _sign_of_two(a: Rational, b: Rational, m: Rational) -> int:
    """The sign of ``a + b sqrt(m)``."""
    left, right = _sign(a), _sign(b) * _sign(m)
    if left * right >= 0:
        return left or right
    return left * _sign(a * a - b * b * m)


def sign(x: Any) -> int:
    """The sign of an exact number: -1, 0 or 1.

    Example:
        >>> sign(Fraction(-1, 3)), sign(Surd(Fraction(-1), Fraction(1), Fraction(2)))
        (-1, 1)

    """
    return _sign_of_two(*_parts(x))


def _integer_root(value: int) -> int | None:
    root = math.isqrt(value)
    return root if root * root == value else None


def _rational_root(value: Rational) -> Rational | None:
    """The square root of a rational if the root is rational, or else ``None``."""
    top = _integer_root(int(value.numerator))
    bottom = _integer_root(int(value.denominator)) if top is not None else None
    return None if top is None or bottom is None else type(value)(top) / bottom


@total_ordering
class Surd:
    """``a + b sqrt(m)`` with rational ``a``, ``b != 0`` and ``m > 0``, where ``m`` is no square.

    Any two of these numbers can be compared. Their sum and product have this form if one root is a
    rational multiple of the other. The product also has this form if both have ``a = 0``.

    The parts are ``Fraction`` or ``fmpq``, because a quotient of two ``int`` would be a float.

    Raises:
        NotExactError: a result would have two roots, an operand is a ``float``, or a part is an
            ``int`` or a ``float``.

    Example:
        >>> root = Surd(Fraction(0), Fraction(1), Fraction(2))
        >>> root * root, 1 + root, root > Fraction(7, 5)
        (Fraction(2, 1), 1 + 1 sqrt(2), True)

    """

    __slots__ = ("a", "b", "m")

    def __init__(self, a: Rational, b: Rational, m: Rational) -> None:
        if isinstance(a, INEXACT) or isinstance(b, INEXACT) or isinstance(m, INEXACT):
            raise NotExactError(f"{a!r} + {b!r} sqrt({m!r}): expected Fraction or fmpq")
        self.a, self.b, self.m = a, b, m

    def _shared(self, other: Any) -> tuple[Rational, Rational]:
        """The ``a`` and ``b`` of ``other``, written with the root of ``self``."""
        a, b, m = _parts(_no_float(other))
        if not isinstance(other, Surd) or m is self.m or m == self.m:
            return a, b
        ratio = _rational_root(m / self.m)
        if ratio is None:
            raise NotExactError("a sum or product of two different square roots")
        return a, b * ratio

    def __add__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return NotImplemented
        a, b = self._shared(other)
        return _number(self.a + a, self.b + b, self.m)

    __radd__ = __add__

    def __neg__(self) -> Any:
        return Surd(-self.a, -self.b, self.m)

    def __sub__(self, other: Any) -> Any:
        return self + -other

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return NotImplemented
        if not isinstance(other, Surd):
            return _number(self.a * _no_float(other), self.b * other, self.m)
        if self.a == 0 and other.a == 0:
            factor = self.b * other.b
            return factor * self.m if self.m == other.m else factor * _root(self.m * other.m)
        a, b = self._shared(other)
        return _number(self.a * a + self.b * b * self.m, self.a * b + self.b * a, self.m)

    __rmul__ = __mul__

    def _inverse(self) -> Any:
        if self.a == 0:
            return Surd(self.a, 1 / (self.b * self.m), self.m)
        norm = self.a * self.a - self.b * self.b * self.m
        return Surd(self.a / norm, -self.b / norm, self.m)

    def __truediv__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return NotImplemented
        if not isinstance(other, Surd):
            return Surd(self.a / _no_float(other), self.b / other, self.m)
        if self.a == 0 and other.a == 0 and self.m == other.m:
            return self.b / other.b
        return self * other._inverse()

    def __rtruediv__(self, other: Any) -> Any:
        return self._inverse() * other

    def __abs__(self) -> Any:
        return -self if sign(self) < 0 else self

    def _compare(self, other: Any) -> int:
        """The sign of ``self - other``, which has the form ``a + b sqrt(m) - d sqrt(k)``."""
        c, d, k = _parts(other)
        if d == 0 or k is self.m or k == self.m:
            return _sign_of_two(self.a - c, self.b - d, self.m)
        left, right = _sign_of_two(self.a - c, self.b, self.m), -_sign(d)
        if left * right >= 0:
            return left or right
        a, b = self.a - c, self.b
        return left * _sign_of_two(a * a + b * b * self.m - d * d * k, 2 * a * b, self.m)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, np.ndarray):
            return NotImplemented
        return isinstance(other, Surd | RATIONAL) and self._compare(other) == 0

    def __lt__(self, other: Any) -> bool:
        if isinstance(other, np.ndarray):
            return NotImplemented
        if isinstance(other, float):
            if not math.isfinite(other):
                return other == math.inf
            other = type(self.m)(*other.as_integer_ratio())
        return self._compare(other) < 0

    __hash__ = None  # type: ignore[assignment]  # equal numbers may have different roots

    def near(self) -> Fraction:
        """A rational number within a relative distance of ``2^-120``."""
        # Scale to about 1 before the integer root, for the same precision at every magnitude.
        a, square = _ratio(self.a), _ratio(self.b * self.b * self.m)
        scale = Fraction(2) ** (_exponent(square) // 2)
        root = Fraction(math.isqrt(int(square / scale**2 * 2**256))) * scale / 2**128
        root = root if self.b > 0 else -root
        # If a and the root cancel, use (a^2 - b^2 m) / (a - b sqrt(m)), where nothing cancels.
        return a + root if a * root >= 0 else (a * a - square) / (a - root)

    def __float__(self) -> float:
        return float(self.near())

    def __repr__(self) -> str:
        return f"{self.a} + {self.b} sqrt({self.m})"


def _ratio(x: Rational) -> Fraction:
    return Fraction(int(x.numerator), int(x.denominator))


def _exponent(x: Fraction) -> int:
    """The exponent of a power of two that is within a factor of two of ``x > 0``."""
    return x.numerator.bit_length() - x.denominator.bit_length()


def _number(a: Rational, b: Rational, m: Rational) -> Any:
    return a if b == 0 else Surd(a, b, m)


def _root(value: Rational) -> Any:
    """The square root of a rational ``value >= 0``: a rational or a :class:`Surd`."""
    if isinstance(value, int):
        value = Fraction(value)
    rational = _rational_root(value)
    return Surd(type(value)(0), type(value)(1), value) if rational is None else rational


def square_root(x: np.ndarray) -> np.ndarray:
    """The square root of every entry of an object array; balls use their own ``sqrt``.

    Raises:
        NotExactError: an entry is a :class:`Surd` or a float.

    Example:
        >>> square_root(exact_array(np.array([4.0, 2.0])))
        array([Fraction(2, 1), 0 + 1 sqrt(2)], dtype=object)

    """

    def root(value: Any) -> Any:
        if isinstance(value, Surd):
            raise NotExactError("a square root of a number with a square root")
        if isinstance(value, RATIONAL):
            return _root(value)
        return _no_float(value).sqrt()

    return _each(root, x)


def _each(function: Callable[[Any], Any], x: np.ndarray) -> np.ndarray:
    result = np.empty(x.shape, dtype=object)
    result.reshape(-1)[:] = [function(value) for value in x.reshape(-1)]
    return result


def exact_array(x: np.ndarray, rational: Callable[..., Rational] = Fraction) -> np.ndarray:
    """Convert finite floats or integers to equal rational numbers, in an object array.

    Example:
        >>> exact_array(np.array([0.5, 3.0]))
        array([Fraction(1, 2), Fraction(3, 1)], dtype=object)

    """
    x = np.asarray(x)
    result = np.empty(x.shape, dtype=object)
    values = x.reshape(-1).tolist()  # NumPy's integers have no as_integer_ratio
    result.reshape(-1)[:] = [rational(*value.as_integer_ratio()) for value in values]
    return result


def float_array(x: np.ndarray) -> np.ndarray:
    """Convert exact numbers to the nearest floats; a number other than zero never becomes zero.

    Example:
        >>> float_array(np.array([Fraction(1, 4), Fraction(1, 10**400)]))
        array([2.5e-001, 4.9e-324])

    """

    def nearest(value: Any) -> float:
        found = float(value)
        return ((value > 0) - (value < 0)) * 5e-324 if found == 0 else found

    return _each(nearest, x).astype(float)


def below(value: Any, rational: Callable[..., Rational] = Fraction) -> Rational:
    """A rational with ten binary digits in ``[0.99 value, value]``, for ``value > 0``.

    Example:
        >>> below(Fraction(1, 3))
        Fraction(341, 1024)

    """
    near = value.near() if isinstance(value, Surd) else _ratio(value)
    # Scale to about 1, because the number itself may be outside the range of floats.
    exponent = _exponent(near)
    mantissa, rest = math.frexp(float(near / Fraction(2) ** exponent))
    count, unit = math.floor(mantissa * 1024), rational(2) ** (exponent + rest - 10)
    return count * unit if count * unit <= value else (count - 1) * unit


def require_exact(x: np.ndarray) -> None:
    """Check that every entry is exact.

    Raises:
        NotExactError: an entry is neither a rational nor a :class:`Surd`.

    Example:
        >>> require_exact(exact_array(np.array([0.5, 3.0])))

    """
    for value in x.reshape(-1):
        if not isinstance(value, Surd | RATIONAL):
            raise NotExactError(f"a {type(value).__name__} among exact numbers")
