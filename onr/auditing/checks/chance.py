"""Whether the model knows anything of these images."""

from __future__ import annotations

import numpy as np

from onr.auditing.base_check import BaseCheck
from onr.auditing.intervals import wilson
from onr.auditing.protocols import Evidence, Flag

__all__ = ["Chance"]


class Chance(BaseCheck):
    """The clean accuracy, as the lower end of Wilson's interval, in units of chance.

    At 1 or below, the accuracy cannot be told from guessing, 1 / classes. A weak model is far from
    that: one of 10 classes that is right at 30 % of 100 images has its lower end at 2.2. With so
    few images that even twice the accuracy of guessing could not be told from it, the check does
    not decide, unless the accuracy is clearly better.

    Example:
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> columns = {"predicted": np.zeros(100), "label": np.arange(100.0) % 10}
        >>> print(Chance().verdict(Evidence(columns, Threat(LpNorm(2), "1"), classes=10)))
        RAISED chance: 10 of 100 images are correct, 10.0% [5.5%, 17.4%], guessing gives 10.0%

    """

    name, summary = "chance", "clean accuracy is that of guessing"
    threshold, comparison = 1.0, "below"
    number = "lower end of the interval over the accuracy of guessing"
    source = "field: the common mistakes of evaluation scripts"
    meaning = (
        "The model is right about as often as a guess. Its weights were not loaded, its images "
        "are not normalised as in training, its classes are in another order than the labels, or "
        "it has not been trained. Nothing else on this page is of interest then."
    )
    remedy = (
        "Check the preparation of the images (range, mean and deviation, size, order of the "
        "channels), the order of the labels, and that the weights were read (a warning about "
        "missing keys), until the clean accuracy is the published one."
    )

    def verdict(self, evidence: Evidence, /) -> Flag:
        """Raised if accuracy is not better than chance."""
        label, predicted = evidence.columns["label"], evidence.columns["predicted"]
        known = ~np.isnan(label)
        hits, count = int((label == predicted)[known].sum()), int(known.sum())
        chance = 1 / evidence.classes
        if not count:
            return self.unknown("no image could be measured")
        low, high = wilson(hits, count)
        twice = min(count, max(1, round(2 * chance * count)))
        if low <= chance and wilson(twice, count)[0] <= chance:
            return self.unknown(f"{count} images are too few to tell from guessing")
        told = f"{hits} of {count} images are correct, {hits / count:.1%} [{low:.1%}, {high:.1%}]"
        return self.flag(low / chance, count, f"{told}, guessing gives {chance:.1%}")
