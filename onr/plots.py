"""Figures, drawn with matplotlib (the extra ``plot``)."""

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
    """Accuracies at increasing radii of an attack, each measured on ``count`` examples.

    Example:
        >>> Curve("at", eps=[0.0, 0.5], accuracy=[0.9, 0.4], count=1000).name
        'at'

    """

    name: str
    eps: list[float]
    accuracy: list[float]
    count: int


def accuracy_figure(curves: list[Curve], *, p: str, trained: float | None = None) -> Figure:
    """Plot accuracy against eps, one line for each curve, with standard errors shaded.

    Args:
        curves: the curves, in the order of the legend.
        p: the name of the norm of the attack.
        trained: the eps of training, drawn as a dashed line if given.

    Example:
        >>> figure = accuracy_figure([Curve("at", [0.0, 0.5], [0.9, 0.4], 1000)], p="2")
        >>> figure.axes[0].get_xlabel()
        'eps, p = 2, pixels in [0, 1]'

    """
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
    axes.set(xlabel=f"eps, p = {p}, pixels in [0, 1]", ylabel="accuracy", ylim=(0, 1))
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def svg(figure: Figure) -> bytes:
    """The figure as an SVG document; the same figure gives the same bytes.

    Example:
        >>> svg(panels("a panel")[0])[:5]
        b'<?xml'

    """
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "onr"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """The figure as a PNG image with 150 dots per inch.

    Example:
        >>> png(panels("a panel")[0])[1:4]
        b'PNG'

    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def chosen(table: Sequence[Row], **columns: Any) -> list[Row]:
    """The rows that have the given values in the given columns.

    Example:
        >>> chosen([{"eps": 0.5, "mean": 0.4}, {"eps": 1.0, "mean": 0.1}], eps=1.0)
        [{'eps': 1.0, 'mean': 0.1}]

    """
    return [row for row in table if all(row.get(k) == v for k, v in columns.items())]


def average(rows: Sequence[Row], x: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average the rows (seeds) at each value of column ``x``; rows without a mean are skipped.

    Returns:
        The sorted values of ``x``, the mean at each of them, and its standard error. The standard
        errors, which are over the images, are averaged too. Seeds share their images, and the
        average is an upper bound on the standard error of the mean under any dependence.

    Example:
        >>> rows = [{"eps": 0.5, "mean": m, "standard_error": 0.25} for m in (0.5, 0.75)]
        >>> average(rows, "eps")
        (array([0.5]), array([0.625]), array([0.25]))

    """
    known = [row for row in rows if row["mean"] is not None]
    places = sorted({row[x] for row in known})
    found = [[row for row in known if row[x] == place] for place in places]
    means = [np.mean([row["mean"] for row in part]) for part in found]
    errors = [np.mean([row["standard_error"] or 0.0 for row in part]) for part in found]
    return np.array(places), np.array(means), np.array(errors)


def panels(*titles: str) -> tuple[Figure, list[Axes]]:
    """A figure with one panel for each title, side by side, and its axes.

    Example:
        >>> figure, axes = panels("left", "right")
        >>> len(axes)
        2

    """
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
    """Plot the means of the rows against column ``x``, with standard errors shaded.

    Nothing is drawn if there are no rows.

    Example:
        >>> axes = panels("accuracy")[1][0]
        >>> rows = [{"eps": e, "mean": 1 - e, "standard_error": 0.1} for e in (0.0, 0.5)]
        >>> line(axes, rows, "eps", label="at", color="C0")
        >>> len(axes.lines)
        1

    """
    places, means, errors = average(rows, x)
    if not len(places):
        return
    marker = "o" if len(places) < 30 else None
    axes.plot(places, means, style, marker=marker, markersize=3, color=color, label=label)
    axes.fill_between(places, means - errors, means + errors, color=color, alpha=0.2, linewidth=0)


def legend(figure: Figure) -> None:
    """Add one legend for all panels, below the panels.

    Example:
        >>> figure, axes = panels("accuracy")
        >>> _ = axes[0].plot([0, 1], [1, 0], label="at")
        >>> legend(figure)
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['at']

    """
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
