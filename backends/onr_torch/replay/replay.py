"""``J v`` as one linear pass: the module runs on ``v``, with the masks and winners of ``x``.

A :class:`Recorder` watches a forward pass and keeps what its derivatives depend on: which units of
a ReLU are on, which entry of a window wins, the local derivative of a smooth activation.
:func:`replay` then runs the module on the direction instead of the input. The direction is wrapped
in a tensor that replaces each operation by its derivative: linear operations stay, added constants
drop out, and nonlinearities use what was recorded. Rare nonlinearities are differentiated one by
one in forward mode. A replay costs about one forward pass; forward mode for the whole module
computes the value again and costs three.

The replay must perform the same operations in the same order, on tensors of the same layout. If the
module asks about a tensor that depends on the input (its shape, or which entries are positive), the
replay gives the answer of the forward pass. Everything else is refused with
:class:`NotReplayableError`, never guessed.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._ops import OpOverload, OpOverloadPacket
from torch.autograd.function import BackwardCFunction
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from onr_torch.forward_mode import forward_mode
from onr_torch.outputs import tensor_of
from onr_torch.replay.operations import (
    AFFINE,
    DROPOUT,
    ELEMENTWISE,
    FLAGGED,
    JOINED,
    LIKE,
    LINEAR,
    MEMORY,
    PIECEWISE_LINEAR,
    PRODUCTS,
    QUOTIENTS,
    SUMS,
)

__all__ = ["NotReplayableError", "Recorder", "replay"]

# fmt: off
PLAIN = (
    torch.Tensor, bool, int, float, complex, str, torch.dtype, torch.device, torch.layout,
    torch.memory_format,
)
"""Types that may be stored on the tape and returned unchanged in the replay."""
# fmt: on


class NotReplayableError(Exception):
    """The module does something to its input that cannot be replayed on a direction."""


@dataclass(frozen=True)
class _Layout:
    """The dtype, shape and strides of a tensor; tensors of one layout allow the same views."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, x: torch.Tensor) -> _Layout:
        return cls(x.dtype, tuple(x.shape), x.stride())

    def fits(self, x: torch.Tensor) -> bool:
        """Whether ``x`` has this layout; the stride of an axis of length one does not matter."""
        sizes = zip(self.shape, self.strides, x.stride(), strict=False)
        return (x.dtype, tuple(x.shape)) == (self.dtype, self.shape) and all(
            size <= 1 or mine == other for size, mine, other in sizes
        )

    def copy(self, x: torch.Tensor) -> torch.Tensor:
        """A copy of ``x``, with this layout if the shapes agree."""
        copy = x.clone()
        if self.fits(copy) or copy.shape != self.shape:
            return copy
        return copy.new_empty_strided(self.shape, self.strides).copy_(x)


@dataclass(frozen=True)
class _Step:
    """One operation of the forward pass on tensors that depend on the input."""

    name: str
    depends: list[bool]
    """Which tensors among the arguments depend on the input."""
    derivative: Callable[..., Any] | None
    """The derivative of the operation; ``None`` if the operation is linear."""
    result: Any
    """The result, with a layout in place of each tensor that depends on the input."""


