"""Twins of a module for many passes, made anew from its weights, valid as long as its code is.

How a twin is made (:mod:`onr_torch.graph_folding`, :mod:`onr_torch.folding`) is found once,
checked, and remembered as long as the module lives. What is remembered holds no weights: a twin
takes those that the module has when it is asked for, however they were set. It is found anew when
anything else of the module changes that its parts hold: their types, names, hooks and attributes,
and which of them share a layer or a parameter.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from onr_torch.folding import agree, folded, perturb
from onr_torch.graph_folding import GraphFolding, traced
from onr_torch.modes import TORCHS, generator_state

__all__ = ["twin_of"]

_FOUND = WeakIdKeyDictionary()
LARGEST = 4096
"""The most entries of an array among the attributes of a module."""


def twin_of(
    module: nn.Module,
    example: Callable[[], torch.Tensor],
    kind: tuple[Any, ...],
    *,
    chains: bool = True,
) -> nn.Module:
    """A module of the same function in evaluation mode, up to rounding; or ``module`` itself.

    The code of the module may depend on what lies outside of its parts, such as a global variable
    or an attribute of a class. A change of that is not seen.

    Args:
        module: any module; it does not change, and later changes of it may or may not reach the
            twin.
        example: makes two inputs, at which a new way is checked: on a copy of the module with
            other weights, the twin must have the same outputs and gradients.
        kind: the shape, dtype and device of an input.
        chains: whether a module whose calls a hook sees may be folded, around the hook.

    Example:
        >>> module, x = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval(), torch.rand(5, 2)
        >>> twin = twin_of(module, lambda: torch.rand(2, 2), ((2,), x.dtype, x.device))
        >>> len([*twin.children()]), torch.allclose(twin(x), module(x), atol=1e-6)
        (1, True)

    """
    code = _code(module)
    if code is None:  # nothing tells whether what was found before still holds
        return folded(module, example()) if chains else module
    known_code, ways = _FOUND.get(module, (None, {}))  # type: ignore[no-untyped-call]  # torch's
    if known_code != code:
        ways = {}
        _FOUND[module] = code, ways
    if kind not in ways:
        ways[kind] = _way(module, example())
    way = ways[kind]
    if isinstance(way, _Graph):
        return way.twin(module)
    return folded(module, None) if way == "chains" else module


def _way(module: nn.Module, example: torch.Tensor) -> _Graph | str | None:
    """How to fold a module: by its graph, by its chains of layers, or not at all."""
    if example.is_meta:
        return None
    # Convolutions of float64 are no faster channels last, and on a GPU nothing was measured.
    is_fast = example.ndim == 4 and example.dtype == torch.float32 and example.device.type == "cpu"
    has_images = any(type(part) is nn.Conv2d for part in module.modules())
    for channels_last in (True, False)[not (is_fast and has_images) :]:
        found = _checked_graph(module, example, channels_last=channels_last)
        if found is not None:
            return _Graph(found)
    return "chains" if folded(module, example) is not module else None


def _checked_graph(
    module: nn.Module, example: torch.Tensor, *, channels_last: bool
) -> GraphFolding | None:
    """The folding of a module's graph, if it holds for other weights than it was found at."""
    try:
        probe = copy.deepcopy(module)
    except Exception:  # torch cannot copy tensors with a graph, and users' modules hold anything
        return None
    before, state = _code(probe), generator_state(example.device)
    found = traced(probe, example, channels_last=channels_last)
    if found is None or _code(probe, ignored="_tensor_constant") != before:
        return None
    perturb(probe)
    try:
        twin = found.twin(probe)
    except RuntimeError:  # torch cannot copy a part with parametrizations
        return None
    same = agree(probe, twin, example)
    return found if same and torch.equal(state, generator_state(example.device)) else None


class _Graph:
    """A graph's folding, and the last twin that it made."""

    def __init__(self, folding: GraphFolding) -> None:
        self._folding = folding
        self._twin: nn.Module | None = None
        self._places: list[Any] = []
        self._copies: list[torch.Tensor] = []

    def twin(self, module: nn.Module) -> nn.Module:
        """The last twin if it has the present weights, compared by value; or a new one."""
        tensors = [*module.parameters(), *module.buffers()]
        places = [(x.data_ptr(), x.stride(), _version(x)) for x in tensors]
        copied = self._folding.copied(module)
        if self._twin is None or places != self._places or not self._holds(copied):
            # The twin keeps the memory that it shares from being given to other tensors.
            self._twin, self._places = self._folding.twin(module), places
            self._copies = [x.detach().clone() for x in copied]
        return self._twin

    def _holds(self, copied: list[torch.Tensor]) -> bool:
        """Whether tensors have the values that the twin copied; writes by ``.data`` are seen."""
        pairs = list(zip(copied, self._copies, strict=True))
        if any(x.shape != y.shape or x.device != y.device for x, y in pairs):
            return False
        if all(x.device.type == "cpu" for x, _ in pairs):
            return all(torch.equal(x, y) for x, y in pairs)
        if any(x.is_meta for x, _ in pairs):
            return False
        # One wait for the device, for all of them. NaN differs from itself: the twin is new.
        with torch.no_grad():
            same = [(x == y).all() for x, y in pairs]
            return bool(torch.stack([one.to(same[0].device) for one in same]).all())


