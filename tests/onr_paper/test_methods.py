"""What each method pays, and its gradient in the parameters, are those of its formula."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from onr.data import Split
from onr.errors import OnrError
from onr.norms import LpNorm
from onr.registry import load
from onr.training.config import TrainConfig
from onr.training.factories import run_record
from onr.training.optimizers import Optimizer
from onr_torch.network import TorchNetwork
from onr_torch.training.layer_maps import layer_weights
from onr_torch.training.learner import Objective, Paid, TorchLearner

SHAPE, CLASSES, COUNT = (1, 2, 3), 3, 5
SIZE = math.prod(SHAPE)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = (nn.Flatten(), nn.Linear(SIZE, 12), nn.ReLU(), nn.Linear(12, 9), nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(9, CLASSES)).double()


def examples(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(COUNT, *SHAPE, generator=generator, dtype=torch.float64)
    return x, torch.arange(COUNT) % CLASSES


def paid(
    module: nn.Module, method: Any, *, rng: Any = None, memory: torch.Tensor | None = None
) -> Paid:
    """What a batch costs."""
    objective = Objective(TorchNetwork(module, SHAPE), method)
    rng = np.random.default_rng(0) if rng is None else rng
    found: Paid = objective(*examples(), memory, rng)
    return found


def gradients(scalar: torch.Tensor, module: nn.Module) -> list[torch.Tensor]:
    parameters = list(module.parameters())
    found = torch.autograd.grad(scalar, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def same_objective(module: nn.Module, found: Paid, costs: torch.Tensor) -> None:
    """``costs`` is the formula, ``(batch,)``, with its graph."""
    torch.testing.assert_close(found.cost, costs.detach(), rtol=1e-10, atol=1e-12)
    pairs = zip(gradients(found.surrogate, module), gradients(costs.sum(), module), strict=True)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)


def cross_entropy(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(module(x), y, reduction="none")


def jacobians(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """``(batch, d, n)``, differentiable in the parameters."""
    rows = torch.autograd.functional.jacobian(lambda z: module(z).sum(0), x, create_graph=True)
    return rows.movedim(0, 1).flatten(2)


# First order


@pytest.mark.parametrize(("p", "dual"), [("1", math.inf), ("2", 2), ("inf", 1), ("3", 1.5)])
def test_input_gradient_is_double_backward(p: str, dual: float) -> None:
    module, (x, y) = network(), examples()
    found = paid(module, load("method", "input-gradient")(p=p, eps=0.7, lam=0.4))
    x = x.requires_grad_(True)
    loss = cross_entropy(module, x, y)
    (g,) = torch.autograd.grad(loss.sum(), x, create_graph=True)
    size = torch.linalg.vector_norm(g.flatten(1), dual, dim=1)
    same_objective(module, found, loss + 0.4 * 0.7**2 / 2 * size**2)


class Planted:
    """Draws these signs, and zero for all else."""

    def __init__(self, bits: Sequence[int]) -> None:
        self._bits = bits

    def integers(self, low: int, high: int = 0, size: Any = None) -> Any:
        return 0 if size is None else np.broadcast_to(np.reshape(self._bits, SHAPE), size)


def test_frobenius_is_the_mean_over_all_signs() -> None:
    module, (x, y) = network(), examples()
    method = load("method", "frobenius")(eps=0.7, lam=0.4)
    drawn = [
        paid(module, method, rng=Planted(bits)) for bits in itertools.product((0, 1), repeat=SIZE)
    ]
    mean = Paid(
        torch.stack([one.surrogate for one in drawn]).mean(),
        torch.stack([one.cost for one in drawn]).mean(0),
        None,
    )
    frobenius = jacobians(module, x).square().sum((1, 2))
    same_objective(module, mean, cross_entropy(module, x, y) + 0.4 * 0.7**2 / 2 * frobenius)


# Every method, where training and evaluation mode differ, and where derivatives are not constant


def batch_norms(momentum: float | None) -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Flatten(),
        nn.Linear(SIZE, 12),
        nn.BatchNorm1d(12, momentum=momentum),
        nn.ReLU(),
        nn.Linear(12, 9),
        nn.BatchNorm1d(9, momentum=momentum),
        nn.Tanh(),
        nn.Linear(9, CLASSES),
    ).double()
    with torch.no_grad():
        module(torch.rand(20, *SHAPE, dtype=torch.float64))
    return module


def layer_norms() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Flatten(), nn.Linear(SIZE, 12), nn.LayerNorm(12), nn.GELU(), nn.Linear(12, 8))
    head = (nn.Unflatten(1, (2, 4)), nn.LayerNorm(4), nn.Flatten(), nn.Linear(8, CLASSES))
    return nn.Sequential(*layers, *head).double()


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: batch_norms(0.1),
    "batch norm, fast": lambda: batch_norms(1.0),
    "batch norm, of all": lambda: batch_norms(None),
    "layer norm": layer_norms,
}


def jumps(paid: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda clean, y, moved, tangent, g: (
        functional.cross_entropy(clean, y, reduction="none") + paid(moved[0] - clean)
    )


def products(paid: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda clean, y, moved, tangent, g: (
        functional.cross_entropy(clean, y, reduction="none") + paid(tangent, g)
    )


def norm(z: torch.Tensor, q: float) -> torch.Tensor:
    return torch.linalg.vector_norm(z, q, dim=1)


def entropy(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits, y, reduction="none")


TWINS: dict[str, tuple[str, dict[str, Any], Callable[..., torch.Tensor]]] = {
    "standard": ("standard", {}, lambda clean, y, *rest: entropy(clean, y)),
    "at": (
        "at",
        {"eps": 0.3, "steps": 3, "lam": 0.7},
        lambda clean, y, moved, *rest: entropy(clean, y) + 0.7 * entropy(moved[0], y),
    ),
    "at, perturbed alone": (
        "at",
        {"eps": 0.1, "p": "inf", "steps": 2, "lam": math.inf},
        lambda clean, y, moved, *rest: entropy(moved[0], y),
    ),
    "at on distances": (
        "at",
        {"eps": 0.1, "p": "inf", "steps": 2, "lam": 0.7, "loss": "lq:1"},
        jumps(lambda z: 0.7 * norm(z, 1)),
    ),
    "dd-snr": ("dd-snr", {"eps": 0.3, "lam": 0.4}, jumps(lambda z: 0.2 * norm(z, 2) ** 2)),
    "dd-snr, J v": (
        "dd-snr",
        {"eps": 0.3, "lam": 0.4, "form": "jacobian"},
        products(lambda t, g: 0.2 * 0.3**2 * norm(t, 2) ** 2),
    ),
    "dd-onr": (
        "dd-onr",
        {"p": "inf", "q": "1", "eps": 0.3, "lam": 0.4, "power": 3.0},
        jumps(lambda z: 0.4 / 3 * norm(z, 1) ** 3),
    ),
    "dd-onr, J v": (
        "dd-onr",
        {"p": "inf", "q": "3", "eps": 0.3, "lam": 0.4, "form": "jacobian"},
        products(lambda t, g: 0.4 * 0.3 * norm(t, 3)),
    ),
    "dd-onr-exact": (
        "dd-onr-exact",
        {"p": "1", "q": "2", "eps": 0.3, "lam": 0.4, "power": 2.0, "form": "jacobian"},
        products(lambda t, g: 0.2 * 0.3**2 * norm(t, 2) ** 2),
    ),
    "dd-snr-warm": (
        "dd-snr-warm",
        {"eps": 0.3, "lam": 0.4, "form": "jacobian"},
        products(lambda t, g: 0.2 * 0.3**2 * norm(t, 2) ** 2),
    ),
    "frobenius": (
        "frobenius",
        {"eps": 0.3, "lam": 0.4},
        products(lambda t, g: 0.2 * 0.3**2 * norm(t, 2) ** 2),
    ),
    "input-gradient": (
        "input-gradient",
        {"p": "inf", "eps": 0.3, "lam": 0.4},
        products(lambda t, g: 0.2 * 0.3**2 * norm(g, 1) ** 2),
    ),
    "interpolate": (
        "interpolate",
        {"t": 0.25, "eps": 0.3, "steps": 3, "lam": 0.4, "adversarial_lam": 0.7},
        lambda clean, y, moved, *rest: (
            entropy(clean, y)
            + 0.75 * 0.7 * entropy(moved[0], y)
            + 0.25 * 0.2 * norm(moved[1] - clean, 2) ** 2
        ),
    ),
}


@pytest.mark.parametrize("of", NETWORKS)
@pytest.mark.parametrize("name", TWINS)
def test_a_method_pays_what_its_twin_in_plain_torch_pays(name: str, of: str) -> None:
    """``J`` and the loss gradient are those of evaluation mode, before the pass for training."""
    method_name, options, costs = TWINS[name]
    module, twin = NETWORKS[of](), NETWORKS[of]()
    method, (x, y) = load("method", method_name)(**options), examples()
    probe = method.perturb(
        TorchNetwork(NETWORKS[of](), SHAPE), x, y, rng=np.random.default_rng(0), memory=None
    )
    found = paid(module, method)

    twin.eval()
    leaf, tangent = x.clone().requires_grad_(True), None
    buffers = {key: value.clone() for key, value in twin.named_buffers()}
    kept = {**dict(twin.named_parameters()), **buffers}

    def evaluated(z: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = torch.func.functional_call(twin, kept, z)
        return logits

    loss = entropy(evaluated(leaf), y).sum()
    (g,) = torch.autograd.grad(loss, leaf, create_graph=True)
    if probe.direction is not None:
        rows = [
            torch.autograd.grad(evaluated(leaf)[:, i].sum(), leaf, create_graph=True)[0]
            for i in range(CLASSES)
        ]
        tangent = torch.stack([(row * probe.direction).flatten(1).sum(1) for row in rows], 1)
    parts = [x] * probe.clean + list(probe.perturbed)
    outputs = list(twin.train()(torch.cat(parts)).split(COUNT))
    clean = outputs.pop(0) if probe.clean else None
    expected = costs(clean, y, outputs, tangent, g.flatten(1))
    torch.testing.assert_close(found.cost, expected.detach(), rtol=1e-9, atol=1e-11)
    pairs = zip(gradients(found.surrogate, module), gradients(expected.sum(), twin), strict=True)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-9)
    for mine, theirs in zip(module.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("of", NETWORKS)
def test_the_exact_penalty_is_the_square_of_the_singular_value(of: str) -> None:
    module, twin, (x, y) = NETWORKS[of](), NETWORKS[of](), examples()
    method = load("method", "dd-onr-exact")(eps=1.0, lam=2.0, power=2.0, form="jacobian")
    found = paid(module, method)
    sigma = torch.linalg.matrix_norm(jacobians(twin.eval(), x), 2)
    entropies = entropy(twin.train()(x), y)
    torch.testing.assert_close(found.cost - entropies, sigma**2, rtol=1e-10, atol=1e-10)


class Masked(nn.Module):
    """A network with a class that its logits mask."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("mask", torch.tensor([0.0, -math.inf, 0.0], dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.module(x) + self.mask
        return logits


