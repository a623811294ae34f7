"""What most checks share: a number from columns, compared with a threshold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onr.auditing.block import Block
from onr.auditing.protocols import Evidence, Flag

__all__ = ["BaseCheck"]


class BaseCheck:
    """A check whose flag is raised where a number is beyond its threshold.

    A subclass sets the attributes, and defines :meth:`look` (if the columns of the audit do not
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
    """The name by which ``--checks`` and ``onr explain`` know it."""
    summary: str = ""
    """What is wrong where the flag is raised, in a few words."""
    number: str = ""
    """What the number that decides is, in a few words."""
    threshold: float = 0.0
    """Beyond which number the flag is raised."""
    comparison: str = "above"
    """On which side of the threshold that is: ``above`` or ``below``."""
    source: str = ""
    """Where the threshold comes from: a paper, or a rule."""
    meaning: str = ""
    """What a raised flag means, a sentence or two."""
    remedy: str = ""
    """What to do then, a sentence or two."""
    images: int = 0
    """At how many images of the audit, from the first, to :meth:`look`."""

    def measure(self, block: Block, /) -> Mapping[str, np.ndarray]:
        """What :meth:`look` gives for the first images of the audit, NaN for the others."""
        few = block.first(self.images) if self.images else block.take(np.zeros(len(block), bool))
        if not len(few):
            return {}
        return {name: block.column(few, values) for name, values in self.look(few).items()}

    def look(self, block: Block, /) -> Mapping[str, np.ndarray]:
        """Columns of floats for the images of a block, ``(len(block),)``, by name.

        Raises:
            OnrError: they cannot be measured, so that the check does not decide.

        """
        raise NotImplementedError(f"check {self.name} looks at no images")

    def seen(self, evidence: Evidence, name: str, /) -> np.ndarray:
        """The values of a column of this check, without NaN; empty if there are none."""
        values = evidence.of(self.name).get(name, np.empty(0))
        known: np.ndarray = values[~np.isnan(values)]
        return known

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
