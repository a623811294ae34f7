"""Calls of torch functions: names, tensors among the arguments, and what depends on the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._ops import OpOverload, OpOverloadPacket
from torch.autograd.function import BackwardCFunction

from onr_torch.replay.operations import DROPOUT, FLAGGED, FORM, LIKE, MEMORY

__all__ = ["Call", "asks", "leaves", "replaced", "version"]


class Call:
    """An operation, its arguments, and which tensors among them depend on the input.

    Args:
        func: the torch function.
        args: its arguments.
        kwargs: its keyword arguments.
        depends: whether a value depends on the input of the module.

    Example:
        >>> call = Call(torch.add, (torch.ones(2, requires_grad=True), torch.ones(2)), {}, asks)
        >>> call.name, call.depends, call.is_alone
        ('add', [True, False], True)

    """

    __slots__ = ("args", "depends", "first", "func", "given", "in_place", "kwargs", "name")

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
        self.given = _tensors([*args, *kwargs.values()] if kwargs else args)
        self.depends = [depends(x) for x in self.given]
        self.first = bool(args) and depends(args[0])

    def run(self) -> Any:
        """Call the function."""
        return self.func(*self.args, **self.kwargs)

    def bound(self, *names: str) -> dict[str, Any]:
        """The arguments by name, in the order of the call; ``names`` are those by position."""
        return dict(zip(names, self.args, strict=False)) | self.kwargs

    @property
    def is_constant(self) -> bool:
        """True if the operation uses only the shape or dtype of input-dependent tensors."""
        return self.name in FORM or (self.name in LIKE and not self.first)

    @property
    def is_alone(self) -> bool:
        """Whether the first argument depends on the input, and nothing else does."""
        return self.first and sum(self.depends) == 1

    def objection(self) -> str | None:
        """Why the operation cannot be replayed, if that is known before it runs."""
        kwargs, args = self.kwargs, self.args
        if self.name in DROPOUT and kwargs.get("training", args[2] if len(args) > 2 else True):
            return "is in training mode"
        if self.in_place and not (self.first and torch.is_grad_enabled()):
            return "overwrites what autograd takes for a constant"
        if any(isinstance(x.grad_fn, BackwardCFunction) for x in self.given):
            return "is given the value of a function with its own derivative"
        return "reaches the memory of a tensor" if self.name in MEMORY else None


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
    if written.endswith("_"):
        return True
    return name in FLAGGED and any(flag is True for flag in (*args[1:], kwargs.get("inplace")))


def version(x: torch.Tensor) -> int:
    """A number that changes when the tensor is overwritten.

    Example:
        >>> x = torch.ones(2)
        >>> version(x), version(x.add_(1))
        (0, 1)

    """
    return -1 if x.is_inference() else x._version


def asks(x: Any) -> bool:
    """Whether ``x`` depends on the input, in a recorded forward pass.

    Example:
        >>> asks(torch.ones(2)), asks(torch.ones(2, requires_grad=True)), asks(2)
        (False, True, False)

    """
    return isinstance(x, torch.Tensor) and x.requires_grad


def _tensors(values: Any) -> list[torch.Tensor]:
    """The tensors among nested arguments, in order."""
    found = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(value)
        elif isinstance(value, dict):
            found += _tensors(value.values())
    return found


def leaves(value: Any) -> list[Any]:
    """The leaves of nested values, in order.

    Example:
        >>> leaves([1, (2, {"a": 3})])
        [1, 2, 3]

    """
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list | tuple):
        return [value]
    found = []
    for part in value:
        if isinstance(part, list | tuple | dict):
            found += leaves(part)
        else:
            found.append(part)
    return found


def replaced(value: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """Nested arguments with ``change`` applied to every tensor.

    Example:
        >>> replaced([torch.ones(2), (3, torch.zeros(1))], len)
        [2, (3, 1)]

    """
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        build = getattr(type(value), "_make", type(value))
        return build([replaced(x, change) if isinstance(x, _HOLDERS) else x for x in value])
    if isinstance(value, dict):
        return {key: replaced(part, change) for key, part in value.items()}
    return value


_HOLDERS = (torch.Tensor, list, tuple, dict)
