"""Losses on the logits, each with its gradient, so that an attack needs no autograd.

Attacks maximise every loss: a targeted loss grows as the logits approach the target. ``labels`` are
the true labels, or the target classes for a targeted loss; ``clean`` are the logits of the clean
input.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import final

from onr.arrays import array_namespace, column, max_abs, safe
from onr.errors import OnrError
from onr.norms import as_norm
from onr.numerals import written
from onr.protocols import Array, Norm

__all__ = ["BaseLoss", "CrossEntropy", "LogitDistance", "Margin"]


class BaseLoss(ABC):
    """Base class of losses: a subclass defines the name, the value and the gradient.

    Example:
        >>> class Largest(BaseLoss):
        ...     name = "largest"
        ...     def value(self, logits, /, *, labels, clean=None):
        ...         return logits.max(axis=1)
        ...     def gradient(self, logits, /, *, labels, clean=None):
        ...         return 1.0 * (logits == logits.max(axis=1, keepdims=True))
        >>> Largest().direction(np.array([[0.0, 3.0]]), labels=np.array([0]))
        array([[0., 1.]])

    """

    uses_clean = False
    """True for a loss that compares with the logits of the clean input."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name that resolves to this loss."""

    @abstractmethod
    def value(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """The loss of each example, shape ``(batch,)``."""

    @abstractmethod
    def gradient(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """The gradient of the loss with respect to the logits, shape ``(batch, d)``."""

    def direction(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """The gradient divided by its largest magnitude; zero where the gradient is zero.

        Eq. 18 divides by the l2 norm; the duality map absorbs any positive factor.
        """
        gradient = self.gradient(logits, labels=labels, clean=clean)
        return gradient / safe(column(max_abs(gradient), gradient))


def one_hot(labels: Array, logits: Array) -> Array:
    """The one-hot labels, with the shape and float type of the logits.

    Example:
        >>> one_hot(np.array([2, 0]), np.zeros((2, 3)))
        array([[0., 0., 1.],
               [1., 0., 0.]])

    """
    xp = array_namespace(logits)
    classes = xp.cumulative_sum(xp.ones_like(logits), axis=1) - 1
    return xp.astype(classes == labels[:, None], logits.dtype)


@final
class CrossEntropy(BaseLoss):
    """``-log softmax(beta z)_y`` (Eqs. 24, 25), or its negative at a target class (Eq. 27).

    Args:
        beta: the inverse temperature of section 7.4, positive. The gradient is
            ``beta (softmax(beta z) - onehot(y))``; Eq. 26 is the case ``beta = 1``.
        targeted: ``labels`` are the classes to reach, and the loss is ``log softmax(beta z)_y``.

    Raises:
        OnrError: ``beta`` is not a positive finite number.

    Example:
        >>> loss, logits, labels = CrossEntropy(), np.array([[0.0, 0.0]]), np.array([0])
        >>> loss.value(logits, labels=labels).round(4), loss.gradient(logits, labels=labels)
        (array([0.6931]), array([[-0.5,  0.5]]))

    """

    def __init__(self, beta: float = 1.0, *, targeted: bool = False) -> None:
        if not 0 < beta < math.inf:
            raise OnrError(f"inverse temperature {beta:g}: expected a positive number")
        self.beta = float(beta)
        self.sign = -1 if targeted else 1

    @property
    def name(self) -> str:
        """``cross-entropy`` or ``targeted-cross-entropy``, followed by ``:beta`` unless it is 1."""
        name = "cross-entropy" if self.sign == 1 else "targeted-cross-entropy"
        return name if self.beta == 1 else f"{name}:{written(self.beta)}"

    def _others(self, logits: Array, labels: Array) -> tuple[Array, Array, Array]:
        """The one-hot labels, ``exp(z_j - m)`` with 0 at the label, and ``z_y - m``.

        Here ``z`` stands for ``beta`` times the logits, and ``m`` is the largest ``z_j``, j != y.
        """
        xp = array_namespace(logits)
        target = one_hot(labels, logits)
        scaled = self.beta * logits
        best = xp.max(xp.where(target == 1, xp.zeros_like(scaled) - math.inf, scaled), axis=1)
        gap = xp.sum(scaled * target, axis=1) - best
        below = xp.minimum(scaled - best[:, None], xp.zeros_like(scaled))
        others = xp.where(target == 1, xp.zeros_like(scaled), xp.exp(below))
        return target, others, gap

    def value(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """The loss, as ``log(1 + sum exp(z_j - z_y))``: this form does not overflow or cancel."""
        xp = array_namespace(logits)
        _, others, gap = self._others(logits, labels)
        total = xp.sum(others, axis=1)
        zero = xp.zeros_like(gap)
        # log(1 + total exp(-gap)), with the larger of the two terms taken out.
        high = xp.maximum(-gap, zero)
        return self.sign * (high + xp.log1p(xp.expm1(-high) + total * xp.exp(-gap - high)))

    def gradient(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """``beta (softmax(beta z) - onehot(y))`` (Eq. 26), its negative for a target (Eq. 27).

        The entry of the label is computed as minus the sum of the others. Where softmax rounds to
        one-hot, the gradient is therefore small and not zero, until it underflows; ``direction``
        does not underflow.
        """
        xp = array_namespace(logits)
        target, others, gap = self._others(logits, labels)
        total = xp.sum(others, axis=1)
        high = xp.maximum(-gap, xp.zeros_like(gap))
        factor = self.sign * self.beta * xp.exp(-gap - high)
        factor = factor / (xp.exp(-high) + total * xp.exp(-gap - high))
        return factor[:, None] * (others - total[:, None] * target)

    def direction(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """The gradient divided by its largest magnitude, in a closed form that never underflows."""
        xp = array_namespace(logits)
        target, others, _ = self._others(logits, labels)
        total = xp.sum(others, axis=1)[:, None]
        return self.sign * (others / total - target)


@final
class LogitDistance(BaseLoss):
    """``||f(x*) - f(x)||_q`` (Eqs. 108, 112): how far the logits have moved; ignores the labels.

    The gradient is 0 where the logits have not moved, so an attack cannot start at ``x`` itself.

    Args:
        norm: the q-norm of the logits; a number is an lp norm.

    Example:
        >>> from onr.norms import LpNorm
        >>> loss, labels = LogitDistance(LpNorm(1)), np.array([0])
        >>> loss.value(np.array([[3.0, 1.0]]), labels=labels, clean=np.array([[1.0, 2.0]]))
        array([3.])

    """

    uses_clean = True

    def __init__(self, norm: Norm | float) -> None:
        self.norm = as_norm(norm)

    @property
    def name(self) -> str:
        """``lq:`` followed by the name of the norm, such as ``lq:1``."""
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
        """The gradient unchanged: ``u_k`` of Eq. 108, whose dual norm is 1."""
        return self.gradient(logits, labels=labels, clean=clean)


@final
class Margin(BaseLoss):
    """``max_(j != y) z_j - z_y``: positive where the prediction is wrong, 0 at a tie.

    If several other classes share the largest logit, the gradient is the mean of their gradients.

    Example:
        >>> Margin().value(np.array([[2.0, 5.0, 1.0]]), labels=np.array([0]))
        array([3.])

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
        """The indicator of the best other class minus the indicator of the label."""
        xp = array_namespace(logits)
        target = one_hot(labels, logits)
        others = xp.where(target == 1, xp.zeros_like(logits) - math.inf, logits)
        best = xp.astype(others == xp.max(others, axis=1, keepdims=True), logits.dtype)
        return best / xp.sum(best, axis=1, keepdims=True) - target
