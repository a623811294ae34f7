"""A scheduled method gives the method of each step, and the loop tells it how far training is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from onr.errors import OnrError
from onr.protocols import Cost, Moment, Outputs, Probe, ScheduledMethod
from onr.registry import load
from onr.training.config import TrainConfig
from onr.training.factories import make_method, run_record
from onr.training.loop import Training, lengthened
from onr.training.runs import Run

STANDARD = load("method", "standard")()
SMALL = TrainConfig(train_images=60, batch_size=12, epochs=2, model_options={"width": "8"})


@dataclass(frozen=True)
class Rising:
    """Cross-entropy whose weight is the share of the training that lies behind."""

    told: list[Moment]
    weight: float = 1.0
    settings = STANDARD.settings

    def at_moment(self, moment, /):
        self.told.append(moment)
        return replace(self, weight=moment.progress)

    def perturb(self, network, x, y, /, *, rng, memory):
        return Probe()

    def objective(self, outputs, y, /):
        cost = STANDARD.objective(outputs, y)
        return Cost(self.weight * cost.value, Outputs(self.weight * cost.gradients.clean))


@pytest.fixture
def told(monkeypatch):
    """The moments that the method of a training is told."""
    moments: list[Moment] = []
    monkeypatch.setattr("onr.training.loop.make_method", lambda config: Rising(moments))
    return moments


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_every_step_takes_the_method_of_its_moment(backend: str, told: list[Moment]) -> None:
    training = Training(replace(SMALL, backend=backend, optimizer="sgd", momentum=0.0))

    def parameters() -> list[np.ndarray]:
        return [v for name, v in training.learner.state().items() if name.startswith("model.")]

    start = parameters()
    training._take_step(0, 0)
    np.testing.assert_equal(parameters(), start)  # a weight of zero moves nothing
    training._take_step(0, 1)
    assert any((now != before).any() for now, before in zip(parameters(), start, strict=True))
    assert told == [Moment(0, 0.0), Moment(1, 0.1)]


def test_a_run_that_was_stopped_goes_on_at_its_moment(told: list[Moment], tmp_path: Path) -> None:
    training = Training(SMALL)
    run = Run.create(tmp_path / "run", run_record(SMALL, STANDARD))
    for step in range(3):
        training._take_step(0, step)
    training._save(run)
    resumed = Training(SMALL)
    resumed.resume(run)
    resumed.finish(run)
    assert told == [Moment(step, step / 10) for step in range(10)]


def test_such_a_run_is_not_lengthened(told: list[Moment]) -> None:
    config = replace(SMALL, schedule="constant")
    with pytest.raises(OnrError, match="method standard changes over all epochs"):
        lengthened(config, 3)
    assert lengthened(config, 2) == config


def test_no_method_of_the_paper_is_scheduled() -> None:
    for name in ("standard", "at", "dd-snr-warm", "interpolate", "global-snr"):
        assert not isinstance(make_method(replace(SMALL, method=name)), ScheduledMethod)
