"""Finds the parameters of a function from elsewhere that can be options of a model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container
from typing import Any, get_args

from torch import nn

__all__ = ["parameters", "readable", "takes"]

READABLE = {bool, int, float, str}


def parameters(function: Callable[..., Any], /) -> dict[str, inspect.Parameter]:
    """The parameters that can be given by keyword; annotations are evaluated where possible.

    Example:
        >>> parameters(lambda width, *rest, depth=2: None)
        {'width': <Parameter "width">, 'depth': <Parameter "depth=2">}

    """
    try:
        try:
            signature = inspect.signature(function, eval_str=True)
        except NameError:  # an annotation that is imported for type checking only
            signature = inspect.signature(function)
    except (TypeError, ValueError):  # not written in Python
        return {}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: it for name, it in signature.parameters.items() if it.kind in kinds}


def readable(
    function: Callable[..., Any], /, *, without: Container[str]
) -> list[inspect.Parameter]:
    """The parameters of type bool, int, float or str, which can be read from text.

    Args:
        function: the function or class.
        without: the names of parameters to leave out.

    Returns:
        The parameters, keyword-only. A parameter without annotation has the type of its default.

    Example:
        >>> readable(lambda classes, width=16, layer=None: None, without=("classes",))
        [<Parameter "width: int = 16">]

    """
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
    """Replace ``**options`` in the signature of ``target`` by the given options.

    Args:
        target: ``target(input_shape, classes, *, normalize, **options)``; it is changed and
            returned.
        options: what ``inspect.signature`` shows in place of ``**options``.

    Example:
        >>> def target(input_shape, classes, *, normalize, **options):
        ...     return nn.Identity()
        >>> inspect.signature(takes(target, readable(lambda width=16: None, without=())))
        <Signature (input_shape, classes, *, normalize, width: int = 16)>

    """
    signature = inspect.signature(target)
    own = [it for it in signature.parameters.values() if it.kind is not it.VAR_KEYWORD]
    target.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]  # read by inspect
    return target
