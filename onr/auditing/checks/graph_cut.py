"""Whether the gradient is the derivative of what the network computes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onr.arrays import array_namespace, like
from onr.auditing.base_check import BaseCheck
from onr.auditing.block import Block
from onr.auditing.probes import floats, slack
from onr.auditing.protocols import Evidence, Flag

__all__ = ["GraphCut"]

STEPS = 0.1, 0.01
CHANNELS = 4
FEWEST = 5


class GraphCut(BaseCheck):
    """How far ``<J^T u, v>`` is from the change of ``<u, f>`` along random directions v.

    The number is ``|change - slope| / (|change| + |slope|)``, the smaller of those for steps of
    eps/10 and eps/100: 0 where the two agree, 1 where the logits move and the gradient is zero, or
    the gradient is not and they do not move. Each colour channel has a direction of its own, which
    points into the box, and the largest median over images decides. Changes within rounding do not
    count.

    The threshold 0.2 lies between the two cases. Within eps/100 a network is nearly linear, and its
    number is a few percent, by curvature and rounding. If a part of the network is cut off that
    carries a share s of the variance of the change, then change and slope are about Gaussian with
    correlation sqrt(1 - s): the median is 0.16 at s = 0.1, 0.24 at s = 0.2 and 0.45 at s = 0.5.

    Example:
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> columns = {"graph-cut: channel 0": np.ones(9)}
        >>> print(GraphCut().verdict(Evidence(columns, Threat(LpNorm(2), "1"), classes=2)))
        RAISED graph-cut: the gradient misses 100% of the change of the logits

    """

    name, summary = "graph-cut", "the gradient is not that of what the model computes"
    threshold, images = 0.2, 50
    number = "relative error of the gradient, 0 to 1"
    source = "Pintor et al. (2022), unavailable gradients; the comparison with differences is ours"
    meaning = (
        "The logits change along random directions by something else than the gradient says, or "
        "do not change where it says so. Something on the way is cut off (detach, no_grad), "
        "rounded, random, or has a backward pass of its own. An attack follows a wrong gradient."
    )
    remedy = (
        "Look for detach, no_grad, round, argmax, NumPy, or a custom backward pass between the "
        "input and the logits. If only a known step has no gradient, replace it in the backward "
        "pass (BPDA, Athalye et al., 2018). The flag black-box says whether a search without "
        "gradients does better."
    )

    def look(self, block: Block, /) -> Mapping[str, np.ndarray]:
        """The disagreement in each channel; NaN where neither moves beyond rounding."""
        x, threat, here = block.x, block.threat, block.here
        xp, rng, z = array_namespace(x), block.rng(self.name), here.value
        known = np.isfinite(floats(z))
        u = rng.standard_normal(known.shape) * known
        g = floats(here.vjp(like(u, z)))
        floor = slack(z) * np.linalg.norm(u, axis=1)
        channels = x.shape[1] if x.ndim == 4 and x.shape[1] <= CHANNELS else 1
        found = {}
        for channel in range(channels):
            v = rng.standard_normal(tuple(x.shape))
            if channels > 1:
                v[:, np.arange(channels) != channel] = 0
            v *= threat.radius / threat.p(v).reshape((-1,) + (1,) * (v.ndim - 1))
            leaves = floats(x) + STEPS[0] * v
            v = np.where((leaves < threat.bounds[0]) | (leaves > threat.bounds[1]), -v, v)
            slope = (g * v).reshape(len(v), -1).sum(axis=1)
            gaps = []
            for step in STEPS:
                there = floats(block.network(xp.astype(x + like(step * v, x), x.dtype)))
                with np.errstate(invalid="ignore"):
                    move = np.where(known, there - floats(z), 0)
                change = (u * move).sum(axis=1)
                size = np.abs(change) + np.abs(step * slope)
                with np.errstate(invalid="ignore", divide="ignore"):
                    gap = np.abs(change - step * slope) / size
                gaps.append(np.where(size > floor, gap, np.nan))
            found[f"channel {channel}"] = np.fmin(*gaps)
        return found

    def verdict(self, evidence: Evidence, /) -> Flag:
        """Raised if gradient and change disagree at most images, in some channel."""
        medians, images = [], 0
        for name in evidence.of(self.name):
            seen = self.seen(evidence, name) if name.startswith("channel") else np.empty(0)
            if len(seen) >= FEWEST:
                medians.append(float(np.median(seen)))
                images = max(images, len(seen))
        if not medians:
            return self.unknown("the logits hardly move within eps/10")
        worst = max(medians)
        told = f"the gradient misses {worst:.0%} of the change of the logits"
        return self.flag(worst, images, told)
