"""The audit as one HTML page, which needs no other file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from onr.attacks.multitargeted import MultiTargeted
from onr.auditing.checks.black_box import QUERIES, BlackBox
from onr.auditing.findings import doubt, findings
from onr.auditing.intervals import quantile, wilson
from onr.auditing.limits import limits
from onr.auditing.pages.axes import accuracy_axis, in_unit, radius_axis
from onr.auditing.pages.charts import (
    BOTTOM,
    HEIGHT,
    TOP,
    Axis,
    bands_chart,
    scatter_chart,
    strips_chart,
)
from onr.auditing.pages.rendering import rendered
from onr.auditing.pages.shown_images import failures, table, worst
from onr.auditing.protocols import Flag
from onr.auditing.results import Results, kinds, norms
from onr.auditing.wording import (
    class_name,
    counted,
    eps_text,
    figure,
    images_text,
    norm_text,
    options_text,
    percent,
    radius_text,
    threat_text,
    title,
    training_text,
    unit,
)
from onr.registry import load

__all__ = ["audit_page"]

BLACK_BOX = "black-box: broken"
"""The column of 1 where the black box of a check changes an image that the attack left."""
CLASSES = 50
"""How many classes the page has, the least robust ones."""
STATES = {True: "raised", False: "ok", None: "not checked"}


def audit_page(audit: Results) -> bytes:
    """The page as UTF-8.

    Raises:
        ModuleNotFoundError: jinja2 is not installed.

    """
    eps = eps_text(audit.record)
    correct = audit.measured & (audit.columns["predicted"] == audit.columns["label"])
    order = {"raised": 0, "not checked": 1, "ok": 2}
    flags = sorted(map(_flag, audit.flags), key=lambda each: order[each["state"]])
    return rendered(
        "audit.html.jinja",
        title=title(audit.record),
        threat=_threat(audit),
        doubt=doubt(audit),
        findings=findings(audit),
        raised=len(audit.raised),
        eps=eps,
        norm=norm_text(str(audit.record["p"])),
        accuracy=_accuracy(audit),
        radii=_radii(audit, correct),
        norms=_norms(audit),
        classes=_classes(audit, correct),
        linearity=_linearity(audit, correct),
        flags=flags,
        worst=worst(audit),
        maximiser=next(iter(norms(audit)), "norm").removeprefix("norm "),
        table=table(audit),
        limits=limits(audit),
        failures=failures(audit),
        settings=[(name, str(value)) for name, value in audit.record.items()],
    )


def _threat(audit: Results) -> list[tuple[str, str]]:
    """What was audited, as names and texts."""
    record, count = audit.record, len(audit.measured)
    failed = int((~audit.measured).sum())
    found = [
        ("Perturbations", threat_text(record)),
        ("Images", images_text(record) + (f"; {failed} could not be measured" if failed else "")),
        *_model(record),
        ("Attack", _attack(audit)),
        ("Labels", str(record.get("labels", "as given"))),
        ("Classes", figure(float(record.get("classes", math.nan)))),
    ]
    if "fingerprint" in record:
        found.append(("Fingerprint of the model", str(record["fingerprint"])[:16]))
    if "seconds" in record:
        passes, seconds = record["passes"] / count, record["seconds"] / count
        found.append(("Cost of an image", f"{figure(passes)} passes, {figure(seconds)} seconds"))
    versions = record.get("versions")
    if isinstance(versions, Mapping):
        found.append(("Versions", ", ".join(f"{name} {each}" for name, each in versions.items())))
    return found


def _model(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The architecture and the training of the model, as far as they are known."""
    options = record.get("model_options")
    found = []
    if record.get("model"):
        text = options_text(options) if isinstance(options, Mapping) else ""
        found.append(("Model", str(record["model"]) + (f", {text}" if text else "")))
    trained = training_text(record)
    return [*found, ("Trained with", trained)] if trained else found


def _attack(audit: Results) -> str:
    """The attack and what it may spend, in words."""
    record, attack = audit.record, MultiTargeted(p=2, eps=1)
    eps, radii = eps_text(record), list(record["radii"])
    steps, fewer = attack.steps, attack.steps // 2
    text = (
        f"multitargeted, from the smallest radius to the largest, on the images that are still "
        f"correct: up to {fewer} steps ({steps} at {radii[-1]}) on the margin, from a random start "
        f"or from what a smaller radius gave, then as many towards each of the {attack.targets} "
        f"nearest classes. At {eps}, what is left is attacked once more from a new random start, "
        f"with {steps} steps each."
    )
    if BLACK_BOX in audit.columns:
        few = BlackBox.images // (5 if record.get("fast") else 1)
        text += (
            f" Then Square, a search without gradients: {QUERIES:,} queries at {eps} for each "
            f"image that is left of the first {few:,}."
        )
    return text


