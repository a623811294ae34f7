"""Whether an attack finds an adversarial example and returns something else."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onr.arrays import array_namespace, column, like
from onr.auditing.base_check import BaseCheck
from onr.auditing.block import Block
from onr.auditing.probes import climb, floats, margins, noise
from onr.auditing.protocols import Evidence, Flag

__all__ = ["SilentSuccess"]

SURE = 0.01


class SilentSuccess(BaseCheck):
    """The share of images with an iterate that was misclassified, and is not when asked again.

    An ascent of 40 steps keeps the iterate of largest margin, as the attack does, and the network
    is asked once more at that point. The first answer counts if its margin is more than a hundredth
    of the largest logit, beyond the rounding of any float, so that a fixed function never differs:
    the threshold is zero.

    Example:
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> columns = {"silent-success: lost": np.array([1.0, 0.0])}
        >>> print(SilentSuccess().verdict(Evidence(columns, Threat(LpNorm(2), "1"), classes=2)))
        RAISED silent-success: 1 of 2 images were wrong at a step of the attack, then right again

    """

    name, summary = "silent-success", "adversarial examples are found and lost"
    threshold, images = 0.0, 50
    number = "share of images"
    source = "Pintor et al. (2022), silent success"
    meaning = (
        "At some iterate the model was wrong, and at the same point it is right a moment later. "
        "The attack has succeeded without a trace in its result, so that accuracy under attack is "
        "too high: the model draws noise or keeps state."
    )
    remedy = (
        "Fix the noise or the state. If it is the defence, judge each image by several draws: by "
        "the share of wrong answers at the point, not by one."
    )

    def look(self, block: Block, /) -> Mapping[str, np.ndarray]:
        """1 where a success was lost, 0 where not; NaN where the clean image is misclassified."""
        right = block.take(block.values["predicted"] == block.y)
        if not len(right):
            return {"lost": np.full(len(block), np.nan)}
        best, kept = np.full(len(right), -np.inf), right.x
        xp = array_namespace(kept)
        for moved, logits in climb(right, noise(right, right.threat.radius, right.rng(self.name))):
            z = floats(logits)
            largest = np.abs(np.where(np.isfinite(z), z, 0)).max(axis=1)
            value = margins(logits, right.y) - SURE * largest
            better = value > best
            best = np.where(better, value, best)
            kept = xp.where(column(like(better.astype(float), moved) > 0, moved), moved, kept)
        again = margins(right.network(kept), right.y)
        return {"lost": block.column(right, ((best > 0) & (again <= 0)).astype(np.float64))}

    def verdict(self, evidence: Evidence, /) -> Flag:
        """Raised if there is such an image."""
        seen = self.seen(evidence, "lost")
        if not len(seen):
            return self.unknown("no image is classified correctly")
        told = f"{int(seen.sum())} of {len(seen)} images were wrong at a step of the attack"
        return self.flag(seen.mean(), len(seen), f"{told}, then right again")
