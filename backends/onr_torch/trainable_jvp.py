"""``J v`` with its gradient in the parameters, for objectives that pay for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from onr.errors import OnrError
from onr_torch.admission import admit, record_of
from onr_torch.forward_mode import plain_attention
from onr_torch.graphs import leaves_of
from onr_torch.linearization import TorchLinearization
from onr_torch.modes import (
    bare,
    converter,
    evaluating,
    fixed_buffers,
    mixed_precision,
    replaced,
    seeded,
    uncompiled,
)
from onr_torch.outputs import logits, tensor_of
from onr_torch.replay.recorder import NotReplayableError
from onr_torch.replay.replay import replay

__all__ = ["trainable_jvp"]

CHECKPOINTS = "it computes activations again in the backward pass, as checkpoints do"


def trainable_jvp(
    module: nn.Module, x: torch.Tensor, v: torch.Tensor, /, *, bfloat16: bool = False
) -> torch.Tensor:
    """``J v`` at ``x`` in evaluation mode, differentiable once in the parameters.

    For a piecewise linear network this is a replay with a graph. For any other the gradient of
    ``<w, J v>`` is that of ``<J^T w, v>``, a backward pass through a backward pass: torch's rules
    for the derivative of a forward-mode derivative are wrong for some layers, such as
    ``nn.LayerNorm``. The first time that a module comes, the gradient is compared with differences
    of ``<J^T w, v>``.

    The statistics and other buffers are those of now; they may change before the backward pass.

    Args:
        module: the network.
        x: the inputs, shape ``(batch, *input_shape)``.
        v: the direction, shaped as ``x``.
        bfloat16: whether convolutions and matrix products work in bfloat16.

    Raises:
        OnrError: there is no ``J v``, the gradient that torch gives is wrong or missing, or the
            module has activation checkpoints in evaluation mode: what they compute again would be
            that of the mode in the backward pass.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> trainable_jvp(layer, torch.ones(1, 2), torch.tensor([[3.0, 4.0]])).backward()
        >>> layer.weight.grad
        tensor([[3., 4.]])

    """
    module = bare(module)
    admit(module, x, gradients=True, bfloat16=bfloat16)
    x, v = (z.clone() if z.is_inference() else z for z in (x, v))
    with fixed_buffers(module), _without_checkpoints(module):
        here = TorchLinearization(module, x, bfloat16=bfloat16)
        recorder = here.recorder
        if recorder is not None and recorder.is_piecewise_linear:
            try:
                with (
                    torch.enable_grad(),
                    uncompiled(),
                    evaluating(module),
                    mixed_precision(x, bfloat16),
                ):
                    return replay(module, recorder, v).to(x.dtype).masked_fill(here.masked, 0)
            except NotReplayableError:
                pass
        image = here.jvp(v)
        _check_gradient(module, x)
        with torch.random.fork_rng([x.device] if x.is_cuda else [], enabled=here.draws):
            if here.draws:
                _set_generator(x.device, here.before)
            with mixed_precision(x, bfloat16):
                pulled = _Pulled(module, x)
    parameters = [p for p in leaves_of(pulled.value) if p.requires_grad and p is not pulled.x]
    attached: torch.Tensor = _Attached.apply(image, v, pulled, *parameters)
    return attached.masked_fill(here.masked, 0)


@contextmanager
def _without_checkpoints(module: nn.Module) -> Iterator[None]:
    """Refuse hooks on saved tensors, which checkpoints that are not reentrant use.

    Where the caller has such hooks around the call, nothing is refused.
    """
    with ExitStack() as stack:
        with suppress(RuntimeError):
            stack.enter_context(torch.autograd.graph.disable_saved_tensors_hooks(CHECKPOINTS))
        try:
            yield
        except RuntimeError as error:
            if CHECKPOINTS not in str(error):
                raise
            raise _no_gradient(module, CHECKPOINTS) from error


def _no_gradient(module: nn.Module, reason: str) -> OnrError:
    return OnrError(
        f"torch gives no right gradient of J v in the parameters of {type(module).__name__} "
        f"({reason}): use a method or a form without J v, such as form = difference"
    )


class _Pulled:
    """The graph from an input ``x`` and the parameters to the logits, to pull ``w`` back."""

    def __init__(self, module: nn.Module, x: torch.Tensor) -> None:
        with torch.enable_grad(), evaluating(module), _for_two_passes():
            self.x = x.detach().clone().requires_grad_(True)
            self.value = logits(module, self.x.clone()).to(x.dtype)

    def product(self, w: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """``<J^T w, v>`` with its graph."""
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self.value, self.x, w, create_graph=True)
            return (gradient * v).sum()


class _Attached(torch.autograd.Function):
    """``J v`` with the gradients of ``<J^T w, v>`` in the parameters as its backward pass."""

    @staticmethod
    def forward(
        ctx: Any, image: torch.Tensor, v: torch.Tensor, pulled: _Pulled, *parameters: torch.Tensor
    ) -> torch.Tensor:
        ctx.v, ctx.pulled = v, pulled
        ctx.parameters = parameters
        return image.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, w: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        with plain_attention(), mixed_precision(w, False):
            product = ctx.pulled.product(w, ctx.v)
            found = _gradients(product, ctx.parameters)
        return None, None, None, *found


def _gradients(product: torch.Tensor, parameters: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    """The gradients of a scalar; zero for a parameter that it does not depend on."""
    if not parameters:
        return []
    found = torch.autograd.grad(product, parameters, retain_graph=True, allow_unused=True)
    pairs = zip(found, parameters, strict=True)
    return [torch.zeros_like(p) if g is None else g for g, p in pairs]


class _Primitives(TorchFunctionMode):
    """Replaces functions whose derivative torch cannot differentiate by others that are equal."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Replace one call."""
        if func in (functional.hardsigmoid, torch._C._nn.hardsigmoid):
            return _hard_sigmoid(*args, **kwargs or {})
        if func is functional.normalize:
            return _normalized(*args, **kwargs or {})
        return func(*args, **kwargs or {})


