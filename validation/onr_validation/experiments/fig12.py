"""Fig. 12: as Fig. 4, along l-infinity attacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onr.experiments import Claim, Measurement
from onr.typing import Row
from onr_validation.experiments.common import L2_METHODS, of_methods
from onr_validation.experiments.linearity_panels import linearity_claims, linearity_figure
from onr_validation.reproduction.scales import scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Figure12"]


class Figure12:
    """Networks trained in l2."""

    title = "Deviation from linearity and largest singular value along l-infinity attacks"

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Each method's network."""
        known = scale_named(scale)
        settings = {"p": "inf", "eps": known.distances["inf"], "images": known.jacobians}
        return of_methods(known, L2_METHODS, "onr_validation:linearity", settings)

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """The paper's two panels."""
        return linearity_figure(table, L2_METHODS, scale_named(scale).eps())

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """The conclusions remain the same."""
        eps = scale_named(scale).eps("at-linf")
        return linearity_claims(table, ("at", "dd-snr"), eps, "along l-infinity attacks (7.17)")
