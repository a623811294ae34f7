"""Whether the model is a function with a derivative at all."""

from __future__ import annotations

from onr.auditing.base_check import BaseCheck
from onr.auditing.protocols import Evidence, Flag

__all__ = ["Refused"]


class Refused(BaseCheck):
    """Whether the other commands of onr refuse the model.

    They do so if the model draws noise that they cannot fix, keeps state, mixes the images of a
    batch, gives other logits where a gradient is asked for, or has no gradient. These are facts
    about the model: there is no threshold to choose.

    Example:
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> evidence = Evidence({}, Threat(LpNorm(2), "1"), classes=2, refused="Net draws noise")
        >>> print(Refused().verdict(evidence))
        RAISED refused: Net draws noise

    """

    name, summary = "refused", "the model is no function with a derivative"
    threshold = 0.0
    number = "1 if it is"
    source = "ours: the checks that every model passes before onr measures it"
    meaning = (
        "The model is not a function that maps each image by itself to logits and has a "
        "derivative. Norms, radii and attacks are about such functions: the numbers on this page "
        "describe what could be measured of this model, and its robustness is not among it."
    )
    remedy = (
        "The text of the flag says what is wrong, and often what to do. The model that passes is "
        "the one to audit."
    )

    def verdict(self, evidence: Evidence, /) -> Flag:
        """Raised if the model is refused."""
        told = evidence.refused or "the model is a function with a derivative"
        return self.flag(float(bool(evidence.refused)), 0, told)
