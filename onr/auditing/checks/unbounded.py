"""Whether an attack that may do anything to the image succeeds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onr.arrays import array_namespace
from onr.attacks.multitargeted import MultiTargeted
from onr.auditing.base_check import BaseCheck
from onr.auditing.block import Block
from onr.auditing.intervals import wilson
from onr.auditing.probes import broken, floats
from onr.auditing.protocols import Evidence, Flag

__all__ = ["Unbounded"]


class Unbounded(BaseCheck):
    """The accuracy under the audit's attack with the whole box as its ball, in units of chance.

    Every image lies in that ball, those of the other classes too: no classifier is robust there,
    and only a failing attack leaves more than chance. The number is the lower end of Wilson's
    interval at 95 % times the number of classes, and the threshold 1.

    Example:
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> columns = {"unbounded: robust": np.ones(50)}
        >>> print(Unbounded().verdict(Evidence(columns, Threat(LpNorm(2), "1"), classes=10)))
        RAISED unbounded: 50 of 50 images stay correct with eps = the whole box

    """

    name, summary = "unbounded", "an attack without a bound fails"
    threshold, images = 1.0, 50
    number = "lower end of the interval over the accuracy of guessing"
    source = "Carlini et al. (2019); Athalye et al. (2018), sec. 3.1"
    meaning = (
        "The attack may replace the image by any other and still does not change the prediction. "
        "Adversarial examples exist beyond doubt, and it does not find them: its accuracy at "
        "smaller radii means nothing."
    )
    remedy = (
        "Repair the attack before anything else: find out where its gradient vanishes or misleads "
        "(zero-gradients, graph-cut, outputs-vary), until accuracy falls to zero at this radius."
    )

    def look(self, block: Block, /) -> Mapping[str, np.ndarray]:
        """1 where the image stays correct, 0 where it is misclassified, from the beginning too."""
        low, high = block.threat.bounds
        right = block.take(block.values["predicted"] == block.y)
        found = np.zeros(len(block))
        if len(right):
            whole = array_namespace(right.x).ones_like(right.x[:1]) * (high - low)
            radius = float(floats(block.threat.p(whole))[0])
            attack = MultiTargeted(p=block.threat.p, eps=radius, bounds=block.threat.bounds)
            moved = attack(right.network, right.x, right.labels, rng=right.rng(self.name))
            stays = ~broken(right.network(moved), right.y)
            found[np.isin(block.places, right.places)] = stays
        return {"robust": found}

    def verdict(self, evidence: Evidence, /) -> Flag:
        """Raised if accuracy is above chance."""
        seen = self.seen(evidence, "robust")
        if not len(seen):
            return self.unknown("no image could be measured")
        hits = int(seen.sum())
        told = f"{hits} of {len(seen)} images stay correct with eps = the whole box"
        return self.flag(wilson(hits, len(seen))[0] * evidence.classes, len(seen), told)
