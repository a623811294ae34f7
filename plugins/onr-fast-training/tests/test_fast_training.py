"""Each rule takes the steps of a twin in plain torch, and costs the passes that the README says."""

from __future__ import annotations

import doctest
import importlib
import json
import math
import pkgutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import onr_fast_training
from onr.cli.main import main
from onr.data import Split
from onr.errors import OnrError
from onr.norms import LpNorm
from onr.protocols import Moment, ScheduledMethod
from onr.registry import load
from onr.training.config import TrainConfig
from onr.training.factories import run_record
from onr.training.loop import Training
from onr.training.optimizers import Optimizer
from onr.training.runs import Run
from onr_fast_training import distances
from onr_torch.network import TorchNetwork
from onr_torch.training.distributed import RowsOfGenerator
from onr_torch.training.learner import TorchLearner

SHAPE, CLASSES, COUNT, RATE = (3, 4, 4), 5, 12, 0.1
RULES = ["rs-fgsm", "n-fgsm", "gat", "nuat", "trades"]
RADII = {"inf": 0.1, "2": 0.7}
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE)).astype(np.uint8)
LABELS = np.arange(COUNT) % CLASSES
X, Y = torch.from_numpy(IMAGES / 255), torch.from_numpy(LABELS)
MOMENTS = [Moment(0, 0.2), Moment(1, 0.45), Moment(2, 0.9), Moment(3, 0.95)]


def modules() -> list[str]:
    package = onr_fast_training
    found = [it.name for it in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")]
    assert len(found) == 5
    return found


@pytest.mark.parametrize("name", modules())
def test_the_examples_run(name):
    result = doctest.testmod(importlib.import_module(name), extraglobs={"np": np})
    assert result.failed == 0
    assert result.attempted > 0


# The twins: the rules as their authors write them, with the search in evaluation mode.


def plain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, CLASSES)
    ).double()


def normalized() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, CLASSES)
    return nn.Sequential(*layers).double()


def along(p: str, gradient: torch.Tensor) -> torch.Tensor:
    if p == "inf":
        return gradient.sign()
    return functional.normalize(gradient.flatten(1), eps=1e-300).reshape(gradient.shape)


def into(p: str, eps: float, delta: torch.Tensor) -> torch.Tensor:
    if p == "inf":
        return delta.clamp(-eps, eps)
    return delta * (eps / delta.flatten(1).norm(dim=1)).clamp(max=1).reshape(-1, 1, 1, 1)


