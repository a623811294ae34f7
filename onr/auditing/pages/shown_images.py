"""The images on the page of an audit: the worst as pictures, the table, and the failures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onr.auditing.pages.png import data_uri
from onr.auditing.results import Results, norms
from onr.auditing.wording import class_name, eps_text, figure, radius_text

__all__ = ["failures", "table", "worst"]

ROWS = 2000
"""How many images the table of the page has."""
FAILURES = 50
"""How many images that could not be measured are listed."""


def worst(audit: Results, /) -> list[dict[str, Any]]:
    """The images that the smallest perturbations change, with their pictures; most fragile first.

    Example:
        >>> worst(Results({"eps": "1", "radii": {"1": 1.0}}, {}))
        []

    """
    pictures, columns, record = audit.worst, audit.columns, audit.record
    eps, found = eps_text(record), []
    low, high = record.get("bounds", (0.0, 1.0))
    for place, image, v, delta in zip(
        pictures.get("place", ()),
        pictures.get("image", ()),
        pictures.get("maximiser", ()),
        pictures.get("perturbation", ()),
        strict=True,
    ):
        at = int(place)
        radius = float(columns["radius found"][at])
        found.append(
            {
                "image": _image_name(audit, at),
                "label": class_name(record, columns["label"][at]),
                "target": class_name(record, columns["class found"][at]),
                "radius": "none found" if math.isinf(radius) else radius_text(radius, eps),
                "first": radius_text(float(columns["first-order radius"][at]), eps),
                "within": _within(audit, at),
                "pictures": (
                    data_uri((image.astype(np.float64) - low) / (high - low)),
                    data_uri(v, signed=True),
                    data_uri(delta, signed=True),
                ),
            }
        )
    return found


def _within(audit: Results, place: int) -> str:
    """The radius within which the perturbation of an image lies: that at which it was broken."""
    radii: list[str] = list(audit.record["radii"])
    left = [text for text in radii if audit.columns[f"robust at {text}"][place] != 1]
    return (left or radii[-1:])[0]


def table(audit: Results, /) -> dict[str, Any]:
    """The important columns of the table, the worst correct images first, then the others.

    Example:
        >>> columns = {"label": np.zeros(1), "predicted": np.ones(1), "failure": np.array([""])}
        >>> table(Results({"eps": "1", "radii": {"1": 1.0}}, columns))["head"]
        ['image', 'label', 'predicted']

    """
    columns, record = audit.columns, audit.record
    eps, count = eps_text(record), len(audit.measured)
    nothing = np.full(count, np.nan)
    found, first = (columns.get(name, nothing) for name in ("radius found", "first-order radius"))
    wrong = columns["predicted"] != columns["label"]
    order = np.lexsort((first, found, wrong, ~audit.measured))[:ROWS]
    largest = list(record["radii"])[-1]
    shown: list[tuple[str, Any]] = [("image", lambda k: (_image_name(audit, k), ""))]

    def named(column: str) -> Any:
        values = columns.get(column, nothing)
        return lambda k: (class_name(record, float(values[k])), "")

    def number(column: str) -> Any:
        return lambda k: (figure(float(columns[column][k])), _sortable(float(columns[column][k])))

    def radius(column: str) -> Any:
        def cell(k: int) -> tuple[str, str]:
            value = float(columns[column][k])
            missing = f"> {largest}" if column == "radius found" else "∞"
            return missing if math.isinf(value) else radius_text(value, eps), _sortable(value)

        return cell

    shown += [("label", named("label")), ("predicted", named("predicted"))]
    for column in ("margin", *norms(audit)[:1]):
        if column in columns:
            shown.append((column, number(column)))
    for column in ("first-order radius", "radius found"):
        if column in columns:
            shown.append((column, radius(column)))
    if "class found" in columns:
        shown.append(("changed to", named("class found")))
    for column in (f"rho at {eps}", "alignment"):
        if column in columns:
            shown.append((column, number(column)))
    if not audit.measured.all():
        shown.append(("failure", lambda k: (str(columns["failure"][k]), "")))
    return {
        "head": [name for name, _ in shown],
        "rows": [[cell(int(k)) for _, cell in shown] for k in order],
        "of": count,
        "more": len(columns) - len(shown),
    }


def _sortable(value: float) -> str:
    """A number as the script of the page reads it."""
    return f"{value}".replace("inf", "Infinity")


def failures(audit: Results, /) -> dict[str, Any]:
    """The images that could not be measured, and why.

    Example:
        >>> failures(Results({}, {"failure": np.array(["", "a pixel is NaN"])}))
        {'rows': [('1', 'a pixel is NaN')], 'of': 1}

    """
    failed = np.flatnonzero(~audit.measured)
    rows = [(_image_name(audit, int(k)), str(audit.columns["failure"][k])) for k in failed]
    return {"rows": rows[:FAILURES], "of": len(rows)}


def _image_name(audit: Results, place: int) -> str:
    number = audit.columns["image"][place] if "image" in audit.columns else place
    name = audit.columns["file"][place] if "file" in audit.columns else ""
    return f"{int(number)} {name}".strip()
