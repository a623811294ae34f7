"""Pictures, with matplotlib (the extra ``plot``)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from onr.typing import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Curve",
    "accuracy_figure",
    "average",
    "chosen",
    "legend",
    "line",
    "panels",
    "png",
    "svg",
]


@dataclass(frozen=True)
class Curve:
    """Accuracy over the radius of the attack, from ``count`` examples."""

    name: str
    eps: list[float]
    accuracy: list[float]
    count: int


def accuracy_figure(curves: list[Curve], *, p: str, trained: float | None = None) -> Figure:
    """Accuracy against eps, a line a curve, standard errors shaded, the training eps dashed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for curve, marker in zip(curves, "os^Dv<>ph*" * len(curves), strict=False):
        eps, accuracy = np.array(curve.eps), np.array(curve.accuracy)
        error = np.sqrt(accuracy * (1 - accuracy) / curve.count)
        (line,) = axes.plot(eps, accuracy, marker=marker, markersize=4, label=curve.name)
        axes.fill_between(
            eps, accuracy - error, accuracy + error, alpha=0.2, color=line.get_color()
        )
    if trained is not None:
        axes.axvline(trained, linestyle="--", linewidth=1, color="0.4", label="eps of training")
    axes.set(xlabel=f"eps, {p}-norm, pixels in [0, 1]", ylabel="accuracy", ylim=(0, 1))
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def svg(figure: Figure) -> bytes:
    """The figure as an SVG document; the same figure gives the same bytes."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "onr"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """The figure as a PNG image of 150 dots an inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


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
