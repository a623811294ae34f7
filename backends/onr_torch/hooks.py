"""Hooks of a module that see the tensors of a call."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["sees_tensors"]


def sees_tensors(module: nn.Module) -> bool:
    """Whether a hook of a module, or a hook for all modules, is given the tensors of each call.

    Hooks of ``torch.nn.utils``, which make a weight from others, keep nothing and do not count.

    Example:
        >>> module = nn.ReLU()
        >>> sees_tensors(module)
        False
        >>> handle = module.register_forward_hook(print)
        >>> sees_tensors(module)
        True

    """
    everywhere = nn.modules.module
    if everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks:
        return True
    return any(
        not _is_torchs(hook)
        for part in module.modules()
        for hooks in (part._forward_hooks, part._forward_pre_hooks)
        for hook in hooks.values()
    )


def _is_torchs(hook: Any) -> bool:
    owner = hook if hasattr(hook, "__module__") else type(hook)
    return str(owner.__module__).startswith("torch.nn.utils")
