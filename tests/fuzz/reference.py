"""The truth in float64, from a second copy of the module: one backward pass a row of ``J``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from onr.protocols import Method

TINY_LOGIT = -1e4
"""Stands for a logit of -inf: the same probabilities and gradients, from finite numbers."""


class UndecidedError(Exception):
    """The truth is not known here: two ways to it disagree, as at a kink."""


def logits(output: Any) -> torch.Tensor:
    """The logits in what a module returns."""
    if isinstance(output, dict):
        output = output["logits"]
    output = getattr(output, "logits", output)
    if isinstance(output, tuple | list):
        output = output[0]
    if not isinstance(output, torch.Tensor) or output.ndim != 2:
        raise TypeError("no logits (batch, d)")
    return output


def value(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The logits in float64, without a graph."""
    with torch.no_grad():
        return logits(module(x.clone())).detach().double()


def gradients(scalar: torch.Tensor, wanted: list[torch.Tensor]) -> list[torch.Tensor | None]:
    """The gradients of a scalar; the graph is kept."""
    try:
        return list(torch.autograd.grad(scalar, wanted, retain_graph=True, allow_unused=True))
    except RuntimeError as error:
        if "use_reentrant" not in str(error):
            raise
    for leaf in wanted:  # a reentrant checkpoint works with backward() alone
        leaf.grad = None
    scalar.backward(retain_graph=True)
    found = [leaf.grad for leaf in wanted]
    for leaf in wanted:
        leaf.grad = None
    return found


