"""The options that a function which others wrote can be given as text."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container
from typing import Any, get_args

from torch import nn

__all__ = ["parameters", "readable", "takes"]

READABLE = {bool, int, float, str}


def parameters(function: Callable[..., Any], /) -> dict[str, inspect.Parameter]:
    """What it takes by keyword, with annotations that are types where they can be found."""
    try:
        try:
            signature = inspect.signature(function, eval_str=True)
        except NameError:  # an annotation for type checking alone
            signature = inspect.signature(function)
    except (TypeError, ValueError):  # not written in Python
        return {}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: it for name, it in signature.parameters.items() if it.kind in kinds}


def readable(
    function: Callable[..., Any], /, *, without: Container[str]
) -> list[inspect.Parameter]:
    """Its parameters of a type that text is read as; the default tells what no annotation does."""
    found = []
    for name, parameter in parameters(function).items():
        annotation = parameter.annotation
        if annotation is parameter.empty:
            annotation = type(parameter.default)
        kinds = set(get_args(annotation) or (annotation,)) - {type(None)}
        if name not in without and kinds and kinds <= READABLE:
            keyword = inspect.Parameter.KEYWORD_ONLY
            found.append(parameter.replace(kind=keyword, annotation=annotation))
    return found


def takes(
    target: Callable[..., nn.Module], options: list[inspect.Parameter], /
) -> Callable[..., nn.Module]:
    """``target(input_shape, classes, *, normalize, **options)`` that says which options it has."""
    signature = inspect.signature(target)
    own = [it for it in signature.parameters.values() if it.kind is not it.VAR_KEYWORD]
    target.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]  # read by inspect
    return target
