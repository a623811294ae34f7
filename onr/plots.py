"""Pictures, with matplotlib (the extra ``plot``)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Curve", "accuracy_figure", "png", "svg"]


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
