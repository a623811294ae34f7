"""Numbers as users write them, ``0.5``, ``8/255``, ``inf``, and as they read them."""

from __future__ import annotations

import math
from fractions import Fraction
from numbers import Integral
from typing import Any

from onr.errors import OnrError

__all__ = ["hundredths", "number", "require_whole", "written"]


def number(text: str) -> float:
    """Read a number that a user wrote.

    Raises:
        OnrError: the text is not a number.

    Example:
        >>> number("8/255") == 8 / 255, number("0.5/255") == 0.5 / 255, number("inf")
        (True, True, inf)

    """
    try:
        head, slash, tail = text.partition("/")
        if "/" in tail:  # which Fraction would read, and divide by: not what 8/255/2 says
            raise ValueError
        value = float(Fraction(head) / Fraction(tail)) if slash else float(text)
    except (ValueError, ZeroDivisionError, OverflowError):
        value = math.nan
    if math.isnan(value) or (math.isinf(value) and "inf" not in text.lower()):
        raise OnrError(f"{text!r} is no number: expected as 0.5, 8/255 or inf")
    return value


def written(value: float) -> str:
    """Write a number as the shortest text that :func:`number` reads back as the same value.

    Example:
        >>> written(2.0), written(1.5)
        ('2', '1.5')

    """
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def hundredths(share: float) -> str:
    """A share in hundredths with one decimal, and with more where 0 or 100 would say too much.

    Example:
        >>> hundredths(0.0), hundredths(0.0004), hundredths(0.9996), hundredths(1.0)
        ('0.0', '0.04', '99.96', '100.0')

    """
    digits = 1
    while 0 < share < 1 and float(f"{100 * share:.{digits}f}") in (0, 100):
        digits += 1
    return f"{100 * share:.{digits}f}"


def require_whole(**counts: Any) -> None:
    """Check that values are whole numbers >= 1, or ``None``.

    Raises:
        OnrError: one is not; the message has its name.

    Example:
        >>> require_whole(steps=3, restarts=None)

    """
    for name, value in counts.items():
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if value is not None and not (whole and value >= 1):
            raise OnrError(f"{name} = {value!r}: expected a whole number >= 1")
