"""How far the linear region (ReLU cell) around an input reaches, for any ReLU ``nn.Module``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from onr.errors import NotAvailableError, OnrError
from onr.norms import LpNorm, as_norm
from onr.protocols import Norm
from onr_torch.linearization import jvp
from onr_torch.modes import constant_parameters, require_evaluation

__all__ = ["cell_radius"]

# fmt: off
OTHERS = frozenset({
    "abs", "celu", "clamp", "elu", "gelu", "glu", "hardsigmoid", "hardswish", "hardtanh",
    "log_softmax", "max", "maximum", "minimum", "mish", "prelu", "relu6", "selu", "sigmoid", "silu",
    "softmax", "softplus", "tanh",
})
# fmt: on
"""Nonlinearities that are refused by name; :func:`_check_affine` finds any other."""
STEP = 10
"""How far :func:`_check_affine` goes from an input, in units of one plus its largest magnitude."""


def cell_radius(
    module: nn.Module, x: torch.Tensor, /, *, p: Norm | float, chunk: int = 64
) -> torch.Tensor:
    """The largest ``eps`` with ``B_eps^p(x)`` inside the ReLU cell ``X(phi_x)`` (section 3).

    The radius is ``min_j |z_j| / ||grad_x z_j||_{p*}``, exact up to rounding. Here ``z_j`` runs
    over the pre-activations of the ReLUs and, for each window of a max pooling, over the winner
    minus each other entry. A ``z_j`` whose gradient is zero has no wall (infinite distance). A unit
    at exactly zero (where a ReLU counts as off) with a nonzero gradient gives radius 0, and so does
    a tie in a window.

    The module may use ReLU, leaky ReLU and 2-d max pooling, as layers or as functions, in place or
    not; everything else in the module must be affine in the input. The call leaves the module's
    modes and parameters as they are.

    Args:
        module: the network; it maps each example of a batch independently of the others.
        x: inputs, shape ``(batch, *input_shape)``.
        p: the norm of the ball, an lp norm or its exponent.
        chunk: how many of the ``n`` basis vectors go through the module at once. It sets the memory
            (that of a forward pass of ``chunk`` examples) and does not change the result.

    Returns:
        The radius of each example, shape ``(batch,)``; ``inf`` without hidden units.

    Raises:
        NotAvailableError: the norm is not an lp norm. Gradients are computed in parts, and only an
            lp norm of the whole follows from the norms of its parts.
        OnrError: the module has another nonlinearity, a batch normalisation or dropout layer in
            training mode (call ``module.eval()`` first), or an operation without a forward-mode
            derivative in torch. A nonlinearity is recognised by its name, or at a random point
            where the module differs from its linearisation in the cell. One that contributes less
            than half a percent of the values at that point in float32 (``6e-6`` in float64) goes
            unseen.

    Example:
        >>> cell_radius(nn.ReLU(), torch.tensor([[3.0, -4.0]]), p=2)
        tensor([3.])

    """
    p = as_norm(p)
    if not isinstance(p, LpNorm):
        raise NotAvailableError(
            f"no cell radius of a torch module in norm {p.name}, which does not follow from the "
            "norms of parts: use an lp norm, or a small network of backend numpy"
        )
    require_evaluation(module)
    radius = x.new_full((len(x),), math.inf)
    with torch.no_grad(), constant_parameters(module):
        for index in range(len(x)):
            radius[index] = _radius(module, x[index : index + 1].detach(), p.dual, chunk)
    return radius


def _radius(module: nn.Module, x: torch.Tensor, dual: LpNorm, chunk: int) -> torch.Tensor:
    """The radius at one input ``x`` of shape ``(1, *input_shape)``, with the dual of its norm."""
    values, pattern = _run(module, x.clone())

    def fixed(z: torch.Tensor) -> list[torch.Tensor]:
        return _run(module, z, pattern)[0]

    _check_affine(fixed, x, values)
    units = values[:-1]
    steepness = [torch.zeros_like(z).flatten() for z in units]
    for basis in _basis(x, chunk):
        # vmap repeats only the tangents: the value is computed once, not for each basis vector.
        tangents = torch.func.vmap(lambda v: jvp(fixed, x, v))(basis)
        for index, seen in enumerate(steepness):
            part = dual(tangents[index].reshape(len(basis), -1).T)
            steepness[index] = dual(torch.stack([seen, part], dim=1))
    distances = [
        torch.where(steep > 0, z.flatten().abs() / steep, math.inf)
        for z, steep in zip(units, steepness, strict=True)
    ]
    return torch.cat([x.new_full((1,), math.inf), *distances]).min()


def _basis(x: torch.Tensor, chunk: int) -> Iterator[torch.Tensor]:
    """The unit vectors of the input space, in parts of shape ``(chunk, *x.shape)``."""
    n = x.numel()
    for start in range(0, n, chunk):
        indices = torch.arange(start, min(start + chunk, n), device=x.device)
        yield functional.one_hot(indices, n).to(x.dtype).reshape(-1, *x.shape)


def _check_affine(
    fixed: Callable[[torch.Tensor], list[torch.Tensor]], x: torch.Tensor, values: list[torch.Tensor]
) -> None:
    """Refuse a module that is not affine when the masks and winners of ``x`` are held fixed.

    With fixed masks an affine module is affine everywhere, so the check can go far from ``x``,
    where another nonlinearity makes an error of its own size. Inside the cell of a real network
    that error would be below rounding in float32. The tolerance leaves room for the rounding of
    deep networks, with TF32 convolutions too.
    """
    generator = torch.Generator().manual_seed(0)
    step = STEP * (1 + x.abs().max()) * torch.randn(x.shape, generator=generator).to(x)
    tangents = jvp(fixed, x, step)
    tolerance = torch.finfo(x.dtype).eps ** (1 / 3)
    for sign in (1, -1):
        for near, far, tangent in zip(values, fixed(x + sign * step), tangents, strict=True):
            error = (far - near - sign * tangent).abs().max()
            scale = torch.maximum(near.abs(), far.abs()).max()
            if not error <= tolerance * scale:  # NaN is refused too
                raise OnrError(
                    "the module is not linear in the cell that its ReLUs and max poolings give, so "
                    "it has another nonlinearity: no cell radius is known for it"
                )


def _run(
    module: nn.Module, x: torch.Tensor, pattern: Sequence[torch.Tensor] | None = None
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Run the module; return what is zero on the cell's walls and the outputs, and the pattern."""
    with _Units(pattern) as units:
        outputs = module(x)
    return [*units.values, outputs], units.pattern


