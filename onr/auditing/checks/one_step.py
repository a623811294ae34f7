"""Whether one step of an attack does better than many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from onr.attacks.fast_gradient import FastGradient
from onr.attacks.projected_gradient import ProjectedGradientAscent
from onr.auditing.base_check import BaseCheck
from onr.auditing.block import Block
from onr.auditing.probes import broken, gain
from onr.auditing.protocols import Evidence, Flag
from onr.losses import Margin
from onr.protocols import Attack

__all__ = ["OneStep"]

STEPS = 20


class OneStep(BaseCheck):
    """By how many standard errors the fast gradient method breaks more than 20 steps of ascent.

    Both ascend the margin within eps, at the same images. Many steps can only be worse if the
    gradient after the first misleads. Here two standard errors are enough, five images against
    none: on honest models many steps break far more than one, or as many where all are broken.

    Example:
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> columns = {"one-step: one": np.ones(9), "one-step: many": np.zeros(9)}
        >>> print(OneStep().verdict(Evidence(columns, Threat(LpNorm(2), "1"), classes=2)))
        RAISED one-step: one step breaks 9, 20 steps 0 of 9 images: 3.0 standard errors

    """

    name, summary = "one-step", "one step beats many"
    threshold, images = 2.0, 100
    number = "standard errors by which one step is better"
    source = "Carlini et al. (2019); Athalye et al. (2018), sec. 3.1; two standard errors are ours"
    meaning = (
        "A single step from the image breaks more than twenty steps do. The later steps see "
        "gradients that lead back: the loss is shaped so that it hides its maxima, as after "
        "training against one-step attacks (Tramer et al., 2018), or the gradients are noise."
    )
    remedy = (
        "Do not report the accuracy under this iterative attack as robust accuracy. Compare random "
        "starts, other losses and a black-box attack, and look at rho over eps."
    )

    def look(self, block: Block, /) -> Mapping[str, np.ndarray]:
        """1 where each attack breaks the image; NaN where it is misclassified before."""
        right = block.take(block.values["predicted"] == block.y)
        if not len(right):
            return {name: np.full(len(block), np.nan) for name in ("one", "many")}
        threat, rng = right.threat, right.rng(self.name)
        given: dict[str, Any] = {
            "p": threat.p,
            "loss": Margin(),
            "eps": threat.radius,
            "bounds": threat.bounds,
        }
        attacks: dict[str, Attack] = {
            "one": FastGradient(**given),
            "many": ProjectedGradientAscent(**given, steps=STEPS),
        }
        found = {}
        for name, attack in attacks.items():
            moved = attack(right.network, right.x, right.labels, rng=rng)
            found[name] = block.column(right, broken(right.network(moved), right.y))
        return found

    def verdict(self, evidence: Evidence, /) -> Flag:
        """Raised if one step is significantly better."""
        one, many = self.seen(evidence, "one"), self.seen(evidence, "many")
        if not len(one):
            return self.unknown("no image is classified correctly")
        value = gain(one, many)
        told = f"one step breaks {int(one.sum())}, {STEPS} steps {int(many.sum())} of {len(one)}"
        return self.flag(value, len(one), f"{told} images: {value:.1f} standard errors")
