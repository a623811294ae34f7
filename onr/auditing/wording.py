"""How the numbers of an audit are written, and what they say in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from onr.auditing.intervals import quantile, wilson
from onr.auditing.protocols import Flag
from onr.numerals import number

if TYPE_CHECKING:
    from onr.auditing.record import Audit

__all__ = [
    "class_name",
    "counted",
    "doubt",
    "eps_text",
    "figure",
    "findings",
    "flag_number",
    "half_changed",
    "kinds",
    "norm_text",
    "options_text",
    "percent",
    "radius_text",
    "threat_text",
    "title",
    "training_text",
]

FEW = 5
"""A class of fewer images is not named as the weakest."""
LINEAR = 0.5, 1.5
"""Between these medians of rho a network is called nearly linear."""
CONSTANT = 1.5
"""Medians of rho over the radii within this factor are called constant."""
ABOUT_THE_GRADIENT = ("graph-cut", "zero-gradients", "inner-gradients", "outputs-vary", "refused")
"""The checks whose flag says that the gradient is not that of what the model computes."""


def figure(value: float, digits: int = 3) -> str:
    """A number with three digits; a dash for NaN.

    Example:
        >>> figure(1234.5), figure(0.012345), figure(math.nan), figure(math.inf)
        ('1230', '0.0123', '–', 'inf')

    """
    if math.isnan(value):
        return "–"
    if math.isinf(value) or value == 0:
        return f"{value:g}"
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:g}" if 1e-4 <= abs(rounded) < 1e6 else f"{value:.{digits - 1}e}"


def percent(share: float) -> str:
    """A share as a percentage with one decimal.

    Example:
        >>> percent(0.125), percent(math.nan)
        ('12.5 %', '–')

    """
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def counted(count: int, what: str) -> str:
    """A number and what it counts.

    Example:
        >>> counted(1, "image"), counted(1200, "flag")
        ('1 image', '1,200 flags')

    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def norm_text(p: str) -> str:
    """How a norm is written in a sentence.

    Example:
        >>> norm_text("inf"), norm_text("2"), norm_text("onr_pixel_norms:tv")
        ('l-inf', 'l2', 'onr_pixel_norms:tv')

    """
    if p == "inf":
        return "l-inf"
    return f"l{p}" if p.replace(".", "").isdigit() else p


def unit(eps: str) -> float:
    """The number of units in 1, if eps is a fraction; else 1.

    Example:
        >>> unit("8/255"), unit("0.5")
        (255.0, 1.0)

    """
    return float(eps.partition("/")[2] or 1)


def radius_text(radius: float, eps: str) -> str:
    """A radius in the unit in which eps was written.

    Example:
        >>> radius_text(0.0125, "8/255"), radius_text(0.0125, "0.5"), radius_text(math.inf, "1")
        ('3.19/255', '0.0125', 'inf')

    """
    scale = unit(eps)
    if scale == 1 or not math.isfinite(radius) or radius == 0:
        return figure(radius)
    return f"{figure(radius * scale)}/{eps.partition('/')[2]}"


def class_name(record: Mapping[str, Any], label: float) -> str:
    """The name of a class, if the record has ``class_names``; else its number.

    Example:
        >>> class_name({"class_names": ["cat", "dog"]}, 1.0), class_name({}, 1.0)
        ('dog', '1')

    """
    if math.isnan(label):
        return "–"
    names = record.get("class_names") or ()
    return str(names[int(label)]) if 0 <= label < len(names) else str(int(label))


def title(record: Mapping[str, Any]) -> str:
    """What was audited, in a few words.

    Example:
        >>> title({"model": "runs/at", "data": "cifar10"}), title({})
        ('runs/at on cifar10', 'a model')
        >>> train = {"method": "at", "method_options": {"p": "inf", "eps": "8/255"}}
        >>> title({"model": "cnn7", "data": "cifar10", "run": {"train": train}})
        'cnn7 (at, eps 8/255) on cifar10'

    """
    data, train = record.get("dataset") or record.get("data"), training(record)
    how = str(train.get("method") or "")
    eps = _options(train, "method_options").get("eps")
    how += f", eps {eps}" if how and eps else ""
    model = str(record.get("model") or "a model") + (f" ({how})" if how else "")
    return model + (f" on {data}" if data else "")


