"""The method ``global-snr``: global spectral norm regularisation (Eq. 5)."""

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
    """The cost ``l(y, f(x)) + lam / 2 sum_l sigma(W^l)^2`` over affine and convolution layers.

    The power method (Eq. 6) finds the singular vectors. As in Yoshida and Miyato (2017), each
    training step continues from the vectors of the last one. The vectors are held constant, so
    that the gradient of ``sigma^2 / 2`` is ``sigma u v^T``.

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
        if steps < 1:
            raise OnrError(f"steps = {steps}: expected at least 1")
        if kernel not in ("reshaped", "convolution"):
            raise OnrError(f"kernel = {kernel!r}: expected reshaped or convolution")
        self.lam, self.steps, self.kernel = require_weight("lam", lam), steps, kernel

    @property
    def settings(self) -> dict[str, str | float]:
        """The arguments ``lam``, ``steps`` and ``kernel``."""
        return {"lam": self.lam, "steps": self.steps, "kernel": self.kernel}

    def perturb(self, network: Network, x: Array, y: Array, /, *, rng: Rng, memory: Kept) -> Probe:
        """Ask for the logits of the clean inputs only."""
        return Probe()

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """The cross-entropy ``l(y, f(x))``."""
        return with_clean(outputs.clean, y)

    def penalty(
        self,
        weights: Sequence[Weight],
        /,
        *,
        rng: np.random.Generator,
        memory: Mapping[str, Array],
    ) -> Penalty:
        """The penalty ``lam / 2 sum sigma^2`` and its gradients.

        Each ``sigma`` is the gain of the current iterate, a lower bound on the spectral norm.
        """
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
