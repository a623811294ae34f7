"""A model of normalised images as a model of pixels."""

from __future__ import annotations

import torch
from torch import nn

from onr.architectures import Normalize
from onr_torch.models.sequential import Standardize
from onr_torch.outputs import tensor_of

__all__ = ["Normalized"]


class Normalized(nn.Module):
    """A model of normalised images as a model of pixels in [0, 1]; parameters are ``model.*``.

    Example:
        >>> module = Normalized(nn.Flatten(), (1, 1, 1), Normalize((0.5,), (0.25,))).float()
        >>> module(torch.ones(1, 1, 1, 1))
        tensor([[2.]])

    """

    def __init__(
        self, model: nn.Module, input_shape: tuple[int, ...], normalize: Normalize
    ) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.normalize = Standardize(normalize, len(input_shape))
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logits of the model at the normalised inputs."""
        return tensor_of(self.model(self.normalize(x)), self.model)