class Cut(Masked):
    """The same network without the class."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.module(x)[:, [0, 2]]
        return logits


@pytest.mark.parametrize("name", [name for name in TWINS if name != "dd-snr-warm"])
def test_a_masked_class_costs_nothing(name: str) -> None:
    """Not ``dd-snr-warm``, which draws a vector of the logits' length."""
    method = load("method", TWINS[name][0])(**TWINS[name][1])
    x, _ = examples()
    found = []
    for kind, y in ((Masked, torch.tensor([0, 2, 2, 0, 2])), (Cut, torch.tensor([0, 1, 1, 0, 1]))):
        module = kind(layer_norms())
        objective = Objective(TorchNetwork(module, SHAPE), method)
        one: Paid = objective(x, y, None, np.random.default_rng(0))
        found.append((one.cost, gradients(one.surrogate, module)))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-9, atol=1e-9)
    for mine, theirs in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-9)


# Operator norms

EPS = 1e-4
"""So small that differences stay in the cell, where both forms are the same."""


def brute(J: torch.Tensor, p: float, q: float) -> torch.Tensor:
    """The norm, differentiably, by what is known of these."""
    if (p, q) == (2, 2):
        return torch.linalg.matrix_norm(J, 2)
    if p == 1:
        return torch.linalg.vector_norm(J, q, dim=1).amax(1)
    if q == math.inf:
        dual = 1 / (1 - 1 / p) if p < math.inf else 1
        return torch.linalg.vector_norm(J, dual, dim=2).amax(1)
    signs = torch.tensor([*itertools.product((-1.0, 1.0), repeat=SIZE)], dtype=J.dtype)
    assert p == math.inf
    return torch.linalg.vector_norm(J @ signs.T, q, dim=1).amax(1)


