"""Whether the images are images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onr.auditing.base_check import BaseCheck
from onr.auditing.block import Block
from onr.auditing.probes import floats
from onr.auditing.protocols import Evidence, Flag

__all__ = ["OutsideBox"]


class OutsideBox(BaseCheck):
    """The share of images with a pixel outside the box, or of one value alone.

    Images outside the box are not measured at all, and the column ``failure`` says so; a constant
    image holds nothing to classify. Neither happens by chance: the threshold is zero.

    Example:
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> columns = {"failure": np.array(["a pixel is 255, outside [0, 1]", ""])}
        >>> columns["outside-box: spread"] = np.array([np.nan, 0.7])
        >>> print(OutsideBox().verdict(Evidence(columns, Threat(LpNorm(2), "1"), classes=2)))
        RAISED outside-box: 1 image has pixels outside [0, 1], 0 are constant, of 2

    """

    name, summary = "outside-box", "images lie outside the box, or are constant"
    threshold = 0.0
    number = "share of images"
    images = 10**9  # all
    source = "field: the common mistakes of evaluation scripts"
    meaning = (
        "Some inputs are no images with pixels in the box. The radii on this page are in units of "
        "such pixels, and an attack clips to the box, so that for other inputs both mean nothing."
    )
    remedy = (
        "Divide bytes by 255, and put the normalisation by mean and deviation into the model. "
        "Leave out images that are blank."
    )

    def look(self, block: Block, /) -> Mapping[str, np.ndarray]:
        """The largest minus the smallest pixel."""
        x = floats(block.x).reshape(len(block), -1)
        return {"spread": x.max(axis=1) - x.min(axis=1)}

    def verdict(self, evidence: Evidence, /) -> Flag:
        """Raised if there is such an image."""
        failures = evidence.columns["failure"]
        outside = sum(", outside [" in str(failure) for failure in failures)
        constant = int((self.seen(evidence, "spread") == 0).sum())
        low, high = evidence.threat.bounds
        has = "1 image has" if outside == 1 else f"{outside} images have"
        told = f"{has} pixels outside [{low:g}, {high:g}], {constant} are constant, of "
        count = len(failures)
        return self.flag((outside + constant) / max(1, count), count, f"{told}{count}")
