"""Checks of a module and its inputs, made before the module is linearised or attacked.

Every error says what is wrong and what to do. The module runs on one input, once for each shape,
dtype and device of inputs; a check that passed is remembered as long as the module lives.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import nn

from onr.errors import OnrError
from onr_torch.linearization import require_evaluation
from onr_torch.network import TorchNetwork

__all__ = ["admit"]

_ADMITTED: weakref.WeakKeyDictionary[nn.Module, set[tuple[Any, ...]]] = weakref.WeakKeyDictionary()


def admit(model: Any, x: torch.Tensor, /) -> TorchNetwork:
    """Check a module and inputs, and return the module as a network for inputs like ``x``.

    Args:
        model: a module in evaluation mode, or a :class:`TorchNetwork`.
        x: inputs, shape ``(batch, *input_shape)``, of the module's dtype and on its device.

    Raises:
        OnrError: the model is neither a module nor a network, a batch normalisation or dropout
            layer is in training mode, or the model does not map ``x`` to logits ``(batch, d)``; or
            ``x`` holds whole numbers, is empty, has no batch axis, has another shape than the
            network's inputs, or differs from the module's parameters in dtype or device.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
        >>> network = admit(model, torch.rand(5, 1, 2, 2))
        >>> network.input_shape
        (1, 2, 2)

    """
    module = model.module if isinstance(model, TorchNetwork) else model
    if not isinstance(module, nn.Module):
        raise OnrError(
            f"the model is a {type(model).__name__}: expected a torch.nn.Module, whose mode and "
            "parameters are known; put a function into the forward of a module"
        )
    _check_inputs(module, x)
    if isinstance(model, TorchNetwork):
        if tuple(x.shape[1:]) != model.input_shape:
            raise OnrError(
                f"x has shape {tuple(x.shape)}: expected (batch, "
                f"{', '.join(map(str, model.input_shape))})"
            )
        return model
    require_evaluation(module)
    network = TorchNetwork(module, tuple(x.shape[1:]))
    seen = _ADMITTED.setdefault(module, set())
    kind = (tuple(x.shape[1:]), x.dtype, x.device)
    if kind not in seen:
        _check_outputs(network, x)
        seen.add(kind)
    return network


def _check_inputs(module: nn.Module, x: torch.Tensor) -> None:
    if not x.is_floating_point():
        raise OnrError(
            f"x holds {x.dtype}: expected floats; images of whole numbers are x.float() / 255"
        )
    if torch.finfo(x.dtype).bits < 32:
        raise OnrError(f"x holds {x.dtype}: expected float32 or float64 for the model and for x")
    if x.requires_grad:
        raise OnrError("x requires a gradient, which would be lost: give x.detach()")
    if x.ndim < 2:
        raise OnrError(
            f"x has shape {tuple(x.shape)}: expected (batch, *input_shape); one input is x[None]"
        )
    if len(x) == 0:
        raise OnrError(f"x has shape {tuple(x.shape)}: expected at least one input")
    parameter = next((p for p in module.parameters() if p.is_floating_point()), None)
    if parameter is None:
        return
    if parameter.device != x.device:
        raise OnrError(
            f"x is on {x.device} and the model on {parameter.device}: give x.to(model's device)"
        )
    if parameter.dtype != x.dtype:
        raise OnrError(
            f"x holds {x.dtype} and the model {parameter.dtype}: give x.to({parameter.dtype}), or "
            f"model.to({x.dtype})"
        )


def _check_outputs(network: TorchNetwork, x: torch.Tensor) -> None:
    name = type(network.module).__name__
    try:
        value = network(x[:1].detach())
    except OnrError:
        raise
    except Exception as error:  # whatever the module raises
        reason = (str(error).splitlines() or [""])[0]
        raise OnrError(
            f"{name} fails on one input of shape {tuple(x.shape[1:])} "
            f"({type(error).__name__}: {reason}); x has shape {tuple(x.shape)}, expected (batch, "
            "*input_shape): one input is x[None]"
        ) from error
    if value.ndim != 2 or len(value) != 1:
        raise OnrError(
            f"{name} maps an input of shape {(1, *x.shape[1:])} to {tuple(value.shape)}: expected "
            "logits (1, d); if x is a single input, give x[None]"
        )
