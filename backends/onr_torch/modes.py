"""Context managers that run a module in some mode and restore afterwards what they change."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import ParamSpec, TypeVar

import torch
from torch import nn

from onr.errors import OnrError

__all__ = [
    "TORCHS",
    "Constant",
    "bare",
    "constant_parameters",
    "converter",
    "evaluating",
    "fixed_buffers",
    "generator_state",
    "is_compiled",
    "mixed_precision",
    "outside_of_inference",
    "replaced",
    "require_evaluation",
    "rounding",
    "seeded",
    "uncompiled",
    "untraced",
]


def mixed_precision(x: torch.Tensor, enabled: bool) -> AbstractContextManager[object]:
    """If ``enabled``, convolutions and matrix products on the device of ``x`` work in bfloat16.

    If not, they work in the dtype of their inputs, inside the caller's ``torch.autocast`` too.

    Example:
        >>> x = torch.ones(2, 2)
        >>> with mixed_precision(x, True):
        ...     (x @ x).dtype
        torch.bfloat16

    """
    device = x.device.type
    if enabled or (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
        return torch.autocast(device, torch.bfloat16, enabled=enabled)
    return nullcontext()


def rounding(x: torch.Tensor, bfloat16: bool = False) -> float:
    """The relative rounding of convolutions and matrix products of such inputs.

    On a GPU torch may compute those of float32 in TF32, which has the digits of float16.

    Example:
        >>> rounding(torch.zeros(1)), rounding(torch.zeros(1), bfloat16=True)
        (1.1920928955078125e-07, 0.0078125)

    """
    if bfloat16:
        return torch.finfo(torch.bfloat16).eps
    is_coarse = x.is_cuda and x.dtype == torch.float32
    return torch.finfo(torch.float16 if is_coarse else x.dtype).eps


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode; afterwards each submodule has its former mode.

    The flags are set one by one: ``module.eval()`` may do more, such as merge adapted weights into
    a layer, and is refused by modules that ``torch.export`` has made. A part that keeps tensors
    made from its weights, and drops them in a ``train`` of its own, drops them before and after,
    since the weights may move.

    Example:
        >>> module = nn.Dropout()
        >>> with evaluating(module):
        ...     module.training
        False
        >>> module.training
        True

    """
    training = [(part, part.training) for part in module.modules()]
    _drop_kept_tensors(module)
    for part, _ in training:
        part.training = False
    try:
        yield
    finally:
        _drop_kept_tensors(module)
        for part, was_training in training:
            part.training = was_training


def _drop_kept_tensors(module: nn.Module) -> None:
    """Call ``train`` of the parts that have one of their own and keep tensors in attributes."""
    for part in module.modules():
        is_plain = type(part).train is nn.Module.train or isinstance(part, torch.jit.ScriptModule)
        kept = (value for key, value in vars(part).items() if key not in TORCHS)
        if not is_plain and any(map(_holds_tensor, kept)):
            part.train()


TORCHS = frozenset(vars(nn.Module()))
"""The attributes in which torch keeps parameters, buffers, parts and hooks of a module."""


def _holds_tensor(attribute: object) -> bool:
    if isinstance(attribute, dict):
        attribute = list(attribute.values())
    kept = attribute if isinstance(attribute, list | tuple) else [attribute]
    return any(isinstance(x, torch.Tensor) and not isinstance(x, nn.Parameter) for x in kept)


class Constant(nn.Module):
    """A module of our own in evaluation mode, whose parameters never require a gradient.

    Example:
        >>> [*Constant().parameters()]
        []

    """


@contextmanager
def constant_parameters(module: nn.Module) -> Iterator[None]:
    """Use evaluation mode and let no parameter require a gradient; restore both afterwards.

    Inside, ``torch.inference_mode`` is off, and compiled functions run as the code that they were
    compiled from, since derivatives are found operation by operation.

    Example:
        >>> module = nn.Linear(2, 1)
        >>> with constant_parameters(module):
        ...     module.weight.requires_grad
        False

    """
    if isinstance(module, Constant):
        with outside_of_inference(), uncompiled():
            yield
        return
    wanted = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        with torch.inference_mode(False), uncompiled(), evaluating(module):
            yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


def outside_of_inference() -> AbstractContextManager[object]:
    """Let operations keep what a graph needs, inside the caller's ``torch.inference_mode`` too.

    Example:
        >>> with torch.inference_mode(), outside_of_inference():
        ...     torch.is_inference_mode_enabled()
        False

    """
    inside = torch.is_inference_mode_enabled()
    return torch.inference_mode(False) if inside else nullcontext()


