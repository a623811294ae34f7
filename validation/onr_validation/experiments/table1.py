"""Table 1: the (p, q) operator norms, each entry against brute force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onr.experiments import Claim, Measurement
from onr.plots import chosen
from onr.typing import Row
from onr_validation.reproduction.scales import scale_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Table1"]

TRIALS = 30
NORMS = {"1": "l1", "2": "l2", "inf": "linf"}


class Table1:
    """The check of Table 1. It needs no network, so it is the same at every scale.

    Example:
        >>> [m.settings["trials"] for m in Table1().measurements("tiny")]
        [30]

    """

    title = "Computing (p, q) operator norms, each cell against brute force"

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        """Measure all entries of the table, in floats and in exact arithmetic."""
        scale_named(scale)
        return [Measurement("onr_validation:table1", settings={"trials": TRIALS})]

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        """Draw the table, with the failures and the largest deviation of each entry."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 2.6), layout="constrained")
        axes = figure.add_subplot()
        axes.axis("off")
        texts: list[list[str]] = []
        for p in NORMS:
            texts.append([])
            for q in NORMS:
                exact, rounded = (
                    chosen(table, p=p, q=q, arithmetic=name)[0] for name in ("exact", "float")
                )
                entry = exact["entry"].replace(" of ", "\nof ")
                texts[-1].append(
                    f"{entry}\nexact: {exact['failures']} of {exact['cases']} fail\n"
                    f"float64: within {rounded['deviation']:.0e}"
                )
        drawn = axes.table(
            texts,
            rowLabels=[f"domain {name}" for name in NORMS.values()],
            colLabels=[f"co-domain {name}" for name in NORMS.values()],
            cellLoc="center",
            loc="center",
        )
        drawn.auto_set_font_size(False)
        drawn.set_fontsize(8)
        drawn.scale(1, 3.2)
        for column in range(3):
            drawn[0, column].set_height(0.12)
        return figure

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        """Claim that no entry of the table fails."""
        return [
            Claim(
                "every cell of Table 1 is the norm that it says",
                f"cases that fail, of {sum(row['cases'] for row in table)}",
                float(sum(row["failures"] for row in table)),
                at_most=0,
            )
        ]
