"""The look of the reproduced figures, such as the colour of each method, and values from tables."""

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
    "at-10": "C0",
    "at-1": "C6",
    "n-fgsm": "C2",
    "gat": "C1",
    "nuat": "C3",
    "trades": "C4",
    "rs-fgsm": "C7",
    "input-gradient": "C9",
    "frobenius": "C8",
    "random network": "0.5",
}


def colour(method: str) -> str:
    """The colour of a method in every figure; grey for a method without one.

    Example:
        >>> colour("at"), colour("unheard of")
        ('C0', '0.5')

    """
    return COLOURS.get(method, "0.5")


def value(table: Sequence[Row], **columns: Any) -> float:
    """The mean of ``mean`` over the rows with the given values; NaN if no row has a known mean.

    Args:
        table: rows of measurements, with a column ``mean``.
        columns: the value that a row must have in each named column.

    Example:
        >>> rows = [{"eps": 0.0, "mean": 0.75}, {"eps": 0.0, "mean": 0.25}]
        >>> value(rows, eps=0.0), value(rows, eps=1.0)
        (0.5, nan)

    """
    means = [row["mean"] for row in chosen(table, **columns) if row["mean"] is not None]
    return float(np.mean(means)) if means else float("nan")


def ratio(numerator: float, denominator: float) -> float:
    """The quotient of two numbers; NaN for a zero denominator, so that no claim can hold.

    Example:
        >>> ratio(1.0, 4.0), ratio(1.0, 0.0)
        (0.25, nan)

    """
    return numerator / denominator if denominator else float("nan")


def least(values: Iterable[float | None]) -> float:
    """The smallest value; NaN if a value is unknown or none is given, so that no claim can hold.

    Example:
        >>> least([2.0, 1.0]), least([2.0, None])
        (1.0, nan)

    """
    found = np.array([*values], dtype=np.float64)
    return float(found.min()) if len(found) else float("nan")


def largest(values: Iterable[float | None]) -> float:
    """The largest value; NaN if a value is unknown or none is given, so that no claim can hold.

    Example:
        >>> largest([2.0, 1.0]), largest([])
        (2.0, nan)

    """
    found = np.array([*values], dtype=np.float64)
    return float(found.max()) if len(found) else float("nan")


def training_eps(axes: Axes, eps: float) -> None:
    """Draw a dashed vertical line at the radius of training.

    Example:
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().add_subplot()
        >>> training_eps(axes, 0.5)
        >>> axes.get_lines()[0].get_label()
        'eps of training'

    """
    axes.axvline(eps, linestyle="--", linewidth=1, color="0.4", label="eps of training")
