"""Two audits compared, as text of one screen."""

from __future__ import annotations

from onr.auditing.differences import Differences, state
from onr.auditing.summary import WIDTH, clipped, table, wrapped
from onr.auditing.wording import counted, eps_text, threat_text, title
from onr.numerals import hundredths

__all__ = ["comparison_findings", "comparison_summary"]


def comparison_findings(found: Differences, /) -> list[str]:
    """What moved, in sentences.

    Example:
        >>> record = {"p": "2", "eps": "1", "radii": {"1": 1.0}}
        >>> comparison_findings(Differences(record, record, 2, (2, 2), (), (), ()))
        []

    """
    said = []
    for moved in found.accuracy:
        if moved.eps in ("0", eps_text(found.a)):
            where = "without an attack" if moved.eps == "0" else f"under attack at {moved.eps}"
            what = (
                f"{'higher' if moved.difference > 0 else 'lower'} than A's"
                if moved.certain
                else "not clearly different from A's"
            )
            said.append(f"B's accuracy {where} is {what}: {moved.text} points.")
    groups: dict[str, list[str]] = {"Larger in B": [], "Smaller in B": [], "Not clearly moved": []}
    for change in found.changes:
        group = "Larger in B" if change.change > change.same else "Smaller in B"
        shown = f"{change.quantity} {change.text}" if change.certain else change.quantity
        groups[group if change.certain else "Not clearly moved"].append(shown)
    said += [f"{group}: {'; '.join(names)}." for group, names in groups.items() if names]
    raised = [name for name, *pair in found.flags if any(each and each.raised for each in pair)]
    if raised:
        said.append(f"Flags that are raised in one alone: {', '.join(raised)}.")
    return said


def comparison_summary(found: Differences, /) -> str:
    """What moved, as text of one screen.

    Example:
        >>> record = {"p": "2", "eps": "1", "radii": {"1": 1.0}}
        >>> text = comparison_summary(Differences(record, record, 2, (2, 2), (), (), ()))
        >>> text.splitlines()[2]
        'l2 radius 1, pixels stay in [0, 1]; 2 images that both have'

    """
    head = [
        clipped(f"A: {title(found.a)} ({counted(found.of[0], 'image')})"),
        clipped(f"B: {title(found.b)} ({counted(found.of[1], 'image')})"),
        f"{threat_text(found.a)}; {counted(found.images, 'image')} that both have",
        *(line for sentence in comparison_findings(found) for line in wrapped(sentence)),
    ]
    accuracy = [["radius", "A, %", "B, %", "B - A, points (95 %)", "gained", "lost"]]
    accuracy += [
        [
            each.eps,
            hundredths(each.a),
            hundredths(each.b),
            each.text,
            str(each.gained),
            str(each.lost),
        ]
        for each in found.accuracy
    ]
    changes = [["", "A", "B", "x B / A, or B - A (95 %)", "images"]]
    changes += [
        [each.quantity, *found.medians(each), each.text, f"{each.images:,}"]
        for each in found.changes
    ]
    sections = [head, ["Accuracy under attack; intervals of paired shares (Newcombe)"]]
    sections[1] += table(accuracy)
    if found.changes:
        sections.append(["Medians, and the median change of an image (sign test's interval)"])
        sections[2] += table(changes)
    flags = [f"Flags: {len(found.flags)} differ, {found.flags_alike} are the same"]
    flags += [
        f"  {name}: {state(a)} in A, {state(b)} in B" for name, a, b in found.flags if a and b
    ]
    for text, place in (("A", 1), ("B", 2)):
        names = ", ".join(pair[0] for pair in found.flags if pair[place] is None)
        flags += [f"  {clipped(f'not run in {text}: {names}', WIDTH - 2)}"] if names else []
    if found.flags or found.flags_alike:
        sections.append(flags)
    return "\n\n".join("\n".join(section) for section in sections)
