"""Fig. 4: deviation from linearity and largest singular value against distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onr.experiments import Claim, Measurement
from onr.typing import Row
from onr_validation.experiments.common import L2_METHODS, for_own_methods, of_methods
from onr_validation.experiments.linearity_panels import linearity_claims, linearity_figure
from onr_validation.reproduction.drawing import ratio, value
from onr_validation.reproduction.scales import scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Figure4", "own"]


@dataclass(frozen=True, kw_only=True)
class Figure4:
    """Deviation from linearity and largest singular value along l2 attacks and random directions.

    Args:
        title: the title of the figure.
        methods: the methods' names in the figures.

    Example:
        >>> [m.labels["method"] for m in Figure4().measurements("tiny")]
        ['standard', 'at', 'dd-snr', 'global-snr']

    """

    title: str = "Deviation from linearity and largest singular value against distance"
    methods: tuple[str, ...] = L2_METHODS

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure the linearity of each method's network."""
        known = scale_named(scale)
        settings = {"p": "2", "eps": known.distances["2"], "images": known.jacobians}
        return of_methods(known, self.methods, "onr_validation:linearity", settings)

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw the deviation (left) and the largest singular value (right) against distance."""
        return linearity_figure(table, self.methods, scale_named(scale).eps())

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim that methods are more linear than standard, or (``own``) as linear as dd-snr."""
        eps = scale_named(scale).eps()
        if "standard" in self.methods:
            return linearity_claims(table, ("at", "dd-snr"), eps, "(section 5.4)")

        def deviation(method: str) -> float:
            return value(
                table, method=method, quantity="deviation", direction="adversarial", eps=eps
            )

        return [
            Claim(
                f"{method} is as linear as dd-snr (our own)",
                "its deviation over that of dd-snr, adversarial, at the eps of training",
                ratio(deviation(method), deviation("dd-snr")),
                at_most=1.25,
            )
            for method in ("dd-onr-exact", "dd-snr-warm")
        ]


own = for_own_methods(Figure4, 4)
"""The figure for the two methods that the paper lacks, as a factory."""
