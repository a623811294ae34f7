"""How the reproduction's pictures look: the paper's layout, one colour a method everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onr.experiments import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "average",
    "chosen",
    "colour",
    "largest",
    "least",
    "legend",
    "line",
    "panels",
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


def chosen(table: Sequence[Row], **columns: Any) -> list[Row]:
    """The rows with these values."""
    return [row for row in table if all(row.get(k) == v for k, v in columns.items())]


def average(rows: Sequence[Row], x: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By ``x``: the values of ``x``, the means over the rows (seeds), and their standard errors.

    The standard errors, over the images, are averaged too: seeds share their images, and for any
    dependence that is an upper bound of the mean's.
    """
    known = [row for row in rows if row["mean"] is not None]
    places = sorted({row[x] for row in known})
    found = [[row for row in known if row[x] == place] for place in places]
    means = [np.mean([row["mean"] for row in part]) for part in found]
    errors = [np.mean([row["standard_error"] or 0.0 for row in part]) for part in found]
    return np.array(places), np.array(means), np.array(errors)


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


def panels(*titles: str) -> tuple[Figure, list[Axes]]:
    """A figure with axes side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 + 4.6 * len(titles), 4.6), layout="constrained")
    axes = figure.subplots(1, len(titles), squeeze=False)[0]
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize="medium")
        axis.grid(alpha=0.3)
    return figure, list(axes)


def line(
    axes: Axes, rows: Sequence[Row], x: str, *, label: str, color: str, style: str = "-"
) -> None:
    """A line of means with its standard error shaded; nothing where there are no rows."""
    places, means, errors = average(rows, x)
    if not len(places):
        return
    marker = "o" if len(places) < 30 else None
    axes.plot(places, means, style, marker=marker, markersize=3, color=color, label=label)
    axes.fill_between(places, means - errors, means + errors, color=color, alpha=0.2, linewidth=0)


def training_eps(axes: Axes, eps: float) -> None:
    """The dashed line at the radius of training."""
    axes.axvline(eps, linestyle="--", linewidth=1, color="0.4", label="eps of training")


def legend(figure: Figure) -> None:
    """One legend for all panels, below them."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(
        list(found.values()),
        list(found),
        loc="outside lower center",
        ncols=min(len(found), 3 * len(figure.axes)),
        fontsize="small",
        frameon=False,
    )
