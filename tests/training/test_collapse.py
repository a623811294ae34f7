"""Collapse: what rho says of a network, when a collapse is told, and which epoch is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onr.architectures import Affine, Architecture, ReLU
from onr.norms import LpNorm
from onr.training.collapse import collapse, median_rho
from onr.training.config import TrainConfig
from onr.training.factories import make_method, run_record
from onr.training.loop import Training
from onr.training.runs import Run
from onr_numpy.backend import NumpyBackend

CLEAN, ROBUST = "validation_accuracy", "validation_robust_accuracy"


@pytest.mark.parametrize("p", [1, 1.5, 2, np.inf])
@given(seed=st.integers(0, 1000), eps=st.floats(1e-3, 10))
@settings(max_examples=10, deadline=None)
def test_rho_is_one_for_a_linear_network(p: float, seed: int, eps: float) -> None:
    network = NumpyBackend().build(Architecture((4,), (Affine(3),)), seed=seed, dtype="float64")
    rng = np.random.default_rng(seed)
    x, y = rng.random((5, 4)), rng.integers(0, 3, 5)
    assert median_rho(network, x, y, p=LpNorm(p), eps=eps) == pytest.approx(1, abs=1e-9)


@given(eps=st.floats(0.5, 10))
def test_rho_is_the_share_of_the_step_that_the_network_follows(eps: float) -> None:
    """The other logit rises with the pixel until 0.5 above the image, and is flat from there."""
    parameters = {
        "0.weight": np.array([[1.0], [1.0]]),
        "0.bias": np.array([0.0, -0.75]),
        "2.weight": np.array([[0.0, 0.0], [1.0, -1.0]]),
        "2.bias": np.zeros(2),
    }
    layers = Architecture((1,), (Affine(2), ReLU(), Affine(2)))
    network = NumpyBackend().build(layers, parameters=parameters, dtype="float64")
    x, y = np.full((3, 1), 0.25), np.zeros(3, int)
    assert median_rho(network, x, y, p=LpNorm(2), eps=eps) == pytest.approx(0.5 / eps)


def test_rho_is_unknown_where_no_gradient_leads_anywhere() -> None:
    flat = {"0.weight": np.zeros((2, 3)), "0.bias": np.array([1.0, 0.0])}
    network = NumpyBackend().build(Architecture((3,), (Affine(2),)), parameters=flat)
    x, y = np.zeros((2, 3), dtype=np.float32), np.zeros(2, int)
    assert median_rho(network, x, y, p=LpNorm(2), eps=0.1) is None


def record(epoch: int, clean: float, robust: float) -> dict[str, Any]:
    return {"epoch": epoch, CLEAN: clean, ROBUST: robust}


@given(
    clean=st.floats(0, 1),
    robust=st.floats(0, 1),
    before=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=4),
)
def test_a_collapse_is_a_fall_to_a_third_while_clean_accuracy_rises(
    clean: float, robust: float, before: list[tuple[float, float]]
) -> None:
    known = [record(epoch, *one) for epoch, one in enumerate(before, start=1)]
    told = collapse(record(9, clean, robust), known, images=250)
    rise, best = next(one for one in before if one[1] == max(b[1] for b in before))
    beyond_chance = best - robust > 3 * (best * (1 - best) / 250) ** 0.5
    assert (told is not None) == (clean > rise and robust <= best / 3 and beyond_chance)


@pytest.mark.parametrize(
    ("clean", "robust", "images", "told"),
    [
        (0.5, 0.01, 250, True),
        (0.5, 0.01, 20, False),  # chance may do that
        (0.5, 0.08, 250, False),
        (0.2, 0.01, 250, False),
    ],
)
def test_a_fall_within_chance_is_no_collapse(
    clean: float, robust: float, images: int, told: bool
) -> None:
    before = [record(1, 0.25, 0.1), record(2, 0.3, 0.2)]
    now = record(3, clean, robust)
    assert (collapse(now, before, images=images) is not None) == told
    assert collapse(now, [], images=images) is None


def test_training_tells_a_collapse_at_once_and_keeps_the_epoch_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    robust = [0.5, 0.6, 0.0, 0.0]

    def planted(training: Training, epoch: int) -> dict[str, float]:
        return {CLEAN: 0.5 + epoch / 10, ROBUST: robust[epoch - 1]}

    monkeypatch.setattr(Training, "_accuracies", planted)
    options = {"p": "inf", "eps": "0.1", "steps": "1"}
    config = TrainConfig(
        backend="numpy", method="at", method_options=options, train_images=600, epochs=len(robust)
    )
    run = Run.create(tmp_path / "run", run_record(config, make_method(config)))
    told: list[bool] = []
    Training(config).finish(run, on_epoch=lambda record: told.append("warning" in record))
    assert told == [False, False, True, True]
    said = run.records()[2]["warning"]
    assert said.startswith("accuracy under attack has collapsed: 0.0% after 60.0% in epoch 2")
    assert run.model(best=True)[1] == 2


def test_the_record_of_an_epoch_has_rho(tmp_path: Path) -> None:
    for method, there in (("standard", False), ("dd-snr", True)):
        config = TrainConfig(backend="numpy", method=method, train_images=60, epochs=1)
        run = Run.create(tmp_path / method, run_record(config, make_method(config)))
        Training(config).finish(run)
        assert ("validation_rho" in run.records()[0]) == there
