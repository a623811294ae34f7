"""Frontiers of clean and robust accuracy of fast training methods, beside ten-step training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from onr.errors import OnrError, UnknownNameError
from onr.experiments import Claim, Measurement
from onr.numerals import number
from onr.plots import chosen, legend, panels
from onr.registry import bare
from onr.sweeps.grids import expanded
from onr.training.config import TrainConfig
from onr.typing import Row
from onr_validation.reproduction.drawing import colour, largest, least, ratio
from onr_validation.reproduction.scales import scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Frontier", "gap", "small"]

OURS, REFERENCE = "dd-snr-warm", "at-10"
RIVALS = ("n-fgsm", "gat")
NEAR = 0.03
"""How many points another frontier may lie beyond one that is near it."""
SMALL = 500
"""How many test images the small experiment takes."""
PARTS = [0.25, 0.5, 1.0]
"""The radii at which accuracy is measured, in parts of the radius of training."""


class Frontier:
    """Clean accuracy against accuracy under attack, a curve for each method over its weights.

    The models are those of the scale's grid, which ``onr sweep frontier:SCALE`` trains too. The
    settings were fixed on the validation part (docs/warm-start.md); this measures the test part.

    Args:
        small: one ball alone, in minutes.

    Example:
        >>> labels = Frontier().measurements("tiny")[0].labels
        >>> labels["ball"], labels["method"], labels["lam"]
        ('inf 0.15', 'at-10', '1')

    """

    title = "Frontiers of fast robust training, beside ten steps"

    def __init__(self, *, small: bool = False) -> None:
        self._small = small

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure each model's raw and averaged weights at parts of its radius."""
        known = scale_named(scale)
        try:
            models = expanded(known.frontier_small if self._small else known.frontier)
        except UnknownNameError as error:
            raise OnrError(
                f"{error}; the baselines are those of the distribution onr-fast-training: "
                "pip install ./plugins/onr-fast-training"
            ) from error
        found = []
        for model in models.values():
            settings = {
                "p": model.method_options["p"],
                "radius": number(model.method_options["eps"]),
                "parts": PARTS,
                "images": min(known.images, SMALL) if self._small else known.images,
            }
            for averaged in (False, True)[: 1 + (model.average is not None)]:
                labels = _labels(model) | {"weights": "averaged" if averaged else "raw"}
                found.append(
                    Measurement(
                        "onr_validation:robust-accuracy",
                        model,
                        settings,
                        labels,
                        averaged=averaged,
                    )
                )
        found.append(Measurement("onr_validation:step-seconds", settings=known.timing))
        return found

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw accuracy at the radius of training against clean accuracy, for each ball."""
        balls = _values(table, "ball")
        figure, all_axes = panels(*(f"trained at {ball}" for ball in balls))
        for ball, axes in zip(balls, all_axes, strict=True):
            rows = chosen(table, ball=ball, weights="raw")
            for method in _values(rows, "method"):
                points = sorted(_points(rows, method))
                style = "o-" if len(points) > 1 else "o"
                axes.plot(*zip(*points, strict=True), style, color=colour(method), label=method)
            axes.set(xlabel="clean accuracy", ylabel="accuracy under attack at that radius")
        legend(figure)
        return figure

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim that one pass stays up and is cheap, and of frontiers that it is near the best."""
        found = []
        for ball in _values(table, "ball"):
            rows = chosen(table, ball=ball, weights="raw")
            ten = _points(rows, REFERENCE)
            robust = largest(point[1] for point in ten)
            runs = [row["mean"] for row in chosen(rows, method=OURS, part=1.0)]
            found.append(
                Claim(
                    f"{OURS} does not collapse at {ball} (our own)",
                    f"its least accuracy under attack of all runs over the best of {REFERENCE}",
                    ratio(least(runs), robust),
                    at_least=1 / 3,
                )
            )
            mine = _points(rows, OURS)
            if len(mine) < 2:  # one weight is a point, and no frontier
                continue
            found.append(
                Claim(
                    f"{OURS} is near the frontier of {REFERENCE} at {ball} (our own)",
                    "how far that frontier lies beyond its own, in both accuracies",
                    gap(mine, ten),
                    at_most=NEAR,
                )
            )
            found += [
                Claim(
                    f"{OURS} is not below the frontier of {rival} at {ball} (our own)",
                    "how far that frontier lies beyond its own, in both accuracies",
                    gap(mine, _points(rows, rival)),
                    at_most=0,
                )
                for rival in RIVALS
            ]
        seconds = {row["method"]: row["mean"] for row in chosen(table, quantity="seconds a step")}
        found.append(
            Claim(
                f"{OURS} takes 0.4 of the time of {REFERENCE} or less (our own)",
                "seconds a step over those of ten steps",
                ratio(seconds[OURS], seconds[REFERENCE]),
                at_most=0.4,
            )
        )
        return found


