"""The linearisation of any ``nn.Module``: vjp by a backward pass, jvp by a replay."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from onr.errors import ImageError, OnrError
from onr_torch.admission import Record, admit, check_inputs, record_of
from onr_torch.forward_mode import forward_mode
from onr_torch.hooks import sees_tensors
from onr_torch.modes import (
    Constant,
    bare,
    constant_parameters,
    generator_state,
    mixed_precision,
    outside_of_inference,
    require_evaluation,
    rounding,
)
from onr_torch.outputs import tensor_of
from onr_torch.replay.recorder import NotReplayableError, Recorder
from onr_torch.replay.replay import replay

__all__ = ["MANY", "TorchLinearization", "double_backward", "jvp", "linearize"]

MANY = 100
"""The most outputs at which ``J v`` may be computed from ``J``, row by row."""


def jvp(function: Callable[[torch.Tensor], Any], x: torch.Tensor, v: torch.Tensor, /) -> Any:
    """``J v`` at ``x`` by torch's forward mode, which is not checked.

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


def double_backward(value: torch.Tensor, x: torch.Tensor, v: torch.Tensor, /) -> torch.Tensor:
    """``J v`` from the graph between ``x`` and ``value``: the derivative of ``J^T u`` in ``u``.

    Raises:
        RuntimeError: torch cannot differentiate the backward pass of an operation.

    Example:
        >>> x = torch.tensor([[1.0, 2.0]], requires_grad=True)
        >>> double_backward(x**2, x, torch.tensor([[1.0, -1.0]]))
        tensor([[ 2., -4.]])

    """
    u = torch.zeros_like(value, requires_grad=True)
    (gradient,) = torch.autograd.grad(value, x, u, create_graph=True)
    return torch.autograd.grad(gradient, u, v)[0]


@dataclass(frozen=True)
class _Way:
    """A way to ``J v``."""

    name: str
    apply: Callable[[TorchLinearization, torch.Tensor], torch.Tensor]
    exact: bool = False
    """Whether the way is the adjoint of ``vjp`` by construction."""


