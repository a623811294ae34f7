"""Numbers as users write them: ``0.5``, ``8/255``, ``inf``."""

from __future__ import annotations

import math
from fractions import Fraction

from onr.errors import OnrError

__all__ = ["number", "written"]


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