def _accuracy(audit: Results) -> dict[str, Any]:
    curve, record = audit.curve, audit.record
    eps = eps_text(record)
    others: dict[str, list[tuple[float, float]]] = {}
    rows = []
    broken = audit.columns.get(BLACK_BOX, np.array([]))
    looked = ~np.isnan(broken)
    if looked.any():
        hits, count = int((audit.columns[f"robust at {eps}"] - broken)[looked].sum()), looked.sum()
        low, high = wilson(hits, count)
        others["after Square as well"] = [(record["radii"][eps], hits / count)]
        rows.append(
            ("multitargeted, then Square", eps, *map(percent, (hits / count, low, high)), count)
        )
    columns = {name: [row[name] for row in curve] for name in ("radius", "accuracy", "low", "high")}
    last = curve[-1]
    chart = bands_chart(
        radius_axis(record), accuracy_axis(), columns["radius"], columns["accuracy"],
        [(columns["low"], columns["high"])],
        others=others,
        mark=(record["radii"][eps], "eps"),
        title=f"Accuracy falls from {percent(curve[0]['accuracy'])} without an attack to "
        f"{percent(last['accuracy'])} at radius {last['eps']}.",
    )  # fmt: skip
    return {
        "chart": chart,
        "rows": [
            (
                "multitargeted" if row["radius"] else "no attack",
                row["eps"],
                *(percent(row[name]) for name in ("accuracy", "low", "high")),
                row["images"],
            )
            for row in curve
        ]
        + rows,
        "black_box": bool(others),
    }


def _radii(audit: Results, correct: np.ndarray) -> dict[str, Any]:
    columns, eps = audit.columns, eps_text(audit.record)
    if "radius found" not in columns or "first-order radius" not in columns:
        return {}
    first, found = columns["first-order radius"], columns["radius found"]
    shown = correct & np.isfinite(first) & (first > 0) & (found > 0)
    exact = ~np.isnan(columns.get("exact radius", np.full(len(first), np.nan)))
    scale = unit(eps)
    both = shown & np.isfinite(found)
    ratio = found[both] / first[both]
    return {
        "chart": scatter_chart(
            first[shown] * scale,
            found[shown] * scale,
            exact[shown],
            labels=(f"first-order radius{in_unit(eps)}", f"radius found{in_unit(eps)}"),
            title=f"The radius that the attack found against the first-order radius, "
            f"{counted(int(shown.sum()), 'image')}.",
        )
        if shown.any()
        else "",
        "per": in_unit(eps),
        "wrong": int((audit.measured & ~correct).sum()),
        "flat": int((correct & np.isposinf(first)).sum()),
        "missing": int(np.isposinf(found[correct]).sum()),
        "largest": list(audit.record["radii"])[-1],
        "exact": int((exact & correct).sum()),
        "ratio": figure(float(np.median(ratio))) if len(ratio) else "–",
        "quantiles": [
            _quantiles(text, values, scale)
            for text, values in (
                ("first-order radius", first[correct]),
                ("radius found", found[correct]),
                ("exact radius", columns.get("exact radius", first * np.nan)[correct]),
            )
            if len(values) and not np.isnan(values).all()
        ],
    }


def _quantiles(text: str, values: np.ndarray, scale: float = 1.0) -> tuple[Any, ...]:
    """A row of a table: 5, 50 and 95 % with intervals, and the number of images."""
    cells = []
    for q in (0.05, 0.5, 0.95):
        middle, *ends = (each * scale for each in quantile(values, q))
        low, high = ("?" if math.isinf(each) else figure(each) for each in ends)
        interval = "no interval" if low == high == "?" else f"{low} to {high}"
        cells.append(("not found" if math.isinf(middle) else figure(middle), interval))
    return (text, cells, f"{int((~np.isnan(values)).sum()):,}")


def _norms(audit: Results) -> dict[str, Any]:
    names = norms(audit)
    known = [name for name in names if not np.isnan(audit.columns[name]).all()]
    if not known:
        return {}
    label = {name: f"{name.removeprefix('norm ')} ({kinds(audit, name)})" for name in known}
    values = {name: audit.columns[name][~np.isnan(audit.columns[name])] for name in known}
    return {
        "chart": strips_chart(
            [(label[name], values[name]) for name in known],
            label="operator norm of the Jacobian",
            title="How the operator norms are distributed over the images.",
        ),
        "rows": [_quantiles(label[name], values[name]) for name in known],
        "zero": [name for name in known if not (values[name] > 0).all()],
    }