class TorchLinearization:
    """The linearisation of a module at a batch of inputs.

    The forward pass runs once, in evaluation mode, and ``vjp`` runs backward through its graph: it
    defines ``J``. ``jvp`` takes the first of four ways that works:

    - replay the forward pass on the direction (:mod:`onr_torch.replay`), at the cost of one more
      forward pass, unless the module has drawn noise, or hooks or attributes would see directions
      in place of activations;
    - differentiate ``vjp``, at the cost of several passes;
    - torch's forward mode;
    - compute ``J`` row by row, for at most ``MANY`` outputs.

    The last, and a replay of operations whose rules are our own, are right by construction. Any
    other way must first satisfy ``<u, J v> = <J^T u, v>`` for random ``u`` and ``v``, at each
    linearisation: torch's derivatives of some operations are wrong or missing without a word, those
    of others at some inputs only. A way whose result is not
    finite has failed.

    The row of a logit that is ``-inf`` is zero: such a class is masked, and does not change.

    No call computes or changes the gradient of a parameter, and each call restores the modes of the
    module.

    Args:
        module: the network.
        x: the inputs, shape ``(batch, *input_shape)``.
        bfloat16: whether convolutions and matrix products work in bfloat16; values, directions and
            gradients have the dtype of ``x`` in either case.
        jvp: whether ``J v`` will be asked for. If not, nothing is recorded, and ``jvp`` raises.

    Raises:
        OnrError: the outputs of the module are no logits of shape ``(batch, d)``, or have no
            gradient in ``x``.

    Example:
        >>> here = TorchLinearization(nn.ReLU(), torch.tensor([[3.0, -4.0]]))
        >>> here.value, here.jvp(torch.ones(1, 2))
        (tensor([[3., 0.]]), tensor([[1., 0.]]))

    """

    def __init__(
        self, module: nn.Module, x: torch.Tensor, *, bfloat16: bool = False, jvp: bool = True
    ) -> None:
        self._module = bare(module)
        self._bfloat16 = bfloat16
        self._recorder = Recorder()
        self._jacobian: torch.Tensor | None = None
        self._reasons: list[str] = []
        self._checked: set[str] = set()
        self.before = generator_state(x.device) if jvp else torch.empty(0)
        with (
            constant_parameters(self._module),
            mixed_precision(x, bfloat16),
            torch.enable_grad(),
        ):
            self._x = (x.clone() if x.is_inference() else x.detach()).requires_grad_(True)
            # The clone keeps a module that works in place from changing the leaf.
            with self._recorder if jvp else nullcontext():
                output = self._module(self._x.clone())
            self._value = tensor_of(output, self._module).to(x.dtype)
        if self._value.ndim != 2:
            raise OnrError(
                f"the module gives outputs of shape {tuple(self._value.shape)}, expected (batch, d)"
            )
        if not self._value.requires_grad:
            raise OnrError(f"the outputs of {type(module).__name__} have no gradient in x")
        self.masked = self._value.detach() == -math.inf
        """Which logits are ``-inf``, of classes that are masked."""
        self._ways: list[_Way] = []
        self._state: list[tuple[int, int, int]] | None = None
        if not jvp:
            return
        self._record: Record = record_of(module)
        self.draws = not torch.equal(self.before, generator_state(x.device))
        self._state = _state(self._module)
        self._ways = self._possible_ways()

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

    @property
    def way(self) -> str:
        """How ``jvp`` works, or will try first; ``none`` once all ways have failed.

        Else it is ``replay``, ``double backward``, ``forward mode`` or ``rows``.
        """
        return self._ways[0].name if self._ways else "none"

    @property
    def recorder(self) -> Recorder | None:
        """The recording of the forward pass, if it can be replayed."""
        return self._recorder if self.way == "replay" else None

    def jvp(self, v: torch.Tensor, /) -> torch.Tensor:
        """``J v``.

        Raises:
            OnrError: the direction has another shape or dtype than the input, parameters have
                changed since the forward pass, ``J`` is not finite, or no way to ``J v`` is right.

        """
        if v.shape != self._x.shape or v.dtype != self._x.dtype:
            raise OnrError(
                f"a direction of shape {tuple(v.shape)} and {v.dtype}: expected "
                f"{tuple(self._x.shape)} and {self._x.dtype}"
            )
        if self._state is None:
            raise OnrError("this linearisation was asked for without jvp")
        if _state(self._module) != self._state:
            raise OnrError("parameters have changed since this linearisation: linearise once more")
        with constant_parameters(self._module):
            v = v.clone() if v.is_inference() else v.detach()
            while self._ways:
                way = self._ways[0]
                try:
                    self._check(way)
                    image = way.apply(self, v).masked_fill(self.masked, 0)
                    if way.exact or image.is_meta or image.isfinite().all():
                        return image
                    reason = "a result that is not finite"
                except torch.OutOfMemoryError:
                    raise
                except (NotReplayableError, OnrError, RuntimeError) as error:
                    reason = (str(error).splitlines() or [""])[0].partition(". ")[0]
                self._reasons.append(f"{way.name}: {reason}")
                del self._ways[0]
        raise OnrError(
            f"no J v of {type(self._module).__name__} that is the adjoint of J^T u "
            f"({'; '.join(self._reasons)})"
        )

    def vjp(self, u: torch.Tensor, /) -> torch.Tensor:
        """``J^T u``.

        Raises:
            OnrError: ``u`` has another shape than the logits, torch has no derivative of an
                operation, or the result is not finite.

        """
        image = self.vjp_unchecked(u)
        # A sum is a tenth of the cost of a look at each entry; it may overflow where no entry does.
        if not image.is_meta and not image.sum().isfinite() and not image.isfinite().all():
            index = int(image.isfinite().flatten(1).all(dim=1).int().argmin())
            raise ImageError(
                index,
                "J^T u is nan or infinite: the module has no derivative there, or u is too large",
            )
        return image

    def vjp_unchecked(self, u: torch.Tensor, /) -> torch.Tensor:
        """``J^T u``, whether it is finite or not: to look would wait for the device.

        Raises:
            OnrError: ``u`` has another shape than the logits, or torch has no derivative of an
                operation.

        """
        if u.shape != self._value.shape:
            raise OnrError(
                f"a direction of shape {tuple(u.shape)}: expected {tuple(self._value.shape)}"
            )
        # A checkpointed module runs again in the backward pass; a twin of our own never does.
        is_own = isinstance(self._module, Constant)
        constant = outside_of_inference() if is_own else constant_parameters(self._module)
        with constant, mixed_precision(u, False):
            u = (u.clone() if u.is_inference() else u).masked_fill(self.masked, 0)
            try:
                (image,) = torch.autograd.grad(self._value, self._x, u, retain_graph=True)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                if "use_reentrant" not in str(error):
                    reason = str(error).splitlines()[0].partition(". ")[0]
                    name = type(self._module).__name__
                    raise OnrError(f"no J^T u of {name}: {reason}") from error
                image = self._accumulated(u)
        if image.stride() != self._x.stride():  # a module may work in another layout
            image = torch.empty_like(self._x).copy_(image)
        return image

    def _accumulated(self, u: torch.Tensor) -> torch.Tensor:
        """``J^T u`` by ``backward``, the only pass that reentrant checkpoints allow."""
        torch.autograd.backward(self._value, u, retain_graph=True)
        gradient, self._x.grad = self._x.grad, None
        assert gradient is not None  # noqa: S101 - the values depend on x
        return gradient

    def _possible_ways(self) -> list[_Way]:
        recorder = self._recorder
        # Whether the module may run on tensors that are no activations, without anybody noticing.
        unseen = not (self.draws or self._record.keeps_tensors or sees_tensors(self._module))
        ways = []
        if unseen and recorder.refusal is None:
            exact = not recorder.unproven
            ways.append(_Way("replay", TorchLinearization._replayed, exact=exact))
        else:
            self._reasons.append(f"replay: {recorder.refusal or 'hooks or noise'}")
        ways.append(_Way("double backward", TorchLinearization._from_graph))
        if unseen:
            ways.append(_Way("forward mode", TorchLinearization._forward))
        ways.append(_Way("rows", TorchLinearization._from_rows, exact=True))
        return ways

    def _replayed(self, v: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), mixed_precision(v, self._bfloat16):
            return replay(self._module, self._recorder, v).to(v.dtype)

    def _from_graph(self, v: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad(), mixed_precision(v, False):
            return double_backward(self._value, self._x, v)

    def _forward(self, v: torch.Tensor) -> torch.Tensor:
        def function(x: torch.Tensor) -> torch.Tensor:
            return tensor_of(self._module(x), self._module)

        with torch.no_grad(), mixed_precision(v, self._bfloat16):
            image: torch.Tensor = jvp(function, self._x.detach().contiguous(), v.contiguous())
        return image.to(v.dtype)

    def _from_rows(self, v: torch.Tensor) -> torch.Tensor:
        if self._jacobian is None:
            d = self._value.shape[1]
            if d > MANY:
                raise OnrError(f"more than {MANY} outputs")
            units = torch.eye(d, dtype=v.dtype, device=v.device)
            rows = [self.vjp(unit.expand_as(self._value)) for unit in units]
            self._jacobian = torch.stack(rows, dim=1).flatten(2)
        return (self._jacobian @ v.flatten(1)[:, :, None])[:, :, 0]

    def _check(self, way: _Way) -> None:
        """Hold a way against ``vjp``, for one random pair of directions.

        Raises:
            OnrError: ``<u, J v>`` is not ``<J^T u, v>``.

        """
        if way.exact or self._x.is_meta or way.name in self._checked:
            return
        rng = torch.Generator(self._x.device).manual_seed(0)

        def normal(like: torch.Tensor) -> torch.Tensor:
            draw = torch.randn(like.shape, generator=rng, dtype=like.dtype, device=like.device)
            return torch.empty_like(like).copy_(draw)

        u, v = normal(self._value.detach()), normal(self._x.detach())
        image, gradient = way.apply(self, v).masked_fill(self.masked, 0), self.vjp(u)
        gap = ((u * image).sum() - (gradient * v).sum()).abs()
        size = (u * image).norm() + (gradient * v).norm()
        # The two sums are of other terms, so their rounding differs.
        if not gap <= 4 * rounding(v, self._bfloat16) ** 0.5 * size:
            raise OnrError("not the adjoint of J^T u")
        self._checked.add(way.name)


def _state(module: nn.Module) -> list[tuple[int, int, int]]:
    """A fingerprint that changes when a parameter or buffer is overwritten or replaced."""
    return [
        (id(x), -1 if x.is_inference() else x._version, 0 if x.is_meta else x.data_ptr())
        for x in itertools.chain(module.parameters(), module.buffers())
    ]


def linearize(module: nn.Module, x: torch.Tensor, /) -> TorchLinearization:
    """Linearise ``module`` at ``x``, shape ``(batch, *input_shape)``.

    Raises:
        OnrError: a batch normalisation or dropout layer of the module is in training mode, where
            an example has no Jacobian of its own (call ``module.eval()`` first), or
            :func:`onr_torch.admission.admit` or ``check_inputs`` refuses the module or the inputs.

    Example:
        >>> here = linearize(nn.ReLU(), torch.tensor([[3.0, -4.0]]))
        >>> here.vjp(torch.tensor([[1.0, 1.0]]))
        tensor([[1., 0.]])

    """
    require_evaluation(module)
    check_inputs(module, x)
    admit(module, x, gradients=True)
    return TorchLinearization(module, x)
