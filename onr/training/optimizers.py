"""The choice of an optimiser, as data that every backend understands."""

from __future__ import annotations

from dataclasses import dataclass

from onr.errors import OnrError

__all__ = ["Optimizer"]

LARGEST_DECAY = 1e30
"""The largest weight decay that is a float32 with room to multiply."""


@dataclass(frozen=True)
class Optimizer:
    """The settings of an optimiser, except the learning rate. Their meaning is that of torch.

    Raises:
        OnrError: a value is out of range.

    Example:
        >>> Optimizer("sgd", momentum=0.9, nesterov=True).weight_decay
        0.0

    """

    name: str = "adam"
    """``adam``, ``adamw`` or ``sgd``."""
    momentum: float = 0.9
    """The momentum of ``sgd``, in [0, 1); the others ignore it."""
    nesterov: bool = False
    """Whether ``sgd`` uses Nesterov momentum."""
    weight_decay: float = 0.0
    """``adam`` and ``sgd`` add ``weight_decay * w`` to the gradient of every parameter ``w``.
    ``adamw`` multiplies ``w`` by ``1 - lr * weight_decay`` before the step of ``adam`` instead
    (Loshchilov and Hutter, 2019). Without a weight decay, ``adamw`` is ``adam``.
    """

    def __post_init__(self) -> None:
        if self.name not in ("adam", "adamw", "sgd"):
            raise OnrError(f"unknown optimizer {self.name!r}: expected adam, adamw or sgd")
        if not 0 <= self.momentum < 1:
            raise OnrError(f"momentum = {self.momentum}: expected a number in [0, 1)")
        if self.nesterov and (self.name != "sgd" or self.momentum == 0):
            raise OnrError("nesterov: expected sgd with a momentum")
        if not 0 <= self.weight_decay <= LARGEST_DECAY:
            raise OnrError(
                f"weight_decay = {self.weight_decay}: expected a number >= 0, {LARGEST_DECAY:g} at "
                "most"
            )
