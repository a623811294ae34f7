"""Fig. 12: deviation from linearity and largest singular value along l-infinity attacks."""

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
    """Linearity of the l2-trained networks of Fig. 4 along l-infinity attacks.

    Example:
        >>> [m.labels["method"] for m in Figure12().measurements("tiny")]
        ['standard', 'at', 'dd-snr', 'global-snr']

    """

    title = "Deviation from linearity and largest singular value along l-infinity attacks"

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure the linearity of each method's network along l-infinity attacks."""
        known = scale_named(scale)
        settings = {"p": "inf", "eps": known.distances["inf"], "images": known.jacobians}
        return of_methods(known, L2_METHODS, "onr_validation:linearity", settings)

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw the deviation (left) and the largest singular value (right) against distance."""
        return linearity_figure(table, L2_METHODS, scale_named(scale).eps())

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim the conclusions of Fig. 4 for l-infinity attacks."""
        eps = scale_named(scale).eps("at-linf")
        return linearity_claims(table, ("at", "dd-snr"), eps, "along l-infinity attacks (7.17)")
