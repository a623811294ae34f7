"""Context managers that run a module in some mode and restore afterwards what they change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

__all__ = ["constant_parameters", "depends_on_mode", "evaluating", "mixed_precision"]


def mixed_precision(x: torch.Tensor, enabled: bool) -> AbstractContextManager[object]:
    """If ``enabled``, convolutions and matrix products on the device of ``x`` work in bfloat16.

    Example:
        >>> x = torch.ones(2, 2)
        >>> with mixed_precision(x, True):
        ...     (x @ x).dtype
        torch.bfloat16

    """
    return torch.autocast(x.device.type, torch.bfloat16) if enabled else nullcontext()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode; afterwards each submodule has its former mode.

    Example:
        >>> module = nn.Dropout()
        >>> with evaluating(module):
        ...     module.training
        False
        >>> module.training
        True

    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def constant_parameters(module: nn.Module) -> Iterator[None]:
    """Use evaluation mode and let no parameter require a gradient; restore both afterwards.

    Example:
        >>> module = nn.Linear(2, 1)
        >>> with constant_parameters(module):
        ...     module.weight.requires_grad
        False

    """
    wanted = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        with evaluating(module):
            yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


def depends_on_mode(module: nn.Module) -> str | None:
    """The name of a submodule that, in its present mode, mixes examples or draws noise, if any.

    Example:
        >>> depends_on_mode(nn.Sequential(nn.Linear(2, 2), nn.Dropout()))
        '1'

    """
    for name, part in module.named_modules():
        normalizes = isinstance(part, nn.modules.batchnorm._BatchNorm)
        draws = isinstance(part, nn.modules.dropout._DropoutNd)
        if ((normalizes or draws) and part.training) or (normalizes and part.running_mean is None):
            return name or type(part).__name__
    return None
