"""``J v`` as one linear pass: the module runs on ``v``, with the masks and winners of ``x``.

A :class:`~onr_torch.replay.recorder.Recorder` watches a forward pass and keeps what its derivatives
depend on: which units of a ReLU are on, which entry of a window wins, the local derivative of a
smooth activation, the numbers that a layer normalisation standardises. :func:`replay` then runs the
module on the direction instead of the input. The direction is wrapped in a tensor that replaces
each operation by its derivative: linear operations stay, added constants drop out, and
nonlinearities use what was recorded (:mod:`onr_torch.replay.rules`). Rare nonlinearities are
differentiated one by one in forward mode. A replay costs about one forward pass; forward mode for
the whole module computes the value again and costs three.

The replay must perform the same operations in the same order, on tensors of the same layout. If the
module asks about the values of a tensor that depends on the input (which entries are positive), the
replay gives the answer of the forward pass. Everything else is refused with
:class:`~onr_torch.replay.recorder.NotReplayableError`, never guessed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from onr_torch.outputs import tensor_of
from onr_torch.replay.calls import Call, replaced
from onr_torch.replay.operations import AFFINE, JOINED, SUMMED_PRODUCTS, SUMS, WHOLES
from onr_torch.replay.recorder import Layout, NotReplayableError, Recorder, Step, by_parts

__all__ = ["replay"]


class _Tangent(torch.Tensor):
    """A direction on its way through the module; ``todo`` is the rest of the tape.

    The tensor has no values of its own, so nothing can mistake them for those of the forward pass.
    """

    direction: torch.Tensor
    todo: deque[Step]

    @staticmethod
    def __new__(cls, direction: torch.Tensor, todo: deque[Step]) -> _Tangent:
        self: _Tangent = torch.Tensor._make_wrapper_subclass(
            cls,
            direction.shape,
            strides=direction.stride(),
            dtype=direction.dtype,
            device=direction.device,
        )
        self.direction, self.todo = direction, todo
        return self

    def __init__(self, direction: torch.Tensor, todo: deque[Step]) -> None:
        pass

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run the derivative of the operation instead of the operation."""
        call = Call(func, args, kwargs or {}, _is_tangent)
        if call.name in WHOLES:
            return by_parts(call)
        if call.is_constant:
            return func(*replaced(args, _plain), **replaced(call.kwargs, _plain))
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


def _is_tangent(x: Any) -> bool:
    """Whether ``x`` depends on the input, in the replay."""
    return isinstance(x, _Tangent)


def _plain(x: torch.Tensor) -> torch.Tensor:
    return x.direction if isinstance(x, _Tangent) else x


def _image(step: Step, call: Call, wrap: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Apply the derivative of a step; the value has the structure of the step's result."""
    if step.is_answer:
        return step.result
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
    if isinstance(result, Layout):
        if not result.fits(image):
            image = result.copy(image) if copied else image
            if not result.fits(image):
                raise NotReplayableError("an operation gives a tensor of another layout")
        return wrap(image)
    if isinstance(result, list | tuple) and not isinstance(result, torch.Size):
        build = getattr(type(result), "_make", type(result))
        pairs = zip(result, image, strict=True)
        return build([_fitted(*pair, wrap, copied=copied) for pair in pairs])
    return result


def _linear(call: Call) -> Any:
    """A linear operation on directions; constants in a sum or a concatenation become zero."""

    def zeroed(x: torch.Tensor) -> torch.Tensor:
        return x.direction if isinstance(x, _Tangent) else torch.zeros_like(x)

    name, func = call.name, call.func
    if name in SUMS:
        return func(*(zeroed(x) if isinstance(x, torch.Tensor) else 0 for x in call.args))
    args, kwargs = replaced((call.args, call.kwargs), zeroed if name in JOINED else _plain)
    if name in AFFINE:
        kwargs.pop("bias", None)
        return func(*args[:2], None, *args[3:], **kwargs)
    if name in SUMMED_PRODUCTS:
        return func(zeroed(call.args[0]), *args[1:], **kwargs)
    if name == "batch_norm":
        return _scaled(*args, **kwargs)
    if name == "pad":
        mode = kwargs.get("mode", args[2] if len(args) > 2 else "constant")
        return functional.pad(args[0], args[1], mode)
    return func(*args, **kwargs)


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