class Recorder(TorchFunctionMode):
    """Records, call by call, what the derivative of a forward pass depends on.

    Enter the recorder around one ``module(x.clone())``. Here ``x`` must be a leaf that requires a
    gradient, and no parameter may require one: the recorder takes the tensors that require a
    gradient for those that depend on the input. Autograd keeps the recorded tensors anyway, so
    recording costs no memory, and no time until the replay. Recording never raises:
    :func:`replay` refuses what cannot be replayed.

    Example:
        >>> recorder, x = Recorder(), torch.tensor([[3.0, -4.0]], requires_grad=True)
        >>> with recorder:
        ...     value = nn.ReLU()(x.clone())
        >>> recorder.is_piecewise_linear
        True

    """

    def __init__(self) -> None:
        super().__init__()
        self.tape: list[_Step] = []
        self.input: _Layout | None = None
        self.refusal: str | None = None
        self.unproven: list[str] = []
        """The operations that are differentiated by torch's own forward-mode rules."""
        self._versions: list[tuple[torch.Tensor, int]] = []
        self._constants: dict[int, tuple[weakref.ref[torch.Tensor], int]] = {}

    @property
    def is_piecewise_linear(self) -> bool:
        """Whether no recorded derivative depends on the exact values of the parameters."""
        return self.refusal is None and all(
            step.derivative is None or step.name in PIECEWISE_LINEAR for step in self.tape
        )

    def check(self) -> None:
        """Refuse a recording that is incomplete or out of date.

        Raises:
            NotReplayableError: an operation was refused, or a tensor that a derivative depends on
                has been overwritten since.

        """
        if self.refusal is not None:
            raise NotReplayableError(self.refusal)
        alive = [
            (x, version) for ref, version in self._constants.values() if (x := ref()) is not None
        ]
        if any(_version(x) != version for x, version in self._versions + alive):
            raise NotReplayableError("a parameter or an intermediate result has been overwritten")

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run the operation, and record what its derivative depends on."""
        call = _Call(func, args, kwargs or {}, _asks)
        if self.refusal is not None:
            return call.run()
        if not any(call.depends) or call.is_constant:
            result = call.run()
            # These are, say, weights from which others are computed. The references are weak,
            # because most of these tensors need not live on.
            constants = [x for x in call.given if not x.requires_grad]
            self._constants |= {id(x): (weakref.ref(x), _version(x)) for x in constants}
            return result
        if self.input is None:
            dependent = call.given[call.depends.index(True)]
            if call.name == "clone" and dependent.is_leaf:
                image: torch.Tensor = call.run()
                self.input = _Layout.of(image)
                return image
            self.input = _Layout.of(dependent)

        objection = call.objection()
        if objection is not None:
            self._refuse(f"{call.name} {objection}")
            return call.run()
        overwritten = args[0] if call.in_place else None
        before = [(x, _version(x)) for x in call.given if x is not overwritten]
        constants = [x for x in call.given if not x.requires_grad]
        result, derivative, kept = _differentiated(call)
        if getattr(derivative, "__func__", None) is _Local.push:
            self.unproven.append(call.name)
        if any(_version(x) != version for x, version in before):
            self._refuse(f"{call.name} overwrites what it is given")
            return result
        try:
            reason = self._append(call, result, derivative, kept, constants)
        except RuntimeError as error:  # a tensor without strides, or inside a torch.func transform
            reason = f"{call.name}: {error}"
        if reason is not None:
            self._refuse(reason)
        return result

    def _append(
        self,
        call: _Call,
        result: Any,
        derivative: Callable[..., Any] | None,
        kept: list[torch.Tensor],
        constants: list[torch.Tensor],
    ) -> str | None:
        """Append an operation to the tape, or return why it cannot be replayed."""
        parts = _leaves(result)
        tensors = [x for x in parts if isinstance(x, torch.Tensor) and not x.requires_grad]
        if not any(map(_asks, parts)):
            if call.in_place or not all(isinstance(x, PLAIN) for x in parts):
                return f"{call.name} gives what cannot be given once more"
            derivative, kept = None, []
        elif not torch.is_grad_enabled():
            return f"{call.name} gives a view that autograd cuts off"
        elif derivative is not None and not call.in_place and _alias(call.given, parts):
            return f"{call.name} gives a view"
        described = _replaced(result, lambda x: _Layout.of(x) if _asks(x) else x)
        self._versions += [(x, _version(x)) for x in (*kept, *constants, *tensors)]
        self.tape.append(_Step(call.name, call.depends, derivative, described))
        return None

    def _refuse(self, reason: str) -> None:
        self.refusal = reason
        self.tape.clear()
        self.unproven.clear()
        self._versions.clear()
        self._constants.clear()


class _Call:
    """An operation, its arguments, and which tensors among them depend on the input."""

    def __init__(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        depends: Callable[[Any], bool],
    ) -> None:
        self.func, self.args, self.kwargs = func, args, kwargs
        self.name = _name(func)
        self.in_place = _in_place(self.name, func, args, kwargs)
        self.given = [x for x in _leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        self.depends = [depends(x) for x in self.given]
        self._first = bool(args) and depends(args[0])

    def run(self) -> Any:
        return self.func(*self.args, **self.kwargs)

    @property
    def is_constant(self) -> bool:
        """True if the operation uses only the shape or dtype of input-dependent tensors."""
        return self.name in LIKE and not self._first

    def objection(self) -> str | None:
        """Why the operation cannot be replayed, if that is known before it runs."""
        kwargs, args = self.kwargs, self.args
        if self.name in DROPOUT and kwargs.get("training", args[2] if len(args) > 2 else True):
            return "is in training mode"
        if self.in_place and not (self._first and torch.is_grad_enabled()):
            return "overwrites what autograd takes for a constant"
        if any(isinstance(x.grad_fn, BackwardCFunction) for x in self.given):
            return "is given the value of a function with its own derivative"
        return "reaches the memory of a tensor" if self.name in MEMORY else None

    @property
    def is_alone(self) -> bool:
        """Whether the first argument depends on the input, and nothing else does."""
        return self._first and sum(self.depends) == 1

    @property
    def is_linear(self) -> bool:
        """Whether the operation is linear: its derivative needs nothing from the forward pass."""
        args, kwargs = self.args, self.kwargs
        if self.name in SUMS:
            return len(args) == 2 and not kwargs
        if self.name in PRODUCTS:
            return sum(self.depends) == 1
        if self.name in QUOTIENTS:
            return self.is_alone and not kwargs
        if self.name == "batch_norm":
            training = kwargs.get("training", args[5] if len(args) > 5 else False)
            is_functional = self.func is functional.batch_norm
            return is_functional and self.is_alone and not training and args[1] is not None
        if self.name in LINEAR:
            return self._first
        return self.name in JOINED or (self.is_alone and self.name in AFFINE | DROPOUT | {"pad"})


def _name(func: Callable[..., Any]) -> str:
    """The name without an in-place underscore; a function outside of torch is ``module.name``."""
    if isinstance(func, OpOverload | OpOverloadPacket):
        return str(func)
    written = getattr(func, "__name__", "")
    if written == "__get__":  # the getter of a property
        return getattr(func.__self__, "__name__", "")  # type: ignore[attr-defined]  # a getter has it
    module = getattr(func, "__module__", None) or "torch"
    if module.partition(".")[0] != "torch":
        return f"{module}.{written}"
    return written if written.startswith("__") else written.removesuffix("_")


def _in_place(
    name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Whether the call works in place: ``relu_``, or ``relu`` with the flag in any position."""
    written = getattr(func, "__name__", "")
    if written.startswith("__"):
        return written.startswith("__i") and written not in ("__index__", "__int__")
    flags = (*args[1:], kwargs.get("inplace"))
    return written.endswith("_") or (name in FLAGGED and any(flag is True for flag in flags))


