"""Two processes under torchrun take the steps that one process does.

They are started once, by ``conftest.py``, for this file and for ``test_regularizers.py``.
"""

from __future__ import annotations

import contextlib
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from onr.data import Split
from onr.norms import LpNorm
from onr.registry import load
from onr.training.config import TrainConfig
from onr.training.factories import run_record
from onr.training.loop import Training
from onr.training.optimizers import Optimizer
from onr.training.runs import Run
from onr_torch.library_attacks.library_attack import LibraryAttack
from onr_torch.network import TorchNetwork
from onr_torch.training.distributed import SIZE_AT, RowsOfGenerator
from onr_torch.training.learner import TorchLearner

CASES: dict[str, dict[str, str]] = {
    "standard": {},
    "at p=2": {"steps": "2"},
    "at p=1": {"p": "1", "steps": "2"},
    "at p=inf": {"p": "inf", "steps": "2", "lam": "inf"},
    "dd-snr": {"steps": "2"},
    "dd-snr-warm": {},
    "global-snr": {"kernel": "convolution"},
    "interpolate jacobian": {"steps": "2", "form": "jacobian"},
    "dd-onr-exact inf 1": {"p": "inf", "q": "1", "eps": "0.05"},
    "input-gradient": {},
    "frobenius": {},
}
SMALL: dict[str, Any] = {
    "dtype": "float64",
    "train_images": 101,
    "batch_size": 25,  # of the last batch's one image the second process has none
    "epochs": 2,
    "augment": "crop-flip",
    "model_options": {"width": "16"},
    "lr": 0.01,
    "average": 0.9,
}

COMMAND = (
    *("train", "--method", "at", "--steps", "2", "--dtype", "float64", "--train-images", "101"),
    *("--batch-size", "25", "--epochs", "1", "--tensorboard"),
)


def stepped(case: str) -> dict[str, np.ndarray]:
    """All that two epochs leave behind."""
    method = case.partition(" ")[0]
    training = Training(TrainConfig(method=method, method_options=CASES[case], **SMALL))
    for step in range(2 * training.steps):
        training._take_step(*divmod(step, training.steps))
    training._check_costs()
    assert training._average is not None
    averaged = {f"averaged.{name}": v for name, v in training._average.state().items()}
    return training.learner.state() | averaged | {"costs": np.array(training._costs)}


# What the batches below consist of.
IMAGES = np.random.default_rng(3).integers(0, 256, (20, 1, 2, 3)).astype(np.uint8)
LABELS = np.arange(20) % 4
BATCHES = (np.arange(10), np.arange(9, 20))


def normalized() -> nn.Module:
    """A network with batch normalisation."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)
    ).double()


def normalized_steps() -> dict[str, np.ndarray]:
    """What two steps of gradient descent make of it."""
    learner = TorchLearner(
        TorchNetwork(normalized(), (1, 2, 3)),
        load("method", "standard")(),
        Split(IMAGES, LABELS),
        optimizer=Optimizer("sgd", momentum=0.0),
    )
    for number, batch in enumerate(BATCHES):
        learner.step(batch, lr=0.1, rng=np.random.default_rng(number))
    return learner.state()


class PartlyUsed(nn.Module):
    """A network with a layer that takes no part, and one whose derivative is not constant."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.unused, self.last = nn.Linear(6, 8), nn.Linear(3, 3), nn.Linear(8, 4)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.last(self.norm(self.first(x.flatten(1))).tanh())
        return logits


PARTLY: dict[str, dict[str, Any]] = {
    "standard": {},
    "dd-snr": {"form": "jacobian", "steps": 3},
    "input-gradient": {},
}


def partly_used_steps(method: str) -> dict[str, np.ndarray]:
    """What three steps with weight decay make of such a network."""
    learner = TorchLearner(
        TorchNetwork(PartlyUsed().double(), (1, 2, 3)),
        load("method", method)(**PARTLY[method]),
        Split(IMAGES, LABELS),
        optimizer=Optimizer("sgd", weight_decay=0.1),
    )
    for number, batch in enumerate((*BATCHES, np.arange(1))):
        learner.step(batch, lr=0.1, rng=np.random.default_rng(number))
    return learner.state()


