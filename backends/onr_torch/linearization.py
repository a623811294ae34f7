"""The linearisation of any ``nn.Module``: jvp by forward mode, vjp on the graph that is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from onr.errors import OnrError
from onr.protocols import Norm
from onr_torch.features import without_last_layer
from onr_torch.folding import folded
from onr_torch.forward_mode import forward_mode
from onr_torch.modes import depends_on_mode, evaluating, frozen, mixed_precision
from onr_torch.patterns import activation_pattern
from onr_torch.replay import NotReplayableError, Recorder, replay

__all__ = [
    "TorchLinearization",
    "TorchNetwork",
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
            with torch.enable_grad(), frozen(module), recorder:
                module(x.detach().clone().requires_grad_(True).clone())
            if recorder.is_piecewise_linear:
                with evaluating(module):
                    return replay(module, recorder, v).to(x.dtype)
        except NotReplayableError:
            pass
        with evaluating(module):
            tangent: torch.Tensor = jvp(module, x, v)
    return tangent.to(x.dtype)


class TorchLinearization:
    """A module to first order at a batch of inputs.

    The value is computed once, and ``vjp`` runs backward through that graph. ``jvp`` replays the
    pass on the direction, which costs another forward (:mod:`onr_torch.replay`); a module that
    cannot be replayed gets ``torch.func.jvp``, which costs three and gives the same numbers. No
    parameter's gradient is computed or touched, and the module's modes are as they were after every
    call.

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
        with torch.enable_grad(), frozen(module), mixed_precision(x, bfloat16):
            try:
                with self._recorder:
                    # The clone keeps a module that works in place from changing the leaf.
                    value: torch.Tensor = module(self._x.clone())
            except NotReplayableError:
                self._recorder = None
                value = module(self._x.clone())
            self._value = value.to(x.dtype)
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
        """``J v``."""
        if v.shape != self._x.shape:
            raise OnrError(
                f"a direction of shape {tuple(v.shape)}: expected {tuple(self._x.shape)}"
            )
        with torch.no_grad(), frozen(self._module), mixed_precision(v, self._bfloat16):
            if self._recorder is not None:
                try:
                    return replay(self._module, self._recorder, v).to(v.dtype)
                except NotReplayableError:
                    self._recorder = None
            image: torch.Tensor = jvp(self._module, self._x.detach(), v)
        return image.to(v.dtype)

    def vjp(self, u: torch.Tensor, /) -> torch.Tensor:
        """``J^T u``."""
        return torch.autograd.grad(self._value, self._x, u, retain_graph=True)[0]


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
            f"layer {name!r} is in training mode: an example's Jacobian exists in evaluation mode "
            "only, call module.eval() first"
        )


class TorchNetwork:
    """A module with frozen statistics: every call and linearisation is in evaluation mode.

    Args:
        module: the network; it is not copied, and may be trained on.
        input_shape: of one input.
        bfloat16: as for :class:`TorchLinearization`.

    """

    def __init__(
        self, module: nn.Module, input_shape: tuple[int, ...], *, bfloat16: bool = False
    ) -> None:
        self.module = module
        self.bfloat16 = bfloat16
        self._input_shape = input_shape
        self._folds: bool | None = None  # whether it can be folded, which its weights do not change

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self._input_shape

    def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
        """Logits, shape ``(batch, d)``, without a graph."""
        with torch.no_grad(), frozen(self.module), mixed_precision(x, self.bfloat16):
            logits: torch.Tensor = self.module(x)
        return logits.to(x.dtype)

    def linearize(self, x: torch.Tensor, /) -> TorchLinearization:
        """The linearisation at ``x``, shape ``(batch, *input_shape)``."""
        return TorchLinearization(self.module, x, bfloat16=self.bfloat16)

    def frozen(self) -> TorchNetwork:
        """The same function as it stands, for many passes; folded where that makes them cheaper.

        Training the module afterwards may or may not change it.
        """
        if self._folds is None:
            self._folds = folded(self.module, self.example()) is not self.module
        return self._with(folded(self.module, None) if self._folds else self.module)

    def features(self) -> TorchNetwork:
        """The network without its last affine layer, ``phi^(L-1)``; outputs ``(batch, features)``.

        Raises:
            OnrError: its last operation is no affine layer.

        """
        return self._with(without_last_layer(self.module, self.example()))

    def _with(self, module: nn.Module) -> TorchNetwork:
        return TorchNetwork(module, self._input_shape, bfloat16=self.bfloat16)

    def example(self) -> torch.Tensor:
        """Two inputs, always the same."""
        parameter = next(self.module.parameters())
        rng = None if parameter.is_meta else torch.Generator(parameter.device).manual_seed(0)
        shape = (2, *self._input_shape)
        return torch.rand(shape, generator=rng, dtype=parameter.dtype, device=parameter.device)

    def activation_pattern(self, x: torch.Tensor, /) -> torch.Tensor:
        """Which ReLUs are on, ``(batch, m)`` (:func:`onr_torch.patterns.activation_pattern`)."""
        return activation_pattern(self.module, x)

    def cell_radius(self, x: torch.Tensor, /, *, p: Norm) -> torch.Tensor:
        """The radius of the ReLU cell around each input in the lp norm ``p``, exact; ``(batch,)``.

        ``n`` jvps an example; :func:`onr_torch.cells.cell_radius` says more, and what is refused.
        """
        from onr_torch.cells import cell_radius  # which builds on this module

        with evaluating(self.module):
            return cell_radius(self.module, x, p=p)
