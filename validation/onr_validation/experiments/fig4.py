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
    """Along l2 attacks and random directions."""

    title: str = "Deviation from linearity and largest singular value against distance"
    methods: tuple[str, ...] = L2_METHODS

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Each method's network."""
        known = scale_named(scale)
        settings = {"p": "2", "eps": known.distances["2"], "images": known.jacobians}
        return of_methods(known, self.methods, "onr_validation:linearity", settings)

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """The paper's two panels."""
        return linearity_figure(table, self.methods, scale_named(scale).eps())

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """More linear than standard; for the methods that the paper lacks, as linear as at."""
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
