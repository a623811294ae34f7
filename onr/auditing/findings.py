"""What an audit found, in sentences."""

from __future__ import annotations

import math

import numpy as np

from onr.auditing.intervals import quantile, wilson
from onr.auditing.results import Results
from onr.auditing.wording import (
    class_name,
    counted,
    eps_text,
    figure,
    norm_text,
    percent,
    radius_text,
)
from onr.numerals import hundredths

__all__ = ["doubt", "findings"]

FEW = 5
"""A class of fewer images is not named as the weakest."""
LINEAR = 0.5, 1.5
"""Between these medians of rho a network is called nearly linear."""
CONSTANT = 1.5
"""Medians of rho over the radii within this factor are called constant."""
ABOUT_THE_GRADIENT = ("graph-cut", "zero-gradients", "inner-gradients", "outputs-vary", "refused")
"""The checks whose flag says that the gradient is not that of what the model computes."""


def doubt(audit: Results) -> str:
    """A warning, if a raised flag concerns the gradient itself; else empty.

    Example:
        >>> from onr.auditing.protocols import Flag
        >>> print(doubt(Results({}, {}, (Flag("graph-cut", True, 1.0, 0.2, "ours", ""),))))
        computed from a gradient that the flag graph-cut calls false: do not use these numbers
        >>> doubt(Results({}, {}, (Flag("graph-cut", False, 0.0, 0.2, "ours", ""),)))
        ''

    """
    names = [flag.name for flag in audit.raised if flag.name in ABOUT_THE_GRADIENT]
    if not names:
        return ""
    flags = f"flag {names[0]} calls" if len(names) == 1 else f"flags {_listed(names)} call"
    return f"computed from a gradient that the {flags} false: do not use these numbers"


def findings(audit: Results) -> list[str]:
    """What the audit found, in sentences.

    Example:
        >>> columns = {"label": np.array([0.0, 1.0]), "predicted": np.array([0.0, 0.0])}
        >>> columns |= {"robust at 0.5": np.array([1.0, 0.0]), "failure": np.array(["", ""])}
        >>> audit = Results({"p": "2", "eps": "0.5", "radii": {"0.5": 0.5}}, columns)
        >>> for sentence in findings(audit):
        ...     print(sentence)
        The model classifies 1 of 2 images correctly (50.0 %, 95 % interval 9.5 to 90.5 %).
        Perturbations within l2 radius 0.5 change 0 of these 1 and leave 1 (100.0 %): at most 50.0 % of all images (9.5 to 90.5 %) are robust.
        No check was run: nothing tells whether this attack can be trusted here.

    """  # noqa: E501 - the second sentence
    columns, record = audit.columns, audit.record
    known, eps = audit.measured, eps_text(record)
    correct = known & (columns["predicted"] == columns["label"])
    robust = known & (columns[f"robust at {eps}"] == 1)
    count, right, left = int(known.sum()), int(correct.sum()), int(robust.sum())
    low, high = wilson(right, count)
    said = [
        f"The model classifies {right:,} of {counted(count, 'image')} correctly "
        f"({percent(right / count)}, 95 % interval {hundredths(low)} to {hundredths(high)} %)."
    ]
    if right:
        low, high = wilson(left, count)
        said.append(
            f"Perturbations within {norm_text(record['p'])} radius {eps} change {right - left:,} "
            f"of these {right:,} and leave {left:,} ({percent(left / right)}): at most "
            f"{percent(left / count)} of all images "
            f"({hundredths(low)} to {hundredths(high)} %) are robust."
        )
    if right and "radius found" in columns:
        said += _radii(audit, correct)
    said += _weakest(audit, correct, robust)
    return [*said, *_linear(audit, robust), _trust(audit)]


def _linear(audit: Results, robust: np.ndarray) -> list[str]:
    """What rho says, or what the flags say of the gradient that it is computed from."""
    eps, why = eps_text(audit.record), doubt(audit)
    if why:
        warning = f"Norms, first-order radii, maximisers, alignment and rho are {why}."
        return [warning, *_wrong_by(audit)]
    rho = audit.columns.get(f"rho at {eps}", np.array([]))
    if np.isnan(rho).all():
        return []
    middle = quantile(rho, 0.5)[0]
    word = "nearly linear" if LINEAR[0] <= middle <= LINEAR[1] else "far from linear"
    left = rho[robust & ~np.isnan(rho)]
    there = f"; {figure(quantile(left, 0.5)[0])} at the {len(left):,} left by the attack"
    return [
        f"Within {eps} the model is {word} along its steepest direction: the logits change by "
        f"{figure(middle)} times what the gradient predicts (median of "
        f"{counted(int((~np.isnan(rho)).sum()), 'image')}{there if len(left) else ''})."
    ]