def stopped(path: Path) -> None:
    """One epoch and two steps of a run, in one process."""
    config = TrainConfig(method="dd-snr-warm", **SMALL)
    training = Training(config)
    run = Run.create(path, run_record(config, training.method))
    for _ in range(training.steps):
        training._take_step(0, training.step)
    training.records.append(training._record(1))
    training._costs = []
    for step in range(2):
        training._take_step(1, step)
    training._check_costs()
    training._save(run)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_take_the_steps_of_one(case: str, pair: Path) -> None:
    alone = stepped(case)
    for rank in (0, 1):
        together = np.load(pair / f"{case}-{rank}.npz")
        assert set(together.files) == alone.keys()
        for name, value in alone.items():
            np.testing.assert_allclose(together[name], value, rtol=0, atol=1e-12, err_msg=name)


def test_a_librarys_noise_has_another_seed_in_each_process() -> None:
    seeds: list[int] = []

    def run(classifier: nn.Module, x: torch.Tensor, y: torch.Tensor, seed: int) -> torch.Tensor:
        seeds.append(seed)
        return x

    attack = LibraryAttack(run, origin="torch", p=LpNorm(2), eps=0.1, bounds=(0.0, 1.0))
    network = TorchNetwork(normalized(), (1, 2, 3))
    x, y = torch.rand(4, 1, 2, 3, dtype=torch.float64), torch.from_numpy(LABELS[:4])
    attack(network, x, y, rng=np.random.default_rng(0))
    for rows in (np.array([0, 1]), np.array([2, 3])):
        rng = RowsOfGenerator(np.random.default_rng(0), rows, 4)
        attack(network, x[rows], y[rows], rng=rng)
    alone, first, second = seeds
    assert alone == first != second


