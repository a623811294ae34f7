"""Two audits compared, as one HTML page."""

from __future__ import annotations

import math

from onr.auditing.differences import Differences, state
from onr.auditing.pages.axes import accuracy_axis, radius_axis
from onr.auditing.pages.charts import bands_chart, intervals_chart
from onr.auditing.pages.rendering import rendered
from onr.auditing.protocols import Flag
from onr.auditing.wording import eps_text, flag_number, percent, threat_text, title

__all__ = ["comparison_page"]


def comparison_page(found: Differences) -> bytes:
    """The page as UTF-8.

    Raises:
        ModuleNotFoundError: jinja2 is not installed.

    """
    places = [found.a["radii"].get(each.eps, 0.0) for each in found.accuracy]
    accuracy = bands_chart(
        radius_axis(found.a), accuracy_axis(), places, [each.a for each in found.accuracy], [],
        others={"B": [(place, each.b) for place, each in zip(places, found.accuracy, strict=True)]},
        mark=(found.a["radii"][eps_text(found.a)], "eps"),
        title="Accuracy over the radius, of A and of B.",
    )  # fmt: skip
    ratios = [each for each in found.changes if each.how == "ratio" and _finite(each.change)]
    return rendered(
        "comparison.html.jinja",
        a=title(found.a),
        b=title(found.b),
        threat=threat_text(found.a),
        comparison=found,
        accuracy=accuracy,
        ratios=intervals_chart(
            [(each.quantity, (each.low, each.change, each.high)) for each in ratios],
            label="B / A, median over images",
            title="; ".join(f"{each.quantity} {each.text}" for each in ratios),
        )
        if ratios
        else "",
        moved=[
            (each.eps, percent(each.a), percent(each.b), _split(each.text), each.gained, each.lost)
            for each in found.accuracy
        ],
        changes=[
            (each.quantity, *found.medians(each), _split(each.text), each.images)
            for each in found.changes
        ],
        flags=[
            (name, *((state(flag), _number(flag), flag.detail if flag else "") for flag in (a, b)))
            for name, a, b in found.flags
        ],
    )


def _split(text: str) -> tuple[str, str]:
    """A change and its interval."""
    change, _, interval = text.partition(" (")
    return change, interval.removesuffix(")")


def _number(flag: Flag | None) -> str:
    return "" if flag is None or flag.value is None else flag_number(flag)


def _finite(value: float) -> bool:
    return math.isfinite(value) and value > 0
