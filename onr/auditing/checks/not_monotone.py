"""Whether an attack does worse where it may do more."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onr.attacks.projected_gradient import ProjectedGradientAscent
from onr.auditing.base_check import BaseCheck
from onr.auditing.block import Block
from onr.auditing.probes import broken, gain
from onr.auditing.protocols import Evidence, Flag
from onr.losses import Margin

__all__ = ["NotMonotone"]

STEPS, MORE = 10, 40
ATTACKS = {
    "half eps": (0.5, STEPS),
    "eps": (1.0, STEPS),
    "twice eps": (2.0, STEPS),
    f"{MORE} steps": (1.0, MORE),
}
PAIRS = (("half eps", "eps"), ("eps", "twice eps"), ("eps", f"{MORE} steps"))


class NotMonotone(BaseCheck):
    """By how many standard errors less an attack breaks at a larger eps, or with more steps.

    Projected gradient ascent on the margin attacks each image four times, each time on its own:
    with ten steps at eps/2, eps and 2 eps, and with 40 at eps. (The audit's own curve cannot rise,
    because it carries over what it finds.) A pair of attacks is compared on the same images, and
    the number is the largest McNemar statistic. Of two equally good attacks one seems better by
    luck: it takes three standard errors in one of the three pairs, by chance at most once in 250.

    Example:
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> columns = {f"not-monotone: {name}": np.zeros(16) for name in ATTACKS}
        >>> columns["not-monotone: half eps"] = np.ones(16)
        >>> print(NotMonotone().verdict(Evidence(columns, Threat(LpNorm(2), "1"), classes=2)))
        RAISED not-monotone: 16 broken with half eps, 0 with eps: 4.0 standard errors

    """

    name, summary = "not-monotone", "a stronger attack does worse"
    threshold, images = 3.0, 100
    number = "standard errors by which the weaker attack is better"
    source = (
        "Carlini et al. (2019); Athalye et al. (2018), sec. 3.1; three standard errors are ours"
    )
    meaning = (
        "An attack with a larger ball, or with more steps, could do all that the weaker one does, "
        "and breaks fewer images. It is led astray: the gradients far from the image mislead it, "
        "or its success is chance."
    )
    remedy = (
        "Do not trust a curve of accuracy against eps for this model. Use more restarts, carry an "
        "example over to every larger radius (as onr does), and look for what misleads the "
        "gradient: noisy-loss, graph-cut, rho."
    )

    def look(self, block: Block, /) -> Mapping[str, np.ndarray]:
        """1 where an attack breaks the image, 0 where not; NaN where it is misclassified before."""
        right = block.take(block.values["predicted"] == block.y)
        if not len(right):
            return {name: np.full(len(block), np.nan) for name in ATTACKS}
        found = {}
        threat = right.threat
        for name, (factor, steps) in ATTACKS.items():
            attack = ProjectedGradientAscent(
                p=threat.p, loss=Margin(), eps=factor * threat.radius, steps=steps,
                bounds=threat.bounds,
            )  # fmt: skip
            rng = right.rng(f"{self.name} {name}")
            moved = attack(right.network, right.x, right.labels, rng=rng)
            found[name] = block.column(right, broken(right.network(moved), right.y))
        return found

    def verdict(self, evidence: Evidence, /) -> Flag:
        """Raised if the weaker attack of a pair is significantly better."""
        seen = {name: self.seen(evidence, name) for name in ATTACKS}
        if not len(seen["eps"]):
            return self.unknown("no image is classified correctly")
        gains = {pair: gain(seen[pair[0]], seen[pair[1]]) for pair in PAIRS}
        (weak, strong), value = max(gains.items(), key=lambda item: item[1])
        told = (
            f"{int(seen[weak].sum())} broken with {weak}, {int(seen[strong].sum())} with {strong}"
        )
        return self.flag(value, len(seen["eps"]), f"{told}: {value:.1f} standard errors")
