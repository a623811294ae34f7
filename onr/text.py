"""Objects from text: norms, losses and attacks by name, and options converted by annotation.

The modules that compute do not import this module: they take objects, never names.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
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

__all__ = [
    "CROSS_ENTROPY",
    "NamedAttack",
    "attack_by_name",
    "call",
    "leads_to_label",
    "loss_of",
    "norm",
    "pair",
]

# The losses of an attack that is given none.
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
    """Call ``target(*arguments, **given, **options)`` with options that are given as text.

    The annotation of a keyword-only parameter says how the text of its option is read: ``str``,
    ``bool`` (``true``, ``1``, ``false`` or ``0``), ``int`` or ``float``, each also with ``| None``.
    A target with a parameter ``**name`` gets every other option there as it is given.

    Args:
        target: the callable.
        options: the user's options; a value that is not text is passed unchanged.
        arguments: further positional arguments.
        what: the name of the target for error messages.
        given: further keyword arguments, which the user cannot set.

    Raises:
        OnrError: the target takes no option of that name, or a text cannot be read.

    Example:
        >>> def area(*, width: int, height: float = 1.0):
        ...     return width * height
        >>> call(area, {"width": "3", "height": "1/2"}, what="area")
        1.5

    """
    parameters = inspect.signature(target, eval_str=True).parameters
    known = [
        name
        for name, parameter in parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in given
    ]
    read: dict[str, Any] = {}
    others = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name, text in options.items():
        if name not in known and others and name not in given:
            read[name] = text
            continue
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
        p: a norm, which is returned unchanged; a number >= 1 or ``math.inf``, for an lp norm; or
            the name of a registered norm. A number as text means an lp norm too (``"1.5"`` is
            ``"lp:1.5"``).

    Raises:
        UnknownNameError: no plugin offers a norm of that name, or several do.
        OnrError: ``p`` is a number below 1, or is neither text nor number nor norm.

    Example:
        >>> norm("inf"), norm(2), norm("1.5").dual
        (<norm inf>, <norm 2>, <norm 3>)

    """
    return as_norm(load("norm", norm_spec(p))() if isinstance(p, str) else p)


def pair(text: str, /) -> tuple[Norm, Norm]:
    """The norms p and q that a text such as ``inf:1`` names.

    Raises:
        OnrError: the text is no two norms with a colon between them.

    Example:
        >>> pair("inf:1"), pair("lp:1.5:2")
        ((<norm inf>, <norm 1>), (<norm 1.5>, <norm 2>))

    """
    for place, letter in enumerate(text):
        if letter == ":":
            with suppress(OnrError):
                return norm(text[:place]), norm(text[place + 1 :])
    raise OnrError(f"{text!r} is no pair of norms: expected P:Q, such as 2:2 or inf:1")


def loss_of(spec: Loss | str, /) -> Loss:
    """The loss that a name stands for; a loss is returned unchanged.

    Raises:
        UnknownNameError: no plugin offers a loss of that name, or several do.
        OnrError: neither a loss nor a text.

    Example:
        >>> loss_of("lq:1").name
        'lq:1'

    """
    if isinstance(spec, Loss):
        return spec
    if not isinstance(spec, str):
        raise OnrError(f"loss = {spec!r}: expected a loss, or the name of one")
    found: Loss = load("loss", spec)()
    return found


@dataclass(frozen=True)
class NamedAttack:
    """A registered attack with its settings, except for the ball and the bounds.

    Example:
        >>> make = attack_by_name("noise").make
        >>> make(norm(2), 0.5, (0, 1)).eps
        0.5

    """

    make: Callable[[Norm, float, Bounds | None], Attack]
    """Make the attack for a norm, a radius, and bounds of the pixels."""
    loss: Loss | None
    """The loss that the attack ascends; ``None`` if the attack has a loss of its own."""
    loss_spec: str | None
    """The registered name of the loss, if the loss was chosen by name."""
    steps: int | None
    """The number of iterations; ``None`` if the attack has no such setting."""
    restarts: int | None
    """The number of random starts; ``None`` if the attack has no such setting."""


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
    """Choose a registered attack and its settings.

    Args:
        spec: the name of the attack, such as ``pga``.
        loss: the loss to ascend; cross-entropy if not given, or its targeted form if ``targeted``.
        steps: the number of iterations; the attack's default if not given.
        restarts: the number of random starts; the attack's default if not given.
        options: further keyword arguments; :func:`call` describes how text is read.
        targeted: true if the labels are target classes, to which the attack should lead. An attack
            with a loss of its own takes it as the keyword ``targeted``, if it can be targeted.

    Raises:
        UnknownNameError: no plugin offers an attack or a loss of that name, or several do.
        OnrError: the attack has no parameter for something that was given, or the loss leads to the
            label without ``targeted``, or away from the label with ``targeted``.

    Example:
        >>> found = attack_by_name("pga", loss="lq:1", steps=5)
        >>> found.steps, found.restarts, found.loss.name
        (5, 1, 'lq:1')

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
    elif targeted and "targeted" not in parameters:
        raise OnrError(f"{what} has a loss of its own, without a target: leave the target out")
    if "targeted" in parameters:
        given["targeted"] = targeted

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


def leads_to_label(loss: Loss, /) -> bool:
    """Whether to ascend the loss leads to the label, as a targeted attack does.

    Example:
        >>> leads_to_label(CrossEntropy()), leads_to_label(CrossEntropy(targeted=True))
        (False, True)

    """
    return not loss.uses_clean and bool(
        loss.gradient(np.zeros((1, 2)), labels=np.zeros(1, np.int64))[0, 0] > 0
    )


def _leading(loss: Loss, *, targeted: bool) -> Loss:
    """Return the loss if it leads to the label (``targeted``) or away from the label (otherwise).

    Raises:
        OnrError: the loss leads the other way.

    """
    towards = leads_to_label(loss)
    if towards and not targeted:
        raise OnrError(f"loss {loss.name} leads to a target: say which with --target, as next")
    if targeted and not towards:
        raise OnrError(
            f"loss {loss.name} leads to no target: choose one that does, as "
            "targeted-cross-entropy, or leave the target out"
        )
    return loss


# What registered names with an argument load, such as ``lp:1.5``.


def lp(argument: str) -> LpNorm:
    """The lp norm with this exponent, as in ``lp:1.5``.

    Raises:
        OnrError: the argument is not a number, or is below 1.

    """
    return LpNorm(number(argument))


def cross_entropy(beta: str = "1") -> CrossEntropy:
    """Softmax cross-entropy; the argument is the inverse temperature."""
    return CrossEntropy(number(beta))


def targeted_cross_entropy(beta: str = "1") -> CrossEntropy:
    """Targeted softmax cross-entropy; the argument is the inverse temperature."""
    return CrossEntropy(number(beta), targeted=True)


def logit_distance(q: str = "2") -> LogitDistance:
    """The distance between the logits of ``x*`` and ``x`` in the named norm."""
    return LogitDistance(norm(q))