def _wrong_by(audit: Results) -> list[str]:
    """The factor by which the gradient is wrong, if graph-cut is raised and rho is constant."""
    radii = audit.record["radii"]
    rhos = [audit.columns.get(f"rho at {text}", np.array([math.nan])) for text in radii]
    middles = [quantile(rho, 0.5)[0] for rho in rhos]
    if "graph-cut" not in [flag.name for flag in audit.raised] or len(middles) < 2:
        return []
    low, high = min(middles), max(middles)
    constant = np.isfinite(middles).all() and 0 < high <= CONSTANT * low
    if not constant or (LINEAR[0] <= low and high <= LINEAR[1]):
        return []
    texts = list(radii)
    return [
        f"The logits change by {figure(low)} to {figure(high)} times what the gradient says, at "
        f"every radius from {texts[0]} to {texts[-1]}: the gradient is wrong by about that factor, "
        f"which is no sign of curvature."
    ]


def _radii(audit: Results, correct: np.ndarray) -> list[str]:
    eps, largest = eps_text(audit.record), list(audit.record["radii"])[-1]
    middle = quantile(audit.columns["radius found"][correct], 0.5)[0]
    if math.isinf(middle):
        return [
            f"The attack fails on half of the correctly classified images, or more, even at "
            f"{largest}."
        ]
    return [
        f"Half of the correctly classified images are lost to perturbations of "
        f"{norm_text(str(audit.record['p']))} size {radius_text(middle, eps)} or less."
    ]


def _weakest(audit: Results, correct: np.ndarray, robust: np.ndarray) -> list[str]:
    """The classes with the smallest share of robust images, and what images are changed to."""
    labels, record, said = audit.columns["label"], audit.record, []

    def named(label: float) -> str:
        return ("" if record.get("class_names") else "class ") + class_name(record, label)

    groups = [audit.measured & (labels == label) for label in np.unique(labels[audit.measured])]
    groups = [members for members in groups if members.sum() >= FEW]
    shares = [float(robust[members].mean()) for members in groups]
    if len(groups) > 1 and max(shares) > min(shares):
        weakest = [members for members, each in zip(groups, shares, strict=True)
                   if each == min(shares)]  # fmt: skip
        names = [class_name(record, labels[members][0]) for members in weakest]
        every = np.any(weakest, axis=0)
        said.append(
            f"Least robust: {'class' if len(names) == 1 else 'classes'} {_listed(names)}, with "
            f"{int(robust[every].sum())} of {counted(int(every.sum()), 'image')} robust."
        )
    targets = audit.columns.get("class found", np.array([]))
    targets = targets[correct & ~np.isnan(targets)] if len(targets) else targets
    if len(targets) >= FEW:
        values, counts = np.unique(targets, return_counts=True)
        best, largest = int(counts.argmax()), list(record["radii"])[-1]
        said.append(
            f"Of the {len(targets):,} images that the attack changes within {largest}, "
            f"{counts[best]:,} become {named(values[best])}."
        )
    return said


def _trust(audit: Results) -> str:
    """Whether the numbers can be believed, as far as the checks tell."""
    if not audit.flags:
        return "No check was run: nothing tells whether this attack can be trusted here."
    decided = [flag for flag in audit.flags if flag.raised is not None]
    raised = [flag.name for flag in audit.raised]
    if raised:
        return (
            f"{counted(len(raised), 'flag')} of {counted(len(decided), 'check')} "
            f"{'is' if len(raised) == 1 else 'are'} raised ({', '.join(raised)}): resolve "
            f"{'it' if len(raised) == 1 else 'them'} before you believe the robust accuracy."
        )
    if not decided:
        return "No check could decide: nothing tells whether this attack can be trusted here."
    return (
        f"None of {counted(len(decided), 'check')} found a reason to doubt the attack. This says "
        f"that its numbers can be used, not that the model is robust."
    )


def _listed(names: list[str], most: int = 4) -> str:
    shown = names[:most] + ([f"{len(names) - most} more"] if len(names) > most else [])
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
