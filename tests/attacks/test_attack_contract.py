"""Every attack of the registry keeps the contract, and the checks notice one that does not."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from onr.architectures import Normalize, initial_parameters
from onr.attacks.fast_gradient import FastGradient
from onr.attacks.projected_gradient import ProjectedGradientAscent
from onr.errors import OnrError
from onr.feasible import require_inside
from onr.protocols import Attack
from onr.registry import load, registry
from onr.testing import check_attack
from onr.text import norm
from onr_numpy.network import DenseNetwork
from onr_paper.models import mlp
from onr_torch.network import TorchNetwork
from onr_torch.testing import check_attack as check_torch_attack

RADII = {"1": 6.0, "2": 0.75, "inf": 0.05}
LOSSES = ("cross-entropy", "margin", "lq:2")
LIBRARIES = {
    "autoattack": {"": ("1", "2", "inf")},
    "square": {"": ("1", "2", "inf")},
    "torchattacks": {":PGDL2": ("2",), ":PGD": ("inf",), ":APGD": ("2", "inf")},
    "foolbox": {":L1PGD": ("1",), ":L2PGD": ("2",), ":LinfPGD": ("inf",)},
}
"""Attacks of other libraries, which need not be installed, and their norms; of many, some."""


def cases() -> Iterator[tuple[str, str, str | None]]:
    """Every attack of the registry by its qualified name, with the norms and losses it takes."""
    for plugin, entry in registry().offers("attack"):
        spec = f"{plugin.name}:{entry.name}"
        if plugin.name == "onr_torch":
            for argument, norms in LIBRARIES[entry.name].items():
                yield from ((spec + argument, p, None) for p in norms)
            continue
        target = load("attack", spec)
        losses = LOSSES if "loss" in inspect.signature(target).parameters else (None,)
        for p, loss in product(RADII, losses):
            try:
                maker(spec, p, loss)(RADII[p])
            except OnrError:
                continue
            yield spec, p, loss


def maker(spec: str, p: str, loss: str | None) -> Callable[[float], Attack]:
    """How to make that attack at a radius."""
    return lambda eps: target(spec, loss)(p=norm(p), eps=eps)


def target(spec: str, loss: str | None) -> Callable[..., Attack]:
    """That attack as it is registered, with its loss."""
    given = {} if loss is None else {"loss": load("loss", loss)()}
    return partial(load("attack", spec), **given)


CASES = list(cases())


def test_every_attack_has_its_cases() -> None:
    offered = {f"{plugin.name}:{entry.name}" for plugin, entry in registry().offers("attack")}
    assert {":".join(spec.split(":")[:2]) for spec, _, _ in CASES} == offered
    losses = {loss for spec, _, loss in CASES if spec == "onr_paper:pga"}
    assert losses == set(LOSSES)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """AutoAttack with as many parts, each of fewer steps, and Square with fewer queries."""
    try:
        from pyautoattack import AutoAttack
        from pyautoattack.square import SquareAttack
    except ModuleNotFoundError:
        return
    usual, init = AutoAttack._set_version, SquareAttack.init_hyperparam

    def few(self: Any, x: torch.Tensor) -> None:
        init(self, x)
        self.n_queries = min(self.n_queries, 5)

    monkeypatch.setattr(SquareAttack, "init_hyperparam", few)

    def fewer(self: Any, version: str) -> None:
        usual(self, version)
        self.fab.n_iter, self.square.n_queries = 3, 5
        for part in (self.apgd, self.apgd_targeted):
            part.n_iter = part.n_iter_orig = 3
        self.fab.n_target_classes = self.apgd_targeted.n_target_classes = 2

    monkeypatch.setattr(AutoAttack, "_set_version", fewer)


@cache
def trained() -> tuple[TorchNetwork, torch.Tensor, torch.Tensor]:
    """A small network with batch normalisation, trained on grey digits, and 200 unseen images.

    It is right on nearly all, and confident.
    """
    digits = load_digits()
    images = torch.tensor(digits.images[:, None] / 16, dtype=torch.float32).repeat(1, 3, 1, 1)
    labels = torch.tensor(digits.target)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(128, 10),
        )
        optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
        for _ in range(8):
            for part in (200 + torch.randperm(1597)).split(100):
                optimizer.zero_grad()
                functional.cross_entropy(module(images[part]), labels[part]).backward()
                optimizer.step()
    return TorchNetwork(module.eval(), (3, 8, 8)), images[:100], labels[:100]


def test_the_network_is_worth_attacking() -> None:
    network, x, y = trained()
    assert float((network(x).argmax(1) == y).double().mean()) > 0.9


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
@pytest.mark.parametrize(("spec", "p", "loss"), CASES)
def test_on_a_module(spec: str, p: str, loss: str | None) -> None:
    if loss is None:
        try:
            maker(spec, p, loss)(0.0)
        except OnrError as error:
            if "is not installed" in str(error):
                pytest.skip(str(error))
            raise
    check_torch_attack(maker(spec, p, loss), *trained(), p=norm(p), eps=RADII[p])


@cache
def dense() -> tuple[DenseNetwork, np.ndarray, np.ndarray]:
    architecture = mlp((1, 3, 3), 4, normalize=Normalize((0.5,), (0.5,)), width=12)
    parameters = initial_parameters(architecture, 0)
    parameters = {name: value.astype(np.float64) for name, value in parameters.items()}
    rng = np.random.default_rng(0)
    return DenseNetwork(architecture, parameters), rng.random((6, 1, 3, 3)), rng.integers(0, 4, 6)


DENSE = [case for case in CASES if not case[0].startswith("onr_torch:")]


@pytest.mark.parametrize(("spec", "p", "loss"), DENSE)
def test_on_a_dense_network(spec: str, p: str, loss: str | None) -> None:
    check_attack(target(spec, loss), *dense(), p=norm(p), eps=RADII[p] / 4)


@pytest.mark.parametrize("spec", ["pga", "fgm", "noise"])
def test_other_norms_and_targets(spec: str) -> None:
    check_attack(maker(spec, "1.5", "targeted-cross-entropy"), *dense(), p=norm("1.5"), eps=0.3)


# What the checks notice


class Spoilt:
    """Projected gradient ascent on cross-entropy in the l2 ball, with a fault."""

    def __init__(self, eps: float, **options: Any) -> None:
        self.eps = eps
        usual = {"p": norm("2"), "loss": load("loss", "cross-entropy")(), "steps": 3}
        self.attack = ProjectedGradientAscent(eps=eps, **(usual | options))

    def __call__(self, network: Any, x: Any, y: Any, /, *, rng: np.random.Generator) -> Any:
        return self.attack(network, x, y, rng=rng)


class TouchesGradients(Spoilt):
    def __call__(self, network, x, y, /, *, rng):
        network.module.zero_grad(set_to_none=False)
        return super().__call__(network, x, y, rng=rng)


class DropsGradients(Spoilt):
    def __call__(self, network, x, y, /, *, rng):
        network.module.zero_grad()
        return super().__call__(network, x, y, rng=rng)


class RestoresTheRootAlone(Spoilt):
    def __call__(self, network, x, y, /, *, rng):
        training = network.module.training
        network.module.eval()
        found = super().__call__(network, x, y, rng=rng)
        network.module.train(training)
        return found


class LeavesParametersFrozen(Spoilt):
    def __call__(self, network, x, y, /, *, rng):
        network.module.requires_grad_(False)
        return super().__call__(network, x, y, rng=rng)


class AsksForEveryGradient(Spoilt):
    def __call__(self, network, x, y, /, *, rng):
        found = super().__call__(network, x, y, rng=rng)
        network.module.requires_grad_(True)
        return found


class UpdatesStatistics(Spoilt):
    def __call__(self, network, x, y, /, *, rng):
        with torch.no_grad():
            network.module(x)
        return super().__call__(network, x, y, rng=rng)


class AttacksInTheModesItFinds(Spoilt):
    def __call__(self, network, x, y, /, *, rng):
        buffers = {name: value.clone() for name, value in network.module.named_buffers()}
        leaf = x.clone().requires_grad_(True)
        loss = functional.cross_entropy(network.module(leaf), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf)
        for name, value in network.module.named_buffers():
            value.copy_(buffers[name])
        size = gradient.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None]
        return (x + self.eps * gradient / size).clamp(0, 1)


class DividesByTheRadius(Spoilt):
    def __call__(self, network, x, y, /, *, rng):
        delta = super().__call__(network, x, y, rng=rng) - x
        return x + delta / self.eps * self.eps


class MovesAtZero(Spoilt):
    def __call__(self, network, x, y, /, *, rng):
        found = super().__call__(network, x, y, rng=rng)
        return found if self.eps > 0 else (found - 1e-7).clip(0, 1)


class WorksInFloat32(Spoilt):
    def __call__(self, network, x, y, /, *, rng):
        found = super().__call__(network, x, y, rng=rng)
        return found.float() if isinstance(found, torch.Tensor) else found.astype(np.float32)


class TakesViews(Spoilt):
    def __call__(self, network, x, y, /, *, rng):
        return super().__call__(network, x.view(len(x), -1).view(x.shape), y, rng=rng)


class LeavesTheBox(Spoilt):
    def __init__(self, eps):
        super().__init__(eps, bounds=None)


class LeavesTheBall(Spoilt):
    def __call__(self, network, x, y, /, *, rng):
        return (x + 1.1 * (super().__call__(network, x, y, rng=rng) - x)).clip(0, 1)


class DividesByTheGradient(Spoilt):
    def __call__(self, network, x, y, /, *, rng):
        here = network.linearize(x)
        g = here.vjp(self.attack.loss.direction(here.value, labels=y))
        size = (g.reshape((len(x), -1)) ** 2).sum(1) ** 0.5
        found = (x + self.eps * g / size.reshape((-1, 1, 1, 1))).clip(0, 1)
        return found if isinstance(x, torch.Tensor) else found.astype(x.dtype)


class AddsAConstant(Spoilt):
    """As the libraries do: the gradient of cross-entropy over its norm plus a constant."""

    def __call__(self, network, x, y, /, *, rng):
        require_inside(x, (0, 1))
        found = x
        for _ in range(20):
            here = network.linearize(found)
            loss = here.value.detach().requires_grad_(True)
            functional.cross_entropy(loss, y).backward()
            g = here.vjp(loss.grad)
            step = g / (g.flatten(1).norm(dim=1) + 1e-10)[:, None, None, None]
            delta = self.attack.p.project_ball(found + 0.1 * self.eps * step - x, self.eps)
            found = (x + delta).clamp(0, 1)
        return found


class DrawsFromTheWorld(Spoilt):
    def __call__(self, network, x, y, /, *, rng):
        torch.rand(1)
        np.random.rand()  # noqa: NPY002
        return super().__call__(network, x, y, rng=rng)


class DrawsItsOwn(Spoilt):
    def __call__(self, network, x, y, /, *, rng):
        return super().__call__(network, x, y, rng=np.random.default_rng())


class ChangesTheInput(Spoilt):
    def __call__(self, network, x, y, /, *, rng):
        found = super().__call__(network, x, y, rng=rng)
        x *= 0.999
        return found if self.eps > 0 else x + 0


class TakesAnyInput(Spoilt):
    def __call__(self, network, x, y, /, *, rng):
        return super().__call__(network, x.clip(0, 1), y, rng=rng)


class ScalesByTheBatch(Spoilt):
    def __call__(self, network, x, y, /, *, rng):
        require_inside(x, (0, 1))
        here = network.linearize(x)
        g = here.vjp(self.attack.loss.direction(here.value, labels=y))
        most = max((g.reshape((len(x), -1)) ** 2).sum(1).max() ** 0.5, 1e-300)
        return (x + self.eps * g / most).clip(0, 1).astype(x.dtype)


def untouched(eps: float) -> Attack:
    return Spoilt(eps)


def test_without_a_fault_all_is_well() -> None:
    check_torch_attack(untouched, *trained(), p=norm("2"), eps=0.75)
    check_attack(untouched, *dense(), p=norm("2"), eps=0.5)


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        (TouchesGradients, "parameters' gradients"),
        (DropsGradients, "parameters' gradients"),
        (RestoresTheRootAlone, "every submodule's mode"),
        (LeavesParametersFrozen, "ask for gradients as before"),
        (AsksForEveryGradient, "ask for gradients as before"),
        (UpdatesStatistics, "buffers are left alone"),
        (AttacksInTheModesItFinds, "whatever the module's mode"),
        (DividesByTheRadius, "eps = 0 returns the input"),
        (MovesAtZero, "eps = 0 returns the input"),
        (WorksInFloat32, "float64 in, float64 out"),
        (TakesViews, "channels-last input"),
        (LeavesTheBox, "the box"),
        (LeavesTheBall, "the ball"),
        (DividesByTheGradient, "an example with zero gradient"),
        (AddsAConstant, "logits times 30"),
        (DrawsFromTheWorld, "global generators"),
        (DrawsItsOwn, "one seed, one result"),
        (ChangesTheInput, "the input is left alone"),
        (TakesAnyInput, "are refused"),
    ],
)
def test_a_fault_on_a_module(fault: Callable[[float], Attack], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_torch_attack(fault, *trained(), p=norm("2"), eps=0.75)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("fault", "law"),
    [
        (DividesByTheRadius, "eps = 0 returns the input"),
        (MovesAtZero, "eps = 0 returns the input"),
        (WorksInFloat32, "the input's float type"),
        (LeavesTheBox, "the box"),
        (LeavesTheBall, "the ball"),
        (DividesByTheGradient, "where the gradient is zero"),
        (DrawsItsOwn, "one seed, one result"),
        (ChangesTheInput, "the input is left alone"),
        (TakesAnyInput, "are refused"),
        (ScalesByTheBatch, "does not depend on the others"),
    ],
)
def test_a_fault_on_a_dense_network(fault: Callable[[float], Attack], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_attack(fault, *dense(), p=norm("2"), eps=0.5)


# Row nine, at full strength


@pytest.mark.parametrize("attack", [ProjectedGradientAscent, FastGradient])
@pytest.mark.parametrize("factor", [30.0, 1e6])
def test_confident_logits_hide_no_example(attack: Any, factor: float) -> None:
    network, x, y = trained()

    class Times(nn.Module):
        def forward(self, z):
            return factor * network.module(z)

    scaled = TorchNetwork(nn.Sequential(Times()), (3, 8, 8))
    accuracy = []
    for attacked in (network, scaled):
        made = attack(p=norm("2"), loss=load("loss", "cross-entropy")(), eps=0.75)
        found = made(attacked, x, y, rng=np.random.default_rng(0))
        accuracy.append(float((network(found).argmax(1) == y).double().mean()))
    assert accuracy[1] <= accuracy[0] + 0.02
    assert accuracy[0] < 0.7
