"""Whether the network gives one answer for one image."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onr.auditing.base_check import BaseCheck
from onr.auditing.block import Block
from onr.auditing.probes import floats
from onr.auditing.protocols import Evidence, Flag

__all__ = ["OutputsVary"]

PASSES = 5


class OutputsVary(BaseCheck):
    """The largest difference of the logits, over their norm, between five passes of one image.

    The threshold is AutoAttack's. Rounding alone, where a GPU adds in another order, gives about
    1e-6 in float32; noise that protects anything changes the logits by percents.

    Example:
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> columns = {"outputs-vary: difference": np.array([0.0, 0.3])}
        >>> print(OutputsVary().verdict(Evidence(columns, Threat(LpNorm(2), "1"), classes=2)))
        RAISED outputs-vary: the logits of one image differ by up to 0.3 of their norm in 5 passes

    """

    name, summary = "outputs-vary", "the model gives different answers for one image"
    threshold, images = 1e-4, 100
    number = "relative difference"
    source = "AutoAttack's check_randomized (Croce and Hein, 2020): 5 passes, 1e-4"
    meaning = (
        "The model draws random numbers, or remembers earlier calls. An attack then follows the "
        "gradient of one draw and is judged by another, so that it fails by chance: its robust "
        "accuracy is not that of a fixed function, and usually too high."
    )
    remedy = (
        "Fix the noise (seed it inside the forward pass, or take its mean) and audit that model. "
        "If the noise is the defence, attack the expected logits: average the gradient over many "
        "draws (expectation over transformation, Athalye et al., 2018), and report how many."
    )

    def look(self, block: Block, /) -> Mapping[str, np.ndarray]:
        """The largest difference of two passes at each image."""
        found = []
        for _ in range(PASSES):
            z = floats(block.network(block.x))
            z = np.where(np.isfinite(z), z, 0)
            found.append(z / (np.linalg.norm(z, axis=1, keepdims=True) + 1e-10))
        gaps = [
            np.linalg.norm(one - other, axis=1)
            for place, one in enumerate(found)
            for other in found[place + 1 :]
        ]
        return {"difference": np.max(gaps, axis=0)}

    def verdict(self, evidence: Evidence, /) -> Flag:
        """Raised if some image's logits differ."""
        seen = self.seen(evidence, "difference")
        if not len(seen):
            return self.unknown("no image could be measured")
        told = f"the logits of one image differ by up to {seen.max():.2g} of their norm in "
        return self.flag(seen.max(), len(seen), told + f"{PASSES} passes")
