"""The same function as a module's in fewer passes over memory, by its graph.

``torch.fx`` traces the module. In the graph it is seen what reads what, so that residual networks
and functional ReLUs are understood as well as chains of layers:

- a batch normalisation after a convolution or an affine layer goes into that layer's weights;
- another batch normalisation of images that lie channels last becomes one scale and shift, whose
  backward pass is four times as fast as torch's;
- a ReLU, and a sum of a residual block, overwrites what nothing else reads;
- images go through convolutions channels last, where that is faster.

A module with control flow that depends on data, with hooks, or with outputs that are no tensor has
no such graph.
"""

from __future__ import annotations

import copy
import io
import operator
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import torch
from torch import autograd, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from onr_torch.folding import FOLDS, NORMALIZATIONS, is_plain
from onr_torch.modes import Constant, evaluating, mixed_precision

__all__ = ["GraphFolding", "traced"]


class Source(Protocol):
    """How a part or a tensor of a twin is made."""

    def __call__(self, module: nn.Module, /) -> nn.Module | torch.Tensor:
        """The part or tensor, from the module."""

    def copied(self, module: nn.Module, /) -> list[torch.Tensor]:
        """The tensors of the module whose values the result holds in memory of its own."""


@dataclass(frozen=True)
class GraphFolding:
    """A way to make twins of a module, for whatever weights it has then.

    It holds no tensor of the module's parameters or buffers.

    Example:
        >>> module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU()).eval()
        >>> made = traced(module, torch.rand(2, 2), channels_last=False)
        >>> twin, x = made.twin(module), torch.rand(5, 2)
        >>> [type(part).__name__ for part in twin.children()]
        ['Linear']
        >>> torch.allclose(twin(x), module(x), atol=1e-6)
        True

    """

    forward: Callable[..., torch.Tensor]
    """The forward pass of the twin, which finds its parts and tensors by the names below."""
    sources: Mapping[str, Source]
    """How each part or tensor of the twin is made from the module."""

    def copied(self, module: nn.Module) -> list[torch.Tensor]:
        """The tensors of the module whose values a twin copies; it shares the others."""
        return [x for source in self.sources.values() for x in source.copied(module)]

    def twin(self, module: nn.Module) -> Constant:
        """A module of the same function at the present weights, in evaluation mode.

        Its weights are constants: they are copies where something was folded, and share their
        memory with those of ``module`` elsewhere.
        """
        kind = type(type(module).__name__, (Constant,), {"forward": self.forward})
        twin: Constant = kind()
        with torch.no_grad():
            for name, source in self.sources.items():
                made = source(module)
                if isinstance(made, nn.Module):
                    twin._modules[name] = made
                else:
                    twin._buffers[name] = made
        twin.training = False
        return twin


def traced(module: nn.Module, x: torch.Tensor, *, channels_last: bool) -> GraphFolding | None:
    """Trace a module in evaluation mode and fold its graph; ``None`` where it has no graph.

    Args:
        module: the module, best a copy: what its code keeps during a pass would be kept.
        x: inputs, at which shapes are found.
        channels_last: whether images go through the module channels last.

    Example:
        >>> found = traced(nn.Sequential(nn.Tanh()), torch.rand(2, 3), channels_last=False)
        >>> [*found.sources]
        ['_part0']

    """
    try:
        with warnings.catch_warnings(), torch.enable_grad(), evaluating(module):
            warnings.simplefilter("ignore")
            tracer = _Tracer()
            graph = tracer.trace(module)
            whole = fx.GraphModule(tracer.root, graph)
            with torch.no_grad(), redirect_stderr(io.StringIO()):  # it prints what it raises
                ShapeProp(whole).propagate(x.clone())
    except torch.OutOfMemoryError:
        raise
    except Exception:  # users' modules do anything with a proxy
        return None
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    [output] = [node for node in graph.nodes if node.op == "output"]
    if len(inputs) != 1 or not isinstance(output.args[0], fx.Node):
        return None
    return _Rewriting(module, whole, channels_last=channels_last).result()