def _version(x: torch.Tensor) -> int:
    return -1 if x.is_inference() else x._version


def _asks(x: Any) -> bool:
    """Whether ``x`` depends on the input, in the forward pass."""
    return isinstance(x, torch.Tensor) and x.requires_grad


def _is_tangent(x: Any) -> bool:
    """Whether ``x`` depends on the input, in the replay."""
    return isinstance(x, _Tangent)


def _alias(given: list[torch.Tensor], parts: list[Any]) -> bool:
    """Whether an input-dependent argument shares memory with an input-dependent result."""
    storages = {x.untyped_storage()._cdata for x in given if _asks(x)}
    return any(x.untyped_storage()._cdata in storages for x in parts if _asks(x))


def _leaves(value: Any) -> list[Any]:
    """The leaves of nested arguments, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list | tuple):
        return [value]
    leaves = []
    for part in value:
        if isinstance(part, list | tuple | dict):
            leaves += _leaves(part)
        else:
            leaves.append(part)
    return leaves


def _replaced(value: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """Nested arguments with ``change`` applied to every tensor."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        build = getattr(type(value), "_make", type(value))
        return build([_replaced(part, change) for part in value])
    if isinstance(value, dict):
        return {key: _replaced(part, change) for key, part in value.items()}
    return value


def _differentiated(call: _Call) -> tuple[Any, Callable[..., Any] | None, list[torch.Tensor]]:
    """The result, the derivative (``None`` if linear), and the tensors that it depends on."""
    if call.is_linear:
        return call.run(), None, []
    if call.name == "relu" and call.is_alone:
        result = call.run()
        return result, _Mask(result.detach(), call.in_place), [result.detach()]
    if call.name == "max_pool2d" and call.is_alone:
        result, winners = _pool_with_winners(*call.args, **call.kwargs)
        return result, lambda v: _entries(v, winners), []
    local = _Local(call)
    scales = call.name in ELEMENTWISE and call.is_alone
    return call.run(), local.scale if scales else local.push, local.at