def _classes(audit: Results, correct: np.ndarray) -> dict[str, Any]:
    """A row for each label, the least robust first."""
    columns, eps = audit.columns, eps_text(audit.record)
    robust = columns[f"robust at {eps}"] == 1
    first = next(iter(norms(audit)), None)
    found = []
    for label in np.unique(columns["label"][audit.measured]):
        members = audit.measured & (columns["label"] == label)
        count = int(members.sum())
        good = members & correct
        radius = columns.get("radius found", np.full(len(members), np.nan))[good]
        typical = _half_changed(radius)
        targets = columns.get("class found", np.full(len(members), np.nan))[good]
        targets, often = np.unique(targets[~np.isnan(targets)], return_counts=True)
        sizes = columns[first][members] if first else np.array([math.nan])
        low, high = wilson(int(robust[members].sum()), count)
        found.append(
            (
                float(robust[members].mean()),
                (
                    class_name(audit.record, label),
                    f"{count:,}",
                    percent(good.sum() / count),
                    f"{percent(robust[members].mean())} ({100 * low:.0f} to {100 * high:.0f})",
                    "not found" if math.isinf(typical) else radius_text(typical, eps),
                    class_name(audit.record, targets[often.argmax()]) if len(targets) else "–",
                    figure(quantile(sizes, 0.5)[0]),
                ),
            )
        )
    found.sort(key=lambda each: each[0])
    return {
        "rows": [row for _, row in found[:CLASSES]],
        "of": len(found),
        "norm": first.removeprefix("norm ") if first else "",
    }


def _half_changed(radii: np.ndarray) -> float:
    """The smallest radius within which at least half of the images are changed; NaN of none.

    Example:
        >>> _half_changed(np.array([1.0, 2.0, 10.0, math.inf]))
        2.0

    """
    known = np.sort(radii[~np.isnan(radii)])
    return float(known[(len(known) - 1) // 2]) if len(known) else math.nan


def _linearity(audit: Results, correct: np.ndarray) -> dict[str, Any]:
    columns, record = audit.columns, audit.record
    known = {
        text: columns[f"rho at {text}"][~np.isnan(columns[f"rho at {text}"])]
        for text in record["radii"]
        if f"rho at {text}" in columns
    }
    known = {text: values for text, values in known.items() if np.isfinite(values).any()}
    if not known:
        return {}
    finite = [values[np.isfinite(values)] for values in known.values()]
    qs = np.array([np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]) for values in finite]).T
    low, high = min(0.0, float(qs.min())), max(1.25, float(qs.max()) * 1.05)
    y = Axis(low, high, HEIGHT - BOTTOM, TOP, label="rho")
    chart = bands_chart(
        radius_axis(record),
        y,
        [record["radii"][text] for text in known],
        list(qs[2]),
        [(qs[0], qs[4]), (qs[1], qs[3])],
        level=(1.0, "linear"),
        title="rho over the radius: "
        + ", ".join(f"{figure(m)} at {text}" for text, m in zip(known, qs[2], strict=True)),
    )
    cell = columns.get("cell radius", np.array([]))
    cell = cell[~np.isnan(cell)]
    exact = columns.get("exact radius", np.full(len(correct), np.nan))[correct]
    exact = exact[~np.isnan(exact)]
    eps = eps_text(record)
    at_eps = columns.get(f"rho at {eps}", np.full(len(correct), np.nan))
    at_eps = at_eps[columns[f"robust at {eps}"] == 1]
    left = [_quantiles(f"{eps}, left by the attack", at_eps)] if np.isfinite(at_eps).any() else []
    return {
        "chart": chart,
        "rows": [_quantiles(text, values) for text, values in known.items()] + left,
        "cells": len(cell),
        "cell": ", ".join(radius_text(each, eps) for each in cell[:10]),
        "exact": ", ".join(radius_text(each, eps) for each in exact[:10]),
        "exacts": len(exact),
    }


def _flag(flag: Flag) -> dict[str, Any]:
    """A flag with what its check says, if the check is installed."""
    found = {
        "name": flag.name,
        "state": STATES[flag.raised],
        "value": "–" if flag.value is None else figure(flag.value),
        "threshold": f"{flag.comparison} {figure(flag.threshold)}",
        "source": flag.source,
        "detail": flag.detail,
        "images": counted(flag.images, "image") if flag.images else "",
        "number": "",
        "summary": "",
        "meaning": "",
        "remedy": "",
    }
    try:
        check = load("check", flag.name)()
    except Exception:  # a plugin that is gone, or broken: the flag itself is shown
        return found
    texts = ("number", "summary", "meaning", "remedy")
    return found | {name: getattr(check, name, "") for name in texts}
