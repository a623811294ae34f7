"""Losses on the logits, each with its gradient, so that an attack needs no autograd.

All ascend: a targeted loss grows as the logits approach the target. ``labels`` are the labels that
the loss refers to (the target's, for a targeted loss); ``clean`` are the logits of the clean input.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import final

from onr.arrays import array_namespace, column, max_abs, safe
from onr.errors import OnrError
from onr.numerals import written
from onr.protocols import Array, Norm

__all__ = ["BaseLoss", "CrossEntropy", "LogitDistance", "Margin"]


class BaseLoss(ABC):
    """A value and its gradient; the attack's direction follows."""

    uses_clean = False

    @property
    @abstractmethod
    def name(self) -> str:
        """The name that resolves to this loss."""

    @abstractmethod
    def value(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """The loss of each example, shape ``(batch,)``."""

    @abstractmethod
    def gradient(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """Its gradient in the logits, shape ``(batch, d)``."""

    def direction(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """The gradient over its largest magnitude; zero where it is zero.

        Eq. 18 divides by the l2 norm; any positive factor is absorbed by the duality map.
        """
        gradient = self.gradient(logits, labels=labels, clean=clean)
        return gradient / safe(column(max_abs(gradient), gradient))


def one_hot(labels: Array, logits: Array) -> Array:
    """The labels as rows of the identity, shaped and typed as the logits."""
    xp = array_namespace(logits)
    classes = xp.cumulative_sum(xp.ones_like(logits), axis=1) - 1
    return xp.astype(classes == labels[:, None], logits.dtype)


@final
class CrossEntropy(BaseLoss):
    """``-log softmax(beta z)_y`` (Eqs. 24, 25), or its negative at a target class (Eq. 27).

    Args:
        beta: the inverse temperature of section 7.4, positive. The gradient is that of the value,
            ``beta (softmax(beta z) - onehot(y))``; Eq. 26 is ``beta = 1``.
        targeted: ``labels`` are the classes to reach, and the loss is ``log softmax(beta z)_y``.

    """

    def __init__(self, beta: float = 1.0, *, targeted: bool = False) -> None:
        if not 0 < beta < math.inf:
            raise OnrError(f"inverse temperature {beta:g}: expected a positive number")
        self.beta = float(beta)
        self.sign = -1 if targeted else 1

    @property
    def name(self) -> str:
        """``cross-entropy``, ``targeted-cross-entropy``, with ``:beta`` where it is not 1."""
        name = "cross-entropy" if self.sign == 1 else "targeted-cross-entropy"
        return name if self.beta == 1 else f"{name}:{written(self.beta)}"

    def _others(self, logits: Array, labels: Array) -> tuple[Array, Array, Array]:
        """One-hot labels; ``exp(z_j - best other z)``, 0 at the label; ``z_y - best other z``."""
        xp = array_namespace(logits)
        target = one_hot(labels, logits)
        scaled = self.beta * logits
        best = xp.max(xp.where(target == 1, xp.zeros_like(scaled) - math.inf, scaled), axis=1)
        gap = xp.sum(scaled * target, axis=1) - best
        below = xp.minimum(scaled - best[:, None], xp.zeros_like(scaled))
        others = xp.where(target == 1, xp.zeros_like(scaled), xp.exp(below))
        return target, others, gap

    def value(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """The loss; ``log(1 + sum exp(z_j - z_y))``, which does not overflow or cancel."""
        xp = array_namespace(logits)
        _, others, gap = self._others(logits, labels)
        total = xp.sum(others, axis=1)
        zero = xp.zeros_like(gap)
        # log(1 + total exp(-gap)), with the larger of the two terms taken out.
        high = xp.maximum(-gap, zero)
        return self.sign * (high + xp.log1p(xp.expm1(-high) + total * xp.exp(-gap - high)))

    def gradient(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """``beta (softmax(beta z) - onehot(y))`` (Eq. 26), its negative for a target (Eq. 27).

        The entry of the label is minus the sum of the others: where softmax rounds to one-hot the
        gradient is small, and zero only once it underflows; ``direction`` does not.
        """
        xp = array_namespace(logits)
        target, others, gap = self._others(logits, labels)
        total = xp.sum(others, axis=1)
        high = xp.maximum(-gap, xp.zeros_like(gap))
        factor = self.sign * self.beta * xp.exp(-gap - high)
        factor = factor / (xp.exp(-high) + total * xp.exp(-gap - high))
        return factor[:, None] * (others - total[:, None] * target)

    def direction(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """The gradient over its largest magnitude, in closed form: it never underflows to zero."""
        xp = array_namespace(logits)
        target, others, _ = self._others(logits, labels)
        total = xp.sum(others, axis=1)[:, None]
        return self.sign * (others / total - target)


@final
class LogitDistance(BaseLoss):
    """``||f(x*) - f(x)||_q`` (Eqs. 108, 112): how far the logits have moved, labels aside.

    The gradient is 0 where they have not moved, so an attack cannot start at ``x`` itself.
    """

    uses_clean = True

    def __init__(self, norm: Norm) -> None:
        self.norm = norm

    @property
    def name(self) -> str:
        """``lq:`` and the norm, as ``lq:1``."""
        return f"lq:{self.norm.name}"

    def _moved(self, logits: Array, clean: Array | None) -> Array:
        if clean is None:
            raise OnrError(f"loss {self.name} compares with the clean logits: none were given")
        return logits - clean

    def value(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """The distance of each example."""
        return self.norm(self._moved(logits, clean))

    def gradient(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """``sign(u) |u|^(q-1) / ||u||_q^(q-1)`` with ``u = f(x*) - f(x)`` (Eqs. 28, 29, 108)."""
        return self.norm.gradient(self._moved(logits, clean))

    def direction(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """The gradient itself, ``u_k`` of Eq. 108: its dual norm is 1."""
        return self.gradient(logits, labels=labels, clean=clean)


@final
class Margin(BaseLoss):
    """``max_(j != y) z_j - z_y``: positive where the prediction is wrong, 0 where it is a tie.

    At ties the gradient takes the mean over the best other classes.
    """

    @property
    def name(self) -> str:
        """``margin``."""
        return "margin"

    def value(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """The margin of each example."""
        xp = array_namespace(logits)
        target = one_hot(labels, logits)
        others = xp.where(target == 1, xp.zeros_like(logits) - math.inf, logits)
        return xp.max(others, axis=1) - xp.sum(logits * target, axis=1)

    def gradient(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """The indicator of the best other class minus that of the label."""
        xp = array_namespace(logits)
        target = one_hot(labels, logits)
        others = xp.where(target == 1, xp.zeros_like(logits) - math.inf, logits)
        best = xp.astype(others == xp.max(others, axis=1, keepdims=True), logits.dtype)
        return best / xp.sum(best, axis=1, keepdims=True) - target
