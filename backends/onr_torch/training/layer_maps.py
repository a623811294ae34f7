"""The weights of a module's layers as linear maps, for penalties on the weights (Eq. 5)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from onr.errors import OnrError
from onr_torch.modes import constant_parameters

__all__ = ["LayerMap", "LayerWeight", "layer_weights"]

CONVOLUTIONS = {
    nn.Conv1d: functional.conv1d,
    nn.Conv2d: functional.conv2d,
    nn.Conv3d: functional.conv3d,
}


class LayerMap:
    """The linear map ``v -> W v`` of a weight, for a batch of one.

    Args:
        function: computes ``W v`` from ``v`` and the weight; it is linear in each of the two.
        weight: the weight; it is not changed and gets no gradient.
        input_shape: the shape of ``v`` without the batch axis.

    Example:
        >>> weight = torch.tensor([[1.0, 2.0]])
        >>> linear_map = LayerMap(functional.linear, weight, (2,))
        >>> linear_map.jvp(torch.ones(1, 2)), linear_map.vjp(torch.ones(1, 1))
        (tensor([[3.]]), tensor([[1., 2.]]))

    """

    def __init__(
        self,
        function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        weight: torch.Tensor,
        input_shape: tuple[int, ...],
    ) -> None:
        self._function = function
        self._weight = weight.detach().requires_grad_(True)
        self._input_shape = input_shape
        zeros = weight.new_zeros((1, *input_shape)).requires_grad_(True)
        with torch.enable_grad():
            self._zeros, self._image = zeros, function(zeros, self._weight.detach())

    @property
    def value(self) -> torch.Tensor:
        """The value at zero, ``W 0 = 0``."""
        return self._image.detach()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of ``v`` without the batch axis of length one."""
        return self._input_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of ``W v`` without the batch axis."""
        return tuple(self._image.shape[1:])

    def jvp(self, v: torch.Tensor, /) -> torch.Tensor:
        """``W v``."""
        with torch.no_grad():
            return self._function(v, self._weight)

    def vjp(self, u: torch.Tensor, /) -> torch.Tensor:
        """``W^T u``."""
        return torch.autograd.grad(self._image, self._zeros, u, retain_graph=True)[0]

    def weight_vjp(self, v: torch.Tensor, u: torch.Tensor, /) -> torch.Tensor:
        """The gradient of ``<u, W v>`` in the weight, shaped as the weight."""
        with torch.enable_grad():
            image = self._function(v.detach(), self._weight)
        return torch.autograd.grad(image, self._weight, u)[0]


class LayerWeight:
    """The weight of one affine or convolution layer, as two linear maps.

    Args:
        name: the name of the parameter in its module.
        layer: the layer.
        input_shape: the shape of one input of the layer.

    Example:
        >>> weight = LayerWeight("0.weight", nn.Conv2d(3, 4, 5), (3, 8, 8))
        >>> weight.matrix().input_shape, weight.convolution().input_shape
        ((75,), (3, 8, 8))

    """

    def __init__(self, name: str, layer: nn.Module, input_shape: tuple[int, ...]) -> None:
        self.name = name
        self._layer = layer
        self._input_shape = input_shape

    def matrix(self) -> LayerMap:
        """The weight with a row for each output channel: the reshaped kernel."""
        weight = self._layer.weight
        assert isinstance(weight, torch.Tensor)  # noqa: S101 - nn.Module attributes are untyped
        return LayerMap(
            lambda v, w: functional.linear(v, w.flatten(1)), weight, (weight[0].numel(),)
        )

    def convolution(self) -> LayerMap:
        """The layer's linear map on inputs of the size that it has in the network."""
        layer = self._layer
        if isinstance(layer, nn.Linear):
            return self.matrix()
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)  # noqa: S101 - layer_weights gives no others
        convolve = CONVOLUTIONS[type(layer)]

        def function(v: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            padding: str | int | tuple[int, ...] = layer.padding
            if layer.padding_mode != "zeros":
                v = functional.pad(v, layer._reversed_padding_repeated_twice, layer.padding_mode)
                padding = 0
            result: torch.Tensor = convolve(
                v, weight, None, layer.stride, padding, layer.dilation, layer.groups
            )
            return result

        return LayerMap(function, layer.weight, self._input_shape)


def layer_weights(module: nn.Module, x: torch.Tensor) -> list[LayerWeight]:
    """The affine and convolution layers of a module, in the order of its parameters.

    A weight that several layers share counts once. A weight that is not trained, or whose layer
    does not run, is left out.

    Args:
        module: the module; it runs once, in evaluation mode, to find the size of each layer's
            inputs.
        x: an input, shape ``(1, *input_shape)``.

    Raises:
        OnrError: a layer's weight is made from other parameters, for example by ``weight_norm``.

    Example:
        >>> module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
        >>> [weight.name for weight in layer_weights(module, torch.zeros(1, 1, 4, 4))]
        ['0.weight', '3.weight']

    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    shapes: dict[str, tuple[int, ...]] = {}

    def watched(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            shapes[name] = tuple(inputs[0].shape[1:])

        return hook

    layers = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    }
    handles = [layer.register_forward_pre_hook(watched(name)) for name, layer in layers.items()]
    try:
        with torch.no_grad(), constant_parameters(module):
            module(x)
    finally:
        for handle in handles:
            handle.remove()
    found = {}
    for name in shapes:
        weight = layers[name].weight
        if id(weight) not in names:
            raise OnrError(
                f"layer {name!r}: its weight is made from other parameters, and a penalty on it is "
                "not supported: remove the parametrization"
            )
        if weight.requires_grad:
            own = names[id(weight)]
            found[own] = LayerWeight(own, layers[name], shapes[name])
    return [found[name] for name in names.values() if name in found]
