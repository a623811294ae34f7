"""Fig. 15: accuracy against eps on SVHN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onr.experiments import Claim, Measurement
from onr.plots import legend, panels
from onr.typing import Row
from onr_validation.experiments.accuracy_curves import (
    accuracy_axes,
    equally_robust,
    more_robust,
    not_robust,
)
from onr_validation.experiments.common import L2_METHODS, of_methods
from onr_validation.reproduction.scales import scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Figure15"]


class Figure15:
    """The behaviour is comparable to that of Fig. 3."""

    title = "Accuracy against eps on SVHN, l2 attacks"

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Each method's network."""
        known = scale_named(scale)
        settings = {"p": "2", "eps": known.radii["2"], "images": known.images}
        return of_methods(known, L2_METHODS, "onr_validation:accuracy", settings, data="svhn")

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """One panel."""
        known = scale_named(scale)
        figure, (axes,) = panels(known.data_name("svhn"))
        accuracy_axes(axes, table, L2_METHODS, "2", known.eps())
        legend(figure)
        return figure

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """As for Fig. 3; none where one data set plays both roles, and these are its claims."""
        known = scale_named(scale)
        eps, where = known.eps(), f"on {known.data_name('svhn')} (section 7.19)"
        if known.data_name("svhn") == known.data_name("cifar10"):
            return []
        return [
            equally_robust(table, "at", "dd-snr", where),
            more_robust(table, ("at", "dd-snr"), eps, where),
            not_robust(table, "global-snr", where),
        ]
