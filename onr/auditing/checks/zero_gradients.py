"""Whether there is a gradient to follow."""

from __future__ import annotations

from onr.auditing.base_check import BaseCheck
from onr.auditing.protocols import Evidence, Flag

__all__ = ["ZeroGradients"]

FAR = 1e7


class ZeroGradients(BaseCheck):
    """The share of correct images at which the gradient of every margin is as good as zero.

    It is as good as zero if the first-order radius is more than 1e7 times eps: along the gradient
    the margin then changes, over the whole ball, by less than its last digit in float32, 6e-8.
    AutoAttack raises its flag at a single such image. Here it takes more than 2 %, because a narrow
    ReLU network may honestly have all units of a layer off at a rare image; and two images.

    Example:
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> columns = {"first-order radius": np.array([np.inf, np.inf, 0.1]), "label": np.zeros(3)}
        >>> columns["predicted"] = np.zeros(3)
        >>> print(ZeroGradients().verdict(Evidence(columns, Threat(LpNorm(2), "1"), classes=2)))
        RAISED zero-gradients: the gradient of the margin is zero at 2 of 3 correct images

    """

    name, summary = "zero-gradients", "the gradient vanishes"
    threshold = 0.02
    number = "share of images"
    source = "AutoAttack's check_zero_gradients (Croce and Hein, 2020), there at any image"
    meaning = (
        "At many images no small change along the gradient changes the decision's margin at all, "
        "in the network's floats. An attack that follows the gradient has nothing to follow, and "
        "the images that it leaves are not robust: the attack is blind."
    )
    remedy = (
        "Look for a saturated softmax or sigmoid, a large temperature, rounding, an argmax or a "
        "step function in the forward pass, and audit the model without it, or with a smooth "
        "stand-in in the backward pass (BPDA, Athalye et al., 2018). Trust black-box attacks only."
    )

    def verdict(self, evidence: Evidence, /) -> Flag:
        """Raised if the gradient is zero at more than two in a hundred images."""
        columns = evidence.columns
        correct = columns["predicted"] == columns["label"]
        radius = columns["first-order radius"][correct]
        if not len(radius):
            return self.unknown("no image is classified correctly")
        zero = int((radius > FAR * evidence.threat.radius).sum())
        told = f"the gradient of the margin is zero at {zero} of {len(radius)} correct images"
        told += "; a single one does not count" if zero == 1 else ""
        return self.flag(zero / len(radius) if zero > 1 else 0.0, len(radius), told)
