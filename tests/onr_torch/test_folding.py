"""A folded network is the same function, and the network it was made of is left as it was."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from onr.data import Split
from onr.registry import load
from onr.training.optimizers import Optimizer
from onr_torch.folding import folded, overwriting
from onr_torch.linearization import linearize
from onr_torch.network import TorchNetwork
from onr_torch.training.learner import TorchLearner

SHAPE = (3, 8, 8)


class Reads(nn.Module):
    """Takes its layers one by one, and reads what comes before the ReLU."""

    def __init__(self, *, both: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
        )
        self.both = both

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        read = self.layers[0](x)
        z: torch.Tensor = self.layers[4](self.layers[3](self.layers[2](self.layers[1](read))))
        return z + read.flatten(1)[:, :5] if self.both else z


class Branches(nn.Module):
    """What stands before the ReLU goes on beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(192, 5), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.layers[0](x.flatten(1))
        rectified: torch.Tensor = self.layers[1](z)
        return rectified + 2 * z


class Shared(nn.Module):
    """One block twice, each time with its own statistics' scale."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU())
        self.twice = nn.Sequential(self.block, self.block)
        self.head = nn.Linear(192, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.twice(x).flatten(1))
        return logits


def hooked() -> nn.Module:
    """A hook that doubles what a convolution gives, and one on a normalisation."""
    layers = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)),
    )
    layers[0].register_forward_hook(lambda layer, inputs, output: 2 * output)
    layers[4].register_forward_pre_hook(lambda layer, inputs: (inputs[0] + 1,))
    return layers


def conv(*, affine: bool, inplace: bool = False) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=affine), nn.ReLU(inplace)),
        *(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6, affine=affine), nn.ReLU(inplace)),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 5)),
    )


def linear() -> nn.Module:
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.ReLU()),
        *(nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8, affine=False), nn.Tanh()),
        *(nn.Linear(8, 5), nn.BatchNorm1d(5)),
    )


def nested() -> nn.Module:
    block = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Identity(), nn.ReLU())
    head = nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(144, 5)), nn.BatchNorm1d(5))
    return nn.Sequential(nn.ModuleDict({"unused": nn.Linear(2, 2)})["unused"].eval(), block)[1:] + (
        nn.Sequential(head)
    )


def grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, groups=3, stride=2, padding=1, padding_mode="circular"),
        *(nn.BatchNorm2d(6, eps=0.1), nn.ReLU(), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5)),
    )


def sequences(channels: int) -> nn.Module:
    """The affine layer sees the last axis, its normalisation the one before."""
    layers = (nn.Flatten(2), nn.Linear(64, channels), nn.BatchNorm1d(3))
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(3 * channels, 5))


def plain() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(192, 5))


def untracked() -> nn.Module:
    """No running statistics: normalisation is by the batch in every mode."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten()
    )


def vgg() -> nn.Module:
    """torchvision's; its large affine layers have nothing to fold."""
    module = torchvision.models.vgg11_bn(num_classes=5)
    module.classifier = nn.Linear(512 * 49, 5)
    return module


ZOO: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], bool]] = {
    "affine": (lambda: conv(affine=True), SHAPE, True),
    "not affine": (lambda: conv(affine=False), SHAPE, True),
    "in place": (lambda: conv(affine=True, inplace=True), SHAPE, True),
    "linear": (linear, SHAPE, True),
    "nested": (nested, SHAPE, True),
    "grouped": (grouped, SHAPE, True),
    "shared": (Shared, SHAPE, True),
    "hooked": (hooked, SHAPE, True),
    "reads all": (lambda: Reads(both=True), SHAPE, False),
    "reads one by one": (lambda: Reads(both=False), SHAPE, True),
    "branches": (Branches, SHAPE, False),
    "sequences of 4": (lambda: sequences(4), SHAPE, True),
    "sequences of 3": (lambda: sequences(3), SHAPE, False),
    "view": (lambda: nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(192, 5)), SHAPE, False),
    "smooth": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.Tanh(), nn.ReLU()),
        SHAPE,
        False,
    ),
    "plain": (plain, SHAPE, False),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=5), (3, 32, 32), True),
    "vgg11_bn": (vgg, (3, 32, 32), True),
}
"""How to make them, their inputs, and whether something is folded."""


