"""Experiments: what a plugin offers to ``onr reproduce``.

An experiment says what to measure on which models. Models are trained once and measurements made
once, whichever experiments ask for them; the table, the picture and the verdicts follow from the
measurements alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from onr.data import Split, pixels
from onr.errors import OnrError
from onr.protocols import Array, Backend, Network
from onr.training.loop import TrainConfig, validation_split

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Claim", "Experiment", "Measurement", "Row", "Subject", "statistics"]

ROUNDING = 1e-12
"""What floats add to a difference of two accuracies, so that 0.33 - 0.3 is at most 0.03."""
Row: TypeAlias = dict[str, Any]
"""A line of a table: texts and numbers by column."""


@dataclass(frozen=True)
class Measurement:
    """One thing to measure on one model: a function of the model and of these settings alone."""

    function: Callable[..., list[Row]]
    """Of a module, called as ``function(subject, **settings)``; no model, no subject: ``None``."""
    model: TrainConfig | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of numbers, texts, and lists of these."""
    labels: Mapping[str, str | float] = field(default_factory=dict)
    """Columns that the experiment's table has before the function's own."""
    trained: bool = True
    """Whether the model is trained, or as it was drawn."""


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
            bool(np.isfinite(self.value))
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


class Subject:
    """A model to measure, as it stands after training or as it was drawn.

    Args:
        config: of its training.
        parameters: its weights; fresh ones, drawn from the configuration's seed, if not given.

    """

    def __init__(
        self, config: TrainConfig, parameters: Mapping[str, np.ndarray] | None = None
    ) -> None:
        # bfloat16 is for training: its rounding would blunt what is measured.
        dtype = "float32" if config.dtype == "bfloat16" else config.dtype
        self.config = replace(config, dtype=dtype)
        self.backend: Backend = config.backend_object()
        self.dataset = config.dataset_object()
        built = self.config.network(
            self.backend, self.dataset, None if parameters is None else dict(parameters)
        )
        self.network: Network = self.backend.frozen(built)

    @functools.cached_property
    def features(self) -> Network:
        """The network without its last affine layer, ``phi^(L-1)``.

        Raises:
            OnrError: it has none, or the backend cannot take it off.

        """
        take = getattr(self.network, "features", None)
        if take is None:
            raise OnrError(f"backend {self.config.backend} gives no features of a network")
        features: Network = take()
        return features

    @functools.cached_property
    def untrained(self) -> Subject:
        """The same network as it was drawn."""
        return Subject(self.config)

    def images(self, count: int, part: str = "test") -> Split:
        """The first images of the test part, or of the ``validation`` part.

        Raises:
            OnrError: there are not as many.

        """
        held = self.dataset.test if part == "test" else validation_split(self.dataset.train)[1]
        if count > len(held):
            raise OnrError(
                f"the {part} part of {self.config.dataset} has {len(held)} images, {count} are "
                "asked for"
            )
        return held.take(count)

    def batches(self, count: int, size: int) -> list[tuple[Array, Array]]:
        """The first ``count`` test images and their labels, as the network takes them."""
        test = self.images(count)
        return [
            (
                self.backend.asarray(pixels(test.images[k : k + size], "float64"), self.network),
                self.backend.asarray(test.labels[k : k + size], self.network),
            )
            for k in range(0, count, size)
        ]


def statistics(values: np.ndarray) -> dict[str, float | int]:
    """Mean, its standard error over the examples, and how many there are; NaN are left out."""
    known = values[~np.isnan(values)].astype(np.float64)
    count = len(known)
    mean = float(known.mean()) if count else float("nan")
    error = float(known.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")
    return {"mean": mean, "standard_error": error, "images": count}
