"""The features of a classifier ``f = W phi + b``: the input ``phi`` of its last affine layer."""

from __future__ import annotations

import torch
from torch import nn

from onr.errors import OnrError
from onr_torch.modes import constant_parameters
from onr_torch.partial_copies import changed

__all__ = ["without_last_layer"]


def without_last_layer(module: nn.Module, x: torch.Tensor) -> nn.Module:
    """The classifier without its last affine layer; all other layers are shared with ``module``.

    Args:
        module: the classifier.
        x: inputs to run it on, shape ``(batch, *input_shape)``.

    Raises:
        OnrError: the outputs of the classifier are not those of an ``nn.Linear``.

    Example:
        >>> module = nn.Sequential(nn.ReLU(), nn.Linear(2, 3))
        >>> features = without_last_layer(module, torch.ones(1, 2))
        >>> features(torch.tensor([[3.0, -4.0]]))
        tensor([[3., 0.]])

    """
    last: list[tuple[torch.Tensor, torch.Tensor, nn.Linear]] = []

    def watch(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        assert isinstance(layer, nn.Linear)  # noqa: S101 - the hook is on these only
        # The clone shows whether a later layer has overwritten the output.
        last[:] = [(output, output.clone(), layer)]

    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    handles = [layer.register_forward_hook(watch) for layer in layers]
    try:
        with torch.no_grad(), constant_parameters(module):
            output = module(x)
    finally:
        for handle in handles:
            handle.remove()
    if not last or last[0][0] is not output or not torch.equal(last[0][1], output):
        raise OnrError(
            f"the outputs of {type(module).__name__} are not those of an affine layer (nn.Linear): "
            "its features are not defined"
        )
    return changed(module, lambda part: nn.Identity() if part is last[0][2] else part)
