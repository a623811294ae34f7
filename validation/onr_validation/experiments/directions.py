"""Beyond the paper: attacks on trained networks beside the maximisers of all nine norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onr.experiments import Claim, Measurement
from onr.plots import chosen, legend, panels
from onr.typing import Row
from onr_validation.experiments.common import of_methods
from onr_validation.reproduction.drawing import colour, least, value
from onr_validation.reproduction.scales import scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Directions"]

METHODS = ("standard", "at", "dd-snr")
NORMS = ("1", "2", "inf")
SMALL = 0.01
"""The fraction of the radius of training at which trained networks are nearly linear."""


class Directions:
    """How nearly attacks and maximisers coincide beyond the ReLU cell; inside, Theorem 1 holds.

    Example:
        >>> found = Directions().measurements("tiny")
        >>> len(found), dict(found[0].labels)
        (54, {'radius': 'training', 'method': 'standard', 'seed': 0})

    """

    title = "Attacks beside the maximisers of all nine operator norms"

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure every pair (p, q) at the radius of training and at a hundredth of that radius."""
        known = scale_named(scale)
        return [
            measurement
            for size, factor in (("training", 1.0), ("small", SMALL))
            for p in NORMS
            for q in NORMS
            for measurement in of_methods(
                known,
                METHODS,
                "onr_validation:directions",
                {"p": p, "q": q, "eps": factor * known.radius[p], "images": known.jacobians},
                labels={"radius": size},
            )
        ]

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw |cos| of attack and power method (left) and the gain over the norm (right)."""
        figure, axes = panels(
            "|cos| of the attack with Eq. 12 from the same start",
            "gain of the attack's direction over the operator norm",
        )
        pairs = [(p, q) for p in NORMS for q in NORMS]
        for axis, quantity in zip(axes, ("power method", "gain"), strict=True):
            for shift, method in zip((-0.25, 0.0, 0.25), METHODS, strict=True):
                for size, marker in (("small", "o"), ("training", "x")):
                    rows = chosen(table, radius=size, method=method, quantity=quantity)
                    means = [value(rows, p=p, q=q) for p, q in pairs]
                    label = f"{method}, {'eps / 100' if size == 'small' else 'eps'}"
                    places = [place + shift for place in range(len(pairs))]
                    axis.plot(places, means, marker, color=colour(method), label=label)
            axis.set_xticks(range(len(pairs)), [f"{p},{q}" for p, q in pairs], fontsize="small")
            axis.set(xlabel="p, q", ylim=(0, 1.05))
        axes[0].set_ylabel("|cos(z, v)|")
        axes[1].set_ylabel("||J z||_q / (||z||_p ||J||)")
        legend(figure)
        return figure

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim that Theorem 1 holds on trained networks, and approximately beyond the cell."""

        def smallest(quantity: str, size: str) -> float:
            return least(
                value(table, radius=size, method=method, quantity=quantity, p=p, q=q)
                for method in ("at", "dd-snr")
                for p in NORMS
                for q in NORMS
            )

        return [
            Claim(
                "where the network is nearly linear, attack and power method are one (Theorem 1)",
                "mean |cos| of the two, least of nine (p, q), at and dd-snr, eps / 100",
                smallest("power method", "small"),
                at_least=0.95,
            ),
            Claim(
                "the correspondence holds approximately up to the eps of training (section 4.3)",
                "mean |cos| of the two, least of nine (p, q), at and dd-snr",
                smallest("power method", "training"),
                at_least=0.7,
            ),
            Claim(
                "the attack's direction attains most of the operator norm (our own)",
                "mean gain over the norm, least of nine (p, q), at and dd-snr, eps / 100",
                smallest("gain", "small"),
                at_least=0.8,
            ),
        ]
