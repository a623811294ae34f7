"""Data-dependent operator norm regularisation (Eqs. 7, 13) as a term of a cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

from onr.errors import OnrError
from onr.feasible import require_radius
from onr.protocols import Array, Network, Norm
from onr.regularizers.searches import Direction, Search
from onr.typing import Kept, Rng

__all__ = ["OperatorNormTerm", "Paid"]


@dataclass(frozen=True)
class Paid:
    """The value of the term at each example, and its gradient in the change of the logits.

    Example:
        >>> Paid(np.array([0.5]), np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]])).value
        array([0.5])

    """

    value: Array
    """``||change||_q^r / r``, shape ``(batch,)``."""
    gradient: Array
    """The gradient of ``value`` in the change, shape ``(batch, d)``."""
    u: Array
    """The gradient of ``||.||_q`` at the change, ``(batch, d)``: a memory for the next search."""


@dataclass(frozen=True)
class OperatorNormTerm:
    """The term ``(eps^r / r) ||J||_{p,q}^r`` with ``r = power``, at each example.

    A search finds a direction ``v`` of (nearly) the largest gain. The direction is then held
    constant: by Danskin's theorem the gradient of the norm is that of ``||J v||_q``. The term is
    ``||change||_q^r / r``, where the change is ``eps J v`` with ``form = jacobian``, and
    ``f(x + eps v) - f(x)`` with ``form = difference``. Both are equal where the network is linear
    (Eq. 1). Times ``lam`` the term is the penalty of Eqs. 7 and 13, whose ``lam~`` is
    ``lam eps^r``.

    ``x + eps v`` is not clipped to the box of valid inputs: the term regularises the Jacobian,
    which does not depend on the box.

    Raises:
        OnrError: a field is out of range.

    Example:
        >>> from onr.norms import LpNorm
        >>> from onr.regularizers.searches import Iteration
        >>> term = OperatorNormTerm(LpNorm(2), LpNorm(2), 0.5, 2, "difference", Iteration(10))
        >>> term.paid(np.array([[3.0, 4.0]])).value
        array([12.5])

    """

    p: Norm
    q: Norm
    eps: float
    power: float
    form: str
    search: Search

    def __post_init__(self) -> None:
        require_radius(self.eps)
        if self.form not in ("difference", "jacobian"):
            raise OnrError(f"form = {self.form!r}: expected difference or jacobian")
        power: Any = self.power
        if isinstance(power, bool) or not isinstance(power, Real):
            raise OnrError(f"power = {power!r}: expected a number, as 1 or 2")
        if not 1 <= self.power < math.inf:
            raise OnrError(f"power = {self.power:g}: expected a finite number >= 1")

    def direction(
        self,
        network: Network,
        x: Array,
        /,
        *,
        rng: Rng,
        memory: Kept,
        labels: Array | None = None,
    ) -> Direction:
        """The direction that the search finds at ``x``, on the network in evaluation mode.

        A search may use the labels, and what :attr:`Paid.u` was at the last visit.
        """
        return self.search(
            network,
            x,
            p=self.p,
            q=self.q,
            eps=self.eps,
            labels=labels,
            rng=rng,
            memory=memory,
        )

    def paid(self, change: Array, /) -> Paid:
        """The value of the term, from ``f(x + eps v) - f(x)`` or ``eps J v``, ``(batch, d)``.

        Where the change is zero, the value and the gradient are zero.
        """
        size, u = self.q(change), self.q.gradient(change)
        gradient = (size ** (self.power - 1))[:, None] * u
        return Paid(size**self.power / self.power, gradient, u)
