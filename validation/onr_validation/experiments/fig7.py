"""Fig. 7: between adversarial training and data-dependent spectral norm regularisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onr.experiments import Claim, Measurement
from onr.numerals import written
from onr.plots import chosen, legend, line, panels
from onr.training.config import TrainConfig
from onr.typing import Row
from onr_validation.reproduction.drawing import largest, least, value
from onr_validation.reproduction.scales import Scale, scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Figure7"]


class Figure7:
    """Training from scratch on ``(1 - t)`` times the objective of Eq. 14 plus ``t`` times Eq. 7.

    Example:
        >>> [m.labels["t"] for m in Figure7().measurements("tiny")]
        [0.0, 0.25, 0.5, 0.75, 1.0]

    """

    title = "Interpolation between adversarial training and d.d. SNR"

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure accuracy at the eps of training; the models of the ends are at and dd-snr."""
        known = scale_named(scale)
        settings = {"p": "2", "eps": [known.eps()], "images": known.images}
        return [
            Measurement("onr_validation:accuracy", _model(known, t), settings, {"t": t})
            for t in (0.0, *known.mixtures, 1.0)
        ]

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw clean accuracy and accuracy under attack against ``t``."""
        eps = scale_named(scale).eps()
        figure, (axes,) = panels("from at (t = 0) to dd-snr (t = 1)")
        line(axes, chosen(table, eps=0.0), "t", label="clean", color="C0")
        line(axes, chosen(table, eps=eps), "t", label=f"attacked, eps {eps:g}", color="C3")
        axes.set(xlabel="t", ylabel="accuracy", ylim=(0, 1), xlim=(0, 1))
        legend(figure)
        return figure

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim that the two objectives can be traded off: accuracies hardly change with ``t``."""
        eps = scale_named(scale).eps()
        found = []
        for radius, name in ((0.0, "clean accuracy"), (eps, "accuracy at the eps of training")):
            values = [value(table, eps=radius, t=t) for t in sorted({row["t"] for row in table})]
            found.append(
                Claim(
                    "at and dd-snr can be traded off continuously (section 5.3)",
                    f"largest less smallest {name} over t",
                    largest(values) - least(values),
                    at_most=0.05,
                )
            )
        return found


def _model(scale: Scale, t: float) -> TrainConfig:
    ends = {0.0: "at", 1.0: "dd-snr"}
    if t in ends:
        return scale.model(ends[t])
    return scale.model("interpolate", options={"t": written(t)})
