"""Whether the attack has converged."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onr.auditing.base_check import BaseCheck
from onr.auditing.block import Block
from onr.auditing.probes import climb, margins, noise
from onr.auditing.protocols import Evidence, Flag

__all__ = ["LossStillMoves"]

LAST = 0.1
FEWEST = 5


class LossStillMoves(BaseCheck):
    """How much of its whole gain an ascent makes in the last tenth of its steps, at the median.

    The ascent is the attack's own: 40 steps on the margin whose length decays like a cosine. The
    last four together are 0.05 eps long, of at most 2 eps that an iterate can travel, so that a
    margin that grows evenly gains at most 2.3 % there. The threshold is 5 %, as in Pintor et al.
    Only images that the attack left count.

    Example:
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> columns = {"loss-still-moves: late": np.full(9, 0.01)}
        >>> print(LossStillMoves().verdict(Evidence(columns, Threat(LpNorm(2), "1"), classes=2)))
        ok loss-still-moves: the last tenth of the steps makes 1.0% of the gain, at the median

    """

    name, summary = "loss-still-moves", "the attack has not converged"
    threshold, images = 0.05, 100
    number = "share of the gain"
    source = "Pintor et al. (2022), incomplete optimisation"
    meaning = (
        "The margin still grows when the attack stops, although its steps are tiny by then. The "
        "loss changes on scales far below eps (it is rugged, or noisy), and what the attack "
        "returns is a matter of where it happened to stop."
    )
    remedy = (
        "Give the attack more steps and more restarts (onr evaluate --steps 200 --restarts 5) "
        "until the robust accuracy stays where it is, and see whether graph-cut or noisy-loss "
        "is raised too."
    )

    def look(self, block: Block, /) -> Mapping[str, np.ndarray]:
        """The share of the gain in the last tenth; NaN where the attack succeeded, or no gain."""
        left = block.take(block.values[f"robust at {block.threat.text}"] == 1)
        if not len(left):
            return {"late": np.full(len(block), np.nan)}
        start = noise(left, left.threat.radius, left.rng(self.name))
        path = np.array([margins(logits, left.y) for _, logits in climb(left, start)])
        early = round((1 - LAST) * (len(path) - 1)) + 1
        before, after = path[:early].max(axis=0), path[early:].max(axis=0)
        whole = np.maximum(before, after) - path[0]
        with np.errstate(invalid="ignore", divide="ignore"):
            late = np.where(whole > 0, np.maximum(after - before, 0) / whole, np.nan)
        return {"late": block.column(left, late)}

    def verdict(self, evidence: Evidence, /) -> Flag:
        """Raised if the last steps still gain much at most images."""
        seen = self.seen(evidence, "late")
        if len(seen) < FEWEST:
            return self.unknown(f"the ascent rises at {len(seen)} of the images that are left")
        late = float(np.median(seen))
        told = f"the last tenth of the steps makes {late:.1%} of the gain, at the median"
        return self.flag(late, len(seen), told)
