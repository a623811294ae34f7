"""Fig. 8: alignment of attacks with the dominant singular vector against eps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onr.experiments import Claim, Measurement
from onr.plots import legend, panels
from onr.typing import Row
from onr_validation.experiments.alignment_panels import (
    align_alike,
    alignment_axes,
    alignment_claims,
)
from onr_validation.experiments.common import L2_METHODS, for_own_methods, of_methods
from onr_validation.reproduction.drawing import largest, value
from onr_validation.reproduction.scales import scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Figure8", "own"]


@dataclass(frozen=True, kw_only=True)
class Figure8:
    """With the logits' Jacobian, by cosine and, as the paper's code has it, by correlation."""

    title: str = "Alignment of attacks with the dominant singular vector against eps"
    methods: tuple[str, ...] = L2_METHODS

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Each method's network."""
        known = scale_named(scale)
        settings = {"p": "2", "eps": known.radii["2"], "images": known.images}
        return of_methods(known, self.methods, "onr_validation:alignment", settings)

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Left the cosine, right the centred correlation."""
        figure, axes = panels("cosine", "centred correlation, as in the paper's code")
        eps = scale_named(scale).eps()
        for axis, quantity in zip(axes, ("cosine", "correlation"), strict=True):
            alignment_axes(axis, table, self.methods, "2", eps, quantity)
        legend(figure)
        return figure

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Section 7.14; and that the two measures agree."""
        eps = scale_named(scale).eps()

        if "standard" not in self.methods:
            others = ("dd-onr-exact", "dd-snr-warm")
            return [align_alike(table, "dd-snr", method, "(our own)") for method in others]

        def differ(method: str) -> float:
            cosine, correlation = (
                value(table, method=method, quantity=q, direction="adversarial", eps=eps)
                for q in ("cosine", "correlation")
            )
            return abs(cosine - correlation)

        agree = Claim(
            "cosine and centred correlation say the same (our own)",
            "their largest difference at the eps of training",
            largest(map(differ, self.methods)),
            at_most=0.05,
        )
        others = ("global-snr", "standard")
        return [*alignment_claims(table, ("at", "dd-snr"), others, "(section 7.14)"), agree]


own = for_own_methods(Figure8, 8)
