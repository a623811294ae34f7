"""Sections 7.2 and 7.3, tested: input gradients, one-step attacks and the Frobenius norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onr.experiments import Claim, Measurement, Row
from onr_validation.experiments.accuracy_curves import accuracy_axes
from onr_validation.experiments.common import of_methods
from onr_validation.measurements.accuracy import accuracy
from onr_validation.reproduction.drawing import panels, value
from onr_validation.reproduction.scales import scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Foils"]

FOILS = {"input-gradient": "7.2", "at-fgm": "7.2", "frobenius": "7.3"}
METHODS = ("standard", "at", "dd-snr", *FOILS)


class Foils:
    """The paper argues that these protect less; here they are trained and attacked."""

    title = "Foils: input gradients, one-step attacks, the Frobenius norm"

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Accuracy under l2 attacks."""
        known = scale_named(scale)
        settings = {"p": "2", "radii": known.radii["2"], "images": known.images}
        return of_methods(known, METHODS, accuracy, settings)

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """One panel."""
        figure, (axes,) = panels("foils beside at and dd-snr")
        accuracy_axes(axes, table, METHODS, "2", scale_named(scale).eps())
        return figure

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Less robust than ``dd-snr`` at the eps of training."""
        eps = scale_named(scale).eps()

        def robust(method: str) -> float:
            return value(table, method=method, eps=eps)

        return [
            Claim(
                f"{method} protects less than dd-snr against iterative attacks (section {section})",
                "accuracy of dd-snr at the eps of training less its own",
                robust("dd-snr") - robust(method),
                at_least=0.02,
            )
            for method, section in FOILS.items()
        ]
