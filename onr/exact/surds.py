"""Exact numbers for the core: rationals, and one square root at a time.

Arrays of ``dtype=object`` that hold the numbers below run through the same functions of the core as
floats do. A rational is a ``fractions.Fraction``, or python-flint's ``fmpq`` where speed is wanted.
A norm with exponent 2 needs a square root of a rational, and what the core then computes stays
``a + b sqrt(m)`` with rational ``a``, ``b``, ``m``: the duality map divides by the largest entry
first, which removes a square root before the next one is taken. Whatever would leave these numbers
raises :class:`NotExactError`; nothing is ever rounded.
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
"""``Fraction``, ``flint.fmpq`` or ``int``; the first two do not mix."""

FASTEST: type = Fraction
"""The type of rationals to prefer: ``flint.fmpq`` where python-flint is installed."""
with suppress(ModuleNotFoundError):
    FASTEST = importlib.import_module("flint").fmpq

RATIONAL: Any = Fraction | FASTEST | int
INEXACT = (float, int)
"""What a part of a :class:`Surd` must not be."""


class NotExactError(OnrError):
    """A result that is no rational and no ``a + b sqrt(m)``."""


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
    """The sign of an exact number."""
    return _sign_of_two(*_parts(x))


def _integer_root(value: int) -> int | None:
    root = math.isqrt(value)
    return root if root * root == value else None


def _rational_root(value: Rational) -> Rational | None:
    """The square root of a rational, if it is one."""
    top = _integer_root(int(value.numerator))
    bottom = _integer_root(int(value.denominator)) if top is not None else None
    return None if top is None or bottom is None else type(value)(top) / bottom


@total_ordering
class Surd:
    """``a + b sqrt(m)`` with rational ``a``, ``b != 0`` and ``m > 0``, which is no square.

    Two of them compare whatever their roots are. Their sum and product stay in this form where one
    root is a rational multiple of the other, and the product also where both have ``a = 0``.

    The parts are ``Fraction`` or ``fmpq``: a quotient of two ``int`` would be a float.

    Raises:
        NotExactError: the result has two roots, or a part is something else.

    """

    __slots__ = ("a", "b", "m")

    def __init__(self, a: Rational, b: Rational, m: Rational) -> None:
        if isinstance(a, INEXACT) or isinstance(b, INEXACT) or isinstance(m, INEXACT):
            raise NotExactError(f"{a!r} + {b!r} sqrt({m!r}): expected Fraction or fmpq")
        self.a, self.b, self.m = a, b, m

    def _shared(self, other: Any) -> tuple[Rational, Rational]:
        """The parts of the other in the root of this one."""
        a, b, m = _parts(other)
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
            return _number(self.a * other, self.b * other, self.m)
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
            return Surd(self.a / other, self.b / other, self.m)
        if self.a == 0 and other.a == 0 and self.m == other.m:
            return self.b / other.b
        return self * other._inverse()

    def __rtruediv__(self, other: Any) -> Any:
        return self._inverse() * other

    def __abs__(self) -> Any:
        return -self if sign(self) < 0 else self

    def _compare(self, other: Any) -> int:
        """The sign of the difference, ``a + b sqrt(m) - c sqrt(k)``."""
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
        """A rational that differs from it by less than one part in ``2^120``."""
        # The root is taken of a number scaled to about 1.
        a, square = _ratio(self.a), _ratio(self.b * self.b * self.m)
        scale = Fraction(2) ** (_exponent(square) // 2)
        root = Fraction(math.isqrt(int(square / scale**2 * 2**256))) * scale / 2**128
        root = root if self.b > 0 else -root
        # Where the two cancel it is (a^2 - b^2 m) / (a - b sqrt(m)), in which they do not.
        return a + root if a * root >= 0 else (a * a - square) / (a - root)

    def __float__(self) -> float:
        return float(self.near())

    def __repr__(self) -> str:
        return f"{self.a} + {self.b} sqrt({self.m})"


def _ratio(x: Rational) -> Fraction:
    return Fraction(int(x.numerator), int(x.denominator))


def _exponent(x: Fraction) -> int:
    """The exponent of a power of two within a factor of two of a positive ``x``."""
    return x.numerator.bit_length() - x.denominator.bit_length()


def _number(a: Rational, b: Rational, m: Rational) -> Any:
    return a if b == 0 else Surd(a, b, m)


def _root(value: Rational) -> Any:
    """``sqrt(value)`` of a rational ``value >= 0``."""
    if isinstance(value, int):
        value = Fraction(value)
    rational = _rational_root(value)
    return Surd(type(value)(0), type(value)(1), value) if rational is None else rational


def square_root(x: np.ndarray) -> np.ndarray:
    """The square root of every entry of an object array; an interval has its own.

    Raises:
        NotExactError: an entry is itself no rational.

    """

    def root(value: Any) -> Any:
        if isinstance(value, Surd):
            raise NotExactError("a square root of a number with a square root")
        if isinstance(value, RATIONAL):
            return _root(value)
        if isinstance(value, float):
            raise NotExactError("a float among exact numbers")
        return value.sqrt()

    return _each(root, x)


def _each(function: Callable[[Any], Any], x: np.ndarray) -> np.ndarray:
    result = np.empty(x.shape, dtype=object)
    result.reshape(-1)[:] = [function(value) for value in x.reshape(-1)]
    return result


def exact_array(x: np.ndarray, rational: Callable[..., Rational] = Fraction) -> np.ndarray:
    """Finite floats, or integers, as the rational numbers that they are; object array."""
    x = np.asarray(x)
    result = np.empty(x.shape, dtype=object)
    values = x.reshape(-1).tolist()  # NumPy's integers do not tell their ratio
    result.reshape(-1)[:] = [rational(*value.as_integer_ratio()) for value in values]
    return result


def float_array(x: np.ndarray) -> np.ndarray:
    """The nearest floats; a number that is not zero stays so."""

    def nearest(value: Any) -> float:
        found = float(value)
        return ((value > 0) - (value < 0)) * 5e-324 if found == 0 else found

    return _each(nearest, x).astype(float)


def below(value: Any, rational: Callable[..., Rational] = Fraction) -> Rational:
    """A rational of ten binary digits in ``(0, value]``, at least ``0.99 value``; for positives."""
    near = value.near() if isinstance(value, Surd) else _ratio(value)
    # Scaled to about 1: the number itself may be outside the range of floats.
    exponent = _exponent(near)
    mantissa, rest = math.frexp(float(near / Fraction(2) ** exponent))
    count, unit = math.floor(mantissa * 1024), rational(2) ** (exponent + rest - 10)
    return count * unit if count * unit <= value else (count - 1) * unit


def require_exact(x: np.ndarray) -> None:
    """Check that no float has slipped in.

    Raises:
        NotExactError: one has.

    """
    for value in x.reshape(-1):
        if not isinstance(value, Surd | RATIONAL):
            raise NotExactError(f"a {type(value).__name__} among exact numbers")
