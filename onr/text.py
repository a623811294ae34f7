"""From text to objects: names of norms and losses, and options as a callable's annotations ask.

Nothing that computes imports this module: text ends here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from onr.errors import OnrError
from onr.feasible import Bounds
from onr.losses import CrossEntropy, LogitDistance
from onr.norms import LpNorm, as_norm
from onr.numerals import number
from onr.protocols import Attack, Loss, Norm, NormLike
from onr.registry import bare, load, norm_spec

__all__ = ["CROSS_ENTROPY", "NamedAttack", "attack_by_name", "call", "loss_of", "norm"]

CROSS_ENTROPY = "onr_paper:cross-entropy"
TARGETED_CROSS_ENTROPY = "onr_paper:targeted-cross-entropy"

SWITCHES = {"true": True, "1": True, "false": False, "0": False}


def call(
    target: Callable[..., Any],
    options: Mapping[str, Any],
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
        options: the user's options; what is no text is passed as it is.
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
        where = f"{what}, option {name}"
        read[name] = _read(text, annotation, where) if isinstance(text, str) else text
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


def norm(p: NormLike, /) -> Norm:
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


def loss_of(spec: Loss | str, /) -> Loss:
    """The loss that a name stands for; a loss is returned as it is.

    Raises:
        UnknownNameError: no plugin offers a loss of that name, or several do.

    Example:
        >>> loss_of("lq:1").name
        'lq:1'

    """
    if not isinstance(spec, str):
        return spec
    found: Loss = load("loss", spec)()
    return found


@dataclass(frozen=True)
class NamedAttack:
    """An attack that a name chose, with all that it was given but the ball and the box."""

    make: Callable[[Norm, float, Bounds | None], Attack]
    """The attack in the ball of this norm and radius, within these bounds."""
    loss: Loss | None
    """What it ascends; ``None`` for an attack with a loss of its own."""
    loss_spec: str | None
    """The registered name of the loss, if it was chosen by name."""
    steps: int | None
    """Its iterations; ``None`` for an attack that names none."""
    restarts: int | None
    """Its random starts; ``None`` for an attack that names none."""


def attack_by_name(
    spec: str,
    /,
    *,
    loss: Loss | str | None = None,
    steps: int | None = None,
    restarts: int | None = None,
    options: Mapping[str, Any] | None = None,
    targeted: bool = False,
) -> NamedAttack:
    """Choose a registered attack, and give it what its constructor takes.

    Args:
        spec: its name, as ``pga``.
        loss: what it ascends; cross-entropy if not given, targeted if ``targeted``.
        steps: its iterations; its own default if not given.
        restarts: its random starts; its own default if not given.
        options: further keyword arguments; texts are read as the annotations of the parameters say.
        targeted: whether the labels are classes to lead to.

    Raises:
        UnknownNameError: no plugin offers an attack or a loss of that name, or several do.
        OnrError: the attack has no parameter for something that was given, or the loss leads the
            other way than ``targeted`` says.

    """
    target, what = load("attack", spec), f"attack {bare(spec)}"
    parameters = inspect.signature(target).parameters
    given: dict[str, Any] = {}
    for name, value in (("steps", steps), ("restarts", restarts), ("loss", loss)):
        if name not in parameters:
            if value is not None:
                raise OnrError(f"{what} takes no {name}: leave it out")
        elif name != "loss":
            given[name] = parameters[name].default if value is None else value
            if given[name] is inspect.Parameter.empty:
                raise OnrError(f"{what} has no usual {name}: give {name}")
    ascended: Loss | None = None
    if "loss" in parameters:
        loss = loss or (TARGETED_CROSS_ENTROPY if targeted else CROSS_ENTROPY)
        given["loss"] = ascended = _leading(loss_of(loss), targeted=targeted)
    elif targeted:
        raise OnrError(f"{what} has a loss of its own, without a target: leave the target out")

    def make(p: Norm, eps: float, bounds: Bounds | None) -> Attack:
        made: Attack = call(target, options or {}, what=what, p=p, eps=eps, bounds=bounds, **given)
        return made

    return NamedAttack(
        make,
        ascended,
        loss if isinstance(loss, str) else None,
        given.get("steps"),
        given.get("restarts"),
    )


def _leading(loss: Loss, *, targeted: bool) -> Loss:
    """The loss, if it leads to a label (``targeted``) or away from it (not ``targeted``)."""
    towards = not loss.uses_clean and bool(
        loss.gradient(np.zeros((1, 2)), labels=np.zeros(1, np.int64))[0, 0] > 0
    )
    if towards and not targeted:
        raise OnrError(f"loss {loss.name} leads to a target: say which with --target, as next")
    if targeted and not towards:
        raise OnrError(
            f"loss {loss.name} leads to no target: choose one that does, as "
            "targeted-cross-entropy, or leave the target out"
        )
    return loss


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
