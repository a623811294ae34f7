"""Functions that the training methods share, and the method ``standard``.

A method chooses at which inputs or directions to evaluate the network, and defines a cost on the
outputs. Each method has a file. Adversarial training with the lq loss and operator-norm
regularisation differ only in how they find the perturbation, and Theorem 1 says when both find the
same one.
"""

from __future__ import annotations

import math
from typing import ClassVar

from onr.errors import OnrError
from onr.losses import CrossEntropy
from onr.protocols import Array, Cost, Network, Norm, Outputs, Probe
from onr.typing import Kept, Rng

__all__ = [
    "CROSS_ENTROPY",
    "Standard",
    "require_positive",
    "require_weight",
    "training_radius",
    "with_clean",
]

CROSS_ENTROPY = CrossEntropy()
USUAL_EPS = {"1": 12.0, "2": 0.5, "inf": 8 / 255}
"""The usual radii in the literature for pixels in [0, 1]; other norms have no usual radius."""


class Standard:
    """The method ``standard``: cross-entropy on the clean inputs.

    Example:
        >>> outputs = Outputs(clean=np.zeros((1, 2)))
        >>> Standard().objective(outputs, np.array([0])).gradients.clean
        array([[-0.5,  0.5]])

    """

    settings: ClassVar[dict[str, str | float]] = {}

    def perturb(self, network: Network, x: Array, y: Array, /, *, rng: Rng, memory: Kept) -> Probe:
        """Ask for the logits of the clean inputs only."""
        return Probe()

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """The cross-entropy ``l(y, f(x))``."""
        return with_clean(outputs.clean, y)


def with_clean(
    clean: Array,
    y: Array,
    paid: Array | float = 0.0,
    *,
    weight: float = 1.0,
    clean_gradient: Array | float = 0.0,
    perturbed: tuple[Array, ...] = (),
    tangent: Array | None = None,
    evaluated: Array | None = None,
    memory: Array | None = None,
) -> Cost:
    """The cost of cross-entropy on the clean logits plus a further cost.

    Args:
        clean: the clean logits, ``(batch, d)``.
        y: the labels, ``(batch,)``.
        paid: the further cost of each example, ``(batch,)``.
        weight: of the cross-entropy.
        clean_gradient: the gradient of the further cost in the clean logits.
        perturbed: its gradients in the perturbed logits.
        tangent: its gradient in ``J v``.
        evaluated: its gradient in the clean logits of evaluation mode.
        memory: what :class:`~onr.protocols.Cost` keeps for these examples.

    Example:
        >>> cost = with_clean(np.zeros((1, 2)), np.array([0]), np.array([1.0]))
        >>> cost.value.round(3)
        array([1.693])

    """
    value = weight * CROSS_ENTROPY.value(clean, labels=y) + paid
    gradient = weight * CROSS_ENTROPY.gradient(clean, labels=y) + clean_gradient
    return Cost(value, Outputs(gradient, perturbed, tangent, evaluated), memory)


def training_radius(norm: Norm, eps: float | None) -> float:
    """The radius ``eps``, or the usual radius of the norm if ``eps`` is ``None``.

    Raises:
        OnrError: the norm has no usual radius, or ``eps`` is not positive and finite.

    Example:
        >>> from onr.norms import LpNorm
        >>> training_radius(LpNorm(2), None), training_radius(LpNorm(2), 0.25)
        (0.5, 0.25)

    """
    if eps is None:
        if norm.name not in USUAL_EPS:
            raise OnrError(f"norm {norm.name} has no usual radius: give eps")
        return USUAL_EPS[norm.name]
    return require_positive("eps", eps)


def require_positive(name: str, value: float) -> float:
    """Return ``value`` if it is a positive finite number.

    Raises:
        OnrError: ``value`` is not a positive finite number; the message calls it ``name``.

    Example:
        >>> require_positive("eps", 0.5)
        0.5

    """
    if not 0 < value < math.inf:
        raise OnrError(f"{name} = {value:g}: expected a positive number")
    return value


def require_weight(name: str, value: float) -> float:
    """Return ``value`` if it is a finite number >= 0.

    Raises:
        OnrError: ``value`` is not a finite number >= 0; the message calls it ``name``.

    Example:
        >>> require_weight("lam", 0)
        0

    """
    if not 0 <= value < math.inf:
        raise OnrError(f"{name} = {value:g}: expected a finite number >= 0")
    return value
