"""Table 3: the hyper-parameter sweep, one option at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from onr.experiments import Claim, Measurement
from onr.numerals import number
from onr.plots import chosen, legend, panels
from onr.training.config import TrainConfig
from onr.typing import Row
from onr_validation.experiments.fig6 import with_step_size
from onr_validation.reproduction.drawing import colour, least
from onr_validation.reproduction.scales import Scale, scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Table3"]

PART = "validation"
STEP = "*eps/steps"
"""The unit in which the sweep gives alpha."""
SELECTED = ("dd-snr", "global-snr")
"""The methods whose ``lam`` is chosen so that their clean accuracy is nearest that of ``at``."""


class Table3:
    """Validation accuracy when one option of a method varies and the others are as in Table 2.

    Example:
        >>> labels = Table3().measurements("tiny")[0].labels
        >>> labels["method"], labels["option"], labels["value"]
        ('at', 'eps', '0.5')

    """

    title = "Hyper-parameter sweep, validation accuracy"

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure accuracy, clean and at the eps of Table 2, on images that no run trains on."""
        known = scale_named(scale)
        found = []
        for method, option, text, model in _points(known):
            p = "inf" if method == "at-linf" else "2"
            settings = {
                "p": p,
                "eps": [known.radius[p]],
                "images": known.validation_images,
                "part": PART,
            }
            labels = {"method": method, "option": option, "value": text}
            found.append(Measurement("onr_validation:accuracy", model, settings, labels))
        return found

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw accuracy under attack against clean accuracy, with a point for each model."""
        figure, (axes,) = panels("validation part; alpha in eps / steps")
        figure.set_size_inches(9, 6)
        for method in dict.fromkeys(row["method"] for row in table):
            marker = {"at": "o", "at-linf": "D", "dd-snr": "s", "global-snr": "^"}[method]
            points: dict[tuple[float, float], list[str]] = {}
            for row in chosen(table, method=method, eps=0.0):
                same = {key: row[key] for key in ("method", "option", "value")}
                (attacked,) = (each for each in chosen(table, **same) if each["eps"] > 0)
                place = row["mean"], attacked["mean"]
                text = f"{row['option']} {row['value'].removesuffix(STEP)}"
                points.setdefault(place, []).append(text)
            for index, place in enumerate(sorted(points)):
                above = index % 2 == 0  # labels of neighbours must not overlap
                axes.annotate(
                    "\n".join(points[place]),
                    place,
                    (0, 5 if above else -5),
                    textcoords="offset points",
                    ha="center",
                    va="bottom" if above else "top",
                    fontsize=6,
                    color=colour(method),
                )
            axes.plot(*zip(*points, strict=True), marker, color=colour(method), label=method)
        axes.set(xlabel="clean accuracy", ylabel="accuracy under attack, eps of Table 2")
        legend(figure)
        return figure

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim that the constants of Table 2 are as good as any tried, by the paper's rule."""
        known = scale_named(scale)
        clean = chosen(table, eps=0.0)

        def accuracies(method: str, option: str) -> dict[float, float]:
            """The clean accuracy of a method for each value of an option."""
            rows = chosen(clean, method=method, option=option)
            return {number(row["value"]): row["mean"] for row in rows}

        target = accuracies("at", "eps")[known.eps()]
        found = []
        for method in SELECTED:
            gaps = {lam: abs(mean - target) for lam, mean in accuracies(method, "lam").items()}
            usual = number(known.methods[method][1]["lam"])
            found.append(
                Claim(
                    f"lam of {method} in Table 2 is chosen for the clean accuracy of at (7.10)",
                    "its gap to at's clean accuracy less the smallest gap of the values tried",
                    gaps[usual] - least(gaps.values()),
                    at_most=0.015,
                )
            )
        return found


def _points(scale: Scale) -> Iterator[tuple[str, str, str, TrainConfig]]:
    for (method, option), values in scale.sweep.items():
        for text in values:
            yield method, option, text, _model(scale, method, option, text)


def _model(scale: Scale, method: str, option: str, text: str) -> TrainConfig:
    if option == "alpha":
        return with_step_size(scale, number(text.removesuffix(STEP)))
    return scale.model(method, options={option: text})
