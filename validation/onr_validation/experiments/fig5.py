"""Fig. 5: shared activations around data, and around uniform noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onr.experiments import Claim, Measurement
from onr.plots import chosen, legend, panels
from onr.typing import Row
from onr_validation.experiments.activation_panels import (
    activation_axes,
    changed_ratio,
    larger_cells,
)
from onr_validation.experiments.common import L2_METHODS, for_own_methods, of_methods
from onr_validation.reproduction.drawing import largest, ratio
from onr_validation.reproduction.scales import scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Figure5", "own"]


@dataclass(frozen=True, kw_only=True)
class Figure5:
    """Shared activations in random directions: regularisation acts on data and hardly on noise.

    Args:
        title: the title of the figure.
        methods: the methods' names in the figures.

    Example:
        >>> found = Figure5(methods=("at",)).measurements("tiny")
        >>> [(m.labels["method"], m.settings["around"]) for m in found]
        [('standard', 'data'), ('at', 'data'), ('standard', 'noise'), ('at', 'noise')]

    """

    title: str = "Shared activations around data and around noise, random directions"
    methods: tuple[str, ...] = L2_METHODS

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure the shared activations of each method's network around data and around noise."""
        known = scale_named(scale)
        settings = {"eps": known.distances["2"], "images": known.jacobians, "direction": "random"}
        return [
            measurement
            for around in ("data", "noise")
            for measurement in of_methods(
                known,
                ("standard", *self.others),
                "onr_validation:activations",
                {**settings, "around": around},
            )
        ]

    @property
    def others(self) -> tuple[str, ...]:
        """All methods except ``standard``, which the others are compared with."""
        return tuple(method for method in self.methods if method != "standard")

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw shared activations against eps around images (left) and noise (right)."""
        figure, axes = panels("around test images", "around uniform noise")
        eps = scale_named(scale).eps()
        for axis, around in zip(axes, ("data", "noise"), strict=True):
            rows = chosen(table, around=around)
            activation_axes(axis, rows, ("standard", *self.others), eps)
        lowest = min(axis.get_ylim()[0] for axis in axes)
        for axis in axes:
            axis.set_ylim(bottom=lowest)
        legend(figure)
        return figure

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim that the ReLU cells are larger around data and unchanged around noise."""
        eps = scale_named(scale).eps()
        mine = [method for method in self.others if method in ("dd-onr-exact", "dd-snr-warm")]
        methods = tuple(mine) or ("at", "dd-snr")
        where = "(our own)" if mine else "(section 5.5)"
        noise = chosen(table, around="noise")
        ratios = [changed_ratio(noise, method, eps) for method in methods]
        return [
            larger_cells(chosen(table, around="data"), methods, eps, where),
            Claim(
                f"{' and '.join(methods)} have no effect away from data {where}",
                "units that change with standard over those that change with it, around noise, "
                "or the inverse, largest of both",
                largest(each for found in ratios for each in (found, ratio(1.0, found))),
                at_most=1.25,
            ),
        ]


own = for_own_methods(Figure5, 5)
"""The figure for the two methods that the paper lacks, as a factory."""
