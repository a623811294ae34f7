"""The average of the weights: its formula, its twin in torch, and what it leaves alone."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from onr.data import Split, pixels
from onr.errors import OnrError
from onr.registry import load
from onr.training.averaging import WeightAverage
from onr.training.config import TrainConfig
from onr.training.factories import run_record
from onr.training.loop import Training
from onr.training.optimizers import Optimizer
from onr.training.runs import Run
from onr.training.subject import open_run
from onr_torch.models.weights import read_weights
from onr_torch.network import TorchNetwork
from onr_torch.training.learner import TorchLearner

SETTINGS: dict[str, Any] = {
    "train_images": 60,
    "batch_size": 20,
    "epochs": 4,
    "schedule": "constant",
    "lr": 0.03,
    "model_options": {"width": "8"},
    "dtype": "float64",
}


def decay(largest: float, step: int) -> float:
    return min(largest, (1 + step) / (10 + step))


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=30), st.floats(0.01, 0.999), st.booleans())
def test_the_average_is_the_sum_of_its_shares(
    values: list[float], largest: float, in_torch: bool
) -> None:
    """Written out, not step by step."""
    made: Any = functools.partial(torch.tensor, dtype=torch.float64) if in_torch else np.array
    zero = torch.tensor(0) if in_torch else np.array(0)
    average = WeightAverage(largest, {"w": made([values[0]]), "n": zero, "c": made(0.1)})
    for step, value in enumerate(values[1:], 1):
        average.update({"w": made([value]), "n": zero + step, "c": made(0.1)}, step=step)
    shares = [1.0, *(1 - decay(largest, t) for t in range(1, len(values)))]
    for t in range(1, len(values)):
        shares[:t] = [share * decay(largest, t) for share in shares[:t]]
    assert sum(shares) == pytest.approx(1)
    assert float(average.weights["w"][0]) == pytest.approx(np.dot(shares, values), abs=1e-9)
    assert int(average.weights["n"]) == len(values) - 1
    assert float(average.weights["c"]) == float(made(0.1))


def test_a_plain_loop_in_torch_has_the_same_weights_and_average() -> None:
    """Batch normalisation, AdamW, and the average of torch.optim.swa_utils, buffers too."""
    torch.manual_seed(0)
    # Of a bias here the gradient would be rounding errors, which Adam scales up.
    first = nn.Linear(6, 8, bias=False)
    layers = (nn.Flatten(), first, nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    theirs = nn.Sequential(*layers).double()
    ours = copy.deepcopy(theirs)
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 1, 2, 3)).astype(np.uint8), np.arange(20) % 4
    learner = TorchLearner(
        TorchNetwork(ours, (1, 2, 3)),
        load("method", "standard")(),
        Split(images, labels),
        optimizer=Optimizer("adamw", weight_decay=0.1),
    )
    average = WeightAverage(0.5, learner.weights())

    def averaged(one: torch.Tensor, other: torch.Tensor, count: int | torch.Tensor) -> torch.Tensor:
        d = decay(0.5, int(count))
        return d * one + (1 - d) * other if one.is_floating_point() else other

    twin = AveragedModel(theirs, avg_fn=averaged, use_buffers=True)
    twin.n_averaged += 1  # the first update shall average, not copy
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1)
    x, y = torch.from_numpy(pixels(images, "float64")), torch.from_numpy(labels)
    for step in range(1, 13):
        batch = rng.permutation(20)[:7]
        learner.step(batch, lr=0.01, rng=np.random.default_rng(step))
        average.update(learner.weights(), step=step)
        optimizer.zero_grad()
        functional.cross_entropy(theirs(x[batch]), y[batch]).backward()
        optimizer.step()
        twin.update_parameters(theirs)
    for found, expected in (
        (learner.weights(), theirs.state_dict()),
        (average.weights, twin.module.state_dict()),
    ):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9)
    held = {name: value.clone() for name, value in learner.weights().items()}
    with learner.holding(average.weights):
        torch.testing.assert_close(learner.network(x), twin.eval()(x), rtol=1e-9, atol=1e-9)
    for name, value in learner.weights().items():
        assert torch.equal(value, held[name])


def trained(path: Path, **more: Any) -> Run:
    config = TrainConfig(**SETTINGS | more)
    training = Training(config)
    run = Run.create(path, run_record(config, training.method))
    training.finish(run)
    return run


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_the_average_is_kept_beside_weights_that_it_does_not_change(
    backend: str, tmp_path: Path
) -> None:
    at = {"backend": backend, "method": "at", "method_options": {"eps": "0.3", "steps": "2"}}
    run = trained(tmp_path / "averaged", average=0.8, **at)
    plain = trained(tmp_path / "plain", **at)
    own, other = run.load().tensors, plain.load().tensors
    for name, value in other.items():
        if not name.startswith("training."):
            np.testing.assert_array_equal(own[name], value)
    assert not (plain.path / "best-averaged.safetensors").exists()
    with pytest.raises(OnrError, match="keeps no averaged weights: train with --average"):
        open_run(plain.path, averaged=True)

    raw, averaged = (open_run(run.path, averaged=chosen) for chosen in (False, True))
    assert averaged.averaged
    assert not raw.averaged
    records = run.records()
    for subject, prefix in ((raw, ""), (averaged, "averaged_")):
        x, y = subject.inputs(part="validation")
        found = np.asarray(subject.network(x[:])).argmax(1)
        assert records[-1][f"{prefix}validation_accuracy"] == float(np.mean(found == np.asarray(y)))
        assert f"{prefix}validation_robust_accuracy" in records[-1]
    scores = [record["averaged_validation_robust_accuracy"] for record in records]
    assert open_run(run.path, averaged=True, best=True).epochs == 1 + int(np.argmax(scores))
    best = run.model(best=True, averaged=True)[0]
    for name, value in read_weights(run.path / "best-averaged.safetensors").items():
        np.testing.assert_array_equal(value, best[name])
