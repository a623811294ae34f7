"""Arrays into tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

__all__ = ["to_tensor"]


def to_tensor(x: np.ndarray, module: nn.Module) -> torch.Tensor:
    """An array as the module takes it: its device and float type, images channels last."""
    parameter = next(module.parameters())
    tensor = torch.from_numpy(np.ascontiguousarray(x)).to(parameter.device)
    if not tensor.is_floating_point():
        return tensor.to(torch.int64)
    tensor = tensor.to(parameter.dtype)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
