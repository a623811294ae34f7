"""Whether the attack misses what a single step along the gradient finds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onr.arrays import like
from onr.auditing.base_check import BaseCheck
from onr.auditing.block import Block
from onr.auditing.probes import broken
from onr.auditing.protocols import Evidence, Flag
from onr.feasible import boxed
from onr.losses import one_hot

__all__ = ["WeakerThanFirstOrder"]


class WeakerThanFirstOrder(BaseCheck):
    """The share of images that one step breaks at a radius at which the attack fails.

    Where rho is near 1, the first-order radius predicts the attack's radius; in the box the step
    may be clipped, and the prediction with it. The check therefore takes the step: from the image,
    along the duality map of the gradient towards the first-order class, at each of the four radii.
    An image counts if such a step breaks it within a radius at which the audit calls it robust. On
    honest models the attack misses about one image in a hundred that anything else finds: it takes
    more than 2 %, and two images.

    Example:
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> columns = {"weaker-than-first-order: missed": np.array([1.0, 1.0, 0.0])}
        >>> check = WeakerThanFirstOrder()
        >>> print(check.verdict(Evidence(columns, Threat(LpNorm(2), "1"), classes=2)))
        RAISED weaker-than-first-order: one step breaks 2 of 3 images where the attack fails

    """

    name, summary = "weaker-than-first-order", "the attack misses what the gradient shows"
    threshold, images = 0.02, 100
    number = "share of images"
    source = "ours"
    meaning = (
        "A single step along the gradient, of the length that the first-order radius asks for, "
        "finds adversarial examples that the whole attack did not. The attack's radii and the "
        "robust accuracy on this page are too large."
    )
    remedy = (
        "Find out what misleads the attack on the way: noise (outputs-vary), a rugged loss "
        "(noisy-loss), or gradients that are right at clean images alone (rho, one-step). Use "
        "more steps and restarts."
    )

    def look(self, block: Block, /) -> Mapping[str, np.ndarray]:
        """1 where a step finds what the attack missed; NaN where misclassified from the start."""
        right = block.take(block.values["predicted"] == block.y)
        if not len(right):
            return {"missed": np.full(len(block), np.nan)}
        threat, here = right.threat, right.here
        nearest = like(right.values["first-order class"].astype(int), right.labels)
        u = one_hot(nearest, here.value) - one_hot(right.labels, here.value)
        v = threat.p.duality_map(here.vjp(u))
        missed, found = np.zeros(len(right), bool), {}
        for text, radius in threat.radii.items():
            moved = boxed(right.x, radius * v, threat.bounds, threat.p)
            hit = broken(right.network(moved), right.y)
            here_alone = hit & (right.values[f"robust at {text}"] == 1)
            missed |= here_alone
            found[f"missed at {text}"] = block.column(right, here_alone)
        return {"missed": block.column(right, missed)} | found

    def verdict(self, evidence: Evidence, /) -> Flag:
        """Raised if more than two in a hundred images are missed."""
        seen = self.seen(evidence, "missed")
        if not len(seen):
            return self.unknown("no image is classified correctly")
        count = int(seen.sum())
        told = f"one step breaks {count} of {len(seen)} images where the attack fails"
        where = {text: self.seen(evidence, f"missed at {text}") for text in evidence.threat.radii}
        places = [f"{int(hits.sum())} at {text}" for text, hits in where.items() if hits.any()]
        told += f" ({', '.join(places)})" if places else ""
        told += "; a single one does not count" if count == 1 else ""
        return self.flag(count / len(seen) if count > 1 else 0.0, len(seen), told)
