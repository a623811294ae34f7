"""Experiments: what a plugin offers to ``onr reproduce``.

An experiment says what to measure on which models. Models are trained once and measurements made
once, whichever experiments ask for them; the table, the picture and the verdicts follow from the
measurements alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from onr.errors import OnrError
from onr.training.config import TrainConfig
from onr.typing import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Claim", "Experiment", "Measurement", "Row"]

ROUNDING = 1e-12
"""What floats add to a difference of two accuracies, so that 0.33 - 0.3 is at most 0.03."""


@dataclass(frozen=True)
class Measurement:
    """One thing to measure on one model; the result depends on the model and these settings alone.

    The function behind the name is called as ``function(network, x, y, **settings)``, see
    :mod:`onr.hookspecs`; without a model it is called with the settings alone.
    """

    name: str
    """The registered name of the function, best with its plugin, as ``onr_validation:norms``."""
    model: TrainConfig | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Numbers, texts, and lists of these. ``images`` (how many) and ``part`` (by default ``test``)
    choose the inputs; ``p`` and ``q`` are names of norms; the rest goes to the function as it is.
    """
    labels: Mapping[str, str | float] = field(default_factory=dict)
    """Columns that the experiment's table has before the function's own."""
    trained: bool = True
    """Whether the model is trained, or as it was drawn."""
    reference: bool = False
    """Whether the function is given the model as it was drawn, too, as ``reference``."""


@dataclass(frozen=True)
class Claim:
    """A statement, and the number that decides whether it held; thresholds are part of the code."""

    statement: str
    """What should hold, with its place in the paper."""
    measure: str
    """What the number is."""
    value: float
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        """A claim without a threshold is refused.

        Raises:
            OnrError: there is none.

        """
        if self.at_least is None and self.at_most is None:
            raise OnrError(f"claim {self.statement!r} has no threshold: give at_least or at_most")

    @property
    def held(self) -> bool:
        """Whether the number, up to rounding, is within its thresholds; nan and inf never are."""
        low, high = self.at_least, self.at_most
        return (
            math.isfinite(self.value)
            and (low is None or self.value >= low - ROUNDING)
            and (high is None or self.value <= high + ROUNDING)
        )

    @property
    def asked(self) -> str:
        """The thresholds in words."""
        low, high = self.at_least, self.at_most
        if low is not None and high is not None:
            return f"{low:.3g} to {high:.3g}"
        return f"at least {low:.3g}" if low is not None else f"at most {high:.3g}"

    def __str__(self) -> str:
        """One sentence."""
        verdict = "Held" if self.held else "Did not hold"
        return f"{verdict}: {self.statement}. {self.measure}: {self.value:.3g} ({self.asked} asked)"


class Experiment(Protocol):
    """A figure or a table of the paper, or one of one's own."""

    @property
    def title(self) -> str:
        """What it shows, in a line."""

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """What to measure at a scale.

        Raises:
            OnrError: it knows no such scale.

        """

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """The picture of the measurements' rows."""

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """What the rows say of the paper's claims."""
