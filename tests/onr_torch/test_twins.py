"""What a bare module gains from folding is undone by nothing that is done to it in between."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

import onr
from onr_torch.linearization import TorchLinearization
from onr_torch.modes import Constant
from onr_torch.network import TorchNetwork

SHAPE = (3, 6, 6)


class Block(nn.Module):
    """A residual block, normalised after its convolutions or before, with functional ReLUs."""

    def __init__(self, channels: int, *, first: bool, inplace: bool) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList([nn.BatchNorm2d(channels) for _ in range(2)])
        self.first, self.inplace, self.scale = first, inplace, 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.first:
            z = self.two(functional.relu(self.norms[1](self.one(self.norms[0](x).relu()))))
            return x + self.scale * z
        z = self.norms[1](self.two(functional.relu(self.norms[0](self.one(x)))))
        if self.inplace:
            z += x
        else:
            z = z + x
        return functional.relu(self.scale * z, inplace=self.inplace)


class Net(nn.Module):
    """Blocks of either kind between a convolution and an affine layer."""

    def __init__(self, kinds: list[tuple[bool, bool]]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout())
        self.blocks = nn.Sequential(*(Block(4, first=a, inplace=b) for a, b in kinds))
        self.head, self.shift = nn.Linear(64, 3), nn.Parameter(torch.rand(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.blocks(self.stem(x))
        logits: torch.Tensor = self.head(z.view(z.size(0), -1)) + self.shift
        return logits


def net(kinds: list[tuple[bool, bool]]) -> Net:
    torch.manual_seed(0)
    module = Net(kinds).double()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, -1.5, 1.5)
            nn.init.normal_(part.bias)
    return module.eval()


def step(module: Net) -> None:
    """A step of training, with new statistics."""
    module.train()
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    module(torch.rand(4, *SHAPE, dtype=torch.float64)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    module.eval()


def load(module: Net) -> None:
    state = {k: v + 0.1 if v.is_floating_point() else v for k, v in module.state_dict().items()}
    module.load_state_dict(state)


def in_place(module: Net) -> None:
    with torch.no_grad():
        module.blocks[0].one.weight.mul_(-1.5)
        module.blocks[0].norms[0].running_mean.add_(0.2)


def by_data(module: Net) -> None:
    module.blocks[0].one.weight.data.neg_()
    module.blocks[0].norms[0].running_var.data.mul_(2)


def other_data(module: Net) -> None:
    module.blocks[0].two.weight.data = module.blocks[0].two.weight.data * 2
    module.shift.data.add_(1)


def new_parameter(module: Net) -> None:
    module.blocks[0].one.weight = nn.Parameter(module.blocks[0].one.weight.detach() + 0.1)
    module.shift = nn.Parameter(module.shift.detach() * 2)


def new_part(module: Net) -> None:
    module.stem[2] = nn.Tanh()
    module.stem[1] = nn.Identity()


def attribute(module: Net) -> None:
    for part in module.blocks:
        part.scale = part.scale * 0.7  # type: ignore[operator, assignment]  # a number


def hook(module: Net) -> None:
    module.stem[1].register_forward_hook(lambda part, given, found: 1.5 * found)


def pre_hook(module: Net) -> None:
    module.stem[0].register_forward_pre_hook(lambda part, given: (given[0] + 0.3,))


def pruned(module: Net) -> None:
    prune.random_unstructured(module.head, "weight", 0.5)


def parametrized(module: Net) -> None:
    if not hasattr(module.stem[0], "parametrizations"):
        parametrizations.weight_norm(module.stem[0])
        with torch.no_grad():
            module.stem[0].parametrizations.weight.original0.mul_(2)  # type: ignore[union-attr]  # it is there


def shared(module: Net) -> None:
    """Two names for one layer, and then, in the next edit of this kind, two layers again."""
    last = module.blocks[-1]
    same = last.one is last.two
    last.two = copy.deepcopy(last.one) if same else last.one  # type: ignore[assignment]  # a layer
    with torch.no_grad():
        last.two.weight.mul_(1.1)  # type: ignore[union-attr, operator]  # a tensor


def dtype(module: Net) -> None:
    module.float().double()


def untracked(module: Net) -> None:
    module.stem[1].eps = 0.5  # type: ignore[assignment]  # a number


EDITS = {
    edit.__name__: edit
    for edit in (
        *(step, load, in_place, by_data, other_data, new_parameter, new_part, attribute, hook),
        *(pre_hook, pruned, parametrized, shared, dtype, untracked),
    )
}


@settings(max_examples=12)
@given(
    kinds=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=2),
    edits=st.lists(st.sampled_from(sorted(EDITS)), min_size=1, max_size=3),
)
def test_nothing_that_is_done_to_a_module_gives_another_function(
    kinds: list[tuple[bool, bool]], edits: list[str]
) -> None:
    module = net(kinds)
    x, v = torch.rand(2, 3, *SHAPE, dtype=torch.float64)
    u = torch.rand(3, 3, dtype=torch.float64)
    for name in (None, *edits):
        if name is not None:
            EDITS[name](module)
        here = onr.linearize(module, x)
        there = TorchLinearization(module, x)
        torch.testing.assert_close(here.value, there.value, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(here.jvp(v), there.jvp(v), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(here.vjp(u), there.vjp(u), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("edit", [by_data, in_place, new_parameter, attribute, untracked, hook])
def test_an_edit_between_two_calls_is_seen(edit: Callable[[Net], None]) -> None:
    module, x = net([(False, False)]), torch.rand(3, *SHAPE, dtype=torch.float64)
    before = onr.linearize(module, x).value
    edit(module)
    after = onr.linearize(module, x).value
    with torch.no_grad():
        torch.testing.assert_close(after, module(x), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(after, before)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_residual_network_is_folded(first: bool, inplace: bool) -> None:
    module = net([(first, inplace)] * 2).float()
    twin = TorchNetwork(module, SHAPE).frozen().passes
    kinds = [type(part) for part in twin.modules()]
    assert isinstance(twin, Constant)
    assert not {nn.BatchNorm2d, nn.ReLU, nn.Dropout} & {*kinds}
    assert not any(p.requires_grad for p in twin.parameters())
    x, u = torch.rand(3, *SHAPE), torch.rand(3, 3)
    here, there = onr.linearize(module, x), TorchLinearization(module, x)
    torch.testing.assert_close(here.vjp(u), there.vjp(u), rtol=1e-4, atol=1e-5)
    assert here.vjp(u).stride() == x.stride()
    assert here.way == "replay"  # type: ignore[attr-defined]  # torch's


class Backward(torch.autograd.Function):
    """The identity, whose gradient is wrong for the third example of a batch alone."""

    @staticmethod
    def forward(ctx: Any, z: torch.Tensor) -> torch.Tensor:
        return z * 1

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return g * torch.where(torch.arange(len(g))[:, None] == 2, 2.0, 1.0)


class Cut(nn.Module):
    """A function that torch's trace follows, and whose gradient it does not."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.layer, self.head = way, nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.layer(x)
        if self.way == "no gradient":
            with torch.no_grad():
                y = self.layer(2 * x)
            z = z + y
        if self.way == "branches" and bool((x.sum() > 0).all()):
            z = -z
        if self.way == "constants":
            z = z @ (2 * self._parameters["bias_of_mine"])  # type: ignore[operator]  # a tensor
        if self.way == "own gradient":
            z = Backward.apply(z)
        if self.way == "noise":
            z = z + 0 * torch.rand(4)
        if self.way == "precision":
            with torch.autocast("cpu", enabled=False):
                z = self.layer(z)
        logits: torch.Tensor = self.head(z)
        return logits


