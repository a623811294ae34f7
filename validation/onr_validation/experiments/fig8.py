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
    """Alignment of attacks with the dominant singular vector of the logits' Jacobian.

    Alignment is the cosine and also the centred correlation, which the paper's code computes.

    Args:
        title: the title of the figure.
        methods: the methods' names in the figures.

    Example:
        >>> [m.labels["method"] for m in Figure8().measurements("tiny")]
        ['standard', 'at', 'dd-snr', 'global-snr']

    """

    title: str = "Alignment of attacks with the dominant singular vector against eps"
    methods: tuple[str, ...] = L2_METHODS

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure the alignment of attacks on each method's network."""
        known = scale_named(scale)
        settings = {"p": "2", "eps": known.radii["2"], "images": known.images}
        return of_methods(known, self.methods, "onr_validation:alignment", settings)

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw the cosine (left) and the centred correlation (right) against eps."""
        figure, axes = panels("cosine", "centred correlation, as in the paper's code")
        eps = scale_named(scale).eps()
        for axis, quantity in zip(axes, ("cosine", "correlation"), strict=True):
            alignment_axes(axis, table, self.methods, "2", eps, quantity)
        legend(figure)
        return figure

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim what section 7.14 says, and that cosine and correlation agree."""
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
"""The figure for the two methods that the paper lacks, as a factory."""
