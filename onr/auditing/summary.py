"""The audit as text of one screen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from onr.auditing.findings import findings
from onr.auditing.intervals import quantile
from onr.auditing.results import Results, kinds, norms
from onr.auditing.wording import (
    counted,
    eps_text,
    figure,
    flag_number,
    images_text,
    radius_text,
    threat_text,
    title,
)
from onr.numerals import hundredths

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["WIDTH", "clipped", "styled", "summary", "table", "wrapped"]

WIDTH = 100
MOST_NORMS = 6
MOST_FAILURES = 3
STYLES = {
    r"(?m)^  RAISED .*": "bold red",
    r"(?m)^  not checked .*": "yellow",
    r"(?m)^(Accuracy|Sensitivity|Flags|Cost|What moved).*": "bold",
}


def summary(audit: Results) -> str:
    r"""The audit in at most 40 lines of 100 columns, unless more than ten flags are raised.

    Example:
        >>> columns = {"label": np.array([0.0, 1.0]), "predicted": np.array([0.0, 0.0])}
        >>> columns |= {"robust at 0.5": np.array([1.0, 0.0]), "failure": np.array(["", ""])}
        >>> record = {"p": "2", "eps": "0.5", "radii": {"0.5": 0.5}, "images": 2, "of": 2}
        >>> text = summary(Results(record, columns))
        >>> print("\n".join(text.splitlines()[:2]))
        Audit of a model
        l2 radius 0.5, pixels stay in [0, 1]; all 2 images; labels as given

    """
    record = audit.record
    head = [
        clipped(f"Audit of {title(record)}"),
        f"{threat_text(record)}; {images_text(record)}; labels {record.get('labels', 'as given')}",
        *_failures(audit),
        *(line for sentence in findings(audit) for line in wrapped(sentence)),
    ]
    sections = [head, _accuracy(audit), _sensitivity(audit), _flags(audit), _cost(audit)]
    return "\n".join(line for part in sections if part for line in (*part, ""))[:-1]


def styled(text: str) -> Text:
    """A summary as rich prints it: raised flags red, headings bold.

    Example:
        >>> styled("Flags: 1 raised").spans[0].style
        'bold'

    """
    from rich.text import Text

    found = Text(text)
    for pattern, style in STYLES.items():
        found.highlight_regex(pattern, style)
    return found


def clipped(text: str, width: int = WIDTH) -> str:
    """One line of at most so many columns.

    Example:
        >>> clipped("a long text", 8)
        'a lon...'

    """
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3] + "..."


def wrapped(text: str) -> list[str]:
    """Lines of at most ``WIDTH`` columns, the second and later ones indented.

    Example:
        >>> wrapped("short")
        ['- short']

    """
    import textwrap

    return textwrap.wrap(text, WIDTH, initial_indent="- ", subsequent_indent="  ")


def table(rows: list[list[str]]) -> list[str]:
    """Aligned columns, the first to the left and the others to the right.

    Example:
        >>> table([["eps", "0"], ["accuracy", "54.0 %"]])
        ['  eps            0', '  accuracy  54.0 %']

    """
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        (
            "  "
            + "  ".join(
                text.ljust(width) if k == 0 else text.rjust(width)
                for k, (text, width) in enumerate(zip(row, widths, strict=True))
            )
        ).rstrip()
        for row in rows
    ]


def _failures(audit: Results) -> list[str]:
    failed = np.flatnonzero(~audit.measured)
    if not len(failed):
        return []
    images = audit.columns.get("image", np.arange(len(audit.measured)))
    named = [
        f"image {int(images[place])}: {audit.columns['failure'][place]}"
        for place in failed[:MOST_FAILURES]
    ]
    more = len(failed) - len(named)
    rest = f"; and {more:,} more" if more else ""
    return [clipped(f"{counted(len(failed), 'image')} not measured: {'; '.join(named)}{rest}")]


def _accuracy(audit: Results) -> list[str]:
    curve = audit.curve
    shares = {
        "accuracy, %": [row["accuracy"] for row in curve],
        "95 % interval, from": [row["low"] for row in curve],
        "to": [row["high"] for row in curve],
    }
    return [
        "Accuracy under attack (an upper bound on robust accuracy), Wilson's intervals",
        *table(
            [
                ["radius", *(row["eps"] for row in curve)],
                *([name, *(hundredths(each) for each in row)] for name, row in shares.items()),
            ]
        ),
    ]


def _sensitivity(audit: Results) -> list[str]:
    """Quantiles of norms, radii, alignment and rho."""
    columns, eps = audit.columns, eps_text(audit.record)
    quantities: list[tuple[str, str, np.ndarray]] = [
        (f"||J|| {name.removeprefix('norm ')}, {kinds(audit, name)}", "", columns[name])
        for name in norms(audit)[:MOST_NORMS]
    ]
    correct = audit.measured & (columns["predicted"] == columns["label"])
    for name in ("first-order radius", "radius found"):
        if name in columns:
            values = columns[name][correct]
            quantities.append((f"{name} (correct images)", eps, values))
    names = {"alignment": "alignment of perturbation and maximiser"}
    names[f"rho at {eps}"] = f"rho at {eps}, 1 where linear"
    quantities += [(text, "", columns[name]) for name, text in names.items() if name in columns]
    rows = [["", "5 %", "median", "95 %", "images"]]
    for text, of, values in quantities:
        values = values[~np.isnan(values)]
        if len(values):
            found = [quantile(values, q)[0] for q in (0.05, 0.5, 0.95)]
            shown = [radius_text(each, of) if of else figure(each) for each in found]
            shown = ["not found" if each == "inf" and of else each for each in shown]
            rows.append([text, *shown, f"{len(values):,}"])
    if len(rows) == 1:
        return []
    said = ["Sensitivity: quantiles over images", *table(rows)]
    if "cell radius" in columns:
        tried = ~np.isnan(columns["cell radius"])
        exact = columns["exact radius"][tried & correct & ~np.isnan(columns["exact radius"])]
        if (tried & correct).any():
            values = ", ".join(radius_text(each, eps) for each in exact[:5])
            text = (
                f"exact distance to the decision boundary known at {len(exact)} of "
                f"{counted(int((tried & correct).sum()), 'correct image')} tried"
                f"{': ' if values else ''}{values}"
            )
            said.append(f"  {clipped(text, WIDTH - 2)}")
    return said


def _flags(audit: Results) -> list[str]:
    raised = audit.raised
    ok = [flag for flag in audit.flags if flag.raised is False]
    unknown = [flag for flag in audit.flags if flag.raised is None]
    if not audit.flags:
        return []
    said = [f"Flags: {len(raised)} raised, {len(ok)} ok, {len(unknown)} not checked"]
    for flag in raised:
        advice = f" -> onr explain {flag.name}"
        found = f"RAISED {flag.name}, {flag_number(flag)}: {flag.detail}"
        said.append(f"  {clipped(found, WIDTH - 2 - len(advice))}{advice}")
    for flag in unknown:
        said.append(f"  {clipped(f'not checked {flag.name}: {flag.detail}', WIDTH - 2)}")
    return said


def _cost(audit: Results) -> list[str]:
    record, count = audit.record, len(audit.measured)
    seconds, passes = record.get("seconds", math.nan), record.get("passes", math.nan)
    if math.isnan(seconds):
        return []
    return [f"Cost: {figure(passes / count)} passes and {figure(seconds / count)} seconds an image"]
