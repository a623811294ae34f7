"""The threat model of an audit: a ball in the box of valid pixels, and the radii to look at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from onr.errors import OnrError
from onr.feasible import require_radius
from onr.numerals import number
from onr.protocols import Norm

__all__ = ["Threat"]

FACTORS = (0.25, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Threat:
    """The perturbations that the audit is about.

    Raises:
        OnrError: the radius is no number, or is not positive.

    Example:
        >>> from onr.norms import LpNorm
        >>> threat = Threat(LpNorm(2), "8/255")
        >>> list(threat.radii), threat.radius == 8 / 255
        (['2/255', '4/255', '8/255', '16/255'], True)
        >>> Threat(LpNorm(2), "0.50").text
        '0.5'

    """

    p: Norm
    eps: str
    """The radius as it was written, such as ``8/255``; pixels in [0, 1]."""
    bounds: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        """Refuse a radius that leaves nothing to look at.

        Raises:
            OnrError: the radius is no number, or is not positive.

        """
        if require_radius(number(self.eps)) == 0:
            raise OnrError(f"eps = {self.eps}: expected a radius above 0")

    @property
    def radius(self) -> float:
        """The radius as a number."""
        return number(self.eps)

    @property
    def text(self) -> str:
        """The radius as the names of columns have it, such as ``0.5`` for ``0.50``."""
        return times(self.eps, 1)

    @cached_property
    def radii(self) -> dict[str, float]:
        """A quarter, half, once and twice the radius, from small to large, as text and number."""
        texts = (times(self.eps, factor) for factor in FACTORS)
        return {text: number(text) for text in texts}


def times(text: str, factor: float) -> str:
    """A multiple of a number as a user would write it.

    Example:
        >>> times("8/255", 0.25), times("2/255", 0.25), times("0.5", 2)
        ('2/255', '0.5/255', '1')

    """
    head, slash, tail = text.partition("/")
    return f"{float(head) * factor:.12g}{slash}{tail}"
