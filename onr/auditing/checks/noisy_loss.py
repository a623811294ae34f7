"""Whether the loss jumps within a distance that should not matter."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onr.auditing.base_check import BaseCheck
from onr.auditing.block import Block
from onr.auditing.probes import margins, noise
from onr.auditing.protocols import Evidence, Flag

__all__ = ["NoisyLoss"]

POINTS, NEAR = 100, 0.01


class NoisyLoss(BaseCheck):
    """By what share of itself the margin varies at 100 random points within eps/100, at the median.

    A network that is nearly linear there changes its margin by at most eps/100 over the
    first-order radius, of itself, and along a random direction by a small part of that. It reaches
    the 10 % of Pintor et al. only where the worst perturbation of a tenth of eps breaks the image,
    and even then not along random directions.

    Example:
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> columns = {"noisy-loss: variation": np.array([0.5, 0.6])}
        >>> print(NoisyLoss().verdict(Evidence(columns, Threat(LpNorm(2), "1"), classes=2)))
        RAISED noisy-loss: the margin varies by 55.0% of itself within eps/100, at the median

    """

    name, summary = "noisy-loss", "the loss is noisy"
    threshold, images = 0.1, 20
    number = "relative variation"
    source = "Pintor et al. (2022), unstable predictions: 100 points, 10 %; the radius is ours"
    meaning = (
        "The margin differs a lot between points that nobody can tell apart. A gradient describes "
        "such a loss at one point only and leads nowhere: attacks wander about."
    )
    remedy = (
        "If outputs-vary is raised too, the model draws noise: see there. If not, its loss is "
        "rugged or has steps: attack a smoothed loss, by averaging the gradient over random points "
        "near each iterate, and compare with a black-box attack."
    )

    def look(self, block: Block, /) -> Mapping[str, np.ndarray]:
        """The root mean square of the change of the margin, over the margin."""
        rng, radius = block.rng(self.name), NEAR * block.threat.radius
        here = margins(block.network(block.x), block.y)
        changes = [
            margins(block.network(noise(block, radius, rng)), block.y) - here for _ in range(POINTS)
        ]
        with np.errstate(invalid="ignore", divide="ignore"):
            return {"variation": np.sqrt(np.mean(np.square(changes), axis=0)) / np.abs(here)}

    def verdict(self, evidence: Evidence, /) -> Flag:
        """Raised if the margin varies much at most images."""
        seen = self.seen(evidence, "variation")
        if not len(seen):
            return self.unknown("no image could be measured")
        value = float(np.median(seen))
        told = f"the margin varies by {value:.1%} of itself within eps/100, at the median"
        return self.flag(value, len(seen), told)
