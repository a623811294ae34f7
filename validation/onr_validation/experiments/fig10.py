"""Fig. 10: global SNR with 1 and with 10 iterations, local linearity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onr.experiments import Claim, Measurement
from onr.typing import Row
from onr_validation.experiments.common import of_methods
from onr_validation.experiments.linearity_panels import linearity_figure
from onr_validation.reproduction.drawing import ratio, value
from onr_validation.reproduction.scales import scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Figure10"]

METHODS = ("global-snr", "global-snr-10")


class Figure10:
    """Linearity of global SNR (Yoshida and Miyato) with one and with ten power iterations a step.

    Example:
        >>> [m.labels["method"] for m in Figure10().measurements("tiny")]
        ['global-snr', 'global-snr-10']

    """

    title = "Global SNR with 1 and 10 iterations: linearity and largest singular value"

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure the linearity of both networks."""
        known = scale_named(scale)
        settings = {"p": "2", "eps": known.distances["2"], "images": known.jacobians}
        return of_methods(known, METHODS, "onr_validation:linearity", settings)

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw the deviation (left) and the largest singular value (right) against distance."""
        return linearity_figure(table, METHODS, scale_named(scale).eps())

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim that ten iterations make no significant difference."""
        eps = scale_named(scale).eps()

        def compared(quantity: str) -> float:
            one, ten = (
                value(table, method=m, quantity=quantity, direction="adversarial", eps=eps)
                for m in METHODS
            )
            return ratio(ten, one)

        return [
            Claim(
                f"10 iterations make no difference to the {name} (section 7.16)",
                "10 iterations over 1, adversarial, at the eps of training",
                compared(quantity),
                at_least=0.75,
                at_most=1.33,
            )
            for quantity, name in (
                ("deviation", "deviation from linearity"),
                ("sigma_1", "largest singular value"),
            )
        ]