def test_batch_statistics_are_those_of_a_processs_own_rows(pair: Path) -> None:
    """And the running ones, those of the first process."""
    module = normalized()
    x, y = torch.from_numpy(IMAGES / 255), torch.from_numpy(LABELS)
    for batch in BATCHES:
        first, second = (torch.from_numpy(half) for half in np.array_split(batch, 2))
        module.train()
        before = {name: value.clone() for name, value in module.named_buffers()}
        own = dict(module.named_parameters()) | before
        logits = [module(x[first]), torch.func.functional_call(module, own, x[second])]
        loss = functional.cross_entropy(torch.cat(logits), y[torch.from_numpy(batch)])
        parameters = list(module.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= 0.1 * gradient
    found = [np.load(pair / f"normalized-{rank}.npz") for rank in (0, 1)]
    for name, expected in module.state_dict().items():
        np.testing.assert_allclose(found[0][f"model.{name}"], expected, atol=1e-12)
    for name, _ in module.named_parameters():
        np.testing.assert_array_equal(found[0][f"model.{name}"], found[1][f"model.{name}"])


@pytest.mark.parametrize("method", PARTLY)
def test_a_parameter_that_takes_no_part_is_left_alone(method: str, pair: Path) -> None:
    alone = partly_used_steps(method)
    np.testing.assert_array_equal(alone["model.unused.weight"], PartlyUsed().unused.weight.detach())
    for rank in (0, 1):
        together = np.load(pair / f"partly {method}-{rank}.npz")
        for name, value in alone.items():
            np.testing.assert_allclose(together[name], value, rtol=0, atol=1e-12, err_msg=name)


def test_two_processes_go_on_with_what_one_began(pair: Path, tmp_path: Path) -> None:
    stopped(tmp_path / "alone")
    alone = Run.open(tmp_path / "alone")
    training = Training(TrainConfig.read(alone.config))
    training.resume(alone)
    training.finish(alone)
    same_run(Run.open(pair / "resumed"), alone)
    printed, *_ = (pair / "printed").read_text().split("end of a command\n")
    assert printed.count("epochs to go") == 1


def same_run(one: Run, other: Run) -> None:
    a, b = one.load(), other.load()
    assert a.tensors.keys() == b.tensors.keys()
    for name, value in a.tensors.items():
        if name != "training.seconds":
            np.testing.assert_allclose(value, b.tensors[name], rtol=0, atol=1e-12, err_msg=name)
    assert len(one.records()) == len(other.records())
    for mine, theirs in zip(one.records(), other.records(), strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine.keys() - {"seconds"}:
            assert mine[name] == theirs[name] or np.isclose(mine[name], theirs[name], rtol=1e-9)


def test_torchrun_starts_the_command_line(pair: Path, tmp_path: Path) -> None:
    """One folder, one record, one voice."""
    printed = (pair / "printed").read_text().split("end of a command\n")[1]
    assert printed.count("1 of 1 epochs to go") == printed.count("done, validation accuracy") == 1
    run = Run.open(pair / "run")
    config = TrainConfig.read(run.config)
    training = Training(config)
    alone = Run.create(tmp_path / "alone", run_record(config, training.method))
    with alone.locked():
        training.finish(alone)
    same_run(run, alone)
    assert names(run.path) == names(alone.path)
    assert len(names(run.path / "tensorboard")) == 1


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


# Rows of a generator

DRAWS: dict[str, tuple[Any, ...]] = {
    "beta": (1.0, 2.0),
    "binomial": (5, 0.3),
    "chisquare": (2.0,),
    "choice": (50,),
    "dirichlet": ((1.0, 2.0),),
    "exponential": (2.0,),
    "f": (2.0, 3.0),
    "gamma": (0.7, 2.0),
    "geometric": (0.3,),
    "gumbel": (1.0, 2.0),
    "hypergeometric": (5, 6, 4),
    "integers": (-4, 5),
    "laplace": (1.0, 2.0),
    "logistic": (1.0, 2.0),
    "lognormal": (1.0, 2.0),
    "logseries": (0.3,),
    "multinomial": (5, (0.3, 0.7)),
    "multivariate_hypergeometric": ((5, 6), 4),
    "multivariate_normal": ((0.0, 1.0), ((1.0, 0.0), (0.0, 1.0))),
    "negative_binomial": (5, 0.3),
    "noncentral_chisquare": (2.0, 1.0),
    "noncentral_f": (2.0, 3.0, 1.0),
    "normal": (1.0, 2.0),
    "pareto": (2.0,),
    "poisson": (2.0,),
    "power": (2.0,),
    "random": (),
    "rayleigh": (2.0,),
    "standard_cauchy": (),
    "standard_exponential": (),
    "standard_gamma": (0.7,),
    "standard_normal": (),
    "standard_t": (3.0,),
    "triangular": (0.0, 1.0, 2.0),
    "uniform": (-1.0, 2.0),
    "vonmises": (0.0, 1.0),
    "wald": (1.0, 2.0),
    "weibull": (2.0,),
    "zipf": (2.0,),
}


def test_every_distribution_is_listed_and_tested() -> None:
    assert DRAWS.keys() == SIZE_AT.keys()
    for name, parameters in DRAWS.items():
        assert len(parameters) == SIZE_AT[name]
    drawing = set()
    for name in dir(np.random.Generator):
        with contextlib.suppress(TypeError, ValueError):  # not a method, or it hides its signature
            if "size" in inspect.signature(getattr(np.random.Generator, name)).parameters:
                drawing.add(name)
    assert drawing <= SIZE_AT.keys()


@pytest.mark.parametrize("name", DRAWS)
@given(data=st.data())
def test_the_rows_of_all_processes_are_what_one_generator_draws(
    name: str, data: st.DataObject
) -> None:
    processes = data.draw(st.integers(1, 4), label="processes")
    total = data.draw(st.integers(processes, 9), label="total")
    shape = tuple(data.draw(st.lists(st.integers(0, 3), max_size=3), label="shape"))
    given_as = data.draw(st.sampled_from(["position", "keyword", "list"]), label="given as")
    # No share has as many rows as what is common.
    common = data.draw(st.sampled_from([None, 10, (10, 2), (12,)]), label="common")
    seed = data.draw(st.integers(0, 2**32), label="seed")

    def drawn(rng: np.random.Generator, count: int) -> list[np.ndarray]:
        size: Any = (count, *shape) if shape or data_is_tuple else count
        draw, parameters = getattr(rng, name), DRAWS[name]
        rows = (
            draw(*parameters, size)
            if given_as == "position"
            else draw(*parameters, size=list(size) if given_as == "list" and shape else size)
        )
        return [rows, draw(*parameters, size=common), draw(*parameters)]

    data_is_tuple = data.draw(st.booleans(), label="tuple")
    expected = drawn(np.random.default_rng(seed), total)
    found = [
        drawn(RowsOfGenerator(np.random.default_rng(seed), rows, total), len(rows))
        for rows in np.array_split(np.arange(total), processes)
    ]
    np.testing.assert_array_equal(np.concatenate([rows for rows, *_ in found]), expected[0])
    for _, *rest in found:
        for mine, theirs in zip(rest, expected[1:], strict=True):
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("p", ["1", "2", "inf", "1.5"])
def test_balls_are_sampled_by_rows(p: str) -> None:
    norm = load("norm", p)() if p != "1.5" else load("norm", "lp:1.5")()
    whole = norm.sample_ball(np.random.default_rng(0), (7, 2, 3))
    halves = [
        norm.sample_ball(RowsOfGenerator(np.random.default_rng(0), rows, 7), (len(rows), 2, 3))
        for rows in np.array_split(np.arange(7), 2)
    ]
    np.testing.assert_array_equal(np.concatenate(halves), whole)
