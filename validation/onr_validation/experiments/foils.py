"""The test of sections 7.2 and 7.3: input gradients, one-step attacks and the Frobenius norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onr.experiments import Claim, Measurement
from onr.plots import legend, panels
from onr.typing import Row
from onr_validation.experiments.accuracy_curves import accuracy_axes
from onr_validation.experiments.common import of_methods
from onr_validation.reproduction.drawing import value
from onr_validation.reproduction.scales import scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Foils"]

FOILS = {
    "input-gradient": ("dd-snr", "7.2"),
    "at-fgm": ("at", "7.2"),
    "frobenius": ("dd-snr", "7.3"),
}
"""For each foil the method that should protect more, and the section that says so."""
METHODS = ("standard", "at", "dd-snr", *FOILS)


class Foils:
    """Accuracy under attack of three foils, methods that protect less according to the paper.

    Example:
        >>> found = Foils().measurements("tiny")
        >>> sorted({m.labels["method"] for m in found if m.labels["method"] in FOILS})
        ['at-fgm', 'frobenius', 'input-gradient']

    """

    title = "Foils: input gradients, one-step attacks, the Frobenius norm"

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure the accuracy of each method's network under l2 attacks, with all seeds."""
        known = scale_named(scale)
        settings = {"p": "2", "eps": known.radii["2"], "images": known.images}
        return of_methods(known, METHODS, "onr_validation:accuracy", settings, seeds=known.seeds)

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw accuracy against eps for the foils and their rivals."""
        figure, (axes,) = panels("foils beside at and dd-snr")
        accuracy_axes(axes, table, METHODS, "2", scale_named(scale).eps())
        legend(figure)
        return figure

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim that foils are less robust at the eps of training at the same clean accuracy."""
        eps = scale_named(scale).eps()

        def less(foil: str, other: str, radius: float) -> float:
            return value(table, method=other, eps=radius) - value(table, method=foil, eps=radius)

        found = []
        for foil, (other, section) in FOILS.items():
            found += [
                Claim(
                    f"{foil} protects less than {other} against iterative attacks ({section})",
                    f"accuracy of {other} at the eps of training less its own",
                    less(foil, other, eps),
                    at_least=0.03,
                ),
                Claim(
                    f"{foil} is compared at the clean accuracy of {other} (our own)",
                    f"clean accuracy of {other} less its own",
                    less(foil, other, 0.0),
                    at_least=-0.03,
                    at_most=0.03,
                ),
            ]
        return found
