"""How the reproduction's pictures look: the paper's layout, one colour a method everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onr.plots import chosen
from onr.typing import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "colour",
    "largest",
    "least",
    "ratio",
    "training_eps",
    "value",
]

COLOURS = {
    "standard": "C3",
    "at": "C0",
    "at-linf": "C0",
    "dd-snr": "C1",
    "dd-onr": "C1",
    "global-snr": "C2",
    "global-snr-10": "C4",
    "dd-onr-exact": "C4",
    "dd-snr-warm": "C5",
    "at-fgm": "C6",
    "input-gradient": "C9",
    "frobenius": "C8",
    "random network": "0.5",
}


def colour(method: str) -> str:
    """A method's colour, grey for one that has none."""
    return COLOURS.get(method, "0.5")


def value(table: Sequence[Row], **columns: Any) -> float:
    """The mean of the rows with these values; NaN if there are none."""
    means = [row["mean"] for row in chosen(table, **columns) if row["mean"] is not None]
    return float(np.mean(means)) if means else float("nan")


def ratio(numerator: float, denominator: float) -> float:
    """The quotient; NaN over zero, so that no claim is held by it."""
    return numerator / denominator if denominator else float("nan")


def least(values: Iterable[float | None]) -> float:
    """The smallest; NaN if one is unknown or there are none, so that no claim is held by it."""
    found = np.array([*values], dtype=np.float64)
    return float(found.min()) if len(found) else float("nan")


def largest(values: Iterable[float | None]) -> float:
    """The largest; NaN if one is unknown or there are none, so that no claim is held by it."""
    found = np.array([*values], dtype=np.float64)
    return float(found.max()) if len(found) else float("nan")


def training_eps(axes: Axes, eps: float) -> None:
    """The dashed line at the radius of training."""
    axes.axvline(eps, linestyle="--", linewidth=1, color="0.4", label="eps of training")
