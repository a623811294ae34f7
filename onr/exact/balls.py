"""Real numbers as balls with a midpoint and a radius that bounds all rounding (flint's ``arb``).

Balls serve computations that leave ``a + b sqrt(m)``, such as p = 2 at a finite step size. A
comparison that the balls do not decide raises :class:`UndecidedError`, so that the core never takes
a branch on a guess; :func:`decided` repeats the work with more bits until every comparison is
decided.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import total_ordering
from typing import Any, TypeVar

import flint

from onr.errors import OnrError

__all__ = ["Ball", "UndecidedError", "decided"]

T = TypeVar("T")


class UndecidedError(OnrError):
    """Two balls overlap, so that the order of the numbers is unknown at this precision."""

    def __init__(self, one: Ball, other: flint.arb) -> None:
        super().__init__(
            f"{float(one):g} and {float(Ball(other)):g} are equal, or so close that "
            f"{flint.ctx.prec} bits do not tell them apart"
        )


def _arb(x: Any) -> flint.arb:
    if isinstance(x, Ball):
        return x.arb
    return flint.arb(flint.fmpq(x.numerator, x.denominator))


@total_ordering
class Ball:
    """A real number that is known to lie in a ball; arithmetic encloses the exact result.

    Comparisons raise :class:`UndecidedError` if the balls overlap.

    Args:
        numerator: a whole number or an ``arb``.
        denominator: the divisor of ``numerator``.

    Example:
        >>> root = Ball(2).sqrt()
        >>> root < Ball(3, 2), round(float(root), 6)
        (True, 1.414214)

    """

    __slots__ = ("arb",)

    def __init__(self, numerator: int | flint.arb, denominator: int = 1) -> None:
        self.arb = flint.arb(numerator) / denominator

    def __add__(self, other: Any) -> Ball:
        return Ball(self.arb + _arb(other))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Ball:
        return Ball(self.arb - _arb(other))

    def __rsub__(self, other: Any) -> Ball:
        return Ball(_arb(other) - self.arb)

    def __mul__(self, other: Any) -> Ball:
        return Ball(self.arb * _arb(other))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Ball:
        return Ball(self.arb / _arb(other))

    def __rtruediv__(self, other: Any) -> Ball:
        return Ball(_arb(other) / self.arb)

    def __neg__(self) -> Ball:
        return Ball(-self.arb)

    def __abs__(self) -> Ball:
        return Ball(abs(self.arb))

    def sqrt(self) -> Ball:
        """The ball that encloses the square root."""
        return Ball(self.arb.sqrt())

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        x = _arb(other)
        if not self.arb.overlaps(x):
            return False
        if self.arb == x:
            return True
        raise UndecidedError(self, x)

    def __lt__(self, other: Any) -> bool:
        x = _arb(other)
        if self.arb < x:
            return True
        if self.arb >= x:
            return False
        raise UndecidedError(self, x)

    __hash__ = None  # type: ignore[assignment]  # equality may be undecided

    def __float__(self) -> float:
        return float(self.arb.mid())


def decided(work: Callable[[], T], *, bits: int = 128, most: int = 8192) -> T:
    """Run ``work`` with more and more bits until every comparison in it is decided.

    Args:
        work: the computation; it must make its balls itself, at the current precision.
        bits: the first precision; each further attempt doubles it.
        most: the largest precision.

    Raises:
        UndecidedError: ``most`` bits do not decide a comparison, for example of equal numbers.

    Example:
        >>> decided(lambda: Ball(2).sqrt() < Ball(17, 12), bits=4)
        True

    """
    while True:
        try:
            with flint.ctx.workprec(bits):
                return work()
        except UndecidedError:
            bits *= 2
            if bits > most:
                raise
