"""What most checks share: a number from columns, compared with a threshold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onr.auditing.block import Block
from onr.auditing.protocols import Evidence, Flag

__all__ = ["BaseCheck"]


class BaseCheck:
    """A check whose flag is raised where a number is beyond its threshold.

    A subclass sets the attributes, and defines ``measure`` (if the columns of the audit do not
    suffice) and ``verdict``, which ends with :meth:`flag` or :meth:`unknown`.

    Example:
        >>> class Wrong(BaseCheck):
        ...     name, summary, threshold = "wrong", "most images are misclassified", 0.5
        ...     source, meaning, remedy = "an example", "The model is bad.", "Train it."
        ...     def verdict(self, evidence):
        ...         wrong = evidence.columns["predicted"] != evidence.columns["label"]
        ...         return self.flag(wrong.mean(), len(wrong), f"{wrong.mean():.0%} are wrong")
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> columns = {"predicted": np.array([0.0, 1.0, 1.0]), "label": np.zeros(3)}
        >>> print(Wrong().verdict(Evidence(columns, Threat(LpNorm(2), "1"), classes=2)))
        RAISED wrong: 67% are wrong

    """

    name: str = ""
    summary: str = ""
    threshold: float = 0.0
    comparison: str = "above"
    source: str = ""
    meaning: str = ""
    remedy: str = ""

    def measure(self, block: Block, /) -> Mapping[str, np.ndarray]:
        """Nothing: the columns of the audit suffice."""
        return {}

    def verdict(self, evidence: Evidence, /) -> Flag:
        """The flag, from what was measured at all images."""
        raise NotImplementedError(f"check {self.name} has no verdict")

    def flag(self, value: float, images: int, detail: str) -> Flag:
        """Raised if the value is beyond the threshold; nan decides nothing."""
        value = float(value)
        raised = value > self.threshold if self.comparison == "above" else value < self.threshold
        return Flag(
            self.name,
            None if np.isnan(value) else bool(raised),
            None if np.isnan(value) else value,
            self.threshold,
            self.source,
            detail,
            int(images),
            comparison=self.comparison,
        )

    def unknown(self, why: str) -> Flag:
        """Not decided, with the reason."""
        return Flag(
            self.name, None, None, self.threshold, self.source, why, comparison=self.comparison
        )
