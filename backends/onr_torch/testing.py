"""Checks that an attack keeps its contract on a torch module, for the tests of your own attacks.

::

    from onr_torch.testing import check_attack

    def test_my_attack():
        l2 = LpNorm(2)
        check_attack(lambda eps: MyAttack(p=l2, eps=eps), network, x, y, p=l2, eps=0.5)
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from onr.errors import OnrError
from onr.protocols import Attack, Norm
from onr.testing.laws import law, require
from onr_torch.network import TorchNetwork

__all__ = ["check_attack"]

FEW = 8
"""How many examples the checks use that do not measure accuracy."""


def _require(holds: Any, text: str, /, **inputs: Any) -> None:
    require([law(text, holds, **inputs)])


@contextmanager
def _law(law: str) -> Iterator[None]:
    """Turn any exception inside the block into a failure of ``law``."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{law}: {error}") from error


class _Times(nn.Module):
    """A module with its logits multiplied by a factor, plus a bias for class 0."""

    def __init__(self, module: nn.Module, factor: float, bias: float = 0.0) -> None:
        super().__init__()
        self.module, self.factor, self.bias = module, factor, bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.factor * self.module(x)
        logits[:, 0] += self.bias
        return logits


def check_attack(
    make_attack: Callable[[float], Attack],
    network: TorchNetwork,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    p: Norm,
    eps: float,
) -> None:
    """Check that an attack keeps its contract, whatever the state of the module.

    The contract:

    - The attack leaves parameters, their gradients and ``requires_grad``, every submodule's mode,
      the buffers of a module in training mode, the input and the global random generators alone.
    - The result is determined by ``rng``, lies in the box and in the ball, and has the input's
      dtype.
    - The attack accepts inputs in channels-last format and refuses inputs outside the box.
    - The attack returns the input for ``eps = 0``, and finite numbers where the gradient is zero.
    - Logits times 30, which change no prediction, raise the robust accuracy by no more than two
      points.

    Args:
        make_attack: returns the attack of a given radius, 0 included, on pixels in [0, 1].
        network: a trained network, best with batch normalisation; the check works on a copy.
        x: inputs in [0, 1], float32. More inputs make a sharper check; the channels-last check
            needs images of several channels.
        y: the labels of ``x``, most of which the network predicts correctly.
        p: the norm of the ball.
        eps: a radius at which the accuracy falls, and falls less if the attack loses its gradients.

    Raises:
        AssertionError: a law is broken; the message says which.

    Example:
        >>> from onr.losses import Margin
        >>> from onr.norms import LpNorm
        >>> from onr.registry import load
        >>> network = TorchNetwork(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), (1, 2, 2))
        >>> x, l2, pga = torch.rand(20, 1, 2, 2), LpNorm(2), load("attack", "pga")
        >>> make_attack = lambda eps: pga(p=l2, eps=eps, loss=Margin())
        >>> check_attack(make_attack, network, x, network(x).argmax(dim=1), p=l2, eps=0.1)

    """
    module = copy.deepcopy(network.module).float()
    attack = make_attack(eps)

    def made(module: nn.Module) -> TorchNetwork:
        return TorchNetwork(module, tuple(x.shape[1:]))

    def found_at(
        module: nn.Module, x: torch.Tensor, attack: Attack = attack, labels: torch.Tensor = y
    ) -> torch.Tensor:
        rng = np.random.default_rng(0)
        found: torch.Tensor = attack(made(module), x, labels[: len(x)], rng=rng)
        _require(found.shape == x.shape, "perturbed inputs shaped as the input")
        _require(found.dtype == x.dtype, "the input's float type")
        _require(not found.requires_grad, "no graph is attached")
        _require(found.isfinite(), "finite perturbed inputs", x=x, found=found)
        _require((found >= 0) & (found <= 1), "the box [0, 1]", x=x, found=found)
        size = p((found - x).double())
        inside = size <= eps * (1 + 1e-5) + 1e-6
        _require(inside, "the ball of radius eps", x=x, eps=eps, norm=size)
        return found

    def accuracy(module: nn.Module) -> float:
        right: torch.Tensor = made(module)(found_at(module, x)).argmax(dim=1) == y
        return float(right.double().mean())

    few, found = x[:FEW], []
    for mixed in (False, True):
        before, generators = few.clone(), _generators()
        with _Unchanged(copy.deepcopy(module), mixed=mixed) as state:
            found.append(found_at(state.module, few))
        _require(torch.equal(few, before), "the input is left alone")
        _require(generators == _generators(), "the global generators are left alone")
    same = torch.equal(*found) and torch.equal(found[0], found_at(module, few))
    _require(same, "one seed, one result, whatever the module's mode")
    with _law("eps = 0 returns the input"):
        _require(torch.equal(found_at(module, few, make_attack(0.0)), few), "it moved")
    with _law("float64 in, float64 out"):
        found_at(copy.deepcopy(module).double(), few.double())
    if few.ndim == 4:
        with _law("channels-last input"):
            last = copy.deepcopy(module).to(memory_format=torch.channels_last)
            found_at(last, few.contiguous(memory_format=torch.channels_last))
    with _law("an example with zero gradient gives numbers"):
        found_at(_Times(module, 0.0, bias=1.0), few, labels=torch.zeros_like(y))
    try:
        attack(made(module), few - 2, y[:FEW], rng=np.random.default_rng(0))
    except OnrError:
        pass
    else:
        raise AssertionError("inputs outside [0, 1] are refused")
    plain, scaled = accuracy(module), accuracy(_Times(module, 30.0))
    _require(
        scaled <= plain + 0.02,
        f"logits times 30 hide nothing: robust accuracy {scaled:.3f}, without {plain:.3f}",
    )


class _Unchanged:
    """Checks that a module in training mode is the same after the block as before.

    With ``mixed``, half of the submodules are in evaluation mode and half of the parameters
    require no gradient.
    """

    def __init__(self, module: nn.Module, *, mixed: bool) -> None:
        self.module = module.train()
        parts, parameters = list(module.modules()), list(module.parameters())
        if mixed:
            for part in parts[1::2]:
                part.training = False
            for parameter in parameters[1::2]:
                parameter.requires_grad_(False)
        self._gradients = [torch.ones_like(parameter) for parameter in parameters]
        for parameter, gradient in zip(parameters, self._gradients, strict=True):
            parameter.grad = gradient
        self._modes = [part.training for part in parts]
        self._wanted = [parameter.requires_grad for parameter in parameters]
        self._values = {name: value.clone() for name, value in module.state_dict().items()}

    def __enter__(self) -> _Unchanged:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if kind is not None:
            return
        parameters = list(self.module.parameters())
        for parameter, before in zip(parameters, self._gradients, strict=True):
            same = parameter.grad is before and torch.equal(before, torch.ones_like(before))
            _require(same, "parameters' gradients are left alone")
        wanted = [parameter.requires_grad for parameter in parameters]
        _require(wanted == self._wanted, "parameters ask for gradients as before")
        modes = [part.training for part in self.module.modules()]
        _require(modes == self._modes, "every submodule's mode is restored")
        for name, value in self.module.state_dict().items():
            same = torch.equal(value, self._values[name])
            _require(same, f"parameters and buffers are left alone, {name} too")


def _generators() -> tuple[object, ...]:
    legacy = np.random.get_state(legacy=False)["state"]  # noqa: NPY002 - to see that nothing draws from it
    drawn = torch.get_rng_state().numpy().tobytes()
    return drawn, legacy["key"].tobytes(), legacy["pos"], random.getstate()
