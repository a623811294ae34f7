"""A model without a gradient, or with one at some images alone, is audited to the end."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from auditing.zoo.digits import digits
from auditing.zoo.hiding import OneHot
from torch import nn

import onr
from onr.attacks.multitargeted import MultiTargeted
from onr.auditing import images
from onr.auditing.zeroed_network import ZeroedNetwork
from onr.errors import ImageError, OnrError


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack of the audit with an eighth of its steps."""
    monkeypatch.setattr(images, "MultiTargeted", partial(MultiTargeted, steps=5))


class NoGraph(OneHot):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.inside(x)


class InNumpy(OneHot):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inside(torch.from_numpy(x.numpy()))


class Sometimes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.dark = bool(x.mean() < 0.31)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        if ctx.dark:
            raise RuntimeError("no derivative at dark images")
        return gradient


class Dark(OneHot):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inside(Sometimes.apply(x))


@pytest.mark.parametrize("model", [OneHot, NoGraph, InNumpy])
def test_its_gradient_is_zero(model: type[OneHot]) -> None:
    inside, x, y = digits()
    checks = ("zero-gradients", "graph-cut", "refused")[:: 1 if model is NoGraph else 2]
    found = onr.audit(model(inside), x[:10], y[:10], p=2, eps=0.5, checks=checks)
    assert [flag.name for flag in found.raised] == list(checks)
    assert (found.columns["norm 2:2"] == 0).all()
    assert (found.columns["failure"] == "").all()
    right = found.columns["predicted"] == found.columns["label"]
    assert np.isposinf(found.columns["first-order radius"][right]).all()


def test_a_gradient_that_fails_at_some_images() -> None:
    inside, x, y = digits()
    found = onr.audit(Dark(inside), x[:6], y[:6], p=2, eps=0.5, batch_size=1, checks=())
    dark = x[:6].flatten(1).mean(1).numpy() < 0.31
    assert 0 < dark.sum() < 6
    assert ((found.columns["norm 2:2"] == 0) == dark).all()


class Failing:
    """A network that fails when it is linearised."""

    input_shape = (2,)

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x

    def linearize(self, x: np.ndarray, *, jvp: bool = True) -> Any:
        raise self.error


@pytest.mark.parametrize("error", [OnrError("no J^T u"), RuntimeError("numpy() on a gradient")])
def test_what_says_that_there_is_no_gradient_gives_zero(error: Exception) -> None:
    network: Any = Failing(error)
    here = ZeroedNetwork(network).linearize(np.ones((3, 2)))
    assert (here.value == 1).all()
    assert not here.vjp(np.ones((3, 2))).any()
    assert not here.jvp(np.ones((3, 2))).any()


@pytest.mark.parametrize(
    "error",
    [ImageError(1, "NaN"), RuntimeError("CUDA out of memory"), MemoryError(), KeyError("name")],
)
def test_other_errors_are_errors(error: Exception) -> None:
    network: Any = Failing(error)
    with pytest.raises(type(error)):
        ZeroedNetwork(network).linearize(np.ones((3, 2)))


def test_a_module_says_whether_it_calls_autograd() -> None:
    class Purifies(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.enable_grad():
                start = x.detach().requires_grad_(True)
                start.square().sum().backward()
            assert start.grad is not None
            return x - start.grad

    from onr_torch.network import TorchNetwork

    x = torch.rand(2, 3)
    assert TorchNetwork(Purifies(), (3,)).calls_autograd(x)
    assert not TorchNetwork(nn.Identity(), (3,)).calls_autograd(x)
