"""The frontiers of fast training: how far one lies beyond another, and what is measured."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onr.errors import OnrError, UnknownNameError
from onr.experiments import Measurement
from onr.training.config import TrainConfig
from onr.training.config_hash import config_hash
from onr.training.loop import run_training
from onr_validation.experiments.frontier import Frontier, gap
from onr_validation.grids import frontier
from onr_validation.reproduction.fingerprint import key
from onr_validation.reproduction.worker import _subject

POINTS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=4)


@given(mine=POINTS, theirs=POINTS)
@settings(max_examples=50, deadline=None)
def test_the_gap_is_the_least_step_down_to_the_frontier(
    mine: list[tuple[float, float]], theirs: list[tuple[float, float]]
) -> None:
    """Against points laid densely on the lines of the frontier."""
    known = np.array(sorted(mine))
    s = np.linspace(0, 1, 2001)[:, None]
    lines = [(1 - s) * a + s * b for a, b in itertools.pairwise(known)]
    dense = np.concatenate([known, *lines])
    excess = [np.maximum(c - dense[:, 0], r - dense[:, 1]).min() for c, r in theirs]
    assert gap(mine, theirs) == pytest.approx(max(0, *excess), abs=1e-3)


def test_a_frontier_without_points_has_no_gap() -> None:
    assert np.isnan(gap([], [(0.5, 0.1)]))


@pytest.mark.parametrize(("weights", "frontiers"), [(["0.2"], 0), (["0.1", "0.2"], 3)])
def test_one_weight_is_no_frontier(weights: list[str], frontiers: int) -> None:
    methods = {"dd-snr-warm": weights, "at-10": ["1"], "n-fgsm": [""], "gat": ["10"]}
    rows: list[dict[str, Any]] = [
        {"ball": "inf 0.1", "weights": "raw", "method": method, "lam": lam, "part": part}
        | {"mean": 0.5 - part / 4}
        for method, all_lam in methods.items()
        for lam in all_lam
        for part in (0.0, 1.0)
    ]
    rows += [{"quantity": "seconds a step", "method": method, "mean": 1.0} for method in methods]
    claims = Frontier().claims(rows, "tiny")
    assert len([claim for claim in claims if "frontier" in claim.statement]) == frontiers
    assert len(claims) == frontiers + 2


def test_an_unknown_grid_is_named() -> None:
    with pytest.raises(OnrError, match="no grid frontier:huge: expected one of cpu, paper, search"):
        frontier("huge")


def test_missing_baselines_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(grid: Mapping[str, Any]) -> None:
        raise UnknownNameError("unknown method 'onr_fast_training:gat'")

    monkeypatch.setattr("onr_validation.experiments.frontier.expanded", unknown)
    with pytest.raises(OnrError, match=r"pip install ./plugins/onr-fast-training"):
        Frontier().measurements("tiny")


def test_averaged_weights_are_measured_where_they_are_asked_for(tmp_path: Path) -> None:
    config = TrainConfig(backend="onr_numpy:numpy", train_images=60, epochs=1, average=0.5)
    run = run_training(config, tmp_path / "models" / config_hash(config))
    raw = Measurement("onr_validation:robust-accuracy", config)
    for measurement in (raw, averaged := replace(raw, averaged=True)):
        subject = _subject(measurement, tmp_path)
        assert subject is not None
        expected, _ = run.model(averaged=measurement.averaged)
        found = subject.network.parameters()
        assert all(np.array_equal(found[name], value) for name, value in expected.items())
    assert key(raw) != key(averaged)
