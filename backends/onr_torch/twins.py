"""Modules that share most of their layers with another."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

from torch import nn

__all__ = ["changed", "with_children"]


def changed(module: nn.Module, change: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """The module with ``change`` made to each of its parts, the innermost first.

    What does not change is shared, and ``module`` is left as it was.
    """
    children = {
        name: None if child is None else changed(child, change)
        for name, child in module._modules.items()
    }
    return change(with_children(module, children))


def with_children(module: nn.Module, children: Mapping[str, nn.Module | None]) -> nn.Module:
    """The module with these children, itself if they are its own."""
    if all(child is module._modules[name] for name, child in children.items()):
        return module
    twin = copy.copy(module)
    twin._modules = dict(children)
    return twin