def uncompiled() -> AbstractContextManager[object]:
    """Let compiled functions run as the code that they were compiled from.

    Example:
        >>> with uncompiled():
        ...     torch.ones(2).sum()
        tensor(2.)

    """
    if "torch._dynamo" in sys.modules:  # as long as nothing is compiled, torch does not load it
        stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
        return stance
    return nullcontext()


Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def untraced(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Let ``torch.compile`` break its graph at a function, and run the function as it is.

    Example:
        >>> untraced(abs)(-1)
        1

    """
    found: Callable[Parameters, Result] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]  # torch's
    return found


@contextmanager
def fixed_buffers(module: nn.Module) -> Iterator[None]:
    """Use copies of the buffers, so that a graph made inside outlives changes of the buffers.

    Example:
        >>> layer, x = nn.BatchNorm1d(2).eval(), torch.ones(3, 2, requires_grad=True)
        >>> with fixed_buffers(layer):
        ...     total = layer(x).sum()
        >>> _ = layer.train()(x)
        >>> total.backward()

    """
    own = [
        (part, dict(part._buffers))
        for part in module.modules()
        if part._buffers and not isinstance(part, torch.jit.ScriptModule)
    ]
    for part, buffers in own:
        copies = {name: None if x is None else x.clone() for name, x in buffers.items()}
        part._buffers.update(copies)
    try:
        yield
    finally:
        for part, buffers in own:
            part._buffers.update(buffers)


@contextmanager
def replaced(module: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Use ``change(tensor)`` in place of each parameter and buffer; a shared one is changed once.

    Those of a part that TorchScript has compiled cannot be replaced, and stay.

    Example:
        >>> module = nn.Linear(2, 1).half()
        >>> with replaced(module, torch.Tensor.float):
        ...     module(torch.ones(1, 2)).dtype
        torch.float32
        >>> module.weight.dtype
        torch.float16

    """
    own = [
        (part, dict(part._parameters), dict(part._buffers))
        for part in module.modules()
        if not isinstance(part, torch.jit.ScriptModule)
    ]
    changed: dict[int, torch.Tensor] = {}

    def once(tensor: torch.Tensor | None) -> torch.Tensor | None:
        if tensor is None:
            return None
        if id(tensor) not in changed:
            changed[id(tensor)] = change(tensor)
        return changed[id(tensor)]

    try:
        for part, parameters, buffers in own:
            for name, parameter in parameters.items():
                part._parameters[name] = once(parameter)  # type: ignore[assignment]  # a tensor will do
            for name, buffer in buffers.items():
                part._buffers[name] = once(buffer)
        yield
    finally:
        for part, parameters, buffers in own:
            part._parameters.update(parameters)
            part._buffers.update(buffers)
            if isinstance(part, nn.RNNBase):
                part._init_flat_weights()  # its own list of its parameters


def bare(module: nn.Module) -> nn.Module:
    """The module inside a wrapper of the same function.

    Such wrappers are ``DataParallel``, ``DistributedDataParallel`` and what ``torch.compile``
    makes of a module.

    Example:
        >>> bare(nn.DataParallel(nn.ReLU()))
        ReLU()

    """
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif is_compiled(module):
            module = module._orig_mod  # type: ignore[assignment]  # a module
        else:
            return module


def converter(dtype: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    """A conversion of real tensors to ``dtype`` and of complex ones to its complex pair.

    Example:
        >>> convert = converter(torch.float64)
        >>> [convert(torch.ones(1, dtype=d)).dtype for d in (torch.float32, torch.complex64)]
        [torch.float64, torch.complex128]

    """

    def convert(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_complex():
            return tensor.to(dtype.to_complex())
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    return convert


def is_compiled(module: nn.Module) -> bool:
    """Whether ``torch.compile`` made the module.

    Example:
        >>> is_compiled(nn.ReLU())
        False

    """
    dynamo = sys.modules.get("torch._dynamo")
    return dynamo is not None and isinstance(module, dynamo.OptimizedModule)


def generator_state(device: torch.device) -> torch.Tensor:
    """The state of the generator that a module on this device draws from.

    Example:
        >>> before = generator_state(torch.device("cpu"))
        >>> _ = torch.rand(1)
        >>> bool((before != generator_state(torch.device("cpu"))).any())
        True

    """
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.get_rng_state()


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the generators that a module on this device draws from; restore them afterwards.

    Example:
        >>> before = torch.get_rng_state()
        >>> with seeded(torch.device("cpu"), 0):
        ...     _ = torch.rand(1)
        >>> torch.equal(torch.get_rng_state(), before)
        True

    """
    on_cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(on_cuda):
        # Unlike torch.manual_seed, this leaves the generators of other devices alone.
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            index = torch.cuda.current_device() if device.index is None else device.index
            torch.cuda.default_generators[index].manual_seed(seed)
        yield


def require_evaluation(module: nn.Module) -> None:
    """Refuse a module whose output for one example depends on the other examples or on noise.

    Raises:
        OnrError: a batch normalisation or dropout layer is in training mode, or a batch
            normalisation has no running statistics.

    Example:
        >>> require_evaluation(nn.Dropout().eval())

    """
    for name, part in module.named_modules():
        normalizes = isinstance(part, nn.modules.batchnorm._BatchNorm)
        draws = isinstance(part, nn.modules.dropout._DropoutNd)
        if ((normalizes or draws) and part.training) or (normalizes and part.running_mean is None):
            raise OnrError(
                f"layer {name or type(part).__name__!r} is in training mode, or normalises by the "
                "batch itself: an example's Jacobian exists in evaluation mode and with running "
                "statistics only, call module.eval() first"
            )
