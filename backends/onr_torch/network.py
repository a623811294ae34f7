"""A module as a network: its value, its linearisation, and what measurements ask of it."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import nn

from onr.arrays import to_numpy
from onr.errors import OnrError
from onr.protocols import Norm
from onr_torch.cells import cell_radius
from onr_torch.features import without_last_layer
from onr_torch.folding import folded
from onr_torch.linearization import TorchLinearization
from onr_torch.modes import constant_parameters, evaluating, mixed_precision
from onr_torch.patterns import activation_pattern

__all__ = ["TorchNetwork"]


class TorchNetwork:
    """A module with frozen statistics: every call and linearisation is in evaluation mode.

    Args:
        module: the network; it is not copied, and may be trained on.
        input_shape: of one input.
        bfloat16: as for :class:`TorchLinearization`.

    """

    def __init__(
        self, module: nn.Module, input_shape: tuple[int, ...], *, bfloat16: bool = False
    ) -> None:
        self.module = module
        self.bfloat16 = bfloat16
        self._input_shape = input_shape
        self._folds: bool | None = None  # whether it can be folded, which its weights do not change

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self._input_shape

    def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
        """Logits, shape ``(batch, d)``, without a graph."""
        with torch.no_grad(), constant_parameters(self.module), mixed_precision(x, self.bfloat16):
            logits = self.module(x)
        if not isinstance(logits, torch.Tensor):
            raise OnrError(
                f"{type(self.module).__name__} gives a {type(logits).__name__}: expected one "
                "tensor of logits (batch, d); wrap the model in a module that returns them"
            )
        return logits.to(x.dtype)

    def linearize(self, x: torch.Tensor, /) -> TorchLinearization:
        """The linearisation at ``x``, shape ``(batch, *input_shape)``."""
        return TorchLinearization(self.module, x, bfloat16=self.bfloat16)

    def asarray(self, x: np.ndarray, /) -> torch.Tensor:
        """Inputs in the module's float type on its device, images channels last; labels as int64.

        A module without parameters takes float32 on the CPU.
        """
        default = torch.empty(0)
        parameter = next(itertools.chain(self.module.parameters(), self.module.buffers()), default)
        tensor = torch.from_numpy(np.ascontiguousarray(x)).to(parameter.device)
        if not tensor.is_floating_point():
            return tensor.to(torch.int64)
        tensor = tensor.to(parameter.dtype)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    def parameters(self) -> dict[str, np.ndarray]:
        """Parameters and buffers by name; a copy."""
        state = self.module.state_dict()
        return {name: to_numpy(value).copy() for name, value in state.items()}

    def frozen(self) -> TorchNetwork:
        """The same function as it stands, for many passes; folded where that makes them cheaper.

        Training the module afterwards may or may not change it.
        """
        if self._folds is None:
            self._folds = folded(self.module, self.example()) is not self.module
        return self._with(folded(self.module, None) if self._folds else self.module)

    def features(self) -> TorchNetwork:
        """The network without its last affine layer, ``phi^(L-1)``; outputs ``(batch, features)``.

        Raises:
            OnrError: its last operation is no affine layer.

        """
        return self._with(without_last_layer(self.module, self.example()))

    def _with(self, module: nn.Module) -> TorchNetwork:
        return TorchNetwork(module, self._input_shape, bfloat16=self.bfloat16)

    def example(self) -> torch.Tensor:
        """Two inputs, always the same."""
        default = torch.empty(0)
        parameter = next(itertools.chain(self.module.parameters(), self.module.buffers()), default)
        rng = None if parameter.is_meta else torch.Generator(parameter.device).manual_seed(0)
        shape = (2, *self._input_shape)
        return torch.rand(shape, generator=rng, dtype=parameter.dtype, device=parameter.device)

    def activation_pattern(self, x: torch.Tensor, /) -> torch.Tensor:
        """Which ReLUs are on, ``(batch, units)``; :mod:`onr_torch.patterns` says more."""
        return activation_pattern(self.module, x)

    def cell_radius(self, x: torch.Tensor, /, *, p: Norm) -> torch.Tensor:
        """The radius of the ReLU cell around each input in the lp norm ``p``, exact; ``(batch,)``.

        ``n`` jvps an example; :func:`onr_torch.cells.cell_radius` says more, and what is refused.
        """
        with evaluating(self.module):
            return cell_radius(self.module, x, p=p)
