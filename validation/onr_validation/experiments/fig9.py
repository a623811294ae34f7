"""Fig. 9: shared activations along adversarial directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onr.experiments import Claim, Measurement
from onr.plots import legend, panels
from onr.typing import Row
from onr_validation.experiments.activation_panels import activation_axes, larger_cells
from onr_validation.experiments.common import L2_METHODS, of_methods
from onr_validation.reproduction.scales import scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Figure9"]


class Figure9:
    """Units in the same state at an image and at the attacked image.

    Example:
        >>> [m.labels["method"] for m in Figure9().measurements("tiny")]
        ['standard', 'at', 'dd-snr', 'global-snr']

    """

    title = "Shared activations along adversarial directions"

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure the shared activations of each method's network along l2 attacks."""
        known = scale_named(scale)
        settings = {
            "around": "data",
            "direction": "adversarial",
            "eps": known.distances["2"],
            "images": known.jacobians,
        }
        return of_methods(known, L2_METHODS, "onr_validation:activations", settings)

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw the share of units in the same state against eps."""
        figure, (axes,) = panels("along l2 attacks")
        activation_axes(axes, table, L2_METHODS, scale_named(scale).eps())
        legend(figure)
        return figure

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim that ReLU cells are larger in adversarial directions too."""
        eps = scale_named(scale).eps()
        return [larger_cells(table, ("at", "dd-snr"), eps, "along attacks (section 7.15)")]
