"""Global spectral norm regularisation (Eq. 5) as a term of one's own loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from onr.errors import OnrError
from onr.front_door.arguments import RngLike, generator
from onr.regularizers.spectral_penalty import SpectralPenalty
from onr_torch.admission import check_inputs
from onr_torch.attached import attached
from onr_torch.generators import rng_state, set_rng_state
from onr_torch.modes import bare, mixed_precision, untraced
from onr_torch.training.layer_maps import LayerWeight, layer_weights

__all__ = ["SpectralNormRegularizer"]


class SpectralNormRegularizer:
    """The term ``1/2 sum_l sigma(W^l)^2`` over affine and convolution layers, of a loss (Eq. 5).

    Each call continues the power method from the vectors of the last call, as in Yoshida and Miyato
    (2017). ``sigma`` is a lower bound, which converges as the weights do. The vectors are replaced,
    never written into, so that two forward passes before one backward pass are safe; the module is
    not changed. Times ``lam`` the term is the penalty of the method ``global-snr``.

    Args:
        steps: power iterations in a call.
        kernel: ``reshaped``, the kernel as a matrix with a row for each output channel; or
            ``convolution``, the layer's linear map itself, whose norm is larger.
        rng: draws the first vectors; a NumPy generator, a seed, or nothing for seed 0.

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> model = nn.Linear(3, 2)
        >>> reg = SpectralNormRegularizer(steps=50)
        >>> term = reg(model, torch.rand(4, 3))
        >>> torch.allclose(term, torch.linalg.matrix_norm(model.weight, 2) ** 2 / 2)
        True

    """

    def __init__(self, *, steps: int = 1, kernel: str = "reshaped", rng: RngLike = None) -> None:
        self.term = SpectralPenalty(steps, kernel)
        """The number of steps and the kernel."""
        self.rng = generator(rng)
        """The generator of the first vectors."""
        self._vectors: Mapping[str, torch.Tensor] = {}
        self._kind: tuple[Any, ...] = ()
        self._weights: list[LayerWeight] = []

    @untraced
    def __call__(self, model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """The term, a scalar that is differentiable in the weights.

        Args:
            model: the module; also one that is wrapped by ``DistributedDataParallel`` or compiled.
            x: inputs, shape ``(batch, *input_shape)``. The module runs on the first of them once,
                to find which layers run and the sizes of their inputs.

        Raises:
            OnrError: the module has no layer with a weight that is trained, a layer's weight is
                made from other parameters, or the inputs are refused.

        """
        module = bare(model)
        trained = [parameter.requires_grad for parameter in module.parameters()]
        kind = (*module.modules(), *trained, tuple(x.shape[1:]))
        if kind != self._kind:
            first = x[:1].detach()
            check_inputs(module, first)
            with mixed_precision(first, False):
                self._weights = layer_weights(module, first)
            self._kind = kind
        if not self._weights:
            raise OnrError(f"{type(module).__name__} has no affine or convolution layer to train")
        with torch.no_grad(), mixed_precision(x, False):
            found = self.term(self._weights, rng=self.rng, memory=self._on_device(module))
        self._vectors = found.memory
        parameters = dict(module.named_parameters())
        parts = [(parameters[name] * g).sum() for name, g in found.gradients.items()]
        return attached(found.value, torch.stack(parts).sum())

    def _on_device(self, module: nn.Module) -> dict[str, torch.Tensor]:
        """The vectors, on the devices of their weights."""
        parameters = dict(module.named_parameters())
        return {k: v.to(parameters[k]) for k, v in self._vectors.items() if k in parameters}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The vectors by the name of the weight, ``vectors.NAME``, and the generator.

        Example:
            >>> sorted(SpectralNormRegularizer().state_dict())
            ['rng']

        """
        vectors = {f"vectors.{name}": v.clone() for name, v in self._vectors.items()}
        return {"rng": rng_state(self.rng), **vectors}

    def load_state_dict(self, state: Mapping[str, torch.Tensor], /) -> None:
        """Continue from a state that :meth:`state_dict` returned.

        Raises:
            OnrError: the state is of something else.

        Example:
            >>> reg = SpectralNormRegularizer()
            >>> reg.load_state_dict(reg.state_dict())

        """
        set_rng_state(self.rng, state)
        prefix = "vectors."
        self._vectors = {
            name.removeprefix(prefix): v.clone()
            for name, v in state.items()
            if name.startswith(prefix)
        }
