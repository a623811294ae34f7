"""Changed copies of a module that share the unchanged layers with it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import nn

from onr_torch.modes import is_compiled

__all__ = ["changed", "with_children"]


def changed(module: nn.Module, change: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """A module with ``change`` applied to each part of ``module``, the innermost first.

    The parts that do not change are shared, and ``module`` itself stays as it is. A part that
    TorchScript or ``torch.compile`` has compiled cannot be copied, and stays as it is.

    Example:
        >>> module = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        >>> twin = changed(module, lambda part: nn.Tanh() if type(part) is nn.ReLU else part)
        >>> twin[1], module[1], twin[0] is module[0]
        (Tanh(), ReLU(), True)

    """
    if isinstance(module, torch.jit.ScriptModule) or is_compiled(module):
        return module
    children = {
        name: None if child is None else changed(child, change)
        for name, child in module._modules.items()
    }
    return change(with_children(module, children))


def with_children(module: nn.Module, children: Mapping[str, nn.Module | None]) -> nn.Module:
    """A copy of ``module`` with these children, or ``module`` itself if the children are its own.

    Example:
        >>> with_children(nn.Sequential(nn.ReLU()), {"0": nn.Tanh()})[0]
        Tanh()

    """
    if all(child is module._modules[name] for name, child in children.items()):
        return module
    twin = copy.copy(module)
    twin._modules = dict(children)
    return twin