@pytest.mark.parametrize("form", ["jacobian", "difference"])
@pytest.mark.parametrize("power", [1.0, 2.0, 3.5])
@pytest.mark.parametrize(
    ("p", "q"), [("2", "2"), ("1", "1"), ("1", "2"), ("2", "inf"), ("inf", "1"), ("inf", "inf")]
)
def test_the_exact_norm_is_paid(p: str, q: str, power: float, form: str) -> None:
    module, (x, y) = network(), examples()
    lam = 0.3 / EPS**power
    options = {"p": p, "q": q, "eps": EPS, "lam": lam, "power": power, "form": form}
    found = paid(module, load("method", "dd-onr-exact")(**options))
    size = brute(jacobians(module, x), float(p), float(q))
    expected = cross_entropy(module, x, y) + 0.3 / power * size**power
    tolerance = {"rtol": 1e-9, "atol": 1e-9}
    if form == "difference":  # f(x + eps v) - f(x) has lost digits
        tolerance = {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(found.cost, expected.detach(), **tolerance)
    for mine, theirs in zip(
        gradients(found.surrogate, module), gradients(expected.sum(), module), strict=True
    ):
        torch.testing.assert_close(mine, theirs, **tolerance)


@pytest.mark.parametrize(
    ("p", "q"), [("2", "2"), ("1", "2"), ("2", "inf"), ("inf", "1"), ("1", "inf")]
)
def test_the_iteration_pays_what_the_exact_method_does_where_it_converged(p: str, q: str) -> None:
    module = network()
    options = {"p": p, "q": q, "eps": EPS, "lam": 0.3 / EPS**2, "power": 2, "form": "jacobian"}
    exact = paid(module, load("method", "dd-onr-exact")(**options))
    theirs = gradients(exact.surrogate, module)
    attained = torch.zeros(COUNT, dtype=torch.bool)
    for seed in range(3):
        iterated = load("method", "dd-onr")(**options, steps=100)
        found = paid(module, iterated, rng=np.random.default_rng(seed))
        assert (found.cost <= exact.cost + 1e-9).all()
        converged = found.cost >= exact.cost - 1e-11
        attained |= converged
        if converged.all():
            for a, b in zip(gradients(found.surrogate, module), theirs, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    assert attained.all()


def test_the_spectral_norm_is_paid_as_its_square() -> None:
    module, (x, y) = network(), examples()
    method = load("method", "dd-snr")(eps=EPS, lam=0.3 / EPS**2, steps=100, form="jacobian")
    size = brute(jacobians(module, x), 2, 2)
    found = paid(module, method)
    expected = cross_entropy(module, x, y) + 0.3 / 2 * size**2
    torch.testing.assert_close(found.cost, expected.detach(), rtol=1e-9, atol=1e-9)


# Warm starts


def visits(module: nn.Module, count: int, seed: int = 0, **options: Any) -> list[torch.Tensor]:
    """What the same weights pay at each of these visits, cross-entropy aside."""
    given = {"eps": EPS, "lam": 2 / EPS**2, "noise": 0, "share": 0, "far": 0}
    method = load("method", "dd-snr-warm")(**given, **options)
    rng, memory, found = np.random.default_rng(seed), None, []
    x, y = examples()
    for _ in range(count):
        one = paid(module, method, rng=rng, memory=memory)
        memory = one.memory
        found.append(one.cost - cross_entropy(module, x, y).detach())
    return found


@pytest.mark.parametrize("form", ["jacobian", "difference"])
def test_visits_at_fixed_weights_find_the_singular_value(form: str) -> None:
    module = network()
    sigma = torch.linalg.matrix_norm(jacobians(module, examples()[0]), 2).detach()
    tolerance = 1e-9 if form == "jacobian" else 1e-6
    torch.testing.assert_close(visits(module, 100, form=form)[-1], sigma**2, rtol=tolerance, atol=0)


@pytest.mark.parametrize(
    ("p", "q"), [("2", "2"), ("inf", "2"), ("inf", "1"), ("1", "2"), ("3", "3")]
)
@given(seed=st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_no_visit_at_fixed_weights_finds_less_than_the_last(p: str, q: str, seed: int) -> None:
    found = torch.stack(visits(network(seed), 12, seed, p=p, q=q, form="jacobian"))
    assert (found.diff(dim=0) >= -1e-12).all()


def test_an_example_that_was_not_seen_starts_at_random() -> None:
    module, (x, y) = network(), examples()
    method = load("method", "dd-snr-warm")(share=0)
    u = torch.randn(COUNT, CLASSES, dtype=torch.float64)
    some = u * (torch.arange(COUNT) != 2)[:, None]
    at = TorchNetwork(module, SHAPE)
    seen, mixed, never = (
        method.perturb(at, x, y, rng=np.random.default_rng(0), memory=memory).perturbed[0]
        for memory in (u, some, None)
    )
    assert torch.equal(mixed[2], never[2])
    for row in (0, 1, 3, 4):
        assert torch.equal(mixed[row], seen[row])
        assert not torch.equal(mixed[row], never[row])


@pytest.mark.parametrize("p", ["1", "2", "3", "inf"])
@pytest.mark.parametrize("seen", [True, False])
def test_a_warm_step_is_its_twin_in_plain_torch(p: str, seen: bool) -> None:
    """Noise under the linearisation, the loss or the memory in the lead, paid from clean logits."""
    module, (x, y), eps, lam = network(), examples(), 0.3, 0.7
    memory = torch.randn(COUNT, CLASSES, dtype=torch.float64) if seen else None
    options = {"p": p, "q": "3", "eps": eps, "lam": lam, "power": 1.5, "noise": 1.5, "far": 0.3}
    method = load("method", "dd-snr-warm")(**options)
    found = paid(module, method, rng=np.random.default_rng(7), memory=memory)

    rng, exponent = np.random.default_rng(7), float(p)
    drawn = torch.from_numpy(LpNorm(exponent).sample_ball(rng, tuple(x.shape)))
    start = x + 1.5 * eps * drawn.double()
    u = torch.from_numpy(rng.standard_normal((COUNT, CLASSES)))
    u = u if memory is None else memory
    led = torch.from_numpy(rng.random(COUNT) < 0.5)
    assert 0 < led.sum() < COUNT
    start.requires_grad_(True)
    logits = module(start)
    (slope,) = torch.autograd.grad(
        functional.cross_entropy(logits, y, reduction="sum"), start, retain_graph=True
    )
    (pulled,) = torch.autograd.grad((logits * u).sum(), start)
    g = torch.where(led[:, None, None, None], slope, pulled).flatten(1)
    if exponent == 1:
        v = g.sign() * (g.abs() == g.abs().max(1, keepdim=True).values)
    elif exponent == math.inf:
        v = g.sign()
    else:
        v = g.sign() * g.abs() ** (1 / (exponent - 1))
        v = v / torch.linalg.vector_norm(v, exponent, dim=1, keepdim=True)
    far = start.detach() + eps * v.reshape(x.shape)
    change = module(far) - module(x)
    costs = 0.7 * cross_entropy(module, x, y) + 0.3 * cross_entropy(module, far, y)
    costs = costs + lam / 1.5 * norm(change, 3) ** 1.5
    same_objective(module, found, costs)
    towards = change.detach()
    expected = towards.sign() * towards.abs() ** 2 / norm(towards, 3)[:, None] ** 2
    torch.testing.assert_close(found.memory, expected, rtol=1e-9, atol=1e-12)


def test_a_visit_takes_one_backward_pass_at_one_input() -> None:
    module, (x, y) = network(), examples()
    taken: list[str] = []

    class Counted(TorchNetwork):
        def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
            taken.append("pass")
            return super().__call__(x)

        def linearize(self, x: torch.Tensor, /, **more: Any) -> Any:
            taken.append("linearize")
            found = super().linearize(x, **more)
            whole = found.vjp
            found.vjp = lambda u: (taken.append("vjp"), whole(u))[1]  # type: ignore[method-assign]
            return found

    method = load("method", "dd-snr-warm")(p="inf")
    at = Counted(module, SHAPE)
    probe = method.perturb(at, x, y, rng=np.random.default_rng(0), memory=None)
    assert taken == ["linearize", "vjp"]
    assert probe.clean
    assert len(probe.perturbed) == 1


@pytest.mark.parametrize("copied", [True, False])
def test_a_state_is_not_changed_by_those_who_go_on_from_it(copied: bool) -> None:
    images = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE)).astype(np.uint8)
    split = Split(images, np.arange(COUNT) % CLASSES)
    learners = [
        TorchLearner(
            TorchNetwork(network(), SHAPE),
            load("method", "dd-snr-warm")(),
            split,
            optimizer=Optimizer(),
        )
        for _ in range(2)
    ]
    for step in range(2):
        learners[0].step(np.arange(3), lr=0.1, rng=np.random.default_rng(step))
    state = learners[0].state()
    before = {name: value.tobytes() for name, value in state.items()}
    learners[copied].load_state(state)
    learners[copied].step(np.arange(COUNT), lr=0.1, rng=np.random.default_rng(9))
    assert {name: value.tobytes() for name, value in state.items()} == before


# Weights


class Convolutions(nn.Module):
    """Strides, groups, dilation, padding of all kinds, and an affine layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1, stride=2),
            nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular", groups=2),
            nn.Conv2d(4, 2, (1, 3), padding="same", dilation=(1, 2), bias=False),
            nn.Conv2d(2, 2, 2, padding=1, padding_mode="reflect"),
            nn.Flatten(),
            nn.Linear(2 * 4 * 4, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(x)
        return logits


def convolutions() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return Convolutions().double(), torch.zeros(1, 2, 6, 6, dtype=torch.float64)


def matrices(module: nn.Module, x: torch.Tensor, kernel: str) -> dict[str, torch.Tensor]:
    """The matrix of each layer, differentiable in the weight: its kernel, or its linear map."""
    found = {}
    for index, layer in enumerate(module.layers):  # type: ignore[arg-type, union-attr]
        if isinstance(layer, nn.Linear) or (kernel == "reshaped" and isinstance(layer, nn.Conv2d)):
            found[f"layers.{index}.weight"] = layer.weight.flatten(1)
        elif isinstance(layer, nn.Conv2d):
            n = x[0].numel()
            units = torch.eye(n, dtype=x.dtype).reshape(n, *x.shape[1:])
            images = layer(units) - layer(torch.zeros_like(x))
            found[f"layers.{index}.weight"] = images.flatten(1).T
        x = layer(x)
    return found


@pytest.mark.parametrize("kernel", ["reshaped", "convolution"])
def test_global_penalty_is_that_of_the_layers_matrices(kernel: str) -> None:
    module, x = convolutions()
    method = load("method", "global-snr")(lam=0.3, steps=400, kernel=kernel)
    found = method.penalty(layer_weights(module, x), rng=np.random.default_rng(0), memory={})
    expected = matrices(module, x, kernel)
    assert found.gradients.keys() == found.memory.keys() == expected.keys()
    total = sum(torch.linalg.matrix_norm(W, 2) ** 2 for W in expected.values())
    torch.testing.assert_close(found.value, 0.15 * torch.as_tensor(total).detach())
    parameters = dict(module.named_parameters())
    for name, W in expected.items():
        (theirs,) = torch.autograd.grad(
            0.15 * torch.linalg.matrix_norm(W, 2) ** 2, parameters[name]
        )
        torch.testing.assert_close(found.gradients[name], theirs, rtol=1e-5, atol=1e-6)
        one = torch.linalg.vector_norm(found.memory[name])
        torch.testing.assert_close(one, torch.ones_like(one))


@pytest.mark.parametrize("kernel", ["reshaped", "convolution"])
def test_ten_steps_of_one_iteration_are_one_step_of_ten(kernel: str) -> None:
    module, x = convolutions()
    weights = layer_weights(module, x)
    make = load("method", "global-snr")
    at_once = make(steps=10, kernel=kernel).penalty(
        weights, rng=np.random.default_rng(0), memory={}
    )
    memory: Mapping[str, Any] = {}
    for step in range(10):
        one = make(steps=1, kernel=kernel).penalty(
            weights, rng=np.random.default_rng(step), memory=memory
        )
        memory = one.memory
    torch.testing.assert_close(one.value, at_once.value, rtol=1e-12, atol=0)
    for name, value in at_once.memory.items():
        torch.testing.assert_close(memory[name], value, rtol=1e-10, atol=1e-12)


def stepped(module: nn.Module, method: Any, shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """The gradient of a step, by its effect."""
    images = np.random.default_rng(0).integers(0, 256, (4, *shape)).astype(np.uint8)
    learner = TorchLearner(
        TorchNetwork(module, shape),
        method,
        Split(images, np.arange(4) % 3),
        optimizer=Optimizer("sgd", momentum=0.0),
    )
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    learner.step(np.arange(4), lr=1.0, rng=np.random.default_rng(0))
    return {name: before[name] - value.detach() for name, value in module.named_parameters()}


def tied() -> nn.Module:
    torch.manual_seed(0)
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.Linear(6, 3)).double()


def still() -> nn.Module:
    module = network()
    module[1].weight.requires_grad_(False)
    return module


@pytest.mark.parametrize("make", [network, tied, still])
def test_a_step_pays_for_each_trained_weight_once(make: Callable[[], nn.Module]) -> None:
    with_penalty = stepped(make(), load("method", "global-snr")(lam=0.3, steps=300), SHAPE)
    without = stepped(make(), load("method", "standard")(), SHAPE)
    for name, weight in make().named_parameters():
        expected = torch.zeros_like(weight)
        if weight.ndim > 1 and weight.requires_grad:
            norm = torch.linalg.matrix_norm(weight, 2)
            (expected,) = torch.autograd.grad(0.15 * norm**2, weight)
        difference = with_penalty[name] - without[name]
        torch.testing.assert_close(difference, expected, rtol=1e-5, atol=1e-6)


def test_a_weight_that_is_made_from_others_is_refused() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(6, 3))
    with pytest.raises(OnrError, match="layer '1': its weight is made from other parameters"):
        stepped(nn.Sequential(nn.Flatten(), layer).double(), load("method", "global-snr")(), SHAPE)


# Between


@pytest.mark.parametrize("form", ["difference", "jacobian"])
def test_interpolation_ends_in_the_two_methods(form: str) -> None:
    """The attack has drawn before the power method does."""
    module, (x, y) = network(), examples()
    common = {"eps": 0.3, "steps": 3}
    at = load("method", "at")(**common, lam=0.7)
    snr = load("method", "dd-snr")(**common, lam=0.2, form=form)
    between = {"adversarial_lam": 0.7, "lam": 0.2, "form": form}

    rng = np.random.default_rng(0)
    start = paid(module, load("method", "interpolate")(t=0.0, **common, **between))
    at.perturb(TorchNetwork(module, SHAPE).frozen(), x, y, rng=rng, memory=None)
    end = paid(module, load("method", "interpolate")(t=1.0, **common, **between))
    alone = paid(module, snr, rng=rng)
    for one, other in ((start, paid(module, at)), (end, alone)):
        # Bit for bit, unless the batch that the network is given has another size.
        assert form == "difference" or torch.equal(one.cost, other.cost)
        torch.testing.assert_close(one.cost, other.cost, rtol=1e-14, atol=0)
        pairs = zip(
            gradients(one.surrogate, module), gradients(other.surrogate, module), strict=True
        )
        for mine, theirs in pairs:
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-14)
    half = paid(module, load("method", "interpolate")(t=0.25, **common, **between))
    torch.testing.assert_close(half.cost, 0.75 * start.cost + 0.25 * end.cost)


@pytest.mark.parametrize(
    ("loss", "lam"),
    [
        *itertools.product(("cross-entropy", "lq:1", "margin"), (0.0, 0.7)),
        *(("cross-entropy", math.inf), ("margin", math.inf)),
    ],
)
def test_adversarial_training_pays_at_the_perturbed_inputs(loss: str, lam: float) -> None:
    module, (x, y) = network(), examples()
    method = load("method", "at")(eps=0.3, steps=3, loss=loss, lam=lam)
    found = paid(module, method)
    at = TorchNetwork(module, SHAPE).frozen()
    probe = method.perturb(at, x, y, rng=np.random.default_rng(0), memory=None)
    (moved,) = probe.perturbed
    assert (LpNorm(2)(moved - x) <= 0.3 + 1e-12).all()
    assert probe.clean == (lam < math.inf)
    logits = module(moved)
    others = logits.masked_fill(functional.one_hot(y, CLASSES).bool(), -math.inf)
    adversarial = {
        "cross-entropy": functional.cross_entropy(logits, y, reduction="none"),
        "lq:1": (logits - module(x)).abs().sum(1),
        "margin": others.amax(1) - logits[torch.arange(COUNT), y],
    }[loss]
    clean = cross_entropy(module, x, y)
    same_objective(module, found, adversarial if lam == math.inf else clean + lam * adversarial)


@pytest.mark.parametrize("spec", ["torchattacks:PGDL2", "foolbox:L2PGD"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_adversarial_training_with_a_librarys_attack_is_a_plain_loop(
    spec: str, optimizer: str
) -> None:
    """Three steps on what the library finds in evaluation mode, without our adapter.

    SGD has batch normalisation. Adam would scale up what is zero but for rounding there: the
    gradient of a bias before the normalisation.
    """
    origin = spec.partition(":")[0]
    library = pytest.importorskip(origin)
    ours, theirs = (network() if optimizer == "adamw" else batch_norms(0.1) for _ in range(2))
    images = np.random.default_rng(1).integers(0, 256, (COUNT, *SHAPE)).astype(np.uint8)
    x = torch.from_numpy(images / 255)
    y = torch.arange(COUNT) % CLASSES
    method = load("method", "at")(attack=spec, eps=0.3, steps=3, lam=0.7)
    assert method.versions == {origin: library.__version__}
    record = run_record(TrainConfig(method="at", method_options={"attack": spec}), method)
    assert record["versions"][origin] == library.__version__
    assert (
        record["served"]["attack"] | {"name": spec, "plugin": "onr_torch"}
        == (record["served"]["attack"])
    )
    learner = TorchLearner(
        TorchNetwork(ours, SHAPE),
        method,
        Split(images, y.numpy()),
        optimizer=Optimizer(optimizer, weight_decay=0.1),
    )
    updates = {
        "adamw": torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1),
        "sgd": torch.optim.SGD(theirs.parameters(), lr=0.01, weight_decay=0.1, momentum=0.9),
    }[optimizer]
    for step in range(3):
        before = torch.random.get_rng_state()
        learner.step(np.arange(COUNT), lr=0.01, rng=np.random.default_rng(step))
        assert torch.equal(torch.random.get_rng_state(), before)
        theirs.eval()
        with torch.random.fork_rng():
            torch.manual_seed(int(np.random.default_rng(step).integers(2**31, size=COUNT)[0]))
            if origin == "torchattacks":
                attack = library.PGDL2(theirs, eps=0.3, alpha=0.2 * 0.3 * 10 / 3, steps=3)
                moved = attack(x, y)
            else:
                size = 0.025 * 50 / 3
                attack = library.attacks.L2PGD(rel_stepsize=size, steps=3)
                model = library.PyTorchModel(theirs, bounds=(0, 1), device="cpu")
                moved = attack.repeat(1)(model, x, y, epsilons=0.3)[1]
        theirs.train()
        losses = cross_entropy(theirs, torch.cat([x, moved.detach()]), y.repeat(2))
        updates.zero_grad()
        (losses[:COUNT] + 0.7 * losses[COUNT:]).mean().backward()
        updates.step()
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-9, atol=1e-9)


# Options

BAD = [
    ("at", {"eps": 0.0}, "eps = 0"),
    ("at", {"eps": math.nan}, "eps = nan"),
    ("at", {"lam": -1.0}, "lam = -1"),
    ("at", {"lam": math.inf, "loss": "lq:1"}, "lam = inf"),
    ("at", {"attack": "cw"}, "unknown attack 'cw'"),
    ("at", {"attack": "fgm", "steps": 3}, "attack fgm takes no steps"),
    ("at", {"attack": "fgm", "alpha": 1.0}, "method at takes no option 'alpha'.* attack fgm"),
    ("at", {"bounds": "1"}, "attack pga takes no option 'bounds'"),
    ("at", {"loss": "targeted-cross-entropy"}, "targeted-cross-entropy leads to the label"),
    (
        "at",
        {"loss": "targeted-cross-entropy", "attack": "foolbox:L2PGD"},
        "targeted-cross-entropy leads to the label",
    ),
    ("at", {"p": "3"}, "no usual radius"),
    ("at", {"steps": 0}, "steps = 0"),
    ("dd-snr", {"form": "sum"}, "form = 'sum'"),
    ("dd-snr", {"lam": math.inf}, "lam = inf"),
    ("dd-onr", {"power": 0.5}, "power = 0.5"),
    ("dd-onr", {"power": math.inf}, "power = inf"),
    ("dd-onr", {"alpha": 0.0}, "alpha = 0"),
    ("dd-onr", {"alpha": math.nan}, "alpha = nan"),
    ("dd-onr", {"steps": 0}, "steps = 0"),
    ("dd-onr-exact", {"p": "many"}, "unknown norm 'many'"),
    ("dd-snr-warm", {"eps": -1.0}, "eps = -1"),
    ("dd-snr-warm", {"noise": -1.0}, "noise = -1"),
    ("dd-snr-warm", {"share": 1.5}, "share = 1.5"),
    ("dd-snr-warm", {"far": -0.5}, "far = -0.5"),
    ("dd-snr-warm", {"far": 0.5, "form": "jacobian"}, "form = jacobian looks at no far point"),
    ("dd-snr-warm", {"power": math.nan}, "power = nan"),
    ("global-snr", {"steps": 0}, "steps = 0"),
    ("global-snr", {"kernel": "toeplitz"}, "kernel = 'toeplitz'"),
    ("global-snr", {"lam": math.nan}, "lam = nan"),
    ("interpolate", {"t": -0.1}, "t = -0.1"),
    ("interpolate", {"t": math.nan}, "t = nan"),
    ("interpolate", {"adversarial_lam": math.inf}, "adversarial_lam = inf"),
    ("interpolate", {"adversarial_lam": -1.0}, "lam = -1"),
    ("input-gradient", {"eps": math.inf}, "eps = inf"),
    ("frobenius", {"lam": -0.1}, "lam = -0.1"),
]


@pytest.mark.parametrize(("name", "options", "told"), BAD)
def test_options_that_no_method_has(name: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(OnrError, match=told):
        load("method", name)(**options)


def test_a_norm_that_an_attack_of_a_library_lacks() -> None:
    pytest.importorskip("torchattacks")
    with pytest.raises(OnrError, match="torchattacks:PGD knows no norm 2"):
        load("method", "at")(attack="torchattacks:PGD", p="2")


def test_a_norm_without_an_exact_algorithm() -> None:
    with pytest.raises(OnrError, match=r"the \(3, 3\) norm with 3 classes has no exact algorithm"):
        paid(network(), load("method", "dd-onr-exact")(p="3", q="3", eps=1.0))
