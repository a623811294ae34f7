"""A module's function in evaluation mode with fewer passes over memory.

Inside an ``nn.Sequential``, a batch normalisation that follows a convolution or an affine layer is
a change of that layer's weights, and a ReLU after such a layer may overwrite its input, which
nothing else reads. On CNN7 that makes a forward and backward pass 1.2 to 1.5 times as fast.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from onr_torch.modes import evaluating

__all__ = ["folded"]

FOLDS: dict[type[nn.Module], tuple[type[nn.Module], Callable[[Any, Any], nn.Module]]] = {
    nn.Linear: (nn.BatchNorm1d, fuse_linear_bn_eval),
    nn.Conv1d: (nn.BatchNorm1d, fuse_conv_bn_eval),
    nn.Conv2d: (nn.BatchNorm2d, fuse_conv_bn_eval),
    nn.Conv3d: (nn.BatchNorm3d, fuse_conv_bn_eval),
}


def folded(module: nn.Module, example: torch.Tensor) -> nn.Module:
    """A module with the same function in evaluation mode, up to rounding.

    It is for evaluation mode alone, and wants no gradients. Layers that are not folded are shared
    with ``module``, which is left as it was; later changes of its parameters or statistics do not
    reach the folded ones.

    Args:
        module: any module; one without such a chain of layers is returned itself.
        example: inputs at which the two are compared, since a module may use the layers of a
            sequence one by one; where they differ ``module`` itself is returned.

    """
    with torch.no_grad(), evaluating(module):
        found = _folded(module)
        if found is module or example.is_meta:
            return found
        # The clones are for a module that works in place.
        expected, value = module(example.clone()), found(example.clone())
    tolerance = torch.finfo(expected.dtype).eps ** 0.5 * expected.abs().max()
    return found if bool((value - expected).abs().max() <= tolerance) else module


def _folded(module: nn.Module) -> nn.Module:
    children = {name: child and _folded(child) for name, child in module._modules.items()}
    if type(module).forward is nn.Sequential.forward:
        children = dict(zip(children, _chain([*children.values()]), strict=True))
    if all(child is module._modules[name] for name, child in children.items()):
        return module
    twin = copy.copy(module)
    twin._modules = children
    return twin


def _chain(layers: list[nn.Module | None]) -> list[nn.Module | None]:
    """The layers of a sequence, each in its place."""
    layers = list(layers)
    owned = False  # whether the tensor that a layer is given is that layer's alone
    for index, layer in enumerate(layers):
        after = layers[index + 1] if index + 1 < len(layers) else None
        weighted = _plain(layer, *FOLDS)
        if weighted:
            normalization, fuse = FOLDS[type(layer)]  # type: ignore[index]  # it is a layer
            if _plain(after, normalization):
                layers[index : index + 2] = fuse(layer, after), nn.Identity()
        elif _plain(layer, nn.ReLU) and owned:
            layers[index] = nn.ReLU(inplace=True)
        owned = weighted or (owned and _plain(layer, nn.Identity))
    return layers


def _plain(layer: nn.Module | None, *kinds: type[nn.Module]) -> bool:
    """Whether a layer is just what its class says: frozen statistics, and nobody listens to it."""
    return (
        type(layer) in kinds
        and not getattr(layer, "_forward_hooks", ())
        and not getattr(layer, "_forward_pre_hooks", ())
        and not getattr(layer, "_backward_hooks", ())
        and not getattr(layer, "_backward_pre_hooks", ())
        and getattr(layer, "track_running_stats", True)
    )
