"""The tables of ``docs/flags.md``, from the checks and from what was measured of the zoo."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from auditing.zoo.members import EXCEPTIONS, MEMBERS

from onr.auditing.record import Audit
from onr.registry import load, registry

__all__ = ["MEASURED", "PAGE", "checks", "flagged", "page", "record", "stored"]

PAGE = Path(__file__).parents[3] / "docs" / "flags.md"
MEASURED = Path(__file__).parent / "measured.json"
Measured = dict[str, Any]
NORMS = {"inf": "l∞", "2": "l2"}


def checks() -> dict[str, Any]:
    """The checks of the project by name, in their order."""
    return {
        entry.name: load("check", f"{plugin.name}:{entry.name}")()
        for plugin, entry in registry().offers("check")
        if entry.target.startswith("onr.auditing.checks.")
    }


def record(audit: Audit) -> Measured:
    """What is kept of an audit: accuracies, the number of each flag, and what was not decided."""
    accuracy = {row["eps"]: row["accuracy"] for row in audit.curve}
    return {
        "clean": accuracy["0"],
        "robust": accuracy[audit.record["eps"]],
        "images": audit.record["images"],
        "raised": {flag.name: flag.value for flag in audit.flags if flag.raised},
        "undecided": [flag.name for flag in audit.flags if flag.raised is None],
    }


def flagged(member: str, found: Measured) -> bool:
    """Whether an audit says of a model of the zoo what it should."""
    return bool(found["raised"]) == MEMBERS[member].hides


def stored() -> dict[str, Any]:
    """What was measured: ``audits``, by norm and model, and ``versions``."""
    found: dict[str, Any] = json.loads(MEASURED.read_text())
    return found


def of_checks() -> str:
    """What each check asks, its threshold and its source."""
    lines = [
        "| flag | says | the number | raised if | source |",
        "|---|---|---|---|---|",
    ]
    for name, check in checks().items():
        number = (inspect.getdoc(check) or "").splitlines()[0].rstrip(".").replace("|", r"\|")
        lines.append(
            f"| `{name}` | {check.summary} | {number} | {check.comparison} {check.threshold:g} "
            f"| {check.source} |"
        )
    return "\n".join(lines)


def _of_kind(audits: dict[str, dict[str, Measured]], hides: bool) -> dict[str, dict[str, Measured]]:
    """The audits of models that hide, or that do not, in the norms in which there are any."""
    kinds = {
        p: {name: each for name, each in found.items() if MEMBERS[name].hides == hides}
        for p, found in audits.items()
    }
    return {p: found for p, found in kinds.items() if found}


def of_models(audits: dict[str, dict[str, Measured]], *, hides: bool) -> str:
    """Which flag is raised on which model."""
    kind = _of_kind(audits, hides)
    head = ["model", "what it is"]
    for p in kind:
        head += [f"{NORMS[p]}: clean, robust", "flags raised"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, member in MEMBERS.items():
        if member.hides != hides:
            continue
        cells = [f"`{name}`", member.how]
        for found in kind.values():
            if name not in found:
                cells += ["", "not measured"]
                continue
            told = found[name]
            flags = ", ".join(f"`{flag}`" for flag in told["raised"]) or "none"
            cells += [
                f"{100 * told['clean']:.0f} %, {100 * told['robust']:.0f} %",
                flags if flagged(name, told) else f"**{flags}**",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def of_flags(audits: dict[str, dict[str, Measured]]) -> str:
    """At how many models each flag is raised, and at how many it is not decided."""
    kinds = [
        (f"{NORMS[p]}, {len(found)} {word}", list(found.values()))
        for hides, word in ((True, "hiding"), (False, "honest"))
        for p, found in _of_kind(audits, hides).items()
    ]
    head = ["flag", *(title for title, _ in kinds)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for check in checks():
        cells = [f"`{check}`"]
        for _, found in kinds:
            raised = sum(check in told["raised"] for told in found)
            undecided = sum(check in told["undecided"] for told in found)
            cells.append(f"{raised}" + (f" ({undecided})" if undecided else ""))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def of_exceptions() -> str:
    """What does not hold, and why."""
    told = [f"- `{name}`, {NORMS[p]}: {why}" for (name, p), why in EXCEPTIONS.items()]
    return "\n".join(told) or "There are none."


def page() -> str:
    """The page with all its tables anew."""
    found = stored()
    audits: dict[str, dict[str, Measured]] = found["audits"]
    parts = {
        "checks": of_checks(),
        "hiding": of_models(audits, hides=True),
        "honest": of_models(audits, hides=False),
        "flags": of_flags(audits),
        "exceptions": of_exceptions(),
        "versions": f"{found['versions']}.",
    }
    text = PAGE.read_text()
    for name, table in parts.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
    return text