def uniform(p: str, rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(LpNorm(float(p)).sample_ball(rng, (COUNT, *SHAPE))).double()


def squared(moved: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    return ((moved.softmax(1) - clean.softmax(1)) ** 2).sum(1).mean()


def nuclear(moved: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    return torch.linalg.matrix_norm(moved - clean, "nuc") / len(moved)


def divergence(moved: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    return functional.kl_div(moved.log_softmax(1), clean.softmax(1), reduction="batchmean")


TERMS = {"gat": squared, "nuat": nuclear, "trades": divergence}


def weight(rule: str, moment: Moment) -> float:
    return {
        "gat": 40.0 if moment.progress >= 0.86 else 10.0,
        "nuat": 4.0 * min(moment.progress / 0.9, 1.0),
        "trades": 6.0,
    }.get(rule, 0.0)


def found(
    rule: str, p: str, module: nn.Module, moment: Moment, rng: np.random.Generator
) -> torch.Tensor:
    """The perturbed inputs of a rule, by autograd."""
    eps = RADII[p]

    def gradient(moved: torch.Tensor, cost: Any) -> torch.Tensor:
        moved = moved.detach().requires_grad_(True)
        return torch.autograd.grad(cost(module(moved)), moved)[0]

    def loss(z: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(z, Y)

    if rule in ("rs-fgsm", "n-fgsm"):
        k, size = (1.0, 1.25) if rule == "rs-fgsm" else (2.0, 1.0)
        start = (X + k * eps * uniform(p, rng)).clamp(0, 1)
        delta = start - X + size * eps * along(p, gradient(start, loss))
        return (X + (into(p, eps, delta) if rule == "rs-fgsm" else delta)).clamp(0, 1)
    clean = module(X).detach()
    if rule == "trades":
        alpha = eps / 4 if p == "inf" else eps / 5
        noise = rng.standard_normal((COUNT, *SHAPE), dtype=np.float32)
        moved = X + 0.001 * torch.from_numpy(noise).double()
        for _ in range(10):
            step = alpha * along(p, gradient(moved, lambda z: divergence(z, clean)))
            moved = (X + into(p, eps, moved - X + step)).clamp(0, 1)
        return moved
    if p == "inf":
        noise = (
            torch.from_numpy(rng.integers(0, 2, (COUNT, *SHAPE), dtype=np.int8)).double() * 2 - 1
        )
    else:
        noise = uniform(p, rng)
    start = (X + eps / 2 * noise).clamp(0, 1)
    lam = weight(rule, moment) * (moment.step % 2)
    step = eps * along(p, gradient(start, lambda z: loss(z) + lam * TERMS[rule](z, clean)))
    return (X + into(p, eps, start - X + step)).clamp(0, 1)


@pytest.mark.parametrize("network", [plain, normalized])
@pytest.mark.parametrize("p", RADII)
@pytest.mark.parametrize("rule", RULES)
def test_steps_are_those_of_a_twin_in_plain_torch(rule, p, network):
    ours, twin = network(), network()
    method = load("method", rule)(p=p, eps=RADII[p])
    learner = TorchLearner(
        TorchNetwork(ours, SHAPE),
        method,
        Split(IMAGES, LABELS),
        optimizer=Optimizer("sgd", momentum=0.0),
    )
    updates = torch.optim.SGD(twin.parameters(), lr=RATE)
    for moment in MOMENTS:
        now = method.at_moment(moment) if isinstance(method, ScheduledMethod) else method
        rng = np.random.default_rng(moment.step)
        cost = learner.step(np.arange(COUNT), lr=RATE, rng=rng, method=now)
        twin.eval()
        moved = found(rule, p, twin, moment, np.random.default_rng(moment.step))
        twin.train()
        if rule in TERMS:
            clean, moved = twin(torch.cat([X, moved])).tensor_split(2)
            term = weight(rule, moment) * TERMS[rule](moved, clean)
            paid = functional.cross_entropy(clean, Y) + term
        else:
            paid = functional.cross_entropy(twin(moved), Y)
        updates.zero_grad()
        paid.backward()
        updates.step()
        torch.testing.assert_close(cost, paid.detach(), rtol=0, atol=1e-12)
        for name, value in twin.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=1e-12)


def test_the_loop_tells_a_method_how_far_it_is():
    """The weights, and every second step, over the epochs of a run."""
    gat, nuat = load("method", "gat")(), load("method", "nuat")()
    moments = [Moment(step, step / 100) for step in range(100)]
    assert [gat.at_moment(m).weight for m in moments] == [10.0] * 86 + [40.0] * 14
    np.testing.assert_allclose(
        [nuat.at_moment(m).weight for m in moments], [4 * min(1, i / 90) for i in range(100)]
    )
    assert [gat.at_moment(m).guides for m in moments] == [False, True] * 50


# What a step costs, and where it computes.


@dataclass
class Counting:
    """An affine network on the meta device, where no value can be looked at, that counts passes."""

    device: str = "meta"
    forward: int = 0
    backward: int = 0
    input_shape: tuple[int, ...] = SHAPE
    weight: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.weight = torch.ones((math.prod(SHAPE), CLASSES), device=self.device)

    def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
        self.forward += 1
        return x.flatten(1) @ self.weight

    def linearize(self, x: torch.Tensor, /, *, jvp: bool = True) -> Counting:
        assert not jvp
        self.value = self(x)
        return self

    def vjp(self, u: torch.Tensor, /) -> torch.Tensor:
        self.backward += 1
        return (u @ self.weight.T).reshape(len(u), *SHAPE)


# Forward and backward passes of the attack, and of what is paid for.
PASSES = {
    "rs-fgsm": ((1, 1), 1),
    "n-fgsm": ((1, 1), 1),
    "gat": ((1, 1), 2),
    "nuat": ((1, 1), 2),
    "trades": ((11, 10), 2),
}


@pytest.mark.parametrize("p", RADII)
@pytest.mark.parametrize("rule", RULES)
def test_a_step_takes_the_fewest_passes_and_looks_at_no_value(rule, p):
    method = load("method", rule)(p=p)
    x = torch.zeros((COUNT, *SHAPE), device="meta")
    y = torch.zeros(COUNT, dtype=torch.int64, device="meta")
    rng = np.random.default_rng(0)
    for step in range(2):
        if isinstance(method, ScheduledMethod):
            method = method.at_moment(Moment(step, 0.5))
        network = Counting()
        probe = method.perturb(network, x, y, rng=rng, memory=None)
        attack, paid = PASSES[rule]
        guided = rule in ("gat", "nuat") and step == 1  # one look at the clean outputs
        assert (network.forward - guided, network.backward) == attack
        assert probe.clean + len(probe.perturbed) == paid
        assert probe.direction is None
        assert not probe.evaluated
        z = torch.zeros((COUNT, CLASSES), device="meta")
        outputs = type("Outputs", (), {"clean": z if probe.clean else None, "perturbed": (z,)})
        cost = method.objective(outputs, y)
        kept = [*probe.perturbed, cost.value, *cost.gradients.perturbed]
        assert {tensor.device.type for tensor in kept} == {"meta"}
        assert {tensor.dtype for tensor in kept} == {torch.float32}


# Laws of the searches and of the distances.


@pytest.mark.parametrize("p", RADII)
@pytest.mark.parametrize("rule", RULES)
def test_what_is_found_lies_in_the_ball_and_in_the_box(rule, p):
    method, norm = load("method", rule)(p=p, eps=RADII[p]), LpNorm(float(p))
    network = TorchNetwork(plain(), SHAPE)
    (moved,) = method.perturb(network, X, Y, rng=np.random.default_rng(0), memory=None).perturbed
    reach = RADII[p] * (3 if rule == "n-fgsm" else 1)
    assert float(norm(moved - X).max()) <= reach * (1 + 1e-12)
    assert float(norm(moved - X).max()) > 0.9 * RADII[p]
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1


@pytest.mark.parametrize("p", RADII)
def test_noise_is_uniform_in_the_ball(p):
    """With three pixels, the cube of a point's length is uniform in [0, 1]."""
    x, size, norm = np.full((4000, 3), 0.5), 0.8, LpNorm(float(p))
    moved = load("method", "n-fgsm")(p=p, eps=0.25).ball.noise(
        x, size, rng=np.random.default_rng(0)
    )
    points = (moved - x) / (0.25 * size)
    volumes = np.sort(norm(points) ** 3)
    assert abs(volumes - (np.arange(4000) + 0.5) / 4000).max() < 0.026  # one in a hundred is above
    assert abs(points.mean(axis=0)).max() < 0.03
    octants = np.bincount((points > 0) @ [1, 2, 4], minlength=8)
    assert abs(octants - 500).max() < 75


@pytest.mark.parametrize("rule", RULES)
def test_two_processes_find_what_one_does(rule):
    """Each draws the noise of all rows and takes its own."""
    method = load("method", rule)(p="2")
    if isinstance(method, ScheduledMethod):  # the nuclear norm ties the rows
        method = method.at_moment(Moment(0, 0.5))
    network = TorchNetwork(plain(), SHAPE)
    (whole,) = method.perturb(network, X, Y, rng=np.random.default_rng(1), memory=None).perturbed
    for rows in np.array_split(np.arange(COUNT), 2):
        rng = RowsOfGenerator(np.random.default_rng(1), rows, COUNT)
        (part,) = method.perturb(network, X[rows], Y[rows], rng=rng, memory=None).perturbed
        torch.testing.assert_close(part, whole[rows], rtol=0, atol=1e-12)


OURS = {
    "gat": distances.SquaredSoftmax(),
    "nuat": distances.NuclearNorm(),
    "trades": distances.Divergence(),
}


@pytest.mark.parametrize("rule", OURS)
@given(seed=st.integers(0, 2**32), scale=st.sampled_from([1e-3, 1.0, 30.0]), same=st.booleans())
def test_a_distance_has_the_value_and_the_gradients_of_its_formula(rule, seed, scale, same):
    rng = np.random.default_rng(seed)
    moved, clean = (scale * rng.standard_normal((6, 4)) for _ in range(2))
    if same:  # a row that did not move
        moved[0] = clean[0]
    ours = OURS[rule](moved, clean)
    points = [torch.tensor(z, requires_grad=True) for z in (moved, clean)]
    theirs = TERMS[rule](*points)
    assert np.isclose(ours.value.mean(), theirs.item(), rtol=1e-10, atol=1e-14)
    expected = torch.autograd.grad(theirs * len(moved), points)
    np.testing.assert_allclose(ours.moved, expected[0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours.clean, expected[1], rtol=0, atol=1e-9 * max(1, scale))


@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    exponents=st.lists(st.integers(-4, 4), min_size=7, max_size=7),
    zeros=st.integers(0, 7),
)
def test_the_polar_factor_is_that_of_the_singular_value_decomposition(
    seed, shape, exponents, zeros
):
    rng = np.random.default_rng(seed)
    u, _, v = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    values = 10.0 ** (np.array(exponents[: min(shape)]) / 2)
    values[len(values) - min(zeros, len(values)) :] = 0
    expected = (u * (values > 0)) @ v
    np.testing.assert_allclose(distances.polar_factor((u * values) @ v), expected, atol=1e-8)


def test_masked_classes_have_no_part():
    clean = np.array([[0.0, -math.inf, 1.0]])
    moved = np.array([[1.0, -math.inf, 0.0]])
    for distance in OURS.values():
        ours = distance(moved, clean)
        without = distance(moved[:, [0, 2]], clean[:, [0, 2]])
        np.testing.assert_allclose(ours.value, without.value, atol=1e-12)
        np.testing.assert_allclose(ours.moved[:, [0, 2]], without.moved, atol=1e-12)
        np.testing.assert_array_equal(ours.moved[:, 1], 0)


# The rules in runs.


@pytest.mark.parametrize("rule", RULES)
def test_both_backends_take_the_same_steps(rule):
    weights = []
    for backend in ("numpy", "torch"):
        training = Training(config(rule, backend=backend))
        for step in range(4):
            training._take_step(0, step)
        weights.append(training.learner.weights())
    for name, value in weights[0].items():
        np.testing.assert_allclose(value, weights[1][name], rtol=0, atol=1e-9, err_msg=name)


def config(rule: str, **more: Any) -> TrainConfig:
    small = {"train_images": 60, "batch_size": 12, "epochs": 2, "model_options": {"width": "8"}}
    return TrainConfig(method=rule, dtype="float64", **(small | more))


@pytest.mark.parametrize("rule", ["rs-fgsm", "gat", "nuat"])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(rule, tmp_path):
    setting = config(rule, augment="crop-flip")
    whole, halted = Training(setting), Training(setting)
    alone = Run.create(tmp_path / "whole", run_record(setting, whole.method))
    whole.finish(alone)
    run = Run.create(tmp_path / "halted", run_record(setting, halted.method))
    for step in range(3):
        halted._take_step(0, step)
    halted._check_costs()
    halted._save(run)
    resumed = Training(setting)
    resumed.resume(run)
    resumed.finish(run)
    for name, value in alone.load().tensors.items():
        if name != "training.seconds":
            np.testing.assert_array_equal(run.load().tensors[name], value, err_msg=name)


def test_the_command_line_trains_resumes_and_evaluates(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shape = ["--train-images", "100", "--schedule", "constant", "--epochs", "1"]
    options = ["--method", "gat", "--p", "2", "--eps", "1/2", "--lam", "5"]
    onr("train", *options, "--method-option", "late=2", *shape, "--out", str(run))
    record = json.loads((run / "config.json").read_text())
    assert record["settings"] == {"p": "2", "eps": 0.5, "lam": 5.0, "late": 2.0}
    assert record["served"]["method"]["plugin"] == "onr_fast_training"
    assert "expected" not in onr("train", "--resume", str(run))
    said = onr("train", "--resume", str(run), "--epochs", "2", code=2)
    assert "method gat changes over all epochs" in " ".join(said.split())
    onr("evaluate", str(run), "--eps", "0.25", "--images", "20", "--steps", "3")


def onr(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


BAD = [
    ("rs-fgsm", {"p": 1}, "method rs-fgsm, p = 1: expected 2 or inf"),
    ("nuat", {"p": 1.5}, "method nuat, p = 1.5"),
    ("gat", {"eps": 0.0}, "method gat, eps = 0: expected a finite number > 0"),
    ("n-fgsm", {"eps": math.inf}, "eps = inf"),
    ("n-fgsm", {"k": -1.0}, "method n-fgsm, k = -1: expected a finite number >= 0"),
    ("rs-fgsm", {"alpha": math.nan}, "alpha = nan"),
    ("gat", {"lam": math.nan}, "lam = nan"),
    ("gat", {"late": -2.0}, "late = -2"),
    ("nuat", {"lam": math.inf}, "lam = inf"),
    ("trades", {"lam": -1.0}, "method trades, lam = -1"),
    ("trades", {"steps": 0}, "method trades, steps = 0: expected at least 1"),
    ("trades", {"alpha": 0.0}, "alpha = 0"),
]


@pytest.mark.parametrize(("rule", "options", "said"), BAD)
def test_an_argument_out_of_range_is_one_clear_line(rule, options, said):
    with pytest.raises(OnrError, match=said) as raised:
        load("method", rule)(**options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("rule", RULES)
def test_pixels_to_255_are_refused(rule):
    with pytest.raises(OnrError, match="outside"):
        load("method", rule)().perturb(
            TorchNetwork(plain(), SHAPE), 255 * X, Y, rng=np.random.default_rng(0), memory=None
        )
