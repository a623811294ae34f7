"""The models of the zoo, by name, and an audit of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditing.zoo import hiding, hiding_later, honest
from auditing.zoo.digits import digits
from auditing.zoo.honest import Audited
from torch import nn

import onr
from onr.auditing.record import Audit

__all__ = ["EXCEPTIONS", "IMAGES", "MEMBERS", "THREATS", "Member", "audited"]

IMAGES = 100
"""How many images of a model are audited; the settings are those of a fast audit."""
THREATS = {"inf": "1/10", "2": "1/2"}
"""The norms in which the digits are perturbed, each with its radius."""
PHOTOGRAPHS = {"inf": "4/255", "2": "1/4"}


@dataclass(frozen=True)
class Member:
    """A model of the zoo."""

    name: str
    hides: bool
    how: str
    """What it is, in a few words."""
    make: Callable[[Path], Audited]
    """The model with images and labels; what the project trains is kept in the folder."""
    threats: dict[str, str]


def _around(wrap: Callable[[nn.Module], nn.Module]) -> Callable[[Path], Audited]:
    """A module around the classifier of digits."""

    def make(_: Path) -> Audited:
        inside, x, y = digits()
        return wrap(inside).eval(), x, y

    return make


def _larger(wrap: Callable[[nn.Module], nn.Module]) -> Callable[[Path], Audited]:
    """A module around the classifier of enlarged digits."""

    def make(_: Path) -> Audited:
        inside, x, y = honest.larger()
        return wrap(inside).eval(), x, y

    return make


def _trained(name: str, **settings: Any) -> Callable[[Path], Audited]:
    return lambda folder: honest.by_the_project(folder / name, **settings)


LINF = {"p": "inf", "eps": "0.1", "steps": "5"}
_HIDING: dict[str, tuple[str, Callable[[Path], Audited]]] = {
    "saturated": ("softmax at a temperature of 1/1000", _around(hiding.Saturated)),
    "quantised": ("pixels rounded to eight levels", _around(hiding.QuantisedInput)),
    "noise": ("Gaussian noise at inference", _around(hiding.NoisyInput)),
    "detached": ("cut off, beside a weak random branch", _around(hiding.DetachedBranch)),
    "one-hot": ("only the decision is shown", _around(hiding.OneHot)),
    "jpeg": ("cosine coefficients rounded", _around(hiding_later.JpegRounding)),
    "k-winners": (
        "8 % of each layer's units are kept",
        lambda _: _digits(hiding_later.k_winners()),
    ),
    "thermometer": ("pixels as zeros and ones", lambda _: _digits(hiding_later.thermometer())),
    "vote": ("mean of the decisions of five networks", _around(hiding_later.Vote)),
    "distilled": ("trained at temperature 100, used at 1", _around(hiding_later.distilled)),
    "resize": ("random size and padding at inference", _larger(hiding_later.RandomResize)),
    "float16": ("probabilities in float16", _around(hiding_later.HalfPrecision)),
    "half-pixels": ("half of the pixels detached", _around(hiding_later.HalfOfPixels)),
    "half-units": ("half of the units under no_grad", _around(hiding_later.HalfOfUnits)),
    "zero-backward": ("backward pass of zeros", _around(hiding_later.ZeroBackward)),
    "noise-backward": ("backward pass of noise", _around(hiding_later.NoiseBackward)),
    "reversed": ("a hook turns the gradient round", _around(hiding_later.Reversed)),
    "purifier": ("moves the image by gradients first", _around(hiding_later.Purifier)),
    "wiggles": ("a fast small wave added to pixels", _around(hiding_later.Wiggles)),
    "nearest": ("vote of nine neighbours", lambda _: _digits(hiding_later.NearestVotes().eval())),
}
_HONEST: dict[str, tuple[str, Callable[[Path], Audited]]] = {
    "standard": ("perceptron, 2 x 64 units", _trained("standard")),
    "at": ("adversarially trained, l∞ 0.1", _trained("at", method="at", options=LINF)),
    "dd-snr": (
        "spectral norm at data",
        _trained("dd-snr", method="dd-snr", options={"eps": "0.5", "steps": "5"}),
    ),
    "dd-onr": (
        "(∞, 2) norm at data",
        _trained("dd-onr", method="dd-onr", options={**LINF, "q": "2"}),
    ),
    "global-snr": (
        "spectral norms of layers",
        _trained("global-snr", method="global-snr", options={"lam": "0.001"}),
    ),
    "wide": ("perceptron, 2 x 512 units", _trained("wide", model={"width": "512"})),
    "narrow": ("perceptron, 2 x 12 units", _trained("narrow", model={"width": "12"})),
    "transformer": ("16 tokens, 2 blocks", lambda _: honest.transformer()),
    "larger": ("convolutions, 32 x 32 pixels", lambda _: honest.larger()),
    "cifar": ("convolutions, CIFAR-10", lambda _: honest.cifar()),
}


def _digits(model: nn.Module) -> Audited:
    return (model, *digits()[1:])


MEMBERS: dict[str, Member] = {
    name: Member(name, hides, how, make, PHOTOGRAPHS if name == "cifar" else THREATS)
    for hides, group in ((True, _HIDING), (False, _HONEST))
    for name, (how, make) in group.items()
}

EXCEPTIONS: dict[tuple[str, str], str] = {}
"""What does not hold, by model and norm, with the reason."""


def audited(member: Member, folder: Path, *, p: str = "inf", images: int = IMAGES) -> Audit:
    """A fast audit of a model of the zoo, with all checks of the project; seeds are 0."""
    model, x, y = member.make(folder)
    return onr.audit(model, x, y, p=p, eps=member.threats[p], images=images, fast=True)