class _Tracer(fx.Tracer):
    """Torch's tracer, with buffers as nodes: their values are not those of the trace.

    It refuses what changes results and leaves no trace: functions with a backward pass of their
    own, blocks without gradients, and blocks with a precision of their own.
    """

    proxy_buffer_attributes = True

    def __init__(self) -> None:
        super().__init__()
        self._depth = _autocasts()

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Record an operation.

        Raises:
            TraceError: its gradient is not that of the operation.

        """
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            code = frame.f_code
            if code.co_name == "apply" and code.co_filename == autograd.function.__file__:
                raise fx.proxy.TraceError("a function with a backward pass of its own")
            frame = frame.f_back
        if not torch.is_grad_enabled():
            raise fx.proxy.TraceError("a block without gradients")
        if _autocasts() != self._depth:
            raise fx.proxy.TraceError("a block with a precision of its own")
        return super().create_node(*args, **kwargs)


def _autocasts() -> int:
    """How many blocks of ``torch.autocast`` are open."""
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()


_ADDITIONS = (operator.add, operator.iadd, torch.add)
_RELUS = (functional.relu, functional.relu_, torch.relu, torch.relu_)
_FRESH = (functional.linear, functional.conv1d, functional.conv2d, functional.conv3d)
_IDLE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


PREFIX = "_part"


class _Rewriting:
    """The changes of a graph, one after the other."""

    def __init__(self, module: nn.Module, whole: fx.GraphModule, *, channels_last: bool) -> None:
        self._module, self._graph = module, whole.graph
        self._channels_last = channels_last
        self._sources: dict[str, Source] = {}
        self._names: dict[Any, str] = {}

    def result(self) -> GraphFolding | None:
        graph = self._graph
        for change in (self._drop_idle, self._fold, self._name):
            for node in list(graph.nodes):
                change(node)
        for node in list(graph.nodes):
            self._overwrite(node)
        if self._channels_last:
            self._lay_out()
        code = graph.python_code("self")
        scope: dict[str, Any] = dict(code.globals)
        exec(code.src, scope)  # noqa: S102 - what torch.fx itself does with the code of a graph
        called = {str(node.target) for node in graph.nodes}
        used = {name: source for name, source in self._sources.items() if name in called}
        return GraphFolding(scope["forward"], used)

    def _part(self, node: Any) -> nn.Module | None:
        """The layer of the module that a node calls; none where it has been folded already."""
        if not isinstance(node, fx.Node) or node.op != "call_module":
            return None
        path = str(node.target)
        return None if path in self._sources else self._module.get_submodule(path)

    def _drop_idle(self, node: fx.Node) -> None:
        """Take out layers that give their input in evaluation mode."""
        if type(self._part(node)) in _IDLE and len(node.args) == 1:
            node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]  # a node
            self._graph.erase_node(node)

    def _fold(self, node: fx.Node) -> None:
        """Fold a batch normalisation into the layer before it, or into a scale and a shift."""
        if not is_plain(after := self._part(node), *NORMALIZATIONS) or len(node.args) != 1:
            return
        [before] = node.args
        layer, path = self._part(before), str(node.target)
        assert isinstance(before, fx.Node)  # noqa: S101 - layers are given nodes
        kind = FOLDS[type(layer)][0] if is_plain(layer, *FOLDS) else None  # type: ignore[index]  # it is a layer
        calls = [other for other in self._graph.nodes if other.target == before.target]
        fits = not isinstance(layer, nn.Linear) or _shape(before)[1:] == (layer.out_features,)
        if kind is type(after) and len(before.users) == len(calls) == 1 and fits:
            name = self._named(_Fused(str(before.target), path, self._channels_last))
            node.replace_all_uses_with(before)
            self._graph.erase_node(node)
            before.target = name
        elif self._channels_last and len(_shape(node)) == 4:
            shift, scale = (self._named(_Scale(path, shifts=shifts)) for shifts in (True, False))
            with self._graph.inserting_before(node):
                tensors = [self._graph.create_node("get_attr", name) for name in (shift, scale)]
                found = self._graph.call_function(torch.addcmul, (tensors[0], before, tensors[1]))
            found.meta = node.meta
            node.replace_all_uses_with(found)
            self._graph.erase_node(node)

    def _name(self, node: fx.Node) -> None:
        """Let a part or tensor of the module be one of the twin, by a name without dots."""
        target = str(node.target)
        if node.op not in ("call_module", "get_attr") or target in self._sources:
            return
        if node.op == "call_module":
            node.target = self._named(_Part(target, self._channels_last))
        elif target.startswith("_tensor_constant"):  # torch's name for what the trace made
            node.target = self._named(_Fixed(getattr(self._module, target)))
        else:
            node.target = self._named(_Tensor(target))

    def _named(self, source: Source) -> str:
        if source not in self._names:
            self._names[source] = f"{PREFIX}{len(self._names)}"
            self._sources[self._names[source]] = source
        return self._names[source]

    def _kind(self, node: fx.Node) -> type[nn.Module] | None:
        """The type of the layer that a named node calls."""
        source = self._sources.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(source, _Part | _Fused):
            return type(self._module.get_submodule(source.path))
        return None

    def _is_own(self, node: Any, reader: fx.Node) -> bool:
        """Whether a node makes a tensor that it does not need any more and one node reads."""
        if not isinstance(node, fx.Node) or list(node.users) != [reader]:
            return False
        if node.target in (operator.iadd, "add_"):
            return self._is_own(node.args[0], node)
        if node.op == "call_function" and node.target in _ADDITIONS:
            return all(len(_shape(argument)) > 1 for argument in node.args)
        is_function = node.op == "call_function" and node.target in (torch.addcmul, *_FRESH)
        return is_function or self._kind(node) in (*FOLDS, *NORMALIZATIONS)

    def _overwrite(self, node: fx.Node) -> None:
        """Let a ReLU, or a sum of two tensors of one shape, overwrite what nothing else reads."""
        if node.op == "call_function" and node.target in (operator.add, torch.add):
            if node.kwargs or not len(_shape(node.args[0])) > 1 or node.args[0] is node.args[1]:
                return
            one, other = node.args
            if _shape(one) == _shape(other):
                if not self._is_own(one, node):
                    one, other = other, one
                if self._is_own(one, node):
                    node.op, node.target, node.args = "call_method", "add_", (one, other)
            return
        called = node.target if node.op in ("call_function", "call_method") else self._kind(node)
        rectifies = called in _RELUS or called in ("relu", "relu_") or called is nn.ReLU
        if rectifies and node.args and self._is_own(node.args[0], node):
            node.op, node.target = "call_function", torch.relu_
            node.args, node.kwargs = node.args[:1], {}

    def _lay_out(self) -> None:
        """Images become channels last, and views, which not every layout allows, reshapes."""
        for node in list(self._graph.nodes):
            if node.op == "call_method" and node.target == "view":
                node.target = "reshape"
            if node.op == "placeholder":
                with self._graph.inserting_after(node):
                    laid = self._graph.call_method("contiguous", (node,))
                node.replace_all_uses_with(laid)
                laid.args, laid.kwargs = (node,), {"memory_format": torch.channels_last}


def _tensors(part: nn.Module) -> list[torch.Tensor]:
    return [x for x in (*part._parameters.values(), *part._buffers.values()) if x is not None]


def _shape(node: Any) -> tuple[int, ...]:
    """The shape of the tensor that a node gives; empty for anything else."""
    found = node.meta.get("tensor_meta") if isinstance(node, fx.Node) else None
    return tuple(getattr(found, "shape", ()))


@dataclass(frozen=True)
class _Part:
    """A layer with constant weights that share the memory of those of the module's layer."""

    path: str
    channels_last: bool

    def copied(self, module: nn.Module) -> list[torch.Tensor]:
        layer = module.get_submodule(self.path)
        laid_out = (self.channels_last and type(layer) is nn.Conv2d) or _collides(layer)
        return [layer.weight] if laid_out else []  # type: ignore[list-item]  # a tensor

    def __call__(self, module: nn.Module) -> nn.Module:
        layer = _constant(module.get_submodule(self.path))
        if self.copied(module):
            weight = layer._parameters["weight"]
            assert weight is not None  # noqa: S101 - every convolution has one
            layer._parameters["weight"] = _laid_out(weight)  # type: ignore[assignment]  # a tensor will do
        return layer


