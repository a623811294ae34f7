"""Fig. 11: global SNR with 1 and with 10 iterations, accuracy and alignment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onr.experiments import Claim, Measurement
from onr.typing import Row
from onr_validation.experiments.accuracy_curves import largest_gap
from onr_validation.experiments.alignment_panels import align_alike
from onr_validation.experiments.curves_and_alignment import both_measurements, both_panels
from onr_validation.reproduction.scales import scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Figure11"]

METHODS = ("global-snr", "global-snr-10")


class Figure11:
    """Accuracy and alignment of global SNR (Yoshida and Miyato) with 1 and 10 iterations a step.

    Example:
        >>> [m.name for m in Figure11().measurements("tiny")][::2]
        ['onr_validation:accuracy', 'onr_validation:alignment']

    """

    title = "Global SNR with 1 and 10 iterations: accuracy and alignment"

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure the accuracy and the alignment of both networks."""
        return both_measurements(scale_named(scale), METHODS, "2")

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw the accuracy (left) and the alignment (right) against eps."""
        return both_panels(table, METHODS, "2", scale_named(scale).eps())

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim that ten iterations make no significant difference."""
        return [
            Claim(
                "10 iterations make no difference to the accuracy (section 7.16)",
                "largest difference in accuracy over eps",
                largest_gap(table, *METHODS),
                at_most=0.05,
            ),
            align_alike(table, *METHODS, "(section 7.16)"),
        ]
