"""What differs between two audits of the same images, and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from onr.auditing.protocols import Flag
from onr.auditing.wording import eps_text, figure, radius_text

__all__ = ["Change", "Differences", "FlagPair", "Moved", "state"]

FlagPair: TypeAlias = tuple[str, Flag | None, Flag | None]
"""The name of a flag, and the flag in A and in B."""


@dataclass(frozen=True)
class Moved:
    """How the accuracy differs at one radius: B minus A, from the images that both audits have.

    Example:
        >>> Moved("0.5", 0.4, 0.5, 0.1, -0.02, 0.21, gained=20, lost=10, images=100).certain
        False

    """

    eps: str
    a: float
    """The accuracy of A."""
    b: float
    difference: float
    low: float
    """The interval of the difference, Newcombe's for paired shares (1998, method 10)."""
    high: float
    gained: int
    """How many images B gets right and A does not."""
    lost: int
    images: int

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    @property
    def text(self) -> str:
        """The difference in points, with its interval."""
        low, high = 100 * self.low, 100 * self.high
        return f"{100 * self.difference:+.1f} ({low:+.1f} to {high:+.1f})"


@dataclass(frozen=True)
class Change:
    """How a quantity differs at the images: the median of B / A or of B - A.

    Example:
        >>> Change("norm 2:2", "ratio", 2.0, 1.0, 0.5, 0.4, 0.6, images=50).certain
        True

    """

    quantity: str
    how: str
    """``ratio`` or ``difference``."""
    a: float
    """The median of A."""
    b: float
    change: float
    low: float
    """The interval of the median change, from order statistics: that of the sign test."""
    high: float
    images: int
    """At how many images the change is known."""

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out no change."""
        return self.low > self.same or self.high < self.same

    @property
    def same(self) -> float:
        """The value of no change."""
        return 1.0 if self.how == "ratio" else 0.0

    @property
    def text(self) -> str:
        """The change as a factor, or with its sign, and its interval."""
        before, sign = ("x ", "") if self.how == "ratio" else ("", "+")
        change, low, high = (
            f"{sign if each >= 0 else ''}{figure(each)}"
            for each in (self.change, self.low, self.high)
        )
        return f"{before}{change} ({low} to {high})"


@dataclass(frozen=True)
class Differences:
    """Audit B compared with audit A on the images that both have.

    Example:
        >>> record = {"p": "2", "eps": "1", "radii": {"1": 1.0}}
        >>> change = Change("norm 2:2", "ratio", 2.0, 1.0, 0.5, 0.4, 0.6, images=50)
        >>> Differences(record, record, 50, (50, 60), (), (change,), ()).medians(change)
        ('2', '1')

    """

    a: Mapping[str, Any]
    """The record of A."""
    b: Mapping[str, Any]
    images: int
    """How many images both audits have and could measure."""
    of: tuple[int, int]
    """How many images each audit has."""
    accuracy: tuple[Moved, ...]
    changes: tuple[Change, ...]
    flags: tuple[FlagPair, ...]
    """The flags that differ, by name: in A and in B; ``None`` where the check was not run."""
    flags_alike: int = 0

    def medians(self, change: Change) -> tuple[str, str]:
        """The medians of A and B as text; a radius in the unit of eps."""
        if "radius" in change.quantity:
            eps = eps_text(self.a)
            return radius_text(change.a, eps), radius_text(change.b, eps)
        return figure(change.a), figure(change.b)


def state(flag: Flag | None) -> str:
    """Whether a flag is raised.

    Example:
        >>> state(None), state(Flag("chance", True, 0.1, 0.2, "field", ""))
        ('not run', 'raised')

    """
    if flag is None:
        return "not run"
    return {True: "raised", False: "ok", None: "not checked"}[flag.raised]
