"""Global spectral norm regularisation (Eq. 5) as a term of a cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onr.arrays import array_namespace, like
from onr.errors import OnrError
from onr.jacobians.iterations import walk
from onr.norms import LpNorm
from onr.protocols import Array, Penalty, Weight
from onr.typing import Rng

__all__ = ["SpectralPenalty"]

TWO = LpNorm(2)


@dataclass(frozen=True)
class SpectralPenalty:
    """The term ``1/2 sum_l sigma(W^l)^2`` over affine and convolution layers.

    The power method (Eq. 6) finds the singular vectors. As in Yoshida and Miyato (2017), each
    training step continues from the vectors of the last one. The vectors are held constant, so
    that the gradient of ``sigma^2 / 2`` is ``sigma u v^T``. Each ``sigma`` is the gain of the
    current iterate, a lower bound on the spectral norm.

    Args:
        steps: power iterations in a training step; 1 in Yoshida and Miyato, 10 in section 7.16.
        kernel: ``reshaped``, the kernel as a matrix with a row for each output channel, as in
            Yoshida and Miyato; or ``convolution``, the layer's linear map itself (the Toeplitz
            matrix of footnote 1), whose norm is larger.

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> SpectralPenalty(steps=10).kernel
        'reshaped'

    """

    steps: int = 1
    kernel: str = "reshaped"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise OnrError(f"steps = {self.steps}: expected at least 1")
        if self.kernel not in ("reshaped", "convolution"):
            raise OnrError(f"kernel = {self.kernel!r}: expected reshaped or convolution")

    def __call__(
        self, weights: Sequence[Weight], /, *, rng: Rng, memory: Mapping[str, Array]
    ) -> Penalty:
        """The penalty of these weights, its gradients, and the vectors of the next call.

        Args:
            weights: the weights of the layers.
            rng: draws a start for a weight that ``memory`` lacks.
            memory: the vectors ``v`` of the last call by the name of the weight, or empty; they
                are not changed.

        """
        total, gradients, kept = 0.0, {}, {}
        for weight in weights:
            layer = weight.matrix() if self.kernel == "reshaped" else weight.convolution()
            start = memory.get(weight.name)
            if start is None:
                start = like(rng.standard_normal((1, *layer.input_shape)), layer.value)
            v = walk(layer, start, p=TWO, q=TWO, steps=self.steps).v
            image = layer.jvp(v)
            total = total + array_namespace(image).sum(image * image) / 2
            gradients[weight.name] = layer.weight_vjp(v, image)
            kept[weight.name] = v
        return Penalty(total, gradients, kept)
