"""Fig. 14: networks trained in l-infinity, by attacks or by the (inf, 2) norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onr.experiments import Claim, Measurement
from onr.typing import Row
from onr_validation.experiments.accuracy_curves import equally_robust, more_robust
from onr_validation.experiments.alignment_panels import alignment_claims
from onr_validation.experiments.common import LINF_METHODS
from onr_validation.experiments.curves_and_alignment import both_measurements, both_panels
from onr_validation.reproduction.scales import scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Figure14"]


class Figure14:
    """Adversarial training in l-infinity beside its equivalent, operator norm regularisation.

    Example:
        >>> [m.labels["method"] for m in Figure14().measurements("tiny")][:4]
        ['standard', 'at-linf', 'dd-onr', 'global-snr']

    """

    title = "Networks trained in l-infinity under l-infinity attacks: accuracy and alignment"

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure the accuracy and the alignment of each method's network."""
        return both_measurements(scale_named(scale), LINF_METHODS, "inf")

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw the accuracy (left) and the alignment (right) against eps."""
        return both_panels(table, LINF_METHODS, "inf", scale_named(scale).eps("at-linf"))

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim the conclusions of Figs. 3 and 8, except for ``global-snr``, which Fig. 13 has."""
        eps, pair = scale_named(scale).eps("at-linf"), ("at-linf", "dd-onr")
        where = "in l-infinity (section 7.18)"
        return [
            equally_robust(table, *pair, where),
            more_robust(table, pair, eps, where),
            *alignment_claims(table, pair, ("global-snr", "standard"), where),
        ]
