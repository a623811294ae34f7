"""What GAT, NuAT and TRADES pay for: distances between the outputs at ``x`` and at ``x*``.

Each gives its value at every example, shape ``(batch,)``, and the gradients of the sum of these
values in the logits at ``x*`` and at ``x``, each ``(batch, d)``.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from onr.arrays import array_namespace, inner, max_abs, safe
from onr.losses import logit_change
from onr.protocols import Array

__all__ = [
    "Distance",
    "Divergence",
    "Measured",
    "NuclearNorm",
    "SquaredSoftmax",
    "polar_factor",
    "softmax",
]

STEPS = 32
"""Steps of Newton and Schulz: each multiplies a small singular value by 1.5."""


class Measured(NamedTuple):
    """A distance at every example, and the gradients of the sum over the batch."""

    value: Array
    moved: Array
    """The gradient in the logits at ``x*``."""
    clean: Array
    """The gradient in the logits at ``x``."""


class Distance(Protocol):
    """A distance between the outputs at ``x`` and at ``x*``."""

    def __call__(self, moved: Array, clean: Array, /) -> Measured:
        """The distance between logits at ``x*`` and logits at ``x``, each ``(batch, d)``."""


def log_softmax(logits: Array) -> Array:
    """The logarithms of the probabilities, ``(batch, d)``."""
    xp = array_namespace(logits)
    low = logits - xp.max(logits, axis=1, keepdims=True)
    return low - xp.log(xp.sum(xp.exp(low), axis=1, keepdims=True))


def softmax(logits: Array) -> Array:
    """The probabilities of the classes, ``(batch, d)``.

    Example:
        >>> softmax(np.array([[0.0, 0.0]]))
        array([[0.5, 0.5]])

    """
    xp = array_namespace(logits)
    odds = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
    return odds / xp.sum(odds, axis=1, keepdims=True)


def _pulled(probabilities: Array, gradient: Array) -> Array:
    """The gradient in the logits of what has this gradient in the probabilities."""
    return probabilities * (gradient - inner(probabilities, gradient)[:, None])


class SquaredSoftmax:
    """``||softmax f(x*) - softmax f(x)||_2^2``, the distance of GAT.

    Example:
        >>> distance = SquaredSoftmax()
        >>> distance(np.array([[0.0, 50.0]]), np.array([[50.0, 0.0]])).value
        array([2.])

    """

    def __call__(self, moved: Array, clean: Array, /) -> Measured:
        """The distance at every example."""
        there, here = softmax(moved), softmax(clean)
        change = there - here
        return Measured(
            inner(change, change), 2 * _pulled(there, change), -2 * _pulled(here, change)
        )


class Divergence:
    """``KL(softmax f(x) || softmax f(x*))``, the distance of TRADES.

    Example:
        >>> distance = Divergence()
        >>> distance(np.array([[0.0, 0.0]]), np.array([[50.0, 0.0]])).value.round(4)
        array([0.6931])

    """

    def __call__(self, moved: Array, clean: Array, /) -> Measured:
        """The divergence at every example."""
        xp = array_namespace(moved)
        here = softmax(clean)
        # A class that is masked by -inf has no share in the divergence.
        ratio = xp.where(here > 0, logit_change(log_softmax(clean), log_softmax(moved)), 0.0)
        return Measured(inner(here, ratio), softmax(moved) - here, _pulled(here, ratio))


class NuclearNorm:
    """The nuclear norm of the batch's matrix ``f(x*) - f(x)`` over the batch, the distance of NuAT.

    The nuclear norm is the sum of the singular values. Each example has an equal part in it, so
    that the mean over the batch is the norm divided by the size of the batch. Its gradient is the
    matrix with these singular values replaced by ones (:func:`polar_factor`).

    Example:
        >>> distance = NuclearNorm()
        >>> distance(np.array([[3.0, 0.0], [0.0, 4.0]]), np.zeros((2, 2))).value.round(9)
        array([3.5, 3.5])

    """

    def __call__(self, moved: Array, clean: Array, /) -> Measured:
        """The nuclear norm over the size of the batch, the same number for every example."""
        xp = array_namespace(moved)
        change = logit_change(moved, clean)
        factor = polar_factor(change)
        norm = xp.sum(change * factor)
        return Measured(xp.zeros_like(change[:, 0]) + norm / len(change), factor, -factor)


def polar_factor(matrix: Array) -> Array:
    """``U V^T`` of the singular value decomposition ``U S V^T``, shaped as the matrix.

    The iteration of Newton and Schulz, ``X <- X (3 I - X^T X) / 2``, takes each singular value in
    (0, 1] to 1 and needs products alone. A decomposition on CUDA would wait for the device. Exact
    up to rounding for singular values above 1e-5 of the largest; smaller ones remain below 1, and
    zero remains zero, which is the smallest subgradient of the nuclear norm.

    Example:
        >>> polar_factor(np.array([[0.0, 2.0], [-3.0, 0.0]])).round(9) + 0.0
        array([[ 0.,  1.],
               [-1.,  0.]])

    """
    xp = array_namespace(matrix)
    if matrix.shape[0] < matrix.shape[1]:
        return polar_factor(matrix.T).T
    scaled = matrix / safe(xp.max(max_abs(matrix)))
    factor = scaled / safe(xp.sqrt(xp.sum(scaled * scaled)))
    for _ in range(STEPS):
        factor = 1.5 * factor - factor @ (0.5 * (factor.T @ factor))
    return factor
