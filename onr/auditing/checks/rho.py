"""Whether the network is anything like linear where the attack did not succeed."""

from __future__ import annotations

import numpy as np

from onr.auditing.base_check import BaseCheck
from onr.auditing.intervals import quantile
from onr.auditing.protocols import Evidence, Flag

__all__ = ["Rho"]

FEWEST = 10


class Rho(BaseCheck):
    """How far the median linearity ratio at eps is from 1, at the images that the attack left.

    rho is what the logits do at ``x + eps v`` over what the gradient says of it. Images that the
    attack breaks need no explanation: a network that is not robust bends a lot within eps. Those
    that it leaves are either robust, and then nearly linear (Qin et al., 2019), or the gradient
    says nothing of their surroundings. The number is the distance from 1 of the nearer end of the
    median's interval at 95 %, and the threshold 0.5: rho in [0.5, 1.5] means that the gradient
    predicts the change to within a factor of about two.

    Example:
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> columns = {"rho at 1": np.full(20, 0.1), "robust at 1": np.ones(20)}
        >>> columns |= {"label": np.zeros(20), "predicted": np.zeros(20)}
        >>> print(Rho().verdict(Evidence(columns, Threat(LpNorm(2), "1"), classes=2)))
        RAISED rho: median rho 0.10 [0.10, 0.10] at eps, at the 20 images left by the attack

    """

    name, summary = "rho", "the gradient does not describe the ball"
    threshold = 0.5
    number = "distance from 1 of the nearer end of the interval"
    source = "ours; Qin et al. (2019) on local linearity against obfuscated gradients"
    meaning = (
        "At images that the attack left, the logits change along the gradient by less than half, "
        "or more than one and a half times, of what the gradient says. The gradient at the image "
        "describes the image alone, not the ball: the attack may have failed rather than the "
        "image be robust."
    )
    remedy = (
        "Look at rho over eps on this page: at which radius does it leave 1? Attack with restarts "
        "from there. The flag black-box says whether a search without gradients does better. If "
        "rho is far from 1 and the same at every radius, the gradient is wrong by that factor."
    )

    def verdict(self, evidence: Evidence, /) -> Flag:
        """Raised if the median is below 0.5 or above 1.5, beyond chance."""
        text, columns = evidence.threat.text, evidence.columns
        values = columns[f"rho at {text}"][columns[f"robust at {text}"] == 1]
        values = values[~np.isnan(values)]
        if len(values) < FEWEST:
            return self.unknown(
                f"the attack left {len(values)} images that have a gradient: expected {FEWEST}"
            )
        median, low, high = quantile(values, 0.5)
        told = (
            f"median rho {median:.2f} [{low:.2f}, {high:.2f}] at eps, at the {len(values)} images"
        )
        return self.flag(max(low - 1, 1 - high, 0.0), len(values), f"{told} left by the attack")