def _version(x: torch.Tensor) -> int:
    return -1 if x.is_inference() else x._version


class _UnknownError(Exception):
    """Something about a module that cannot be told from something else later."""


def _code(module: nn.Module, *, ignored: str | None = None) -> tuple[Any, ...] | None:
    """All that the passes of a module depend on except for its weights, to compare with later.

    ``None`` for a module whose calls a hook sees, or that holds what cannot be compared.
    """
    everywhere = nn.modules.module
    if any(
        (
            everywhere._global_forward_hooks,
            everywhere._global_forward_pre_hooks,
            everywhere._global_backward_hooks,
            everywhere._global_backward_pre_hooks,
        )
    ):
        return None
    numbers: dict[int, int] = {}

    def number(value: object) -> int:
        """Equal for what is one object, and the same for each walk through equal parts."""
        return numbers.setdefault(id(value), len(numbers))

    found: list[Any] = []
    seen: set[int] = set()

    def walk(part: nn.Module) -> None:
        if id(part) in seen:
            return
        seen.add(id(part))
        if isinstance(part, torch.jit.ScriptModule):
            raise _UnknownError
        if (
            part._forward_hooks
            or part._forward_pre_hooks
            or part._backward_hooks
            or part._backward_pre_hooks
        ):
            raise _UnknownError
        tensors = [
            (name, None if x is None else (number(x), tuple(x.shape), x.dtype))
            for name, x in (*part._parameters.items(), *part._buffers.items())
        ]
        attributes = [
            (name, _described(value))
            for name, value in part.__dict__.items()
            if name not in TORCHS and not (ignored and name.startswith(ignored))
        ]
        children = [
            (name, None if child is None else number(child))
            for name, child in part._modules.items()
        ]
        found.append((type(part), type(part).forward, tensors, attributes, children))
        for child in part._modules.values():
            if child is not None:
                walk(child)

    try:
        walk(module)
    except _UnknownError:
        return None
    return tuple(found)


_PLAIN = (bool, int, float, complex, str, bytes, type(None), type, torch.dtype, torch.device)


def _described(value: Any, depth: int = 6) -> Any:
    """A value of an attribute, such that equal descriptions are of equal values."""
    kind = type(value)
    if isinstance(value, _PLAIN):
        return (kind, value if value == value else "nan")
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return (kind, str(value.dtype), tuple(value.shape), _content(value))
    if depth == 0:
        raise _UnknownError
    if isinstance(value, dict):
        return (kind, *((str(key), _described(item, depth - 1)) for key, item in value.items()))
    if isinstance(value, list | tuple | set | frozenset):
        return (kind, *(_described(item, depth - 1) for item in value))
    if isinstance(value, nn.Module | types.MethodType):
        raise _UnknownError
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        rest = (value.__defaults__, value.__kwdefaults__, cells)
        return (kind, value.__code__, *(_described(item, depth - 1) for item in rest))
    if isinstance(value, types.BuiltinFunctionType):
        if isinstance(value.__self__, torch.Tensor | np.ndarray):
            raise _UnknownError
        return (kind, value)
    try:  # as for pickle
        _, *parts = value.__reduce_ex__(2)
    except Exception as error:  # whatever an object does
        raise _UnknownError from error
    parts = [part if isinstance(part, tuple | dict | type(None)) else list(part) for part in parts]
    return (kind, *(_described(part, depth - 1) for part in parts))


def _content(value: Any) -> bytes:
    if isinstance(value, torch.Tensor):
        if value.device.type != "cpu" or value.layout != torch.strided or value.numel() > LARGEST:
            raise _UnknownError
        value = value.detach().resolve_conj().resolve_neg().numpy()
    if value.size > LARGEST or value.dtype == object:
        raise _UnknownError
    return bytes(value.tobytes())
