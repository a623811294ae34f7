"""The linearisation of any ``nn.Module``: jvp by forward mode, vjp on the graph that is kept."""

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
from onr_torch.replay.replaying import NotReplayableError, Recorder, replay

__all__ = [
    "TorchLinearization",
    "jvp",
    "linearize",
    "require_evaluation",
    "trainable_jvp",
]


def jvp(function: Callable[[torch.Tensor], Any], x: torch.Tensor, v: torch.Tensor, /) -> Any:
    """``J v`` at ``x``, differentiable in the parameters; a module's mode is the caller's.

    Args:
        function: a module, or a function that gives several tensors; the result has its structure.
        x: where, shape ``(batch, *input_shape)``.
        v: the direction, shaped as ``x``.

    Raises:
        OnrError: torch has no forward-mode derivative for an operation of the module.

    """
    return forward_mode(lambda z: function(z.clone()), (x,), (v,))


def trainable_jvp(
    module: nn.Module, x: torch.Tensor, v: torch.Tensor, /, *, bfloat16: bool = False
) -> torch.Tensor:
    """``J v`` at ``x`` in evaluation mode, differentiable in the parameters.

    Args:
        module: the network.
        x: where.
        v: the direction, shaped as ``x``.
        bfloat16: whether convolutions and matrix products work in bfloat16.

    Raises:
        OnrError: as :func:`jvp`.

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
                # Forward mode would look through torch.no_grad(), which the rest does not.
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

    It is the adjoint of that graph's own ``J^T u``, whatever the module did to make it.

    Raises:
        RuntimeError: an operation's derivative has none of its own in torch.

    """
    u = torch.zeros_like(value, requires_grad=True)
    (gradient,) = torch.autograd.grad(value, x, u, create_graph=True)
    image: torch.Tensor = torch.autograd.grad(gradient, u, v, create_graph=create_graph)[0]
    return image


class TorchLinearization:
    """A module to first order at a batch of inputs.

    The value is computed once, and ``vjp`` runs backward through that graph. ``jvp`` replays the
    pass on the direction, which costs another forward (:mod:`onr_torch.replay`). A module that
    cannot be replayed, or has drawn noise, gets the derivative of ``vjp`` instead, which costs
    several. Where torch has none, and where parameters have changed since, it is
    ``torch.func.jvp``, with the parameters as they are now. No parameter's gradient is computed or
    touched, and the module's modes are as they were after every call.

    Args:
        module: the network.
        x: where, shape ``(batch, *input_shape)``.
        bfloat16: whether convolutions and matrix products work in bfloat16; values, directions and
            gradients have the type of ``x`` all the same.

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
        """``(d,)``."""
        return tuple(self._value.shape[1:])

    def jvp(self, v: torch.Tensor, /) -> torch.Tensor:
        """``J v``.

        Raises:
            OnrError: the direction has another shape or type than the input, or torch cannot
                differentiate an operation of the module in either way.

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
        with constant_parameters(
            self._module
        ):  # a checkpointed module runs again in the backward pass
            return torch.autograd.grad(self._value, self._x, u, retain_graph=True)[0]


def _state(module: nn.Module) -> list[tuple[int, int, int]]:
    """What changes when a parameter or buffer is overwritten or exchanged."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    return [(id(x), x._version, 0 if x.is_meta else x.data_ptr()) for x in tensors]


def _generator_state(device: torch.device) -> torch.Tensor:
    """Of the generator that a module on this device draws from."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.get_rng_state()


def linearize(module: nn.Module, x: torch.Tensor, /) -> TorchLinearization:
    """Linearise ``module`` at ``x``, shape ``(batch, *input_shape)``.

    Raises:
        OnrError: the module is in training mode and has a batch normalisation or dropout layer,
            whose output has no Jacobian of one example. Call ``module.eval()`` first.

    """
    require_evaluation(module)
    return TorchLinearization(module, x)


def require_evaluation(module: nn.Module) -> None:
    """Refuse a module whose outputs are not each example's own.

    Raises:
        OnrError: a batch normalisation or dropout layer is in training mode.

    """
    name = depends_on_mode(module)
    if name is not None:
        raise OnrError(
            f"layer {name!r} is in training mode, or normalises by the batch itself: an example's "
            "Jacobian exists in evaluation mode and with running statistics only, call "
            "module.eval() first"
        )
