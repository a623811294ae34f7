"""The linearisation of any ``nn.Module``: vjp by a backward pass, jvp by a replay."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from onr.errors import OnrError
from onr_torch.forward_mode import forward_mode
from onr_torch.modes import constant_parameters, depends_on_mode, evaluating, mixed_precision
from onr_torch.replay.replay import NotReplayableError, Recorder, replay

__all__ = [
    "TorchLinearization",
    "jvp",
    "linearize",
    "require_evaluation",
    "trainable_jvp",
]


def jvp(function: Callable[[torch.Tensor], Any], x: torch.Tensor, v: torch.Tensor, /) -> Any:
    """``J v`` at ``x`` by forward mode, differentiable in the parameters of ``function``.

    Args:
        function: a module, run in the mode that it is in, or a function that returns one or several
            tensors; the result has the structure of its value.
        x: the inputs, shape ``(batch, *input_shape)``.
        v: the direction, shaped as ``x``.

    Raises:
        OnrError: torch has no forward-mode derivative for an operation of the function.

    Example:
        >>> jvp(torch.square, torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, -1.0]]))
        tensor([[ 2., -4.]])

    """
    return forward_mode(lambda z: function(z.clone()), (x,), (v,))


def trainable_jvp(
    module: nn.Module, x: torch.Tensor, v: torch.Tensor, /, *, bfloat16: bool = False
) -> torch.Tensor:
    """``J v`` at ``x`` in evaluation mode, differentiable in the parameters.

    Args:
        module: the network.
        x: the inputs, shape ``(batch, *input_shape)``.
        v: the direction, shaped as ``x``.
        bfloat16: whether convolutions and matrix products work in bfloat16.

    Raises:
        OnrError: torch has no forward-mode derivative for an operation of the module.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> trainable_jvp(layer, torch.ones(1, 2), torch.tensor([[3.0, 4.0]])).backward()
        >>> layer.weight.grad
        tensor([[3., 4.]])

    """
    recorder = Recorder()
    with mixed_precision(x, bfloat16):
        try:
            with torch.enable_grad(), constant_parameters(module), recorder:
                module(x.detach().clone().requires_grad_(True).clone())
            if recorder.is_piecewise_linear:
                with evaluating(module):
                    return replay(module, recorder, v).to(x.dtype)
        except NotReplayableError:
            pass
        with evaluating(module):
            if recorder.refusal is not None or recorder.cuts:
                # Forward mode differentiates inside torch.no_grad(); autograd sees constants.
                with torch.enable_grad(), suppress(RuntimeError):
                    leaf = x.detach().clone().requires_grad_(True)
                    value = module(leaf.clone()).to(x.dtype)
                    return double_backward(value, leaf, v, create_graph=True)
            tangent: torch.Tensor = jvp(module, x.contiguous(), v.contiguous())
    return tangent.to(x.dtype)


def double_backward(
    value: torch.Tensor, x: torch.Tensor, v: torch.Tensor, *, create_graph: bool = False
) -> torch.Tensor:
    """``J v`` from the graph between ``x`` and ``value``: the derivative of ``J^T u`` in ``u``.

    The result is the adjoint of the graph's own ``J^T u``, whatever the module did to build the
    graph.

    Raises:
        RuntimeError: torch cannot differentiate the backward pass of an operation.

    """
    u = torch.zeros_like(value, requires_grad=True)
    (gradient,) = torch.autograd.grad(value, x, u, create_graph=True)
    image: torch.Tensor = torch.autograd.grad(gradient, u, v, create_graph=create_graph)[0]
    return image


class TorchLinearization:
    """The linearisation of a module at a batch of inputs.

    The forward pass runs once, in evaluation mode, and ``vjp`` runs backward through its graph.
    ``jvp`` takes the first of three ways that works:

    - replay the forward pass on the direction (:mod:`onr_torch.replay`), at the cost of one more
      forward pass, unless the module cannot be replayed or has drawn noise;
    - differentiate ``vjp``, at the cost of several passes;
    - ``torch.func.jvp``, where torch cannot differentiate ``vjp``. This is also used if parameters
      have changed since the forward pass, and takes the parameters as they are now.

    No call computes or changes the gradient of a parameter, and each call restores the modes of the
    module.

    Args:
        module: the network.
        x: the inputs, shape ``(batch, *input_shape)``.
        bfloat16: whether convolutions and matrix products work in bfloat16; values, directions and
            gradients have the dtype of ``x`` in either case.

    Raises:
        OnrError: the outputs of the module have another shape than ``(batch, d)``.

    Example:
        >>> here = TorchLinearization(nn.ReLU(), torch.tensor([[3.0, -4.0]]))
        >>> here.value, here.jvp(torch.ones(1, 2))
        (tensor([[3., 0.]]), tensor([[1., 0.]]))

    """

    def __init__(self, module: nn.Module, x: torch.Tensor, *, bfloat16: bool = False) -> None:
        self._module = module
        self._x = x.detach().requires_grad_(True)
        self._bfloat16 = bfloat16
        self._recorder: Recorder | None = Recorder()
        before = _generator_state(x.device)
        with torch.enable_grad(), constant_parameters(module), mixed_precision(x, bfloat16):
            with self._recorder:
                # The clone keeps a module that works in place from changing the leaf.
                value: torch.Tensor = module(self._x.clone())
            self._value = value.to(x.dtype)
        self._draws = not torch.equal(before, _generator_state(x.device))
        if self._draws:
            self._recorder = None
        self._state = _state(module)
        if self._value.ndim != 2:
            raise OnrError(
                f"the module gives outputs of shape {tuple(self._value.shape)}, expected (batch, d)"
            )

    @property
    def value(self) -> torch.Tensor:
        """``f(x)``, shape ``(batch, d)``, without a graph."""
        return self._value.detach()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(self._x.shape[1:])

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of one output, ``(d,)``."""
        return tuple(self._value.shape[1:])

    def jvp(self, v: torch.Tensor, /) -> torch.Tensor:
        """``J v``.

        Raises:
            OnrError: the direction has another shape or dtype than the input, or torch can
                compute the derivative neither by double backward nor in forward mode.

        """
        if v.shape != self._x.shape or v.dtype != self._x.dtype:
            raise OnrError(
                f"a direction of shape {tuple(v.shape)} and {v.dtype}: expected "
                f"{tuple(self._x.shape)} and {self._x.dtype}"
            )
        changed = _state(self._module) != self._state
        if changed:
            self._recorder = None
        with constant_parameters(self._module):
            if self._recorder is not None:
                try:
                    with torch.no_grad(), mixed_precision(v, self._bfloat16):
                        return replay(self._module, self._recorder, v).to(v.dtype)
                except NotReplayableError:
                    self._recorder = None
            if not changed:
                try:
                    with torch.enable_grad():
                        return double_backward(self._value, self._x, v.detach())
                except RuntimeError as error:
                    if self._draws:
                        raise OnrError(
                            f"the module draws noise, and has no J v: {error}"
                        ) from error
            with torch.no_grad(), mixed_precision(v, self._bfloat16):
                x = self._x.detach().contiguous()
                image: torch.Tensor = jvp(self._module, x, v.contiguous())
        return image.to(v.dtype)

    def vjp(self, u: torch.Tensor, /) -> torch.Tensor:
        """``J^T u``."""
        # A checkpointed module runs again in the backward pass.
        with constant_parameters(self._module):
            return torch.autograd.grad(self._value, self._x, u, retain_graph=True)[0]


