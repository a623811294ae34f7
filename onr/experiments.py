"""Experiments: the figures and tables that a plugin offers to ``onr reproduce``.

An experiment says what to measure on which models. Every model is trained once and every
measurement is made once, even if several experiments ask for it. The table, the picture and the
verdicts are computed from the measurements alone.
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
"""Tolerance for float rounding of differences, so that 0.33 - 0.3 counts as at most 0.03."""


@dataclass(frozen=True)
class Measurement:
    """A measurement of one model. The result depends only on the model and these settings.

    The registered function is called as ``function(network, x, y, **settings)``
    (:mod:`onr.hookspecs`), or with the settings alone if there is no model.

    Example:
        >>> Measurement("onr_validation:norms", TrainConfig(), {"p": "inf", "q": "1"}).trained
        True

    """

    name: str
    """The registered name of the function, best with its plugin, as ``onr_validation:norms``."""
    model: TrainConfig | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Numbers, texts, and lists of numbers or texts. ``images`` (how many) and ``part`` (by default
    ``test``) choose the inputs, ``p`` and ``q`` are names of norms, and the function receives the
    other settings unchanged.
    """
    labels: Mapping[str, str | float] = field(default_factory=dict)
    """Columns that the experiment's table has before those of the function."""
    trained: bool = True
    """True for the trained model, false for the model with its initial weights."""
    reference: bool = False
    """True if the function also takes the model with its initial weights, as ``reference``."""
    averaged: bool = False
    """True for the averages of the weights, which the model's ``average`` keeps."""


@dataclass(frozen=True)
class Claim:
    """A statement, and the number and thresholds that decide whether the statement held.

    Raises:
        OnrError: neither ``at_least`` nor ``at_most`` is given.

    Example:
        >>> print(Claim("at resists attacks (Fig. 3)", "accuracy at eps 0.5", 0.426, at_least=0.4))
        Held: at resists attacks (Fig. 3). accuracy at eps 0.5: 0.426 (at least 0.4 asked)

    """

    statement: str
    """What should hold, and where the paper says so."""
    measure: str
    """What ``value`` is, in words."""
    value: float
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        """Refuse a claim without a threshold.

        Raises:
            OnrError: neither ``at_least`` nor ``at_most`` is given.

        """
        if self.at_least is None and self.at_most is None:
            raise OnrError(f"claim {self.statement!r} has no threshold: give at_least or at_most")

    @property
    def held(self) -> bool:
        """True if ``value`` is within the thresholds up to rounding; false for nan and inf."""
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
        """The verdict, the statement, the number and the thresholds in one line."""
        verdict = "Held" if self.held else "Did not hold"
        return f"{verdict}: {self.statement}. {self.measure}: {self.value:.3g} ({self.asked} asked)"


class Experiment(Protocol):
    """A figure or a table, of the paper or your own."""

    @property
    def title(self) -> str:
        """One line that says what the figure or table shows."""

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """The measurements to make at this scale.

        Raises:
            OnrError: the experiment has no such scale.

        """

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """The picture of the rows that the measurements gave."""

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """The claims of the paper, each with the number that the rows give for it."""
