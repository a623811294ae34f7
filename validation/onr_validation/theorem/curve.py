"""The curve of how the two sequences of Theorem 1 part as eps grows beyond the ReLU cell."""

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
    """The outcome of the last steps of all draws at one radius.

    Example:
        >>> CurvePoint(0.5, 1.0, (0.0, 0.0, 0.1), (1.0, 1.0, math.nan)).summary()["gain"]
        [1.0, 1.0, None]

    """

    fraction: float
    """The ratio of ``eps`` to the radius of the cell."""
    inside: float
    """The share of draws whose last iterate has the activation pattern of ``x``."""
    deviation: tuple[float, float, float]
    """Lower quartile, median and upper quartile of ``max |(x_k - x) / eps - v_k|``."""
    gain: tuple[float, float, float]
    """Quartiles and median of the ratio of ``||f(x_k) - f(x)||_q / eps`` to ``||J v_k||_q``. Draws
    with ``J v_k = 0`` are left out; the values are NaN if no draw remains.
    """

    def summary(self) -> dict[str, Any]:
        """The point as JSON, with ``None`` for NaN in the gain."""
        return {
            "fraction": self.fraction,
            "inside": self.inside,
            "deviation": list(self.deviation),
            "gain": [None if math.isnan(value) else value for value in self.gain],
        }


def curve_point(fraction: float, report: PairReport) -> CurvePoint:
    """Summarise the last steps of all draws at one radius.

    Args:
        fraction: the ratio of ``eps`` to the radius of the cell.
        report: the draws checked at this ratio.

    Example:
        >>> from onr_validation.theorem.draws import REPAIRED, check_counterexample
        >>> check = check_counterexample(REPAIRED, iterations=2)
        >>> curve_point(0.5, PairReport("3", "2", math.inf, (check,))).inside
        1.0

    """
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
    """Draw deviation and gain against eps: the median, the quartiles shaded, the end of the cell.

    Example:
        >>> points = [CurvePoint(r, 1.0, (0.1, 0.2, 0.3), (0.9, 1.0, 1.1)) for r in (0.5, 2.0)]
        >>> len(curve_figure(points, "inf", "1").axes)
        2

    """
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
