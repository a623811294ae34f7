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
    """Adversarial training and its equivalent, operator norm regularisation."""

    title = "Networks trained in l-infinity under l-infinity attacks: accuracy and alignment"

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Each method's network."""
        return both_measurements(scale_named(scale), LINF_METHODS, "inf")

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """The paper's two panels."""
        return both_panels(table, LINF_METHODS, "inf", scale_named(scale).eps("at-linf"))

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """As for Figs. 3 and 8; what is said of ``global-snr`` under attack is Fig. 13's."""
        eps, pair = scale_named(scale).eps("at-linf"), ("at-linf", "dd-onr")
        where = "in l-infinity (section 7.18)"
        return [
            equally_robust(table, *pair, where),
            more_robust(table, pair, eps, where),
            *alignment_claims(table, pair, ("global-snr", "standard"), where),
        ]
