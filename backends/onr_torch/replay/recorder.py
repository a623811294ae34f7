"""The recording of a forward pass: what its derivative depends on, call by call."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from onr_torch.replay.calls import Call, asks, leaves, replaced, version
from onr_torch.replay.local import Recorded
from onr_torch.replay.operations import PIECEWISE_LINEAR, WHOLES
from onr_torch.replay.rules import recorded

__all__ = ["Layout", "NotReplayableError", "Recorder", "Step", "by_parts"]

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
class Layout:
    """The dtype, shape and strides of a tensor; tensors of one layout allow the same views.

    Example:
        >>> Layout.of(torch.ones(2, 3)).fits(torch.ones(3, 2).T)
        False

    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, x: torch.Tensor) -> Layout:
        """The layout of a tensor."""
        return cls(x.dtype, tuple(x.shape), x.stride())

    def fits(self, x: torch.Tensor) -> bool:
        """Whether ``x`` has this layout; the stride of an axis of length one does not matter."""
        if x.dtype != self.dtype or x.shape != self.shape:
            return False
        strides = x.stride()
        return strides == self.strides or all(
            size <= 1 or mine == other
            for size, mine, other in zip(self.shape, self.strides, strides, strict=True)
        )

    def copy(self, x: torch.Tensor) -> torch.Tensor:
        """A copy of ``x``, with this layout if the shapes agree."""
        if x.shape != self.shape:
            return x.clone()
        return x.new_empty_strided(self.shape, self.strides).copy_(x)


@dataclass(frozen=True)
class Step:
    """One operation of the forward pass on tensors that depend on the input."""

    name: str
    depends: list[bool]
    """Which tensors among the arguments depend on the input."""
    derivative: Callable[..., Any] | None
    """The derivative of the operation; ``None`` if the operation is linear."""
    result: Any
    """The result, with a layout in place of each tensor that depends on the input."""
    is_answer: bool
    """Whether nothing in the result depends on the input: it is given once more."""


class Recorder(TorchFunctionMode):
    """Records, call by call, what the derivative of a forward pass depends on.

    Enter the recorder around one ``module(x.clone())``. Here ``x`` must be a leaf that requires a
    gradient, and no parameter may require one: the recorder takes the tensors that require a
    gradient for those that depend on the input. Autograd keeps the recorded tensors anyway, so
    recording costs no memory, and no time until the replay. Recording never raises:
    :func:`onr_torch.replay.replay.replay` refuses what cannot be replayed.

    Example:
        >>> recorder, x = Recorder(), torch.tensor([[3.0, -4.0]], requires_grad=True)
        >>> with recorder:
        ...     value = torch.nn.ReLU()(x.clone())
        >>> recorder.is_piecewise_linear
        True

    """

    def __init__(self) -> None:
        super().__init__()
        self.tape: list[Step] = []
        self.input: Layout | None = None
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
        alive = [(x, known) for ref, known in self._constants.values() if (x := ref()) is not None]
        if any(version(x) != known for x, known in self._versions + alive):
            raise NotReplayableError("a parameter or an intermediate result has been overwritten")

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run the operation, and record what its derivative depends on."""
        call = Call(func, args, kwargs or {}, asks)
        if self.refusal is not None:
            return call.run()
        if call.name in WHOLES:
            with self:
                return by_parts(call)
        if call.is_constant or not any(call.depends):
            return self._run_on_constants(call)
        if self.input is None:
            dependent = call.given[call.depends.index(True)]
            if call.name == "clone" and dependent.is_leaf:
                image: torch.Tensor = call.run()
                self.input = Layout.of(image)
                return image
            self.input = Layout.of(dependent)

        objection = call.objection()
        if objection is not None:
            self._refuse(f"{call.name} {objection}")
            return call.run()
        overwritten = args[0] if call.in_place else None
        before = [(x, version(x)) for x in call.given if x is not overwritten]
        constants = [x for x in call.given if not x.requires_grad]
        found = recorded(call)
        if any(version(x) != known for x, known in before):
            self._refuse(f"{call.name} overwrites what it is given")
            return found.result
        try:
            reason = self._append(call, found, constants)
        except RuntimeError as error:  # a tensor without strides, or inside a torch.func transform
            reason = f"{call.name}: {error}"
        if reason is not None:
            self._refuse(reason)
        return found.result

    def _run_on_constants(self, call: Call) -> Any:
        """Run an operation that the replay runs as it is, say on weights; remember what it reads.

        The references are weak, because most of these tensors need not live on.
        """
        constants = [x for x in call.given if not x.requires_grad]
        before = [version(x) for x in constants]
        result = call.run()
        for x, known in zip(constants, before, strict=True):
            if version(x) != known:  # overwritten, as the replay will do: in all views of it
                memory = x.untyped_storage()._cdata
                for key, (ref, _) in self._constants.items():
                    y = ref()
                    if y is not None and y.untyped_storage()._cdata == memory:
                        self._constants[key] = ref, version(y)
            self._constants[id(x)] = weakref.ref(x), version(x)
        return result

    def _append(self, call: Call, found: Recorded, constants: list[torch.Tensor]) -> str | None:
        """Append an operation to the tape, or return why it cannot be replayed."""
        parts = leaves(found.result)
        tensors = [x for x in parts if isinstance(x, torch.Tensor) and not x.requires_grad]
        derivative, kept, is_answer = found.derivative, found.kept, not any(map(asks, parts))
        if is_answer:
            if call.in_place or not all(isinstance(x, PLAIN) for x in parts):
                return f"{call.name} gives what cannot be given once more"
            derivative, kept = None, ()
        elif not torch.is_grad_enabled():
            return f"{call.name} gives a view that autograd cuts off"
        elif derivative is not None and not call.in_place and _alias(call.given, parts):
            return f"{call.name} gives a view"
        if not (found.is_ours or is_answer):
            self.unproven.append(call.name)
        described = replaced(found.result, lambda x: Layout.of(x) if asks(x) else x)
        self._versions += [(x, version(x)) for x in (*kept, *constants, *tensors)]
        self.tape.append(Step(call.name, call.depends, derivative, described, is_answer))
        return None

    def _refuse(self, reason: str) -> None:
        self.refusal = reason
        self.tape.clear()
        self.unproven.clear()
        self._versions.clear()
        self._constants.clear()


def by_parts(call: Call) -> Any:
    """Call a function of ``WHOLES`` so that torch shows its parts to modes and to directions.

    Torch shows these functions as a whole: their first line asks whether somebody watches. The code
    is torch's own, run beside an answer of no.

    Example:
        >>> import math
        >>> call = Call(torch.nn.functional.softsign, (torch.ones(1),), {}, asks)
        >>> by_parts(call)
        tensor([0.5000])

    """
    func = call.func
    assert isinstance(func, FunctionType)  # noqa: S101 - they are written in Python
    own = func.__globals__ | {"has_torch_function": _nobody}
    parts = FunctionType(func.__code__, own, func.__name__, func.__defaults__, func.__closure__)
    parts.__kwdefaults__ = func.__kwdefaults__
    return parts(*call.args, **call.kwargs)


def _nobody(tensors: Any) -> bool:
    return False


def _alias(given: list[torch.Tensor], parts: list[Any]) -> bool:
    """Whether an input-dependent argument shares memory with an input-dependent result."""
    storages = {x.untyped_storage()._cdata for x in given if asks(x)}
    return any(x.untyped_storage()._cdata in storages for x in parts if asks(x))