def made(name: str) -> tuple[nn.Module, torch.Tensor]:
    """In float64, with statistics and affine parameters of their own, and inputs."""
    return copy.deepcopy(original(name))


@functools.cache
def original(name: str) -> tuple[nn.Module, torch.Tensor]:
    """The same, to copy from."""
    make, shape, _ = ZOO[name]
    torch.manual_seed(0)
    module = make().double()
    x = torch.randn(3, *shape, dtype=torch.float64)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 2)
            if part.affine:
                nn.init.uniform_(part.weight, -1.5, 1.5)
                nn.init.normal_(part.bias)
    return module.eval(), x


def standing(module: nn.Module) -> list[Any]:
    """All that folding must leave alone, as bytes."""
    return [
        {name: value.numpy().tobytes() for name, value in module.state_dict().items()},
        [(name, id(part), part.training) for name, part in module.named_modules()],
        [(name, id(p), p.requires_grad, p.grad) for name, p in module.named_parameters()],
        [(name, id(b)) for name, b in module.named_buffers()],
        [getattr(part, "inplace", None) for part in module.modules()],
    ]


@pytest.mark.parametrize("name", ZOO)
def test_a_folded_network_is_the_same_function(name: str) -> None:
    module, x = made(name)
    found = folded(module, x[:2])
    assert (found is not module) is ZOO[name][2]
    z = x.clone()
    torch.testing.assert_close(found(z), module(x.clone()), rtol=1e-12, atol=1e-12)
    assert torch.equal(z, x)


class Gated(nn.Module):
    """Beside the ReLU goes what stood before it, through a gate that is closed at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(192, 6), nn.ReLU())
        self.gate, self.head = nn.Parameter(torch.zeros(1)), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.layers[0](x.flatten(1))
        logits: torch.Tensor = self.head(self.layers[1](z) + self.gate * z)
        return logits


class Beside(nn.Module):
    """What a convolution gives is read beside its normalisation, which is the identity at first."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.layers[0](x)
        logits: torch.Tensor = self.head((self.layers[1](z) * z).mean((2, 3)))
        return logits


