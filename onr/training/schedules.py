"""Learning-rate schedules: the fraction of the peak rate at a progress of training in (0, 1)."""

from __future__ import annotations

import math
from collections.abc import Callable

from onr.errors import OnrError
from onr.numerals import number

__all__ = ["SCHEDULES", "require_no_length", "schedule"]


def one_cycle(progress: float) -> float:
    """Rise linearly for the first 30 % of training, then fall linearly to zero."""
    return progress / 0.3 if progress < 0.3 else (1 - progress) / 0.7


def cosine(progress: float) -> float:
    """Half a period of a cosine, from the peak to zero."""
    return (1 + math.cos(math.pi * progress)) / 2


def constant(progress: float) -> float:
    """The peak rate at every step."""
    return 1.0


SCHEDULES: dict[str, Callable[[float], float]] = {
    "one-cycle": one_cycle,
    "cosine": cosine,
    "constant": constant,
}


LENGTH = {
    "one-cycle": "rises over the first 30 % of all epochs and falls over the rest",
    "cosine": "falls over all epochs",
    "steps": "divides the rate at fractions of all epochs",
}
"""How the rate depends on the number of epochs, for each schedule whose rate does."""


def schedule(spec: str) -> Callable[[float], float]:
    """The schedule of this name.

    Args:
        spec: ``one-cycle``, ``cosine``, ``constant``, or ``steps:0.5,0.75``, which divides the rate
            by ten at each of these points of progress.

    Raises:
        OnrError: no schedule has this name, or the points are not increasing numbers between 0
            and 1.

    Example:
        >>> schedule("steps:0.5,0.75")(0.6)
        0.1

    """
    name, _, argument = spec.partition(":")
    if name in SCHEDULES and not argument:
        return SCHEDULES[name]
    if name != "steps":
        raise OnrError(
            f"unknown schedule {spec!r}: expected {', '.join(SCHEDULES)} or steps:0.5,0.75"
        )
    points = [number(text) for text in argument.split(",")]
    if points != sorted(set(points)) or not 0 < points[0] <= points[-1] < 1:
        raise OnrError(f"schedule {spec!r}: expected increasing numbers between 0 and 1")
    return lambda progress: 0.1 ** sum(progress >= point for point in points)


def require_no_length(spec: str) -> None:
    """Check that the rate at a step does not depend on the number of epochs.

    Raises:
        OnrError: it does; the message says how.

    Example:
        >>> require_no_length("constant")

    """
    name = spec.partition(":")[0]
    if name in LENGTH:
        raise OnrError(f"the schedule {spec} {LENGTH[name]}")
