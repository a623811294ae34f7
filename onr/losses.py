"""Losses on the logits, each with its gradient, so that an attack needs no autograd.

Attacks maximise every loss: a targeted loss grows as the logits approach the target. ``labels`` are
the true labels, or the target classes for a targeted loss; ``clean`` are the logits of the clean
input.

A class whose logit is ``-inf`` is masked: losses, gradients and directions are those of the network
without that class. Where a loss is not defined (a logit is NaN, all are ``-inf``, a label is no
class), each function of a loss raises an :class:`~onr.errors.ImageError` that names the image. On
another device than the CPU, a look at the values would wait for the device; there the row of that
image is NaN, and attacks and measurements raise the error (:func:`require_values`).
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from typing import Any, final

import numpy as np

from onr.arrays import (
    array_namespace,
    column,
    device,
    in_float32,
    is_half,
    max_abs,
    on_cpu,
    put,
    safe,
    to_numpy,
)
from onr.errors import ImageError, OnrError
from onr.norms import as_norm
from onr.numerals import written
from onr.protocols import Array, Norm

__all__ = [
    "BaseLoss",
    "CrossEntropy",
    "LogitDistance",
    "Margin",
    "logit_change",
    "one_hot",
    "require_values",
]


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
    return array_namespace(logits).astype(_at_label(labels, logits), logits.dtype)


def _at_label(labels: Array, logits: Array) -> Array:
    """Whether a logit is that of the label, shaped as the logits."""
    xp = array_namespace(logits)
    return xp.arange(logits.shape[1], device=device(logits)) == labels[:, None]


def _split(logits: Array, labels: Array) -> tuple[Array, Array, Array, Array]:
    """Split the logits of each image into that of its label and the others.

    Returns:
        Where the label is, ``(batch, d)``; the logits with -inf there; the largest of these,
        ``(batch, 1)``; and the logit of the label, ``(batch,)``, NaN if the label is no class.

    """
    xp = array_namespace(logits)
    mine = _at_label(labels, logits)
    others = xp.where(mine, -math.inf, logits)
    own = xp.sum(xp.where(mine, logits, 0), axis=1)
    own = xp.where(xp.any(mine, axis=1), own, math.nan)
    return mine, others, xp.max(others, axis=1, keepdims=True), own


def require_values(
    values: Array, logits: Array, labels: Array | None = None, *, where: str = ""
) -> None:
    """Check that there is a value for each image.

    Args:
        values: one number or one row for each image; NaN says that something is wrong.
        logits: the logits from which they come, ``(batch, d)``.
        labels: the labels, ``(batch,)``, if the values depend on them.
        where: at which inputs, such as ``under attack``.

    Raises:
        ImageError: the values or the logits of an image are NaN; the message says whether its
            logits or its label are the reason.

    Example:
        >>> logits = np.array([[0.0, 1.0], [0.0, np.nan]])
        >>> try:
        ...     require_values(logits.max(axis=1), logits)
        ... except ImageError as error:
        ...     print(error)
        image 1: the network gives logits [0, nan]: expected numbers

    """
    xp = array_namespace(values)
    if values.dtype == object or not (bool(xp.any(xp.isnan(values))) or _has_nan(logits)):
        return
    found, rows = to_numpy(in_float32(values)), to_numpy(in_float32(logits))
    wrong = np.isnan(found.reshape(len(found), -1)).any(axis=1) | np.isnan(rows).any(axis=1)
    index = int(wrong.argmax())
    raise ImageError(index, _reason(rows[index], None if labels is None else labels[index], where))


def _has_nan(logits: Array) -> bool:
    xp = array_namespace(logits)
    return bool(xp.any(xp.isnan(logits)))


def _reason(logits: np.ndarray, label: Array | None, where: str) -> str:
    """Why an image with these logits and this label has no loss."""
    place = f" {where}" if where else ""
    shown = f"[{', '.join(f'{z:.6g}' for z in logits[:10].tolist())}{', ...' * (len(logits) > 10)}]"
    if label is not None:
        value = label.item() if hasattr(label, "item") else label
        if value not in range(len(logits)):
            return f"label {value} is no class: expected a whole number, 0 to {len(logits) - 1}"
    if np.isnan(logits).any():
        return f"the network gives logits {shown}{place}: expected numbers"
    if (logits == -math.inf).all():
        return f"the network gives logits {shown}{place}: expected a class that is not masked"
    return f"the loss of logits {shown}{place} is not defined: expected finite logits, or -inf"


def _checked(values: Array, logits: Array, labels: Array | None) -> Array:
    """Return values of a loss; refuse NaN where looking at the values costs nothing."""
    if logits.dtype != object and on_cpu(logits):
        require_values(values, logits, labels)
    return values


def _is_ordinary(logits: Array, mine: Array) -> bool:
    """Whether all logits are finite and all labels are classes; never true where a look waits.

    Args:
        logits: the logits, ``(batch, d)``.
        mine: where the label is.

    """
    if logits.dtype == object or not on_cpu(logits):
        return False
    xp = array_namespace(logits)
    finite = math.isfinite(float(xp.sum(logits)))  # if the sum overflows, the careful way is taken
    return finite and int(xp.count_nonzero(mine)) == len(mine)


def _require_classes(loss: BaseLoss, logits: Array, labels: Array) -> None:
    """Check the shapes of logits and labels.

    Raises:
        OnrError: there are fewer than two logits, or not one label for each image.

    """
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise OnrError(
            f"loss {loss.name} needs two logits or more for each image, got shape "
            f"{tuple(logits.shape)}: a single output z for two classes is torch.cat([0 * z, z], 1)"
        )
    shape = getattr(labels, "shape", None)
    if shape is None or tuple(shape) != (logits.shape[0],):
        given = type(labels).__name__ if shape is None else f"shape {tuple(shape)}"
        raise OnrError(f"labels of {given}: expected one label for each image, ({len(logits)},)")


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
        given: Any = beta
        known = isinstance(given, numbers.Real) and bool(0 < given < math.inf)  # type: ignore[operator]
        if not known:
            raise OnrError(f"inverse temperature {beta}: expected a positive number")
        self.beta = float(beta)
        self.sign = -1 if targeted else 1

    @property
    def name(self) -> str:
        """``cross-entropy`` or ``targeted-cross-entropy``, followed by ``:beta`` unless it is 1."""
        name = "cross-entropy" if self.sign == 1 else "targeted-cross-entropy"
        return name if self.beta == 1 else f"{name}:{written(self.beta)}"

    def _others(self, logits: Array, labels: Array) -> tuple[Array, Array, Array]:
        """Where the label is, ``z_j - m`` with -inf at the label, and ``z_y - m``.

        Here ``z`` stands for ``beta`` times the logits, and ``m`` is the largest ``z_j``, j != y.
        """
        _require_classes(self, logits, labels)
        xp = array_namespace(logits)
        mine, others, best, own = _split(logits, labels)
        # The difference comes before the product with beta: beta times a logit can overflow.
        high = xp.where(best == -math.inf, 0.0, best)
        below = xp.where(others == high, 0.0, self.beta * (others - high))
        return mine, below, self.beta * (own - best[:, 0])

    def value(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """The loss, ``log(1 + sum exp(z_j - z_y))``, without overflow, cancellation or noise.

        Near equal logits, where the loss is ``log d`` and a rest that rounding would hide, the rest
        is computed by itself: of two such losses the larger is never rounded to the smaller. The
        loss is infinite where the class of the label is masked, and 0 where all others are.
        """
        z = in_float32(logits)
        xp = array_namespace(z)
        with np.errstate(invalid="ignore", over="ignore"):
            _, below, gap = self._others(z, labels)
            # log(1 + total exp(-gap)), with the larger of the two terms taken out.
            total, high = xp.sum(xp.exp(below), axis=1), xp.maximum(-gap, xp.zeros_like(gap))
            low = xp.minimum(-gap, xp.zeros_like(gap))
            value = high + xp.log1p(xp.expm1(-high) + total * xp.exp(low))
            # log(count) + log(1 + rest / count), where rest is the sum of exp(z_j - z_y) - 1.
            seen = below > -math.inf
            rest = xp.sum(xp.where(seen, xp.expm1(below), 0.0), axis=1)
            others = xp.sum(xp.astype(seen, z.dtype), axis=1)
            more = xp.expm1(-gap)
            mean = (rest + more * (rest + others)) / (others + 1)
            near = xp.abs(mean) < 0.5
            flat = xp.log(others + 1) + xp.log1p(xp.where(near, mean, 0.0))
            value = xp.where(near, flat, value)
        return _checked(self.sign * value, logits, labels)

    def gradient(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """``beta (softmax(beta z) - onehot(y))`` (Eq. 26), its negative for a target (Eq. 27).

        The entry of the label is computed as minus the sum of the others. Where softmax rounds to
        one-hot, the gradient is therefore small and not zero, until it underflows; ``direction``
        does not underflow. Where all other classes are masked, both are zero.
        """
        xp = array_namespace(logits)
        with np.errstate(invalid="ignore", over="ignore"):
            mine, below, gap = self._others(in_float32(logits), labels)
            others, zero = xp.exp(below), xp.zeros_like(gap)
            total, low = xp.sum(others, axis=1), xp.minimum(-gap, zero)
            factor = xp.exp(low) / (xp.exp(xp.minimum(gap, zero)) + total * xp.exp(low))
            factor = self.sign * self.beta * factor
            gradient = factor[:, None] * xp.where(mine, -total[:, None], others)
        return _checked(_rounded(gradient, logits), logits, labels)

    def direction(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """The gradient divided by its largest magnitude, in a closed form that never underflows."""
        xp = array_namespace(logits)
        _require_classes(self, logits, labels)
        with np.errstate(invalid="ignore", over="ignore"):
            mine = _at_label(labels, logits)
            if _is_ordinary(logits, mine):
                others = xp.where(mine, -math.inf, in_float32(logits))
                others -= xp.max(others, axis=1, keepdims=True)
                others = xp.exp(self.beta * others)
                others = put(others, mine, 0.0)
                others /= self.sign * xp.sum(others, axis=1, keepdims=True)
                return _rounded(put(others, mine, -self.sign), logits)
            mine, below, gap = self._others(in_float32(logits), labels)
            others = xp.exp(below)
            total = xp.where(gap == gap, xp.sum(others, axis=1), math.nan)[:, None]
            direction = self.sign * xp.where(mine, -1.0, others / total)
            # Where all other classes are masked there is no way to go.
            direction = xp.where(total == 0, 0.0, direction)
        return _checked(_rounded(direction, logits), logits, labels)


def logit_change(logits: Array, clean: Array, /) -> Array:
    """``logits - clean``, and zero for a class that is masked by ``-inf`` in both.

    Example:
        >>> logit_change(np.array([[3.0, -np.inf]]), np.array([[1.0, -np.inf]]))
        array([[2., 0.]])

    """
    if logits.dtype == object:
        return logits - clean
    xp = array_namespace(logits)
    masked = (logits == -math.inf) & (clean == -math.inf)
    with np.errstate(invalid="ignore", over="ignore"):
        return xp.where(masked, xp.zeros_like(logits), logits - clean)


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
        return logit_change(logits, clean)

    def value(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """The distance of each example; classes that are masked at both inputs do not count."""
        return _checked(self.norm(self._moved(logits, clean)), logits, None)

    def gradient(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """``sign(u) |u|^(q-1) / ||u||_q^(q-1)`` with ``u = f(x*) - f(x)`` (Eqs. 28, 29, 108)."""
        return _checked(self.norm.gradient(self._moved(logits, clean)), logits, None)

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
        """The margin of each example: inf where its label is masked, -inf where all others are."""
        _require_classes(self, logits, labels)
        with np.errstate(invalid="ignore", over="ignore"):
            _, _, best, own = _split(logits, labels)
            return _checked(best[:, 0] - own, logits, labels)

    def gradient(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """The indicator of the best other class minus the indicator of the label.

        The gradient is zero where all other classes are masked.
        """
        _require_classes(self, logits, labels)
        xp = array_namespace(logits)
        with np.errstate(invalid="ignore"):
            mine, others, largest, own = _split(logits, labels)
            best = xp.astype(others == largest, logits.dtype)
            best = best / xp.sum(best, axis=1, keepdims=True)
            gradient = xp.where(mine, -1.0, best)
            gradient = xp.where(largest == -math.inf, 0.0, gradient)
            gradient = xp.where(own[:, None] == own[:, None], gradient, math.nan)
        return _checked(gradient, logits, labels)


def _rounded(values: Array, logits: Array) -> Array:
    """The values in the float type of the logits."""
    if is_half(logits):
        return array_namespace(logits).astype(values, logits.dtype)
    return values
