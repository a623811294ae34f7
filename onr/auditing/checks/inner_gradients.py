"""Whether the forward pass computes gradients itself."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onr.auditing.base_check import BaseCheck
from onr.auditing.block import Block
from onr.auditing.protocols import Evidence, Flag
from onr.errors import OnrError

__all__ = ["InnerGradients"]

FEW = 2


class InnerGradients(BaseCheck):
    """Whether the forward pass calls the framework's automatic differentiation.

    The network says so, if its backend can tell: by a method ``calls_autograd(x)``, as that of
    :class:`onr_torch.network.TorchNetwork`. There is no threshold to choose: one call is enough.

    Example:
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> columns = {"inner-gradients: calls": np.array([0.0])}
        >>> print(InnerGradients().verdict(Evidence(columns, Threat(LpNorm(2), "1"), classes=2)))
        ok inner-gradients: the forward pass calls no automatic differentiation

    """

    name, summary = "inner-gradients", "the forward pass computes gradients itself"
    threshold, images = 0.0, FEW
    number = "1 if it does"
    source = "AutoAttack's check_dynamic (Croce and Hein, 2020)"
    meaning = (
        "The model optimises something while it answers: it purifies the input, adapts its weights "
        "or averages along a path. The gradient of the whole is then a derivative of gradients, "
        "which frameworks often leave out without a word, and an attack works with the rest."
    )
    remedy = (
        "See to it that the inner optimisation is differentiated too (create_graph=True), or write "
        "an attack that knows it (Croce et al., 2022, evaluate such defences one by one). Trust "
        "black-box attacks only."
    )

    def look(self, block: Block, /) -> Mapping[str, np.ndarray]:
        """1 where the forward pass calls it.

        Raises:
            OnrError: the network cannot tell.

        """
        tell = getattr(block.network.bare, "calls_autograd", None)
        if tell is None:
            raise OnrError(
                "the backend does not tell whether a forward pass computes gradients: expected a "
                "network with a method calls_autograd"
            )
        return {"calls": np.full(len(block), float(tell(block.x)))}

    def verdict(self, evidence: Evidence, /) -> Flag:
        """Raised if it does."""
        seen = self.seen(evidence, "calls")
        if not len(seen):
            return self.unknown("no image could be measured")
        what = "computes gradients" if seen.any() else "calls no automatic differentiation"
        return self.flag(seen.max(), len(seen), f"the forward pass {what}")