@dataclass(frozen=True)
class _Mask:
    """The derivative of a ReLU, which is 1 where the ReLU's ``result`` is positive."""

    result: torch.Tensor
    in_place: bool

    def __call__(self, v: torch.Tensor) -> torch.Tensor:
        threshold = torch.ops.aten.threshold_backward
        if self.in_place and not torch.is_grad_enabled():
            image: torch.Tensor = threshold.grad_input(v, self.result, 0, grad_input=v)
        else:
            image = threshold(v, self.result, 0)
        return image


def _pool_with_winners(
    input: torch.Tensor, *args: Any, return_indices: bool = False, **kwargs: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    result, winners = functional.max_pool2d(input, *args, return_indices=True, **kwargs)
    return result, winners


def _entries(v: torch.Tensor, winners: torch.Tensor) -> torch.Tensor:
    """The entries of ``v`` at the winners, gathered in the memory format of ``winners``."""
    if v.ndim == 3:
        return _entries(v[None], winners[None])[0]
    if winners.is_contiguous():
        return v.flatten(2).gather(2, winners.flatten(2)).reshape(winners.shape)
    batch, channels, height, width = winners.shape
    pixels = v.permute(0, 2, 3, 1).reshape(batch, -1, channels)
    index = winners.permute(0, 2, 3, 1).reshape(batch, -1, channels)
    return pixels.gather(1, index).reshape(batch, height, width, channels).permute(0, 3, 1, 2)


class _Local:
    """The derivative of one operation at its arguments, which ``at`` keeps."""

    def __init__(self, call: _Call) -> None:
        self.at: list[torch.Tensor] = []

        def keep(x: torch.Tensor) -> torch.Tensor:
            if not _asks(x):
                return x
            # An in-place operation overwrites what its derivative depends on.
            self.at.append(x.detach().clone() if call.in_place else x.detach())
            return self.at[-1]

        self._func = call.func
        self._args, self._kwargs = _replaced((call.args, call.kwargs), keep)
        self._slope: torch.Tensor | None = None

    def _value(self, *inputs: torch.Tensor) -> Any:
        instead = {id(x): z for x, z in zip(self.at, inputs, strict=True)}

        def change(x: torch.Tensor) -> torch.Tensor:
            return instead[id(x)].clone() if id(x) in instead else x

        args, kwargs = _replaced((self._args, self._kwargs), change)
        return self._func(*args, **kwargs)

    def scale(self, v: torch.Tensor) -> torch.Tensor:
        """Apply the derivative of an operation that works entry by entry."""
        if self._slope is None:
            with torch.enable_grad():
                z = self.at[0].detach().requires_grad_(True)
                (self._slope,) = torch.autograd.grad(self._value(z).sum(), z)
        return v * self._slope

    def push(self, *tangents: torch.Tensor) -> Any:
        """Apply the derivative of any other operation, in forward mode."""
        return forward_mode(self._value, tuple(self.at), tangents)


class _Tangent(torch.Tensor):
    """A direction on its way through the module; ``todo`` is the rest of the tape.

    The tensor has no values of its own, so nothing can mistake them for those of the forward pass.
    """

    direction: torch.Tensor
    todo: deque[_Step]

    @staticmethod
    def __new__(cls, direction: torch.Tensor, todo: deque[_Step]) -> _Tangent:
        self: _Tangent = torch.Tensor._make_wrapper_subclass(
            cls,
            direction.shape,
            strides=direction.stride(),
            dtype=direction.dtype,
            device=direction.device,
        )
        self.direction, self.todo = direction, todo
        return self

    def __init__(self, direction: torch.Tensor, todo: deque[_Step]) -> None:
        pass

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run the derivative of the operation instead of the operation."""
        call = _Call(func, args, kwargs or {}, _is_tangent)
        if call.is_constant:
            return func(*_replaced(args, _plain), **_replaced(call.kwargs, _plain))
        tangents = [x for x in call.given if isinstance(x, cls)]
        todo = tangents[0].todo
        if not todo or (todo[0].name, todo[0].depends) != (call.name, call.depends):
            raise NotReplayableError(f"{call.name} is not what the forward pass did")
        same = {id(x.direction): x for x in tangents}

        def wrap(x: torch.Tensor) -> torch.Tensor:
            return same[id(x)] if id(x) in same else cls(x, todo)

        result = _image(todo[0], call, wrap)
        todo.popleft()
        return result

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # the stub is no classmethod
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Refuse operations that bypass ``__torch_function__``, such as a compiled function."""
        raise NotReplayableError(f"{func} was not seen in the forward pass")


def _plain(x: torch.Tensor) -> torch.Tensor:
    return x.direction if isinstance(x, _Tangent) else x


def _image(step: _Step, call: _Call, wrap: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Apply the derivative of a step; the value has the structure of the step's result."""
    if not any(isinstance(part, _Layout) for part in _leaves(step.result)):
        return _fitted(step.result, step.result, wrap)
    if step.derivative is None:
        return _fitted(step.result, _linear(call), wrap)
    image = step.derivative(*(_plain(x) for x in call.given if _is_tangent(x)))
    if call.in_place:
        return _fitted(step.result, _plain(call.args[0]).copy_(image), wrap)
    # The result is no view, so a copy in the layout of the forward pass will do.
    return _fitted(step.result, image, wrap, copied=True)


def _fitted(
    result: Any,
    image: Any,
    wrap: Callable[[torch.Tensor], torch.Tensor],
    *,
    copied: bool = False,
) -> Any:
    """The recorded result with the matching part of ``image`` in place of each layout."""
    if isinstance(result, _Layout):
        if copied and not result.fits(image):
            image = result.copy(image)
        if not result.fits(image):
            raise NotReplayableError("an operation gives a tensor of another layout")
        return wrap(image)
    if isinstance(result, list | tuple) and not isinstance(result, torch.Size):
        build = getattr(type(result), "_make", type(result))
        pairs = zip(result, image, strict=True)
        return build([_fitted(*pair, wrap, copied=copied) for pair in pairs])
    return result


def _linear(call: _Call) -> Any:
    """A linear operation on directions; constants in a sum or a concatenation become zero."""

    def zeroed(x: torch.Tensor) -> torch.Tensor:
        return x.direction if isinstance(x, _Tangent) else torch.zeros_like(x)

    if call.name in SUMS:
        return call.func(*(zeroed(x) if isinstance(x, torch.Tensor) else 0 for x in call.args))
    change = zeroed if call.name in JOINED else _plain
    args, kwargs = _replaced((call.args, call.kwargs), change)
    if call.name in AFFINE:
        kwargs.pop("bias", None)
        return call.func(*args[:2], None, *args[3:], **kwargs)
    if call.name == "batch_norm":
        return _scaled(*args, **kwargs)
    if call.name == "pad":
        mode = kwargs.get("mode", args[2] if len(args) > 2 else "constant")
        return functional.pad(args[0], args[1], mode)
    return call.func(*args, **kwargs)


def _scaled(
    input: torch.Tensor,
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """A batch normalisation by running statistics, without its shift."""
    zero = torch.zeros_like(running_mean)
    return functional.batch_norm(input, zero, running_var, weight, None, False, momentum, eps)


def replay(module: nn.Module, recorder: Recorder, v: torch.Tensor, /) -> torch.Tensor:
    """``J v`` at the recorded input.

    The result is differentiable in the parameters if the recording is piecewise linear. Otherwise
    its gradient would miss how the local derivatives depend on the parameters.

    Args:
        module: the recorded module.
        recorder: the recording of one forward pass of the module.
        v: the direction, shaped as the recorded input.

    Raises:
        NotReplayableError: the module cannot be replayed.

    Example:
        >>> recorder, x = Recorder(), torch.tensor([[3.0, -4.0]], requires_grad=True)
        >>> with recorder:
        ...     value = nn.ReLU()(x.clone())
        >>> replay(nn.ReLU(), recorder, torch.ones(1, 2))
        tensor([[1., 0.]])

    """
    recorder.check()
    if recorder.input is None:
        raise NotReplayableError("nothing was recorded")
    if (v.dtype, v.shape) != (recorder.input.dtype, recorder.input.shape):
        raise NotReplayableError("the direction is not of the input's form")
    todo = deque(recorder.tape)
    try:
        image = tensor_of(module(_Tangent(recorder.input.copy(v), todo)), module)
    except NotReplayableError:
        raise
    except Exception as error:
        raise NotReplayableError(str(error)) from error
    if not isinstance(image, _Tangent) or todo:
        raise NotReplayableError("the module took another way than in the forward pass")
    return image.direction
