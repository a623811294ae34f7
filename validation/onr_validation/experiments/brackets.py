"""Beyond the paper: the nine operator norms of the Jacobian before and after training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from onr.experiments import Claim, Measurement
from onr.plots import chosen, legend, panels
from onr.typing import Row
from onr_validation.experiments.common import L2_METHODS, of_methods
from onr_validation.reproduction.drawing import colour, least, ratio, value
from onr_validation.reproduction.scales import scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Brackets"]

NORMS = ("1", "2", "inf")
UNTRAINED = "random network"


class Brackets:
    """Both bounds of every (p, q) operator norm; the bounds meet where the norm is exact.

    Example:
        >>> found = Brackets().measurements("tiny")
        >>> len(found), found[0].labels["method"], found[0].trained
        (45, 'random network', False)

    """

    title = "All nine operator norms before and after training"

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure all nine norms of each method's network and of the untrained network."""
        known = scale_named(scale)
        found = []
        for p in NORMS:
            for q in NORMS:
                settings = {"p": p, "q": q, "images": known.jacobians}
                (drawn,) = of_methods(known, ("standard",), "onr_validation:norms", settings)
                labels = {**drawn.labels, "method": UNTRAINED}
                found.append(replace(drawn, labels=labels, trained=False))
                found += of_methods(known, L2_METHODS, "onr_validation:norms", settings)
        return found

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw a bar from the lower to the upper bound, each a mean over the images."""
        figure, (axes,) = panels("operator norms of the logits' Jacobian, mean over images")
        figure.set_size_inches(8, 4)
        pairs = [(p, q) for p in NORMS for q in NORMS]
        for index, method in enumerate((UNTRAINED, *L2_METHODS)):
            for place, (p, q) in enumerate(pairs):
                low, high = (
                    chosen(table, method=method, p=p, q=q, quantity=quantity)[0]["mean"]
                    for quantity in ("lower", "upper")
                )
                x = place + 0.15 * (index - 2)
                label = method if place == 0 else None
                axes.plot([x, x], [low, high], "-_", color=colour(method), label=label)
        axes.set_xticks(range(len(pairs)), [f"{p},{q}" for p, q in pairs])
        axes.set(xlabel="p, q", ylabel="||J||", yscale="log")
        legend(figure)
        return figure

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim that regularised networks have smaller norms and that all brackets are narrow."""
        pairs = [(p, q) for p in NORMS for q in NORMS]

        def bound(method: str, quantity: str, pair: tuple[str, str]) -> float:
            return value(table, method=method, p=pair[0], q=pair[1], quantity=quantity)

        return [
            Claim(
                "at and dd-snr dampen all nine norms (our own)",
                "lower bound of standard over the upper bounds of theirs, least of nine (p, q)",
                least(
                    ratio(bound("standard", "lower", pair), bound(method, "upper", pair))
                    for method in ("at", "dd-snr")
                    for pair in pairs
                ),
                at_least=2,
            ),
            Claim(
                "all nine norms are known within a fifth (our own)",
                "lower over upper bound, least of nine (p, q), five networks and all images",
                least(row["least"] for row in chosen(table, quantity="bracket")),
                at_least=1 / 1.2534,
            ),
        ]
