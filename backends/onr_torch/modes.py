"""Contexts in which a module runs, and that put back all they change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

__all__ = ["constant_parameters", "depends_on_mode", "evaluating", "mixed_precision"]


def mixed_precision(x: torch.Tensor, enabled: bool) -> AbstractContextManager[object]:
    """Where it is enabled, convolutions and matrix products work in bfloat16."""
    return torch.autocast(x.device.type, torch.bfloat16) if enabled else nullcontext()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards each submodule has the mode it had."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def constant_parameters(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and no parameter requires a gradient; afterwards all is as it was."""
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
    """The name of a submodule that ties examples together or draws noise as it stands."""
    for name, part in module.named_modules():
        normalizes = isinstance(part, nn.modules.batchnorm._BatchNorm)
        draws = isinstance(part, nn.modules.dropout._DropoutNd)
        if ((normalizes or draws) and part.training) or (normalizes and part.running_mean is None):
            return name or type(part).__name__
    return None