small = partial(Frontier, small=True)


def gap(mine: Sequence[tuple[float, float]], theirs: Iterable[tuple[float, float]]) -> float:
    """How far a frontier lies beyond another one, in both accuracies at once; 0 if it does not.

    It is the least ``t`` such that each of their points, with ``t`` taken from its clean and from
    its robust accuracy, is on or below my frontier: the additive epsilon indicator (Zitzler et al.,
    "Performance assessment of multiobjective optimizers", 2003). My frontier is the straight lines
    between neighbouring points, and all that has less of either accuracy.

    Example:
        >>> gap([(0.5, 0.2), (0.7, 0.1)], [(0.6, 0.14)])
        0.0
        >>> round(gap([(0.5, 0.2), (0.7, 0.1)], [(0.72, 0.1), (0.4, 0.23)]), 6)
        0.03

    """
    known = sorted(mine)
    ends = [(point, point) for point in known] + list(pairwise(known))
    gaps = [
        min(_distance(clean, robust, one, other) for one, other in ends)
        for clean, robust in theirs
        if known
    ]
    return largest(gaps)


def _distance(
    clean: float, robust: float, one: tuple[float, float], other: tuple[float, float]
) -> float:
    """The least ``t`` for one point and the line between two of mine, clean accuracy rising."""

    def beyond(s: float) -> float:
        x, y = ((1 - s) * a + s * b for a, b in zip(one, other, strict=True))
        return max(clean - x, robust - y)

    # Along the line one excess falls and the other rises, or both fall: an end, or their crossing.
    rise, fall = other[0] - one[0], one[1] - other[1]
    places = [0.0, 1.0]
    if rise + fall > 0:
        crossing = ((clean - one[0]) - (robust - one[1])) / (rise + fall)
        places.append(min(max(crossing, 0.0), 1.0))
    return max(0.0, min(beyond(s) for s in places))


def _labels(model: TrainConfig) -> dict[str, str | float]:
    options = model.method_options
    method = bare(model.method)
    if method == "at":
        method = f"at-{options.get('steps', '10')}"
    return {
        "ball": f"{options['p']} {options['eps']}",
        "method": method,
        "lam": options.get("lam", ""),
        "seed": model.seed,
        "epochs": model.epochs,
        "width": model.model_options.get("width", ""),
        "train_images": model.train_images or "",
    }


def _values(table: Sequence[Row], column: str) -> list[Any]:
    return list(dict.fromkeys(row[column] for row in table if row.get(column)))


def _points(rows: Sequence[Row], method: str) -> list[tuple[float, float]]:
    """Clean and robust accuracy for each weight of a method, the means over seeds."""
    mine = chosen(rows, method=method)
    found = []
    for lam in dict.fromkeys(row["lam"] for row in mine):
        place = [
            float(np.mean([row["mean"] for row in chosen(mine, lam=lam, part=part)]))
            for part in (0.0, 1.0)
        ]
        found.append((place[0], place[1]))
    return found
