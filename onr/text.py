"""From text to objects: names of norms and losses, and options as a callable's annotations ask.

Nothing that computes imports this module: text ends here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_args

from onr.errors import OnrError
from onr.losses import CrossEntropy, LogitDistance
from onr.norms import LpNorm, as_norm
from onr.numerals import number
from onr.protocols import Loss, Norm
from onr.registry import load, norm_spec

__all__ = ["call", "loss", "norm"]


SWITCHES = {"true": True, "1": True, "false": False, "0": False}


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


def norm(p: Norm | float | str, /) -> Norm:
    """The norm that a name, a number or a norm stands for.

    Args:
        p: a norm, which is returned as it is; a number >= 1 or ``math.inf``, for an lp norm; or the
            name of a registered norm, where a bare number is an lp norm too (``"1.5"`` is
            ``"lp:1.5"``).

    Raises:
        UnknownNameError: no plugin offers a norm of that name, or several do.
        OnrError: a number below 1, or neither text, number nor norm.

    Example:
        >>> norm("inf"), norm(2), norm("1.5").dual
        (<norm inf>, <norm 2>, <norm 3>)

    """
    return as_norm(load("norm", norm_spec(p))() if isinstance(p, str) else p)


def loss(spec: Loss | str, /) -> Loss:
    """The loss that a name stands for; a loss is returned as it is.

    Raises:
        UnknownNameError: no plugin offers a loss of that name, or several do.

    Example:
        >>> loss("lq:1").name
        'lq:1'

    """
    if not isinstance(spec, str):
        return spec
    found: Loss = load("loss", spec)()
    return found


# The targets of names that take an argument, as ``lp:1.5``.


def lp(argument: str) -> LpNorm:
    """The lp norm of a written exponent, as in ``lp:1.5``.

    Raises:
        OnrError: the argument is no number, or is below 1.

    """
    return LpNorm(number(argument))


def cross_entropy(beta: str = "1") -> CrossEntropy:
    """Softmax cross-entropy; the argument is its inverse temperature."""
    return CrossEntropy(number(beta))


def targeted_cross_entropy(beta: str = "1") -> CrossEntropy:
    """Targeted softmax cross-entropy; the argument is its inverse temperature."""
    return CrossEntropy(number(beta), targeted=True)


def logit_distance(q: str = "2") -> LogitDistance:
    """The distance of the logits in the named norm."""
    return LogitDistance(norm(q))
