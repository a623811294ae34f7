"""Fig. 13: networks trained in l2 under l-infinity attacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onr.experiments import Claim, Measurement
from onr.typing import Row
from onr_validation.experiments.accuracy_curves import equally_robust, more_robust, not_robust
from onr_validation.experiments.alignment_panels import alignment_claims
from onr_validation.experiments.common import L2_METHODS
from onr_validation.experiments.curves_and_alignment import both_measurements, both_panels
from onr_validation.reproduction.scales import scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Figure13"]


class Figure13:
    """Accuracy and alignment of networks trained in l2, under l-infinity attacks.

    Example:
        >>> [m.settings["p"] for m in Figure13().measurements("tiny")][:2]
        ['inf', 'inf']

    """

    title = "Networks trained in l2 under l-infinity attacks: accuracy and alignment"

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure the accuracy and the alignment of each method's network."""
        return both_measurements(scale_named(scale), L2_METHODS, "inf")

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw the accuracy (left) and the alignment (right) against eps."""
        return both_panels(table, L2_METHODS, "inf", scale_named(scale).eps("at-linf"))

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim the conclusions of Figs. 3 and 8 for l-infinity attacks."""
        eps = scale_named(scale).eps("at-linf")
        where = "under l-infinity attacks (section 7.17)"
        return [
            equally_robust(table, "at", "dd-snr", where),
            more_robust(table, ("at", "dd-snr"), eps, where),
            not_robust(table, "global-snr", where),
            *alignment_claims(table, ("at", "dd-snr"), ("global-snr", "standard"), where),
        ]
