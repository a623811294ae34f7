"""What an audit does not show, in sentences."""

from __future__ import annotations

import numpy as np

from onr.auditing.images import WHOLE
from onr.auditing.results import Results, kinds, norms
from onr.auditing.wording import eps_text, norm_text

__all__ = ["limits"]

UNDRAWN = "The first {count:,} are no such sample, unless the order of the data is arbitrary."


def limits(audit: Results, /) -> list[str]:
    """What the audit does not show, in sentences.

    Example:
        >>> record = {"p": "2", "eps": "1", "radii": {"1": 1.0}}
        >>> limits(Results(record, {}))[-2]
        'No check was run: the attack may fail because gradients are hidden.'

    """
    record, eps = audit.record, eps_text(audit.record)
    count, of = int(record.get("images", 0)), int(record.get("of", 0))
    said = [
        "The accuracy under attack is an upper bound: a stronger attack may break more images. It "
        "is no certificate.",
        "The first-order radius is an estimate: it is the distance to the boundary of the linear "
        "approximation, without the bounds of the pixels. The radius found is an upper bound on "
        "the distance to the boundary. The distance is known exactly only where the column exact "
        "radius of the file images.csv has a number, and there without the bounds of the pixels.",
        f"Only {norm_text(str(record['p']))} perturbations were tried, up to "
        f"{list(record['radii'])[-1]}: no rotations, patches, corruptions or other norms, and no "
        "attack that a person designs for this model.",
    ]
    if count < of:
        said.append(
            f"{of - count:,} of the {of:,} images were not looked at; the intervals say what they "
            "may change, if the images were drawn at random."
            + (f" {UNDRAWN.format(count=count)}" if record.get("seed") is None else "")
        )
    if record.get("fast"):
        said.append("The audit was fast: the checks looked at a fifth of the usual images.")
    bounds = [
        f"{name.removeprefix('norm ')} ({kinds(audit, name)})"
        for name in norms(audit)
        if kinds(audit, name) not in ("exact", "")
    ]
    if bounds:
        said.append(
            f"These norms are not exact, and the values are lower bounds: {', '.join(bounds)}."
        )
    if float(record.get("classes", 0)) > WHOLE:
        said.append(
            f"The model has more than {WHOLE} classes: norms and first-order radii use the ten "
            "largest logits and that of the label."
        )
    if not audit.flags:
        said.append("No check was run: the attack may fail because gradients are hidden.")
    said += [
        f"Check {flag.name}: not decided. {flag.detail}"
        for flag in audit.flags
        if flag.raised is None
    ]
    if "cell radius" not in audit.columns or np.isnan(audit.columns["cell radius"]).all():
        said.append(f"No exact radius was computed, at {eps} or elsewhere.")
    return said