def _hard_sigmoid(input: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    return functional.relu6(input + 3) / 6


def _normalized(
    input: torch.Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Any = None
) -> torch.Tensor:
    """``functional.normalize``; at zero its derivative is constant, where torch's has none."""
    if p != 2 or out is not None:
        return functional.normalize(input, p, dim, eps, out)
    squares = (input * input).sum(dim, keepdim=True)
    return input / squares.clamp_min(eps**2).sqrt()


@contextmanager
def _for_two_passes() -> Iterator[None]:
    """Use functions whose derivative torch can differentiate."""
    with uncompiled(), plain_attention(), _Primitives():
        yield


def _check_gradient(module: nn.Module, x: torch.Tensor) -> None:
    """Compare the gradient of ``<J^T w, v>`` in the parameters with differences, once a module.

    The comparison is in float64, on two examples, beside the parameters, along one random change
    of all of them. A module that cannot work in float64 is compared in its own dtype, more loosely.

    Raises:
        OnrError: the gradient is wrong or missing.

    """
    record = record_of(module)
    proof = ("gradient", tuple(x.shape[1:]), x.dtype)
    if x.is_meta or proof in record.proven:
        return
    holds, reason = False, "it is not that of the differences"
    for dtype in dict.fromkeys((torch.float64, x.dtype)):
        try:
            holds = _agrees(module, x[:2].detach().to(dtype))
            break
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever the module raises
            text = str(error)
            reason = CHECKPOINTS if "use_reentrant" in text else (text.splitlines() or [""])[0]
    if not holds:
        raise _no_gradient(module, reason)
    record.proven.add(proof)


def _agrees(module: nn.Module, x: torch.Tensor) -> bool:
    """Whether gradient and differences agree at ``x``, with the parameters in its dtype."""
    rng = torch.Generator(x.device).manual_seed(0)

    def normal(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=rng, dtype=like.dtype, device=like.device)

    convert, v, leaf = converter(x.dtype), normal(x), x.clone().requires_grad_(True)
    trained = [p for p in module.parameters() if p.requires_grad]
    own = [convert(p.detach()) for p in trained]

    def change() -> list[torch.Tensor]:
        return [normal(p) * torch.where(p.abs().max() > 0, p.abs().mean(), 1) for p in own]

    # A little beside the parameters, whose zeros may put a ReLU exactly at its kink.
    values = [p + 0.01 * d for p, d in zip(own, change(), strict=True)]
    changes = change()
    w: torch.Tensor | None = None

    def product(parameters: list[torch.Tensor], *, graph: bool) -> torch.Tensor:
        nonlocal w
        by_id = {id(p): z for p, z in zip(trained, parameters, strict=True)}
        with (
            seeded(x.device, 0),
            torch.enable_grad(),
            evaluating(module),
            mixed_precision(x, False),
            replaced(module, lambda p: by_id[id(p)] if id(p) in by_id else convert(p.detach())),
        ):
            value = tensor_of(module(leaf.clone()), module).to(x.dtype)
            w = normal(value) if w is None else w
            (gradient,) = torch.autograd.grad(value, leaf, w, create_graph=graph)
            return (gradient * v).sum()

    def inner(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The products of the entries; the real part, for a complex parameter."""
        return (one.conj() * other).real if one.is_complex() else one * other

    with _for_two_passes():
        leaves = [p.clone().requires_grad_(True) for p in values]
        exact = _gradients(product(leaves, graph=True), tuple(leaves))
        parts = [inner(g, d) for g, d in zip(exact, changes, strict=True)]
        if not parts:
            return True
        slope = torch.stack([part.sum() for part in parts]).sum()
        if not slope.isfinite():
            raise OnrError("it is not finite")
        size = torch.stack([part.norm() for part in parts]).norm()
        double = x.dtype == torch.float64
        tolerance = 1e-5 if double else 3e-2
        for step in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7) if double else (1e-1, 1e-2, 1e-3):
            ahead, behind = (
                product([p + s * d for p, d in zip(values, changes, strict=True)], graph=False)
                for s in (step, -step)
            )
            if ((ahead - behind) / (2 * step) - slope).abs() <= tolerance * size:
                return True
    return False


def _set_generator(device: torch.device, state: torch.Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
