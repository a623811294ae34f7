"""Fig. 3: accuracy against the radius of the attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onr.experiments import Claim, Measurement
from onr.plots import chosen, legend, panels
from onr.typing import Row
from onr_validation.experiments.accuracy_curves import (
    accuracy_axes,
    equally_robust,
    more_robust,
    not_robust,
)
from onr_validation.experiments.common import L2_METHODS, for_own_methods, of_methods
from onr_validation.reproduction.scales import scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Figure3", "own"]

WIDE = ("standard", "at", "dd-snr")


@dataclass(frozen=True, kw_only=True)
class Figure3:
    """Accuracy under l2 attacks: CNN7 with all seeds, and the wide residual network with one.

    Args:
        title: the title of the figure.
        methods: the names of the methods to train CNN7 with.
        wide: the names of the methods to train the wide residual network with.

    Example:
        >>> found = Figure3(methods=("at",), wide=()).measurements("tiny")
        >>> [(m.labels["network"], m.labels["seed"]) for m in found]
        [('cnn7', 0), ('cnn7', 1), ('cnn7', 2)]

    """

    title: str = "Accuracy against eps: CNN7 and WRN, l2 attacks"
    methods: tuple[str, ...] = L2_METHODS
    wide: tuple[str, ...] = WIDE

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure the accuracy of each model under l2 attacks."""
        known = scale_named(scale)
        settings = {"p": "2", "eps": known.radii["2"], "images": known.images}
        cnn7 = of_methods(
            known,
            self.methods,
            "onr_validation:accuracy",
            settings,
            labels={"network": "cnn7"},
            seeds=known.seeds,
        )
        wide = of_methods(
            known,
            self.wide,
            "onr_validation:accuracy",
            {**settings, "images": known.wide_images},
            labels={"network": "wrn-28-10"},
            network="wrn-28-10",
        )
        return cnn7 + wide

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw a panel of accuracy against eps for each network."""
        known = scale_named(scale)
        eps = known.eps()
        shown = {name: rows for name in known.networks if (rows := chosen(table, network=name))}
        figure, axes = panels(*map(known.network_name, shown))
        for axis, (name, rows) in zip(axes, shown.items(), strict=True):
            accuracy_axes(axis, rows, self.methods if name == "cnn7" else self.wide, "2", eps)
        legend(figure)
        return figure

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim that at and dd-snr are equally robust, and that global SNR is not robust."""
        known = scale_named(scale)
        eps = known.eps()
        rows = chosen(table, network="cnn7")
        if not self.wide:
            return [
                equally_robust(rows, "at", method, "(our own)")
                for method in ("dd-onr-exact", "dd-snr-warm")
            ]
        wide, where = chosen(table, network="wrn-28-10"), known.network_name("wrn-28-10")
        return [
            equally_robust(rows, "at", "dd-snr", "(section 5.3)"),
            more_robust(rows, ("at", "dd-snr"), eps, "(section 5.3)"),
            not_robust(rows, "global-snr", "(section 5.3)"),
            equally_robust(wide, "at", "dd-snr", f"as {where} (Fig. 3)"),
            more_robust(wide, ("at", "dd-snr"), eps, f"as {where} (Fig. 3)"),
        ]


own = for_own_methods(Figure3, 3, wide=())
"""The figure for the two methods that the paper lacks, as a factory."""
