"""The hash of a point: what it depends on, and what it does not."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import pytest

from onr.training.config import TrainConfig
from onr.training.config_hash import config_hash

CONFIG = TrainConfig(method="at", method_options={"eps": "0.5"}, epochs=3)


@dataclass(frozen=True)
class Later(TrainConfig):
    """The configuration of a later version, which has one more setting."""

    averaging: float = 0.0


def test_a_setting_that_is_added_changes_no_hash() -> None:
    assert config_hash(Later(**asdict(CONFIG))) == config_hash(CONFIG)
    assert config_hash(Later(**asdict(CONFIG), averaging=0.9)) != config_hash(CONFIG)


def test_a_name_counts_with_its_plugin() -> None:
    assert config_hash(replace(CONFIG, method="onr_paper:at")) == config_hash(CONFIG)
    given = {"dataset": "digits", "model": "mlp", "backend": "torch"}
    assert config_hash(replace(CONFIG, **given)) == config_hash(CONFIG)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 4},
        {"lr": 0.1},
        {"method": "dd-snr"},
        {"model": "cnn7"},
        {"method_options": {"eps": "1"}},
        {"weights": "some.safetensors"},
        {"dtype": "float64"},
    ],
)
def test_what_changes_the_weights_changes_the_hash(change: dict[str, object]) -> None:
    assert config_hash(replace(CONFIG, **change)) != config_hash(CONFIG)


@pytest.mark.parametrize(
    "change", [{"device": "cuda"}, {"data_dir": "/elsewhere"}, {"tensorboard": True}]
)
def test_where_it_is_trained_does_not(change: dict[str, object]) -> None:
    assert config_hash(replace(CONFIG, **change)) == config_hash(CONFIG)


def test_a_whole_number_is_a_number() -> None:
    assert config_hash(replace(CONFIG, lr=1)) == config_hash(replace(CONFIG, lr=1.0))