@pytest.mark.parametrize(
    "way", ["no gradient", "own gradient", "branches", "constants", "noise", "precision"]
)
def test_what_a_trace_does_not_see_is_not_traced(way: str) -> None:
    torch.manual_seed(0)
    module = Cut(way)
    module.register_parameter("bias_of_mine", nn.Parameter(torch.rand(4, 4)))
    assert not isinstance(TorchNetwork(module, (4,)).frozen().passes, Constant)


class Chain(nn.Module):
    """A chain of layers that can be folded, read as a whole or in parts."""

    def __init__(self, read: str) -> None:
        super().__init__()
        self.read, self.early = read, False
        self.chain = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.ReLU())
        self.norms = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3))
        self.head = nn.Linear(48, 3)

    def forward(self, x: torch.Tensor) -> Any:
        if self.early:
            return self.head(self.norms[0](self.chain(x)).flatten(1))
        if self.read == "checkpoint":
            z = checkpoint(self.chain[1:], self.chain[0](x), use_reentrant=False)
        else:
            z = self.chain(x)
        logits = self.head(self.norms(z).flatten(1))
        return {"logits": logits} if self.read == "mapping" else logits


@pytest.mark.parametrize("read", ["tensor", "mapping", "checkpoint"])
@pytest.mark.parametrize("hooked", [False, True])
def test_attacks_and_products_are_those_of_the_module(read: str, hooked: bool) -> None:
    torch.manual_seed(0)
    module, x = Chain(read).double().eval(), torch.rand(4, *SHAPE, dtype=torch.float64)
    module.norms[1].weight = None  # type: ignore[assignment]  # torch allows it
    if hooked:
        module.head.register_forward_hook(lambda part, given, found: 2 * found)
    for early in (False, True, False):
        module.early = early
        frozen = TorchNetwork(module, SHAPE).frozen()
        there, u = TorchLinearization(module, x), torch.rand(4, 3, dtype=torch.float64)
        for here in (onr.linearize(module, x), frozen.linearize(x, jvp=False)):
            torch.testing.assert_close(here.value, there.value, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(here.vjp(u), there.vjp(u), rtol=1e-9, atol=1e-9)


def test_a_hook_sees_every_call() -> None:
    module, x, seen = net([(False, False)]), torch.rand(2, *SHAPE, dtype=torch.float64), []
    onr.linearize(module, x)
    module.blocks[0].one.register_forward_hook(lambda *given: seen.append(given))
    onr.linearize(module, x)
    assert len(seen) >= 1


def test_the_cache_does_not_keep_a_module_alive() -> None:
    import gc
    import weakref

    module = net([(False, False)])
    onr.linearize(module, torch.rand(2, *SHAPE, dtype=torch.float64))
    alive = weakref.ref(module)
    del module
    gc.collect()
    assert alive() is None


def test_rows_with_a_gap_between_them_are_those_of_the_weight() -> None:
    module = nn.Sequential(nn.Linear(512, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x, u = torch.rand(4, 512), torch.rand(4, 3)
    network = TorchNetwork(module, (512,))
    for _ in range(2):
        twin = network.frozen().passes
        assert next(twin.parameters()).stride() > (512, 1)
        here, bare = network.linearize(x), TorchLinearization(module, x)
        assert torch.allclose(here.value, bare.value, atol=1e-5)
        assert torch.allclose(here.jvp(x), bare.jvp(x), atol=1e-5)
        assert torch.allclose(here.vjp(u), bare.vjp(u), atol=1e-5)
        module[0].weight.data.neg_()  # which leaves the version of the weight as it was
