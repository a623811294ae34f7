"""Whether the outputs are probabilities where logits are expected."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onr.auditing.base_check import BaseCheck
from onr.auditing.block import Block
from onr.auditing.probes import floats
from onr.auditing.protocols import Evidence, Flag

__all__ = ["Probabilities"]

TOLERANCE = 1e-3


class Probabilities(BaseCheck):
    """The share of images whose outputs lie in [0, 1] and sum to 1.

    AutoAttack asks that of all images, to 1e-5. Here more than half of them suffice, to 1e-3, the
    rounding of float16. Logits do it by chance only: ten of them would have to be positive, small,
    and their sum hit an interval of width 0.002, at more than every second image.

    Example:
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> columns = {"probabilities: probability": np.array([1.0, 1.0])}
        >>> print(Probabilities().verdict(Evidence(columns, Threat(LpNorm(2), "1"), classes=2)))
        RAISED probabilities: the outputs of 2 of 2 images lie in [0, 1] and sum to 1

    """

    name, summary = "probabilities", "the outputs are probabilities, not logits"
    threshold, images = 0.5, 100
    number = "share of images"
    source = "AutoAttack's check_range_output (Croce and Hein, 2020)"
    meaning = (
        "The model ends in a softmax, or in something else that gives probabilities. Where it is "
        "confident these saturate: they round to 0 and 1, and their gradients vanish, so that "
        "attacks stand still. A loss that applies a softmax applies it twice."
    )
    remedy = (
        "Audit the model without its last softmax. If the logits cannot be had, take the logarithm "
        "of the probabilities, in float64 if possible."
    )

    def look(self, block: Block, /) -> Mapping[str, np.ndarray]:
        """1 where the outputs are probabilities."""
        z = floats(block.network(block.x))
        inside = (z > -TOLERANCE).all(axis=1) & (z < 1 + TOLERANCE).all(axis=1)
        one = np.abs(z.sum(axis=1) - 1) < TOLERANCE
        return {"probability": (inside & one).astype(np.float64)}

    def verdict(self, evidence: Evidence, /) -> Flag:
        """Raised if the outputs of most images are probabilities."""
        seen = self.seen(evidence, "probability")
        if not len(seen):
            return self.unknown("no image could be measured")
        told = f"the outputs of {int(seen.sum())} of {len(seen)} images lie in [0, 1] and sum to 1"
        return self.flag(seen.mean(), len(seen), told)
