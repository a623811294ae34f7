"""The method ``global-snr``: global spectral norm regularisation (Eq. 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onr.protocols import Array, Cost, Network, Outputs, Penalty, Probe, Weight
from onr.regularizers.spectral_penalty import SpectralPenalty
from onr.typing import Kept, Rng
from onr_paper.methods import require_weight, with_clean

__all__ = ["GlobalSpectralNorm"]


class GlobalSpectralNorm:
    """The cost ``l(y, f(x)) + lam / 2 sum_l sigma(W^l)^2`` over affine and convolution layers.

    :class:`~onr.regularizers.spectral_penalty.SpectralPenalty` describes the second term.

    Args:
        lam: the weight.
        steps: power iterations in a training step; 1 in Yoshida and Miyato, 10 in section 7.16.
        kernel: ``reshaped``, the kernel as a matrix with a row for each output channel, as in
            Yoshida and Miyato; or ``convolution``, the layer's linear map itself (the Toeplitz
            matrix of footnote 1), whose norm is larger.

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> GlobalSpectralNorm(lam=0.01).settings
        {'lam': 0.01, 'steps': 1, 'kernel': 'reshaped'}

    """

    def __init__(self, *, lam: float = 3e-4, steps: int = 1, kernel: str = "reshaped") -> None:
        self.lam, self.term = require_weight("lam", lam), SpectralPenalty(steps, kernel)

    @property
    def settings(self) -> dict[str, str | float]:
        """The arguments ``lam``, ``steps`` and ``kernel``."""
        return {"lam": self.lam, "steps": self.term.steps, "kernel": self.term.kernel}

    def perturb(self, network: Network, x: Array, y: Array, /, *, rng: Rng, memory: Kept) -> Probe:
        """Ask for the logits of the clean inputs only."""
        return Probe()

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """The cross-entropy ``l(y, f(x))``."""
        return with_clean(outputs.clean, y)

    def penalty(
        self, weights: Sequence[Weight], /, *, rng: Rng, memory: Mapping[str, Array]
    ) -> Penalty:
        """The penalty ``lam / 2 sum sigma^2`` and its gradients."""
        found = self.term(weights, rng=rng, memory=memory)
        gradients = {name: self.lam * gradient for name, gradient in found.gradients.items()}
        return Penalty(self.lam * found.value, gradients, found.memory)
