"""Fig. 6: adversarial training with different step sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onr.experiments import Claim, Measurement
from onr.numerals import written
from onr.plots import chosen, legend, line, panels
from onr.training.config import TrainConfig
from onr.typing import Row
from onr_validation.reproduction.drawing import largest, least, training_eps, value
from onr_validation.reproduction.scales import Scale, scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Figure6", "with_step_size"]

USUAL = 2
"""The step size of every other figure, in ``eps / steps``."""
LEVEL = 0.03
"""The largest difference of two accuracies that count as level."""


def with_step_size(scale: Scale, factor: float) -> TrainConfig:
    """Adversarial training with the step size ``factor eps / steps``.

    The configuration for the usual factor names no step size, so that the model is the shared one.

    Example:
        >>> with_step_size(scale_named("tiny"), 5).method_options["alpha"]
        '0.5'

    """
    if factor == USUAL:
        return scale.model("at")
    return scale.model("at", options={"alpha": written(factor * scale.eps() / 10)})


class Figure6:
    """Robustness against the step size alpha: it rises, levels out, and stays level.

    Example:
        >>> [m.labels["alpha"] for m in Figure6().measurements("tiny")][:3]
        [0.01, 0.05, 0.1]

    """

    title = "Adversarial training against the step size alpha"

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure, for the model of each step size, the accuracy at the eps of training."""
        known = scale_named(scale)
        settings = {"p": "2", "eps": [known.eps()], "images": known.images}
        return [
            Measurement(
                "onr_validation:accuracy",
                with_step_size(known, factor),
                settings,
                {"method": "at", "alpha": factor * known.eps() / 10},
            )
            for factor in known.alphas
        ]

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw clean accuracy and accuracy under attack against alpha."""
        eps = scale_named(scale).eps()
        figure, (axes,) = panels("at with different step sizes")
        line(axes, chosen(table, eps=0.0), "alpha", label="clean", color="C0")
        line(axes, chosen(table, eps=eps), "alpha", label=f"attacked, eps {eps:g}", color="C3")
        training_eps(axes, USUAL * eps / 10)
        axes.get_lines()[-1].set_label("alpha of the attack at test time")
        axes.set(xlabel="alpha, pixels in [0, 1]", ylabel="accuracy", ylim=(0, 1), xscale="log")
        legend(figure)
        return figure

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim that robustness rises with alpha and then levels out."""
        eps = scale_named(scale).eps()
        attacked = chosen(table, eps=eps)
        alphas = sorted({row["alpha"] for row in attacked})
        robust = [value(attacked, alpha=alpha) for alpha in alphas]
        usual = value(attacked, alpha=USUAL * eps / 10)
        above = [a for alpha, a in zip(alphas, robust, strict=True) if alpha >= USUAL * eps / 10]
        return [
            Claim(
                "robustness initially rises with alpha (section 7.12)",
                "accuracy under attack at the usual alpha less that at the smallest",
                usual - robust[0],
                at_least=LEVEL,
            ),
            Claim(
                "after some threshold it levels out, even at very large alpha (section 7.12)",
                "largest less smallest accuracy under attack from the usual alpha on",
                largest(above) - least(above),
                at_most=LEVEL,
            ),
        ]