def training(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings with which the model was trained, if it is a run's; else nothing.

    Example:
        >>> training({"run": {"train": {"method": "at"}}}), training({"run": None})
        ({'method': 'at'}, {})

    """
    run = record.get("run")
    train = run.get("train") if isinstance(run, Mapping) else None
    return train if isinstance(train, Mapping) else {}


def training_text(record: Mapping[str, Any]) -> str:
    """How the model was trained, in one line; empty if that is not known.

    Example:
        >>> train = {"method": "at", "method_options": {"eps": "8/255"}, "epochs": 6}
        >>> training_text({"run": {"train": train}}), training_text({})
        ('at (eps 8/255), 6 epochs', '')

    """
    train = training(record)
    if not train.get("method"):
        return ""
    options = options_text(_options(train, "method_options"))
    said = [str(train["method"]) + (f" ({options})" if options else "")]
    epochs, images = train.get("epochs"), train.get("train_images")
    said += [counted(epochs, "epoch")] if isinstance(epochs, int) else []
    data = train.get("dataset") or "the data"
    said += [f"{counted(images, 'image')} of {data}"] if isinstance(images, int) else []
    return ", ".join(said)


def options_text(options: Mapping[str, Any]) -> str:
    """Options as names and values.

    Example:
        >>> options_text({"p": "inf", "eps": "8/255"})
        'p inf, eps 8/255'

    """
    return ", ".join(f"{name} {value}" for name, value in options.items())


def _options(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = record.get(name)
    return found if isinstance(found, Mapping) else {}


def doubt(audit: Audit) -> str:
    """A warning, if a raised flag concerns the gradient itself; else empty.

    Example:
        >>> from onr.auditing.record import Audit
        >>> print(doubt(Audit({}, {}, (Flag("graph-cut", True, 1.0, 0.2, "ours", ""),))))
        computed from a gradient that the flag graph-cut calls false: do not use these numbers
        >>> doubt(Audit({}, {}, (Flag("graph-cut", False, 0.0, 0.2, "ours", ""),)))
        ''

    """
    names = [flag.name for flag in audit.raised if flag.name in ABOUT_THE_GRADIENT]
    if not names:
        return ""
    flags = f"flag {names[0]} calls" if len(names) == 1 else f"flags {_listed(names)} call"
    return f"computed from a gradient that the {flags} false: do not use these numbers"


def half_changed(radii: np.ndarray) -> float:
    """The smallest radius within which at least half of the images are changed; NaN of none.

    Example:
        >>> half_changed(np.array([1.0, 2.0, 10.0, math.inf]))
        2.0

    """
    known = np.sort(radii[~np.isnan(radii)])
    return float(known[(len(known) - 1) // 2]) if len(known) else math.nan


def threat_text(record: Mapping[str, Any]) -> str:
    """The threat model in one line.

    Example:
        >>> threat_text({"p": "inf", "eps": "8/255", "bounds": [0.0, 1.0]})
        'l-inf radius 8/255, pixels stay in [0, 1]'

    """
    low, high = record.get("bounds", (0.0, 1.0))
    norm = norm_text(str(record.get("p", "?")))
    return f"{norm} radius {record.get('eps', '?')}, pixels stay in [{low:g}, {high:g}]"


def images_text(record: Mapping[str, Any]) -> str:
    """Which images were audited.

    Example:
        >>> images_text({"images": 100, "of": 10000, "seed": None})
        'the first 100 of 10,000 images'

    """
    count, of = int(record.get("images", 0)), int(record.get("of", 0))
    if count == of:
        return f"all {count:,} images" if count != 1 else "1 image"
    if record.get("seed") is None:
        return f"the first {count:,} of {of:,} images"
    return f"{count:,} of {of:,} images, drawn at random with seed {record['seed']}"


def kinds(audit: Audit, norm: str) -> str:
    """What the values of a norm are: exact, or a bound; with counts if they differ.

    Example:
        >>> from onr.auditing.record import Audit
        >>> kinds(Audit({}, {"norm 2:2 kind": np.array(["exact", "exact", ""])}), "norm 2:2")
        'exact'

    """
    found = audit.columns.get(f"{norm} kind", np.array([], dtype=str))
    names, counts = np.unique(found[found != ""], return_counts=True)
    if len(names) == 1:
        return str(names[0])
    return ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))


def flag_number(flag: Flag) -> str:
    """The number of a flag, and how it compares with the threshold.

    Example:
        >>> flag_number(Flag("chance", True, 0.1, 0.2, "field", "", comparison="below"))
        '0.1 < 0.2'

    """
    value = "?" if flag.value is None else figure(flag.value)
    beyond = flag.comparison == "above"
    sign = (">" if beyond else "<") if flag.raised else ("<=" if beyond else ">=")
    return f"{value} {sign} {figure(flag.threshold)}"


def eps_text(record: Mapping[str, Any]) -> str:
    """The radius of the threat model as the columns name it.

    Example:
        >>> eps_text({"eps": "0.50", "radii": {"0.25": 0.25, "0.5": 0.5}})
        '0.5'

    """
    eps = str(record["eps"])
    radius = number(eps)
    return next((text for text, each in record["radii"].items() if each == radius), eps)


def findings(audit: Audit) -> list[str]:
    """What the audit found, in sentences.

    Example:
        >>> from onr.auditing.record import Audit
        >>> columns = {"label": np.array([0.0, 1.0]), "predicted": np.array([0.0, 0.0])}
        >>> columns |= {"robust at 0.5": np.array([1.0, 0.0]), "failure": np.array(["", ""])}
        >>> audit = Audit({"p": "2", "eps": "0.5", "radii": {"0.5": 0.5}}, columns)
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
        f"({percent(right / count)}, 95 % interval {100 * low:.1f} to {100 * high:.1f} %)."
    ]
    if right:
        low, high = wilson(left, count)
        said.append(
            f"Perturbations within {norm_text(record['p'])} radius {eps} change {right - left:,} "
            f"of these {right:,} and leave {left:,} ({percent(left / right)}): at most "
            f"{percent(left / count)} of all images "
            f"({100 * low:.1f} to {100 * high:.1f} %) are robust."
        )
    if right and "radius found" in columns:
        said += _radii(audit, correct)
    said += _weakest(audit, correct, robust)
    return [*said, *_linear(audit, robust), _trust(audit)]


def _linear(audit: Audit, robust: np.ndarray) -> list[str]:
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


def _wrong_by(audit: Audit) -> list[str]:
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


def _radii(audit: Audit, correct: np.ndarray) -> list[str]:
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


def _weakest(audit: Audit, correct: np.ndarray, robust: np.ndarray) -> list[str]:
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


def _listed(names: list[str], most: int = 4) -> str:
    shown = names[:most] + ([f"{len(names) - most} more"] if len(names) > most else [])
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def _trust(audit: Audit) -> str:
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
