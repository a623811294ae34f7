"""Fig. 2: the singular value spectrum by method, and the alignment of attacks by rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onr.experiments import Claim, Measurement
from onr.plots import chosen, legend, line, panels
from onr.typing import Row
from onr_validation.experiments.common import L2_METHODS, for_own_methods, of_methods
from onr_validation.reproduction.drawing import colour, largest, least, ratio, value
from onr_validation.reproduction.scales import scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Figure2", "own"]


SHOWN = 1e-4
"""The figure leaves out singular values below this fraction of the largest."""


@dataclass(frozen=True, kw_only=True)
class Figure2:
    """Singular values of the features' Jacobian and |cos| of attacks with its vectors, by rank.

    Args:
        title: the title of the figure.
        methods: the methods' names in the figures; ``own`` draws those that the paper lacks.

    Example:
        >>> [m.labels["method"] for m in Figure2().measurements("tiny")]
        ['standard', 'at', 'dd-snr', 'global-snr']

    """

    title: str = "Singular value spectrum by method; alignment of attacks with singular vectors"
    methods: tuple[str, ...] = L2_METHODS

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure the spectrum and the alignment of each method's network."""
        known = scale_named(scale)
        settings = {"p": "2", "eps": known.eps(), "images": known.jacobians}
        return of_methods(known, self.methods, "onr_validation:spectrum", settings, reference=True)

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw the spectrum at clean and attacked images (left) and the alignment (right)."""
        figure, (left, right) = panels(
            "singular values of the features' Jacobian", "alignment of attacks with v_r"
        )
        for method in self.methods:
            rows = chosen(table, method=method)
            for of, style in (("clean", "-"), ("adversarial", ":")):
                label = method if of == "clean" else f"{method}, attacked"
                values = chosen(rows, quantity="singular value", of=of)
                line(left, values, "rank", label=label, color=colour(method), style=style)
            cosines = chosen(rows, quantity="cosine", of="trained")
            line(right, cosines, "rank", label=method, color=colour(method))
        random = chosen(table, method=self.methods[0], quantity="cosine", of="random")
        line(right, random, "rank", label="random network", color=colour("random network"))
        left.set(xlabel="rank r", ylabel="singular value", yscale="log", xscale="log")
        left.set_ylim(bottom=SHOWN * left.dataLim.y1)  # smaller values are rounding errors
        right.set(xlabel="rank r", ylabel="|cos(perturbation, v_r)|", xscale="log")
        legend(figure)
        return figure

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim that singular values are damped and that alignment falls with the rank."""

        def sigma(method: str) -> float:
            return value(table, method=method, quantity="singular value", of="clean", rank=1)

        def cosine(method: str, of: str = "trained") -> float:
            return value(table, method=method, quantity="cosine", of=of, rank=1)

        def later(method: str) -> float:
            rows = chosen(table, method=method, quantity="cosine", of="trained")
            known = [row["mean"] for row in rows if row["rank"] > 10 and row["mean"] is not None]
            return float(np.mean(known)) if known else float("nan")

        where = "(section 5.2)" if "standard" in self.methods else "(our own)"
        claims = [
            Claim(
                "attacks align with the dominant singular vector far more than with that of a "
                f"random network {where}",
                "|cos| at rank 1 over that of the network as it was drawn, least of the methods",
                least(ratio(cosine(method), cosine(method, "random")) for method in self.methods),
                at_least=3,
            ),
            Claim(
                f"alignment falls with the rank {where}",
                "|cos| at rank 1 over its mean beyond rank 10, least of the methods",
                least(ratio(cosine(method), later(method)) for method in self.methods),
                at_least=3,
            ),
        ]
        if "standard" not in self.methods:
            damped = largest((sigma("dd-onr-exact"), sigma("dd-snr-warm")))
            return [
                Claim(
                    "dd-onr-exact and dd-snr-warm dampen the singular values like dd-snr (our own)",
                    "the larger of their sigma_1 over that of dd-snr",
                    ratio(damped, sigma("dd-snr")),
                    at_most=1.25,
                ),
                *claims,
            ]
        return [
            Claim(
                "adversarial training and d.d. SNR dampen the singular values (section 5.2)",
                "sigma_1 of standard over the larger of at and dd-snr",
                ratio(sigma("standard"), largest((sigma("at"), sigma("dd-snr")))),
                at_least=2,
            ),
            Claim(
                "global SNR has almost no effect on them compared to standard (section 5.2)",
                "sigma_1 of global-snr over that of standard",
                ratio(sigma("global-snr"), sigma("standard")),
                at_least=0.5,
                at_most=2,
            ),
            *claims,
        ]


own = for_own_methods(Figure2, 2)
"""The figure for the two methods that the paper lacks, as a factory."""
