"""Table 3: the hyper-parameter sweep, one option at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from onr.experiments import Claim, Measurement, Row
from onr.options import number
from onr.training import TrainConfig
from onr_validation.experiments.fig6 import with_step_size
from onr_validation.measurements.accuracy import accuracy
from onr_validation.reproduction.drawing import chosen, colour, panels, value
from onr_validation.reproduction.scales import Scale, scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Table3"]

PART = "validation"
SELECTED = ("dd-snr", "global-snr")
"""Whose ``lam`` is chosen: the value whose clean accuracy is nearest that of ``at``."""


class Table3:
    """Each option's values, the others as in Table 2; judged on the validation part."""

    title = "Hyper-parameter sweep, validation accuracy"

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Clean accuracy and accuracy at the eps of Table 2, on images that no run trains on."""
        known = scale_named(scale)
        images = known.validation_images
        settings = {"p": "2", "radii": [known.eps()], "images": images, "part": PART}
        return [
            Measurement(accuracy, model, settings, {"method": method, "option": option, "at": text})
            for method, option, text, model in _points(known)
        ]

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Clean accuracy against accuracy under attack, a point a model."""
        figure, (axes,) = panels("validation part")
        eps = scale_named(scale).eps()
        for method in dict.fromkeys(row["method"] for row in table):
            marker = {"at": "o", "dd-snr": "s", "global-snr": "^"}[method]
            points: dict[tuple[float, float], list[str]] = {}
            for row in chosen(table, method=method, eps=0.0):
                same = {key: row[key] for key in ("method", "option", "at")}
                place = row["mean"], value(table, **same, eps=eps)
                points.setdefault(place, []).append(f"{row['option']} {row['at']}")
            for place, labels in points.items():
                text = "\n".join(labels)
                axes.annotate(text, place, (4, 3), textcoords="offset points", fontsize=6)
            axes.plot(*zip(*points, strict=True), marker, color=colour(method), label=method)
        axes.set(xlabel="clean accuracy", ylabel=f"accuracy under attack, eps {eps:g}")
        axes.legend(fontsize="small", loc="lower left")
        return figure

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """The constants of Table 2 are those that the paper's rule selects."""
        known = scale_named(scale)
        clean = chosen(table, eps=0.0)
        target = value(clean, method="at", option="eps", at=known.methods["at"][1]["eps"])
        found = []
        for method in SELECTED:
            rows = chosen(clean, method=method, option="lam")
            best = min(rows, key=lambda row: abs(row["mean"] - target))
            usual = number(known.methods[method][1]["lam"])
            found.append(
                Claim(
                    f"lam of {method} in Table 2 is the one whose clean accuracy meets at's",
                    "lam selected on the validation part over that of Table 2",
                    number(best["at"]) / usual,
                    at_least=0.999,
                    at_most=1.001,
                )
            )
        return found


def _points(scale: Scale) -> Iterator[tuple[str, str, str, TrainConfig]]:
    for (method, option), values in scale.sweep.items():
        for text in values:
            yield method, option, text, _model(scale, method, option, text)


def _model(scale: Scale, method: str, option: str, text: str) -> TrainConfig:
    if option == "alpha":
        return with_step_size(scale, number(text.removesuffix("*eps/steps")))
    return scale.model(method, options={option: text})