def _state(module: nn.Module) -> list[tuple[int, int, int]]:
    """A fingerprint that changes when a parameter or buffer is overwritten or replaced."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    return [(id(x), x._version, 0 if x.is_meta else x.data_ptr()) for x in tensors]


def _generator_state(device: torch.device) -> torch.Tensor:
    """The state of the generator that a module on this device draws from."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.get_rng_state()


def linearize(module: nn.Module, x: torch.Tensor, /) -> TorchLinearization:
    """Linearise ``module`` at ``x``, shape ``(batch, *input_shape)``.

    Raises:
        OnrError: a batch normalisation or dropout layer of the module is in training mode, where
            an example has no Jacobian of its own. Call ``module.eval()`` first.

    Example:
        >>> here = linearize(nn.ReLU(), torch.tensor([[3.0, -4.0]]))
        >>> here.vjp(torch.tensor([[1.0, 1.0]]))
        tensor([[1., 0.]])

    """
    require_evaluation(module)
    return TorchLinearization(module, x)


def require_evaluation(module: nn.Module) -> None:
    """Refuse a module whose output for one example depends on the other examples or on noise.

    Raises:
        OnrError: a batch normalisation or dropout layer is in training mode, or a batch
            normalisation has no running statistics.

    Example:
        >>> require_evaluation(nn.Dropout().eval())

    """
    name = depends_on_mode(module)
    if name is not None:
        raise OnrError(
            f"layer {name!r} is in training mode, or normalises by the batch itself: an example's "
            "Jacobian exists in evaluation mode and with running statistics only, call "
            "module.eval() first"
        )
