"""``global-snr``: global spectral norm regularisation (Eq. 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onr.arrays import array_namespace, like
from onr.errors import OnrError
from onr.jacobians.iterations import walk
from onr.norms import LpNorm
from onr.protocols import Array, Cost, Network, Outputs, Penalty, Probe, Weight
from onr.typing import Kept, Rng
from onr_paper.methods import require_weight, with_clean

__all__ = ["GlobalSpectralNorm"]

TWO = LpNorm(2)


class GlobalSpectralNorm:
    """``l(y, f(x)) + lam / 2 sum_l sigma(W^l)^2`` over affine and convolution layers.

    The singular vectors are those of the power method (Eq. 6), continued from step to step as
    Yoshida and Miyato (2017) do; they are held constant, and the gradient of ``sigma^2 / 2`` is
    ``sigma u v^T``.

    Args:
        lam: the weight.
        steps: power iterations a training step; 1 is the original's, 10 that of section 7.16.
        kernel: ``reshaped``, the kernel as a matrix with a row for each output channel, as the
            original has it; or ``convolution``, the layer's linear map itself (the Toeplitz matrix
            of footnote 1), whose norm is larger.

    Raises:
        OnrError: an argument out of its range.

    """

    def __init__(self, *, lam: float = 3e-4, steps: int = 1, kernel: str = "reshaped") -> None:
        if steps < 1:
            raise OnrError(f"steps = {steps}: expected at least 1")
        if kernel not in ("reshaped", "convolution"):
            raise OnrError(f"kernel = {kernel!r}: expected reshaped or convolution")
        self.lam, self.steps, self.kernel = require_weight("lam", lam), steps, kernel

    @property
    def settings(self) -> dict[str, str | float]:
        """All arguments."""
        return {"lam": self.lam, "steps": self.steps, "kernel": self.kernel}

    def perturb(self, network: Network, x: Array, y: Array, /, *, rng: Rng, memory: Kept) -> Probe:
        """Look at the inputs alone."""
        return Probe()

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """``l(y, f(x))``."""
        return with_clean(outputs.clean, y)

    def penalty(
        self,
        weights: Sequence[Weight],
        /,
        *,
        rng: np.random.Generator,
        memory: Mapping[str, Array],
    ) -> Penalty:
        """``lam / 2 sum sigma^2`` at the current iterates, which are lower bounds of the norms."""
        total, gradients, kept = 0.0, {}, {}
        for weight in weights:
            layer = weight.matrix() if self.kernel == "reshaped" else weight.convolution()
            start = memory.get(weight.name)
            if start is None:
                start = like(rng.standard_normal((1, *layer.input_shape)), layer.value)
            v = walk(layer, start, p=TWO, q=TWO, steps=self.steps).v
            image = layer.jvp(v)
            total = total + array_namespace(image).sum(image * image) * (self.lam / 2)
            gradients[weight.name] = self.lam * layer.weight_vjp(v, image)
            kept[weight.name] = v
        return Penalty(total, gradients, kept)
