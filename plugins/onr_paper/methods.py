"""What the training methods share, and the one that pays for clean inputs alone.

A method is where to look and what to pay, one file each. Adversarial training with the lq loss and
operator-norm regularisation differ in where they look, and by Theorem 1 not even there.
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
"""What the field uses for images with pixels in [0, 1]; other norms have no usual radius."""


class Standard:
    """Cross-entropy on the clean inputs."""

    settings: ClassVar[dict[str, str | float]] = {}

    def perturb(self, network: Network, x: Array, y: Array, /, *, rng: Rng, memory: Kept) -> Probe:
        """Look at the inputs alone."""
        return Probe()

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """``l(y, f(x))``."""
        return with_clean(outputs.clean, y)


def with_clean(
    clean: Array,
    y: Array,
    paid: Array | float = 0.0,
    *,
    clean_gradient: Array | float = 0.0,
    perturbed: tuple[Array, ...] = (),
    tangent: Array | None = None,
    memory: Array | None = None,
) -> Cost:
    """Cross-entropy on the clean logits and what is paid besides, with its gradients."""
    value = CROSS_ENTROPY.value(clean, labels=y) + paid
    gradient = CROSS_ENTROPY.gradient(clean, labels=y) + clean_gradient
    return Cost(value, Outputs(gradient, perturbed, tangent), memory)


def training_radius(norm: Norm, eps: float | None) -> float:
    """``eps``, or the usual one of the norm.

    Raises:
        OnrError: there is none, or it is not positive.

    """
    if eps is None:
        if norm.name not in USUAL_EPS:
            raise OnrError(f"norm {norm.name} has no usual radius: give eps")
        return USUAL_EPS[norm.name]
    return require_positive("eps", eps)


def require_positive(name: str, value: float) -> float:
    """``value``, if it is a positive finite number.

    Raises:
        OnrError: it is not.

    """
    if not 0 < value < math.inf:
        raise OnrError(f"{name} = {value:g}: expected a positive number")
    return value


def require_weight(name: str, value: float) -> float:
    """``value``, if it is a finite number that is not negative.

    Raises:
        OnrError: it is not.

    """
    if not 0 <= value < math.inf:
        raise OnrError(f"{name} = {value:g}: expected a finite number >= 0")
    return value