def _constant(part: nn.Module) -> nn.Module:
    twin = copy.copy(part)
    parameters = part._parameters.items()
    twin._parameters = {name: None if p is None else p.detach() for name, p in parameters}  # type: ignore[misc]  # tensors will do
    twin._buffers = dict(part._buffers)
    twin._modules = {
        name: None if child is None else _constant(child) for name, child in part._modules.items()
    }
    twin.training = False
    return _precise(twin)


class _GroupedInFloat32(nn.Conv2d):
    """A convolution in groups that works in the dtype of its weight on the CPU.

    There its backward pass in bfloat16 is slower than in float32: on a processor with AMX that of
    MobileNetV2, 64 images of 32 pixels, took 13 times as long (torch 2.11).
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with mixed_precision(x, False):
            return super().forward(x.to(self.weight.dtype))


def _precise(layer: nn.Module) -> nn.Module:
    """The layer, which is a copy of our own, in float32 where bfloat16 would be slower."""
    if type(layer) is nn.Conv2d and layer.groups > 1 and layer.weight.device.type == "cpu":
        layer.__class__ = _GroupedInFloat32
    return layer


STRIDE, GAP, MOST = 512, 16, 2**22


def _collides(layer: nn.Module) -> bool:
    """Whether the rows of an affine layer's weight lie at multiples of half a page.

    They then compete for the same lines of the cache: a gap between them makes the product with
    the transpose, which is the backward pass of small batches, up to a fifth faster.
    """
    if type(layer) is not nn.Linear or not isinstance(weight := layer.weight, torch.Tensor):
        return False
    is_fast = weight.dtype == torch.float32 and weight.device.type == "cpu"
    return is_fast and layer.in_features % STRIDE == 0 and weight.numel() <= MOST


def _laid_out(weight: torch.Tensor) -> torch.Tensor:
    """Images channels last; the rows of a matrix with a gap between them."""
    if weight.ndim == 4:
        return weight.contiguous(memory_format=torch.channels_last)
    rows, columns = weight.shape
    laid_out = weight.new_empty(rows, columns + GAP)[:, :columns]
    return laid_out.copy_(weight)


@dataclass(frozen=True)
class _Fused:
    """A layer with the normalisation after it."""

    path: str
    normalization: str
    channels_last: bool

    def copied(self, module: nn.Module) -> list[torch.Tensor]:
        parts = (module.get_submodule(path) for path in (self.path, self.normalization))
        return [x for part in parts for x in _tensors(part)]

    def __call__(self, module: nn.Module) -> nn.Module:
        layer = module.get_submodule(self.path)
        scale, shift = _scale_and_shift(module.get_submodule(self.normalization))
        weight, bias = layer._parameters["weight"], layer._parameters["bias"]
        assert weight is not None  # noqa: S101 - every layer has one
        fused = copy.copy(layer)
        folded = weight.detach() * scale.reshape(-1, *[1] * (weight.ndim - 1))
        if (self.channels_last and weight.ndim == 4) or _collides(layer):
            folded = _laid_out(folded)
        shift = shift if bias is None else torch.addcmul(shift, bias.detach(), scale)
        fused._parameters = {"weight": folded, "bias": shift}  # type: ignore[dict-item]  # tensors will do
        fused.training = False
        return _precise(fused)


@dataclass(frozen=True)
class _Scale:
    """The scale or the shift of a normalisation of images, shape ``(1, channels, 1, 1)``."""

    path: str
    shifts: bool

    def copied(self, module: nn.Module) -> list[torch.Tensor]:
        return _tensors(module.get_submodule(self.path))

    def __call__(self, module: nn.Module) -> torch.Tensor:
        pair = _scale_and_shift(module.get_submodule(self.path))
        return pair[self.shifts][None, :, None, None]


def _scale_and_shift(normalization: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    assert isinstance(normalization, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)  # noqa: S101 - the graph says so
    mean, variance = normalization.running_mean, normalization.running_var
    assert mean is not None  # noqa: S101 - by is_plain
    assert variance is not None  # noqa: S101 - by is_plain
    weight, bias = normalization._parameters["weight"], normalization._parameters["bias"]
    scale = (variance + normalization.eps).rsqrt()
    if weight is not None:
        scale = scale * weight.detach()
    if bias is None:
        return scale, -mean * scale
    return scale, torch.addcmul(bias.detach(), mean, scale, value=-1)


@dataclass(frozen=True)
class _Tensor:
    """A parameter, a buffer or another tensor of the module."""

    path: str

    def copied(self, module: nn.Module) -> list[torch.Tensor]:
        return []

    def __call__(self, module: nn.Module) -> torch.Tensor:
        *owner, name = self.path.split(".")
        found: torch.Tensor = getattr(module.get_submodule(".".join(owner)), name)
        return found.detach()


@dataclass(frozen=True, eq=False)
class _Fixed:
    """A tensor that the module's code makes anew in each call."""

    tensor: torch.Tensor

    def copied(self, module: nn.Module) -> list[torch.Tensor]:
        return []

    def __call__(self, module: nn.Module) -> torch.Tensor:
        return self.tensor
