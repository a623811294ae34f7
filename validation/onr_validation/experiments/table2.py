"""Table 2: test accuracies and hyper-parameters by method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from onr.experiments import Claim, Measurement
from onr.plots import chosen
from onr.typing import Row
from onr_validation.reproduction.drawing import colour, value
from onr_validation.reproduction.scales import scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Table2"]

MODELS = {
    "cnn7": ("standard", "at", "at-linf", "dd-snr", "dd-onr", "global-snr"),
    "wrn-28-10": ("standard", "at", "dd-snr"),
}
MATCHED = (
    ("cnn7", "dd-snr", "at"),
    ("cnn7", "dd-onr", "at-linf"),
    ("cnn7", "global-snr", "at"),
    ("wrn-28-10", "dd-snr", "at"),
)
"""Triples of a network, a method, and the method whose clean accuracy the first one should meet."""


class Table2:
    """Clean accuracy of each model, and its accuracy under l2 and l-infinity attacks.

    Example:
        >>> found = Table2().measurements("tiny")
        >>> len(found), found[0].labels["hyper-parameters"]
        (42, 'none')

    """

    title = "Test accuracies and hyper-parameters by method"

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure each model (CNN7 with all seeds) under l2 and l-infinity attacks."""
        known = scale_named(scale)
        found = []
        for network, methods in MODELS.items():
            for method in methods:
                for seed in known.seeds if network == "cnn7" else known.seeds[:1]:
                    model = known.model(method, network=network, seed=seed)
                    options = ", ".join(f"{k} {v}" for k, v in model.method_options.items())
                    labels: dict[str, str | float] = {
                        "network": network,
                        "model": known.network_name(network),
                        "method": method,
                        "hyper-parameters": options or "none",
                        "seed": seed,
                    }
                    for p in ("2", "inf"):
                        images = known.images if network == "cnn7" else known.wide_images
                        settings = {"p": p, "eps": known.radii[p], "images": images}
                        found.append(
                            Measurement("onr_validation:accuracy", model, settings, labels)
                        )
        return found

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw a row for each model: the mean over seeds, every seed, and standard errors."""
        from matplotlib.figure import Figure

        known = scale_named(scale)
        shown = [(network, method) for network, methods in MODELS.items() for method in methods]
        figure = Figure(figsize=(10, 0.8 + 0.5 * len(shown)), layout="constrained")
        axes = figure.add_subplot()
        radii = (("2", 0.0, "o"), ("2", known.eps("at"), "s"), ("inf", known.eps("at-linf"), "^"))
        for place, (network, method) in enumerate(shown):
            for p, eps, marker in radii:
                rows = chosen(table, network=network, method=method, p=p, eps=eps)
                if not rows:
                    continue
                means = [row["mean"] for row in rows]
                axes.scatter(means, [place] * len(means), s=8, color="0.6", zorder=1)
                axes.errorbar(
                    np.mean(means),
                    place,
                    xerr=np.mean([row["standard_error"] for row in rows]),
                    fmt=marker,
                    color=colour(method),
                    capsize=2,
                    markerfacecolor=colour(method) if p == "2" and eps == 0 else "white",
                )
                above = (0, 7)
                label = f"{np.mean(means):.1%}"
                axes.annotate(
                    label,
                    (float(np.mean(means)), place),
                    above,
                    textcoords="offset points",
                    ha="center",
                    fontsize="x-small",
                )
        names = [
            f"{method}, {known.network_name(network)}\n"
            f"{chosen(table, network=network, method=method)[0]['hyper-parameters']}"
            for network, method in shown
        ]
        axes.set_yticks(range(len(shown)), names, fontsize="small")
        axes.invert_yaxis()
        axes.set(xlabel="test accuracy", xlim=(-0.03, 1))
        for _, eps, marker in radii:
            name = "clean" if eps == 0 else f"l2 {eps:g}" if marker == "s" else f"linf {eps:.3g}"
            face = "0.3" if eps == 0 else "white"
            axes.plot([], [], marker, color="0.3", markerfacecolor=face, label=name)
        figure.legend(fontsize="small", loc="outside upper center", ncols=len(radii))
        axes.grid(axis="x", alpha=0.3)
        return figure

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim that clean accuracies agree, since the constants were chosen for that."""
        known = scale_named(scale)

        def clean(network: str, method: str) -> float:
            return value(table, network=network, method=method, p="2", eps=0.0)

        return [
            Claim(
                f"{method} has roughly the clean accuracy of {other} as "
                f"{known.network_name(network)} (section 7.10)",
                f"clean accuracy of {method} less that of {other}",
                clean(network, method) - clean(network, other),
                at_least=-0.03,
                at_most=0.03,
            )
            for network, method, other in MATCHED
        ]