def jacobian(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """``J`` by a backward pass a row, shape ``(batch, d, n)``; zero for a class that is masked."""
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_(True)
        found = logits(module(x.clone()))
        rows = []
        for column in found.unbind(1):
            row = None
            if column.requires_grad:
                (row,) = gradients(column[~column.isneginf()].sum(), [x])
            rows.append(torch.zeros_like(x) if row is None else row)
    return torch.stack(rows, 1).flatten(2).double().detach()


def differences(
    module: nn.Module, x: torch.Tensor, v: torch.Tensor, h: float = 1e-5
) -> torch.Tensor:
    """``J v`` by central differences of two step sizes, where they agree."""
    wide, narrow = (
        (value(module, x + step * v) - value(module, x - step * v)) / (2 * step)
        for step in (h, h / 3)
    )
    _agree(wide, narrow, 1e-10 / h * value(module, x).abs().max())
    return narrow


def _agree(wide: torch.Tensor, narrow: torch.Tensor, noise: Any) -> None:
    if not ((wide - narrow).abs().max() <= 1e-6 * narrow.abs().max() + noise):
        raise UndecidedError("central differences of two step sizes disagree")


def floats(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that can have gradients and ask for them."""
    return [p for p in module.parameters() if p.requires_grad]


def weight_gradient(module: nn.Module, total: Callable[[], torch.Tensor]) -> torch.Tensor:
    """The gradient of a scalar in all parameters, as one vector; zero where there is none."""
    wanted = floats(module)
    with torch.enable_grad():
        scalar = total()
        found: list[torch.Tensor | None] = [None] * len(wanted)
        if scalar.requires_grad and wanted:
            found = gradients(scalar, list(wanted))
    parts = [torch.zeros_like(p) if g is None else g for p, g in zip(wanted, found, strict=True)]
    return flat(parts)


def flat(parts: list[torch.Tensor]) -> torch.Tensor:
    """One real vector of all entries, float64."""
    real = [
        torch.view_as_real(p.detach().resolve_conj()) if p.is_complex() else p.detach()
        for p in parts
    ]
    return torch.cat([torch.empty(0, dtype=torch.float64), *(p.flatten().double() for p in real)])


def trained_gradient(
    module: nn.Module, x: torch.Tensor, v: torch.Tensor, w: torch.Tensor, h: float = 1e-5
) -> torch.Tensor:
    """The gradient of ``<w, J v>`` in the weights, by central differences of gradients along v."""

    def along(step: float) -> tuple[torch.Tensor, torch.Tensor]:
        ahead, behind = (
            weight_gradient(module, lambda at=at: (logits(module(at)) * w).sum())
            for at in (x + step * v, x - step * v)
        )
        return (ahead - behind) / (2 * step), ahead

    (wide, size), (narrow, _) = along(h), along(h / 3)
    if len(narrow):
        _agree(wide, narrow, 1e-14 / h * size.abs().max())
    return narrow


def convention(
    module: nn.Module, x: torch.Tensor, v: torch.Tensor, w: torch.Tensor
) -> torch.Tensor:
    """The gradient of ``<w, J v>`` in the weights as autograd has it, by three backward passes.

    For modules whose backward pass is not the derivative of their value, as where they detach: no
    difference of values gives it, and what is constant for autograd is constant here.
    """
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_(True)
        value = logits(module(x.clone()))
        u = torch.zeros_like(value, requires_grad=True)
        (back,) = torch.autograd.grad(value, x, u, create_graph=True, materialize_grads=True)
        (image,) = torch.autograd.grad(back, u, v, create_graph=True, materialize_grads=True)
        image = image.masked_fill(value.isneginf(), 0)
    return weight_gradient(module, lambda: (image * w).sum())


def times(J: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """``J v``, shape ``(batch, d)``."""
    return (J @ v.double().flatten(1)[:, :, None])[:, :, 0]


class DenseLinearization:
    """The linearisation that the dense ``J`` gives."""

    def __init__(self, module: nn.Module, x: torch.Tensor) -> None:
        self.value = value(module, x).nan_to_num(nan=np.nan, posinf=np.inf, neginf=TINY_LOGIT)
        self._J, self._shape = jacobian(module, x), x.shape

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self._shape[1:])

    @property
    def output_shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape[1:])

    def jvp(self, v: torch.Tensor) -> torch.Tensor:
        return times(self._J, v)

    def vjp(self, u: torch.Tensor) -> torch.Tensor:
        return (u[:, None, :] @ self._J)[:, 0].reshape(self._shape)


class DenseNetwork:
    """A module as a network by :class:`DenseLinearization`, for attacks and methods."""

    def __init__(self, module: nn.Module, input_shape: tuple[int, ...]) -> None:
        self.module, self.input_shape = module, input_shape

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return value(self.module, x).nan_to_num(nan=np.nan, posinf=np.inf, neginf=TINY_LOGIT)

    def linearize(self, x: torch.Tensor, *, jvp: bool = True) -> DenseLinearization:
        return DenseLinearization(self.module, x)

    def frozen(self) -> DenseNetwork:
        return self


def step_gradient(
    trained: nn.Module,
    constant: nn.Module,
    method: Method,
    x: torch.Tensor,
    y: torch.Tensor,
    rng: np.random.Generator,
    *,
    smooth: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient in the weights of a method's cost on a batch, and the mean cost.

    Args:
        trained: takes the pass in training mode, and keeps its statistics.
        constant: a copy; ``J`` is of evaluation mode and of the statistics before the step.
        method: the method.
        x: inputs, float64.
        y: labels.
        rng: of the method.
        smooth: whether ``J`` is the derivative of the value.

    """
    from onr.protocols import Outputs

    constant.eval()
    probe = method.perturb(DenseNetwork(constant, tuple(x.shape[1:])), x, y, rng=rng, memory=None)
    # In evaluation mode, at the statistics before the training pass.
    tangent = None if probe.direction is None else times(jacobian(constant, x), probe.direction)
    evaluated = value(constant, x) if probe.evaluated else None
    parts = [x] * probe.clean + list(probe.perturbed)
    passed: list[torch.Tensor] = []
    if parts:
        trained.train()
        with torch.random.fork_rng([]), torch.enable_grad():
            torch.manual_seed(int(rng.integers(2**63)))
            passed = list(logits(trained(torch.cat(parts).clone())).split(len(x)))
        trained.eval()
    clean = passed.pop(0) if probe.clean else None
    seen = Outputs(
        None if clean is None else clean.detach(),
        tuple(p.detach() for p in passed),
        tangent,
        evaluated,
    )
    cost = method.objective(seen, y)
    slopes = cost.gradients

    def paid(pairs: list[tuple[torch.Tensor | None, torch.Tensor | None]]) -> torch.Tensor:
        used = [
            (out * slope).sum() for out, slope in pairs if out is not None and slope is not None
        ]
        return sum(used, torch.zeros((), dtype=x.dtype))

    pairs = [(clean, slopes.clean), *zip(passed, slopes.perturbed, strict=True)]
    gradient = weight_gradient(trained, lambda: paid(pairs))
    if slopes.evaluated is not None:
        gradient = gradient + weight_gradient(
            constant, lambda: paid([(logits(constant(x.clone())), slopes.evaluated)])
        )
    if tangent is not None and slopes.tangent is not None:
        size = float(probe.direction.norm()) or 1.0
        along = trained_gradient if smooth else convention
        gradient = gradient + size * along(constant, x, probe.direction / size, slopes.tangent)
    return gradient / len(x), cost.value.mean()
