"""Panels and verdicts of the figures that show accuracy against eps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from onr.experiments import Claim
from onr.plots import average, chosen, line
from onr.typing import Row
from onr_validation.reproduction.drawing import colour, largest, least, training_eps, value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["accuracy_axes", "equally_robust", "largest_gap", "more_robust", "not_robust"]

NEAR = 0.05
"""Accuracies that differ by no more are near each other."""
APART = 0.1
"""What counts as substantially more."""


def accuracy_axes(
    axes: Axes, rows: Sequence[Row], methods: Iterable[str], p: str, eps: float
) -> None:
    """Accuracy against eps, in 8-bit units for l-infinity, as in the paper."""
    scale = 255 if p == "inf" else 1
    shown = [{**row, "eps": row["eps"] * scale} for row in chosen(rows, quantity="accuracy")]
    for method in methods:
        line(axes, chosen(shown, method=method), "eps", label=method, color=colour(method))
    training_eps(axes, eps * scale)
    unit = "eps in 1/255, inf-norm" if p == "inf" else "eps, 2-norm, pixels in [0, 1]"
    axes.set(xlabel=unit, ylabel="accuracy", ylim=(0, 1))
    axes.set_xlim(left=0)


def largest_gap(rows: Sequence[Row], one: str, other: str) -> float:
    """The largest difference in accuracy over all eps, clean accuracy included."""
    curves = [
        average(chosen(rows, method=method, quantity="accuracy"), "eps")[1]
        for method in (one, other)
    ]
    return float(np.abs(curves[0] - curves[1]).max())


def equally_robust(rows: Sequence[Row], one: str, other: str, where: str) -> Claim:
    """Two curves lie near each other."""
    return Claim(
        f"{one} and {other} are equally robust {where}",
        "largest difference in accuracy over eps",
        largest_gap(rows, one, other),
        at_most=NEAR,
    )


def more_robust(rows: Sequence[Row], methods: Sequence[str], eps: float, where: str) -> Claim:
    """These are more accurate under attack than the standard model."""
    worst = least(value(rows, method=m, quantity="accuracy", eps=eps) for m in methods)
    return Claim(
        f"{' and '.join(methods)} are significantly more robust than standard {where}",
        "accuracy at the eps of training, the lesser of them, less that of standard",
        worst - value(rows, method="standard", quantity="accuracy", eps=eps),
        at_least=APART,
    )


def not_robust(rows: Sequence[Row], method: str, where: str) -> Claim:
    """A method that does not robustify the model, at no eps: at a large one all are at zero."""
    radii = {row["eps"] for row in chosen(rows, method=method, quantity="accuracy")} - {0.0}
    gains = [
        value(rows, method=method, quantity="accuracy", eps=eps)
        - value(rows, method="standard", quantity="accuracy", eps=eps)
        for eps in radii
    ]
    return Claim(
        f"{method} does not robustify the model {where}",
        "its accuracy under attack less that of standard, largest over eps",
        largest(gains),
        at_most=NEAR,
    )
