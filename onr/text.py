"""Options that arrive as text, given to a callable as its annotations ask."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, get_args

from onr.errors import OnrError

__all__ = ["call", "number", "written"]


SWITCHES = {"true": True, "1": True, "false": False, "0": False}


def number(text: str) -> float:
    """A number as users write it: ``0.5``, ``8/255``, ``inf``.

    Raises:
        OnrError: it is none.

    """
    try:
        value = float(Fraction(text)) if "/" in text else float(text)
    except (ValueError, ZeroDivisionError, OverflowError):
        value = math.nan
    if math.isnan(value) or (math.isinf(value) and "inf" not in text.lower()):
        raise OnrError(f"{text!r} is no number: expected as 0.5, 8/255 or inf")
    return value


def written(value: float) -> str:
    """The shortest text that :func:`number` reads back as the same value."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def call(
    target: Callable[..., Any],
    options: Mapping[str, str],
    /,
    *arguments: Any,
    what: str,
    **given: Any,
) -> Any:
    """``target(*arguments, **given, **options)``, the options read from text.

    An option is read as the annotation of its parameter says: ``str``, ``bool`` (``true``, ``1``,
    ``false`` or ``0``), ``int``, ``float``, or one of these or ``None``.

    Args:
        target: what to call.
        options: the user's options.
        arguments: positional arguments that are no options.
        what: how to name the target in errors.
        given: keyword arguments that are no options.

    Raises:
        OnrError: the target takes no option of that name, or the text cannot be read.

    """
    parameters = inspect.signature(target, eval_str=True).parameters
    known = [
        name
        for name, parameter in parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in given
    ]
    read: dict[str, Any] = {}
    for name, text in options.items():
        if name not in known:
            raise OnrError(
                f"{what} takes no option {name!r}: it takes {', '.join(known) or 'none'}"
            )
        annotation = parameters[name].annotation
        read[name] = _read(text, annotation, f"{what}, option {name}")
    return target(*arguments, **given, **read)


def _read(text: str, annotation: Any, where: str) -> Any:
    kinds = get_args(annotation) or (annotation,)
    if str in kinds:
        return text
    if bool in kinds:
        if text not in SWITCHES:
            raise OnrError(f"{where}: {text!r} is neither true nor false")
        return SWITCHES[text]
    try:
        if int in kinds and float not in kinds:
            return int(text)
        return number(text)
    except ValueError:
        raise OnrError(f"{where}: {text!r} is no whole number") from None
    except OnrError as error:
        raise OnrError(f"{where}: {error}") from None
