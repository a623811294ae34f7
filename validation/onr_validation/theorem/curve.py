"""How the two sequences of Theorem 1 part as eps grows beyond the ReLU cell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from onr_validation.theorem.reports import PairReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CurvePoint", "curve_figure", "curve_point"]


@dataclass(frozen=True)
class CurvePoint:
    """What the last steps of all draws say at one radius; triples are quartiles and median."""

    fraction: float
    """``eps`` over the radius of the cell."""
    inside: float
    """The share of draws whose last iterate has the activation pattern of ``x``."""
    deviation: tuple[float, float, float]
    """Lower quartile, median, upper quartile of ``max |(x_k - x) / eps - v_k|``."""
    gain: tuple[float, float, float]
    """The same of ``||f(x_k) - f(x)||_q / eps`` over ``||J v_k||_q``; NaN where ``J v = 0``."""

    def summary(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "fraction": self.fraction,
            "inside": self.inside,
            "deviation": list(self.deviation),
            "gain": [None if math.isnan(value) else value for value in self.gain],
        }


def curve_point(fraction: float, report: PairReport) -> CurvePoint:
    """Gather the last steps of all draws of one radius."""
    last = np.concatenate([check.steps[-1].deviation for check in report.checks])
    return CurvePoint(
        fraction,
        float(np.mean(report.all("inside"))),
        _quartiles(last),
        _quartiles(report.all("gain")),
    )


def _quartiles(values: np.ndarray) -> tuple[float, float, float]:
    known = values[~np.isnan(values)]
    low, median, high = np.quantile(known, [0.25, 0.5, 0.75]) if len(known) else (math.nan,) * 3
    return float(low), float(median), float(high)


def curve_figure(points: list[CurvePoint], p: str, q: str) -> Figure:
    """Deviation and gain over eps: the median, the quartiles shaded, a line where the cell ends."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    radii = [point.fraction for point in points]
    panels = (
        ("deviation", r"$\max\,|(x_k - x)/\epsilon - v_k|$"),
        ("gain", r"$\|f(x_k) - f(x)\|_q\,/\,(\epsilon\,\|J v_k\|_q)$"),
    )
    for axes, (name, label) in zip(figure.subplots(1, 2), panels, strict=True):
        low, median, high = np.array([getattr(point, name) for point in points]).T
        axes.fill_between(radii, low, high, alpha=0.25, linewidth=0)
        axes.plot(radii, median, marker="o", markersize=3)
        axes.axvline(1, color="black", linestyle="--", linewidth=1)
        axes.set(xscale="log", xlabel=r"$\epsilon$ / radius of the ReLU cell", ylabel=label)
        axes.grid(alpha=0.3)
    figure.suptitle(f"Eq. 108 against Eq. 12, p = {p}, q = {q}: median and quartiles")
    return figure