class ZeroHead(nn.Module):
    """The last layer, which reads both sides of the ReLU, is zero at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(192, 6), nn.ReLU())
        self.head = nn.Linear(12, 4)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.layers[0](x.flatten(1))
        logits: torch.Tensor = self.head(torch.cat([self.layers[1](z), z], 1))
        return logits


@pytest.mark.parametrize("kind", [Gated, Beside, ZeroHead])
def test_the_start_does_not_decide(kind: type[nn.Module]) -> None:
    """What is the same function at the first weights alone is not taken for the network."""
    torch.manual_seed(0)
    module = kind().double().eval()
    network = TorchNetwork(module, SHAPE)
    network.frozen()
    twin = overwriting(module, network.example())
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor += torch.rand_like(tensor)
    x = torch.rand(4, *SHAPE, dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(network.frozen()(x), module(x), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(twin(x), module(x), rtol=1e-10, atol=1e-10)


def test_a_module_that_cannot_be_copied_is_left_as_it_is() -> None:
    class Holding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(192, 6), nn.ReLU(), nn.Linear(6, 4))
            self.held = next(self.layers.parameters()) * 2  # with a graph

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.layers(x.flatten(1))
            return logits

    module = Holding()
    assert TorchNetwork(module, SHAPE).frozen().passes is module


@pytest.mark.parametrize("name", ZOO)
def test_products_are_those_of_the_network(name: str) -> None:
    module, x = made(name)
    network = TorchNetwork(module, tuple(x.shape[1:]))
    here, there = network.linearize(x), network.frozen().linearize(x)
    v = torch.randn_like(x)
    u = torch.randn(3, *here.output_shape, dtype=torch.float64)
    torch.testing.assert_close(there.value, here.value, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(there.jvp(v), here.jvp(v), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(there.vjp(u), here.vjp(u), rtol=1e-10, atol=1e-10)
    assert (there.way == "replay") == (name != "hooked"), "the fast path"


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("training", [False, True])
def test_the_network_is_left_as_it_was(name: str, training: bool) -> None:
    module, x = made(name)
    if training:
        module.train()
        next(part for part in module.modules() if not [*part.children()]).eval()
    next(module.parameters()).requires_grad_(False)
    before = standing(module)
    at = TorchNetwork(module, tuple(x.shape[1:])).frozen().linearize(x)
    at.jvp(x)
    at.vjp(at.value)
    assert standing(module) == before


def test_folding_leaves_no_normalization_behind() -> None:
    for name in ("affine", "not affine", "linear"):
        module, x = made(name)
        kinds = [type(part) for part in folded(module, x).modules()]
        assert not {nn.BatchNorm1d, nn.BatchNorm2d} & {*kinds}


def test_what_somebody_listens_to_is_not_folded() -> None:
    module, x = made("hooked")
    kinds = [type(part) for part in folded(module, x).children()]
    assert kinds == [type(part) for part in module.children()]
    heard = []
    quiet, x = made("affine")
    quiet[3].register_forward_hook(lambda *arguments: heard.append(arguments))
    found = folded(quiet, x)
    kinds = [type(part) for part in found.children()]
    assert (kinds[1], kinds[4]) == (nn.Identity, nn.BatchNorm2d)
    heard.clear()
    found(x)
    assert len(heard) == 1


def test_statistics_of_the_batch_are_not_folded() -> None:
    torch.manual_seed(0)
    module = untracked().double().eval()
    assert folded(module, torch.rand(2, *SHAPE, dtype=torch.float64)) is module


def test_a_network_with_numbers_that_are_none_is_not_folded() -> None:
    module, x = made("affine")
    with torch.no_grad():
        module[0].weight[0] = torch.nan
    assert folded(module, x) is module


def test_a_twin_is_as_it_was_when_it_was_made() -> None:
    """A folded layer does not see later weights; what is asked for anew does."""
    module, x = made("affine")
    network = TorchNetwork(module, SHAPE)
    early = network.frozen()
    before = network(x)
    with torch.no_grad():
        module[0].weight += 1
    assert not torch.allclose(network(x), before)
    torch.testing.assert_close(network.frozen()(x), network(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(early(x), before, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["standard", "at", "dd-snr", "dd-snr-warm"])
def test_training_and_evaluation_see_the_weights_of_each_step(method: str) -> None:
    """Folded in every step, it takes the steps of a network that is never folded."""
    images = np.random.default_rng(0).integers(0, 256, (12, *SHAPE)).astype(np.uint8)
    split = Split(images, np.arange(12) % 5)
    x = torch.from_numpy(images / 255)
    states = []
    for fold in (True, False):
        module, _ = made("affine")
        network = TorchNetwork(module, SHAPE)
        if not fold:
            network.frozen = lambda network=network: network  # type: ignore[method-assign, misc]
        learner = TorchLearner(network, load("method", method)(), split, optimizer=Optimizer("sgd"))
        for step in range(4):
            learner.step(np.arange(12), lr=0.05, rng=np.random.default_rng(step))
            now = learner.network.frozen()(x)
            torch.testing.assert_close(now, network(x), rtol=1e-10, atol=1e-10)
        states.append(learner.state())
    for name, value in states[0].items():
        np.testing.assert_allclose(value, states[1][name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["affine", "linear"])
def test_bfloat16(name: str) -> None:
    module, x = made(name)
    module, x = module.float(), x.float()
    exact = linearize(copy.deepcopy(module).double(), x.double())
    at = TorchNetwork(module, tuple(x.shape[1:]), bfloat16=True).frozen().linearize(x)
    v, u = torch.randn_like(x), torch.randn(3, 5)
    image, back = at.jvp(v), at.vjp(u)
    assert at.value.dtype == image.dtype == back.dtype == torch.float32
    left, right = (u * image).sum(1), (back * v).flatten(1).sum(1)
    scale = image.norm(dim=1) * u.norm(dim=1) + back.flatten(1).norm(dim=1) * v.flatten(1).norm(
        dim=1
    )
    assert ((left - right).abs() <= 0.02 * scale).all()
    error = (at.value.double() - exact.value).norm() / exact.value.norm()
    assert 1e-6 < error < 0.05, "in bfloat16, and close"