class _Units(TorchFunctionMode):
    """Records, call by call, the values that are zero on the cell's walls, and the pattern.

    The pattern holds the pre-activations of each ReLU and the winners of each pooling. A given
    pattern replaces that of the input.
    """

    def __init__(self, pattern: Sequence[torch.Tensor] | None) -> None:
        super().__init__()
        self.values: list[torch.Tensor] = []
        self.pattern: list[torch.Tensor] = []
        self._given = pattern

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Compute known nonlinearities here, and refuse others that are applied to the input."""
        kwargs = kwargs or {}
        written = getattr(func, "__name__", "")
        name, inplace = written.removesuffix("_"), written.endswith("_")
        if name == "relu":
            return self._rectify(*args, **{"inplace": inplace, "negative_slope": 0} | kwargs)
        if name == "leaky_relu":
            return self._rectify(*args, **{"inplace": inplace} | kwargs)
        if name == "max_pool2d":
            return self._pool(*args, **kwargs)[0]
        if name == "max_pool2d_with_indices":
            return self._pool(*args, **kwargs)
        if name in OTHERS and any(map(_depends_on_input, (*args, *kwargs.values()))):
            raise OnrError(
                f"the module uses {name}: the cell radius is known for ReLU, leaky ReLU and 2-d "
                "max pooling only"
            )
        return func(*args, **kwargs)

    def _keep(self, own: Callable[[], torch.Tensor]) -> torch.Tensor:
        if self._given is not None and len(self.pattern) == len(self._given):
            raise OnrError(
                "the module takes another way at other inputs: no cell radius is known for it"
            )
        kept = own() if self._given is None else self._given[len(self.pattern)]
        self.pattern.append(kept)
        return kept

    def _rectify(
        self, input: torch.Tensor, negative_slope: float = 0.01, inplace: bool = False
    ) -> torch.Tensor:
        kept = self._keep(input.clone)
        self.values.append(input.clone())
        # The derivative at the kept pre-activation, applied to the input; slope 0 is ReLU.
        result: torch.Tensor = torch.ops.aten.leaky_relu_backward(
            input, kept, negative_slope, False
        )
        return input.copy_(result) if inplace else result

    def _pool(
        self,
        input: torch.Tensor,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        stride = stride or kernel_size
        winners = self._keep(
            lambda: functional.max_pool2d(
                input, kernel_size, stride, padding, dilation, ceil_mode, return_indices=True
            )[1]
        )
        windows = _windows(winners, input.shape[-2:], kernel_size, stride, padding, dilation)
        entries = input.flatten(-2)
        best = entries.gather(-1, winners.flatten(-2)).view(winners.shape)
        others = entries.gather(-1, windows.flatten(-4)).view(windows.shape)
        self.values.append(best[..., None, None] - others)
        return best, winners


def _windows(
    winners: torch.Tensor, image: Sequence[int], *options: int | tuple[int, ...]
) -> torch.Tensor:
    """The flat index of each window's entries, shape ``(*winners.shape, height, width)``.

    Where a window reaches into the padding, the index of its winner stands in.
    """
    pairs = [(option, option) if isinstance(option, int) else option for option in options]
    axes = []
    for outputs, (size, step, before, apart) in zip(
        winners.shape[-2:], zip(*pairs, strict=True), strict=True
    ):
        start = step * torch.arange(outputs, device=winners.device) - before
        axes.append(start[:, None] + apart * torch.arange(size, device=winners.device))
    rows, columns = axes[0][:, None, :, None], axes[1][:, None, :]
    height, width = image
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return torch.where(inside, rows * width + columns, winners[..., None, None])


def _depends_on_input(value: object) -> bool:
    """Whether ``value`` is a tensor with a tangent, in a forward-mode pass."""
    if not isinstance(value, torch.Tensor):
        return False
    return forward_ad.unpack_dual(value)[1] is not None  # type: ignore[no-untyped-call]  # torch's
