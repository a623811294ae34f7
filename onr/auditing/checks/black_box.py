"""Whether a search without gradients finds what the attack by gradients did not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onr.auditing.base_check import BaseCheck
from onr.auditing.block import Block
from onr.auditing.probes import broken
from onr.auditing.protocols import Evidence, Flag
from onr.registry import load

__all__ = ["QUERIES", "BlackBox"]

QUERIES = 1000


class BlackBox(BaseCheck):
    """The share of images that Square breaks and the attack of the audit did not, within eps.

    Square (Andriushchenko et al., 2020) takes 1,000 queries at each of the first 200 images that
    the attack left. The threshold is AutoAttack's 0.2 %. At 200 images a single one is 0.5 %, and
    a single one is luck: AutoAttack itself breaks about one image in a hundred more than the
    audit's attack on honest models. The flag takes two.

    Example:
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> columns = {"black-box: broken": np.array([1.0, 1.0, 0.0, 0.0])}
        >>> print(BlackBox().verdict(Evidence(columns, Threat(LpNorm(2), "1"), classes=2)))
        RAISED black-box: of 4 images, Square breaks 2 that the attack by gradients left

    """

    name, summary = "black-box", "a search without gradients beats the attack"
    threshold, images = 0.002, 200
    number = "share of images"
    source = "AutoAttack's check_square_sr (Croce and Hein, 2020); Athalye et al. (2018), sec. 3.1"
    meaning = (
        "A random search that sees only the logits finds adversarial examples where an attack that "
        "sees the gradients finds none. Gradients are worth more than values, so that they must be "
        "misleading here: the robust accuracy on this page is too high."
    )
    remedy = (
        "Report the accuracy under both attacks together, run Square with more queries (onr "
        "evaluate --attack square --steps 5000), and look in the other flags for what hides the "
        "gradient."
    )

    def look(self, block: Block, /) -> Mapping[str, np.ndarray]:
        """1 where Square breaks an image that the attack left, 0 at the other images.

        Raises:
            OnrError: the library is not installed, or attacks no such network, norm or images.

        """
        left = block.take(block.values[f"robust at {block.threat.text}"] == 1)
        found = np.zeros(len(block))
        if len(left):
            threat, rng = block.threat, block.rng(self.name)
            attack = load("attack", "onr_torch:square")(
                p=threat.p, eps=threat.radius, steps=QUERIES, bounds=threat.bounds,
                batch_size=block.network.size,
            )  # fmt: skip
            moved = attack(block.network.bare, left.x, left.labels, rng=rng)
            found[np.isin(block.places, left.places)] = broken(block.network(moved), left.y)
        return {"broken": found}

    def verdict(self, evidence: Evidence, /) -> Flag:
        """Raised if Square breaks two images or more, and more than 0.2 %."""
        seen = self.seen(evidence, "broken")
        if not len(seen):
            return self.unknown("no image could be measured")
        count = int(seen.sum())
        told = f"of {len(seen)} images, Square breaks {count} that the attack by gradients left"
        told += "; a single one does not count" if count == 1 else ""
        return self.flag(count / len(seen) if count > 1 else 0.0, len(seen), told)
