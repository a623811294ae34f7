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
    """Accuracy under l2 attacks on SVHN, which behaves as Fig. 3 does on CIFAR-10.

    Example:
        >>> [m.labels["method"] for m in Figure15().measurements("tiny")]
        ['standard', 'at', 'dd-snr', 'global-snr']

    """

    title = "Accuracy against eps on SVHN, l2 attacks"

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure the accuracy of each method's network."""
        known = scale_named(scale)
        settings = {"p": "2", "eps": known.radii["2"], "images": known.images}
        return of_methods(known, L2_METHODS, "onr_validation:accuracy", settings, data="svhn")

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw accuracy against eps."""
        known = scale_named(scale)
        figure, (axes,) = panels(known.data_name("svhn"))
        accuracy_axes(axes, table, L2_METHODS, "2", known.eps())
        legend(figure)
        return figure

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim the conclusions of Fig. 3, unless one data set plays the roles of both figures."""
        known = scale_named(scale)
        eps, where = known.eps(), f"on {known.data_name('svhn')} (section 7.19)"
        if known.data_name("svhn") == known.data_name("cifar10"):
            return []
        return [
            equally_robust(table, "at", "dd-snr", where),
            more_robust(table, ("at", "dd-snr"), eps, where),
            not_robust(table, "global-snr", where),
        ]
