"""Whether the usual attack on cross-entropy depends on the scale of the logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from onr.arrays import array_namespace, in_float32, like, safe
from onr.auditing.base_check import BaseCheck
from onr.auditing.block import Block
from onr.auditing.probes import broken, climb, gain, noise
from onr.auditing.protocols import Evidence, Flag
from onr.losses import one_hot
from onr.typing import Array

__all__ = ["Scale", "cross_entropy"]

LEAD = "to a lead of 1"
SCALES = ("times 1", "times 10", "times 0.1", LEAD)
STEPS = 20


def cross_entropy(scale: Array | float, labels: Array) -> Callable[[Array], Array]:
    """The direction of cross-entropy at logits times a scale, as frameworks compute it.

    It is ``softmax(scale z) - onehot(y)``, in the float type of the logits, where it may round to
    zero; :class:`onr.losses.CrossEntropy` avoids that.

    Example:
        >>> u = cross_entropy(10.0, np.array([0]))
        >>> u(np.array([[100.0, 0.0]])), u(np.array([[0.0, 0.0]]))
        (array([[0., 0.]]), array([[-0.5,  0.5]]))

    """

    def direction(logits: Array) -> Array:
        xp, z = array_namespace(logits), in_float32(logits)
        with np.errstate(under="ignore"):
            powers = xp.exp(scale * (z - xp.max(z, axis=1, keepdims=True)))
            share = powers / xp.sum(powers, axis=1, keepdims=True)
        return xp.astype(share - one_hot(labels, z), logits.dtype)

    return direction


class Scale(BaseCheck):
    """By how many standard errors the usual attack breaks more if the logits are scaled.

    The audit's own attack ascends a difference of logits, which no scale changes. Most published
    numbers come from an attack on cross-entropy instead, whose gradient frameworks compute as
    ``softmax(z) - onehot(y)``: that rounds to zero where the logits are far apart. The check runs
    20 steps of it at the logits, at the logits times 10 and times 0.1, and at the logits of each
    image divided by its margin, so that the label leads by 1; from one start, at the same images.
    The number is McNemar's statistic for the best of the other scales. A loss of another shape may
    honestly find a few images more: it takes three standard errors.

    Example:
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> columns = {f"scale: {scale}": np.zeros(16) for scale in SCALES}
        >>> columns["scale: times 0.1"] = np.ones(16)
        >>> print(Scale().verdict(Evidence(columns, Threat(LpNorm(2), "1"), classes=2)))
        RAISED scale: logits times 0.1 let cross-entropy break 16 images in place of 0 of 16

    """

    name, summary = "scale", "the usual attack depends on the scale of the logits"
    threshold, images = 3.0, 100
    number = "standard errors by which another scale is better"
    source = "ours; Carlini and Wagner (2017) on saturated softmax; three standard errors"
    meaning = (
        "Multiplying the logits by a number changes no prediction, and yet the attack that most "
        "papers use breaks far more images then. The logits saturate its loss. The audit's own "
        "attack does not suffer from it, but numbers from other tools for this model do."
    )
    remedy = (
        "Compare with other work only through attacks that do not depend on the scale: on "
        "differences of logits, as here, or on the DLR loss (AutoAttack)."
    )

    def look(self, block: Block, /) -> Mapping[str, np.ndarray]:
        """1 where the attack at each scale breaks the image; NaN where misclassified before."""
        right = block.take(block.values["predicted"] == block.y)
        if not len(right):
            return {scale: np.full(len(block), np.nan) for scale in SCALES}
        start = noise(right, right.threat.radius / 2, right.rng(self.name))
        lead = like(right.values["margin"], right.here.value)[:, None]
        factors = dict(zip(SCALES, (1.0, 10.0, 0.1, 1 / safe(lead)), strict=True))
        found = {}
        for scale, factor in factors.items():
            hit = np.zeros(len(right), bool)
            direction = cross_entropy(factor, right.labels)
            for _, logits in climb(right, start, steps=STEPS, direction=direction):
                hit |= broken(logits, right.y)
            found[scale] = block.column(right, hit)
        return found

    def verdict(self, evidence: Evidence, /) -> Flag:
        """Raised if another scale is significantly better."""
        seen = {scale: self.seen(evidence, scale) for scale in SCALES}
        usual = seen.pop(SCALES[0])
        if not len(usual):
            return self.unknown("no image is classified correctly")
        gains = {scale: gain(hits, usual) for scale, hits in seen.items()}
        best = max(gains, key=lambda scale: gains[scale])
        text = "scaled so that the label leads by 1" if best == SCALES[-1] else best
        told = f"logits {text} let cross-entropy break {int(seen[best].sum())} images"
        told += f" in place of {int(usual.sum())} of {len(usual)}"
        return self.flag(gains[best], len(usual), told)
