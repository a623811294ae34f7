"""How the numbers and the record of an audit are written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from onr.auditing.protocols import Flag
from onr.numerals import hundredths, number

__all__ = [
    "class_name",
    "counted",
    "eps_text",
    "figure",
    "flag_number",
    "images_text",
    "norm_text",
    "options_text",
    "percent",
    "radius_text",
    "threat_text",
    "title",
    "training",
    "training_text",
    "unit",
]

EXACT = 17
"""As many digits tell any two floats apart."""


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
    return (
        f"{rounded:.{max(digits, 6)}g}" if 1e-4 <= abs(rounded) < 1e6 else f"{value:.{digits - 1}e}"
    )


def percent(share: float) -> str:
    """A share as a percentage with one decimal; with more where 0 or 100 % would say too much.

    Example:
        >>> percent(0.125), percent(9999 / 10000), percent(1.0), percent(math.nan)
        ('12.5 %', '99.99 %', '100.0 %', '–')

    """
    return "–" if math.isnan(share) else f"{hundredths(share)} %"


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


def flag_number(flag: Flag) -> str:
    """The number of a flag, and how it compares with the threshold, with digits that show it.

    Example:
        >>> flag_number(Flag("chance", True, 0.1, 0.2, "field", "", comparison="below"))
        '0.1 < 0.2'
        >>> flag_number(Flag("rho", True, 0.10004, 0.1, "ours", ""))
        '0.10004 > 0.1'

    """
    digits, value, threshold = 3, "?", figure(flag.threshold)
    if flag.value is not None:
        value = figure(flag.value)
        while value == threshold and flag.value != flag.threshold and digits < EXACT:
            digits += 1
            value, threshold = figure(flag.value, digits), figure(flag.threshold, digits)
    beyond = flag.comparison == "above"
    sign = (">" if beyond else "<") if flag.raised else ("<=" if beyond else ">=")
    return f"{value} {sign} {threshold}"


def eps_text(record: Mapping[str, Any]) -> str:
    """The radius of the threat model as the columns name it.

    Example:
        >>> eps_text({"eps": "0.50", "radii": {"0.25": 0.25, "0.5": 0.5}})
        '0.5'

    """
    eps = str(record["eps"])
    radius = number(eps)
    return next((text for text, each in record["radii"].items() if each == radius), eps)
