"""The table of an audit: the same however the work is cut, and nothing is lost by what fails."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import onr
from onr.architectures import Affine, Architecture, ReLU
from onr.auditing import audit as audits
from onr.auditing import images
from onr.auditing.audit import AuditSettings, run_audit
from onr.auditing.base_check import BaseCheck
from onr.auditing.block import Block
from onr.auditing.intervals import quantile, wilson
from onr.auditing.protocols import Evidence, Flag
from onr.auditing.record import RECORD, TABLES, Audit
from onr.auditing.threat import Threat
from onr.errors import OnrError
from onr.norms import LpNorm
from onr.protocols import BackendNetwork
from onr.records import csv_table
from onr_numpy.backend import NumpyBackend

TWO = LpNorm(2)
NETWORK = NumpyBackend().build(Architecture((4,), (Affine(6), ReLU(), Affine(3))), dtype="float64")
X = np.random.default_rng(0).random((11, 4))
Y = NETWORK(X).argmax(axis=1)
SETTINGS: dict[str, Any] = {"threat": Threat(TWO, "0.5"), "norms": ((TWO, TWO),), "checks": ()}


class Noisy(BaseCheck):
    """A check that draws random numbers for each block, and looks at the first seven images."""

    name, summary, threshold = "noisy", "an example", 2.0
    source, meaning, remedy = "here", "Nothing.", "Nothing."

    def measure(self, block: Block, /) -> Mapping[str, np.ndarray]:
        few = block.first(7)
        drawn = block.rng("noise").random(len(few))
        return {"drawn": block.column(few, drawn), "who": np.array([f"x{k}" for k in block.places])}

    def verdict(self, evidence: Evidence, /) -> Flag:
        drawn = evidence.of(self.name)["drawn"]
        known = drawn[~np.isnan(drawn)]
        return self.flag(known.mean(), len(known), "drawn")


@pytest.fixture(autouse=True)
def blocks_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audits, "BLOCK", 3)


def offered(monkeypatch: pytest.MonkeyPatch, *checks: type[BaseCheck]) -> None:
    monkeypatch.setattr(audits, "checks_named", lambda names: {c.name: c() for c in checks})


def table(audit: Audit | None) -> bytes:
    assert audit is not None
    return csv_table(audit.rows)


def run(out: Path | None = None, network: BackendNetwork = NETWORK, x: Any = X, **more: Any) -> Any:
    given = {name: more.pop(name) for name in list(more) if name in AuditSettings.__annotations__}
    return run_audit(network, x, Y, AuditSettings(**(SETTINGS | given)), out=out, **more)


@pytest.mark.parametrize("seed", [None, 3])
def test_the_table_does_not_depend_on_processes_and_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int | None
) -> None:
    offered(monkeypatch, Noisy)
    alone = run(seed=seed, images=9)
    for world in (1, 2, 3):
        out = tmp_path / f"world {world}"
        for rank in reversed(range(world)):
            found = run(out, seed=seed, images=9, process=(rank, world))
            assert (found is None) == (rank > 0)
        assert table(found) == table(alone)
    folders = [tmp_path / f"shard {place}" for place in (1, 2, 3)]
    for place, folder in enumerate(folders, start=1):
        assert run(folder, seed=seed, images=9, shard=(place, 3)) is None
    measured: list[bool] = []
    merged = run(
        tmp_path / "merged",
        seed=seed,
        images=9,
        merge=folders,
        on_block=lambda done, total, found: measured.append(not found),
    )
    assert not any(measured)
    assert table(merged) == table(alone)
    assert merged.flags == alone.flags


def test_an_audit_goes_on_from_the_blocks_that_are_finished(tmp_path: Path) -> None:
    def stop(done: int, total: int, found: bool) -> None:
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, on_block=stop)
    found: list[bool] = []
    again = run(tmp_path, on_block=lambda done, total, kept: found.append(kept))
    assert found == [True, True, False, False]
    assert table(again) == table(run())
    again.save(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    assert {RECORD, TABLES["csv"]} <= {path.name for path in tmp_path.iterdir()}


def test_blocks_of_other_images_or_settings_are_not_taken(tmp_path: Path) -> None:
    found: list[bool] = []
    moved = X.copy()
    moved[10] = 0.5
    for x, eps in ((X, "0.5"), (moved, "0.5"), (X, "0.6"), (X, "0.5")):
        threat = Threat(TWO, eps)
        run(tmp_path, x=x, threat=threat, on_block=lambda done, total, kept: found.append(kept))
    assert found == [False] * 4 + [True] * 3 + [False] * 5 + [True] * 4


class _Faulty:
    """A network with NaN logits at one image."""

    def __init__(self, network: Any) -> None:
        self._network = network

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        found = self._network(x).copy()
        found[(x == X[4]).all(axis=1), 1] = np.nan
        return found


def test_what_is_wrong_with_an_image_is_named_and_the_others_are_measured() -> None:
    x = X.copy()
    x[7] *= 255
    found = run(network=_Faulty(NETWORK), x=x)  # type: ignore[arg-type]
    assert found.columns["failure"][4] == "a logit is nan"
    assert "outside [0, 1]" in found.columns["failure"][7]
    good = np.delete(np.arange(len(X)), [4, 7])
    whole = run()
    for name in ("label", "first-order radius", "norm 2:2", "robust at 0.5"):
        np.testing.assert_allclose(found.columns[name][good], whole.columns[name][good])
        assert np.isnan(found.columns[name][[4, 7]]).all()
    assert [row["images"] for row in found.curve] == [9] * 5
    assert {each["image"] for each in found.to_dict()["failures"]} == {4, 7}


def test_images_that_all_fail_are_an_error_that_says_why() -> None:
    with pytest.raises(OnrError, match=r"no image could be measured; image 0: a pixel is .* outsi"):
        run(x=X * 255 + 2)
    with pytest.raises(OnrError, match="no images"):
        run_audit(NETWORK, X[:0], Y[:0], AuditSettings(**SETTINGS))
    with pytest.raises(OnrError, match="images = 12: expected 1 to 11"):
        run(images=12)


def test_a_check_that_raises_or_hangs_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Raises(Noisy):
        name = "raises"

        def measure(self, block: Block, /) -> Mapping[str, np.ndarray]:
            raise ValueError("of\nno use")

    class Hangs(Noisy):
        name = "hangs"

        def measure(self, block: Block, /) -> Mapping[str, np.ndarray]:
            while True:
                time.sleep(0.01)

    class Undecided(Noisy):
        name = "undecided"

        def verdict(self, evidence: Evidence, /) -> Flag:
            raise KeyError("nothing")

    offered(monkeypatch, Raises, Hangs, Undecided, Noisy)
    flags = {flag.name: flag for flag in run(images=3, check_limit=0.05).flags}
    assert flags["raises"].raised is flags["hangs"].raised is flags["undecided"].raised is None
    assert flags["raises"].detail == "the check failed: ValueError: of no use"
    assert "not finished after 0.05 seconds" in flags["hangs"].detail
    assert flags["noisy"].raised is False


def test_memory_that_does_not_suffice_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    class Small(_Faulty):
        largest = 0

        def __call__(self, x: np.ndarray) -> np.ndarray:
            return self._network(self._seen(x))

        def linearize(self, x: np.ndarray, *, jvp: bool = True) -> Any:
            return self._network.linearize(self._seen(x), jvp=jvp)

        def _seen(self, x: np.ndarray) -> np.ndarray:
            if len(x) > 1:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return x

    small = run(network=Small(NETWORK))  # type: ignore[arg-type]
    whole = run()
    for name, values in whole.columns.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(small.columns[name], values, rtol=1e-6, err_msg=name)


def test_the_front_door_takes_a_model_that_everything_else_refuses() -> None:
    class Noise(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            drawn = torch.from_numpy(np.random.default_rng().normal(size=(len(x), 3)))
            return x.flatten(1)[:, :3] + drawn.to(x.dtype)

    x, y = torch.rand(4, 5), torch.tensor([0, 1, 2, 0])
    found = onr.audit(Noise(), x, y, p="inf", eps="1/10", checks=())
    assert len(found.columns["label"]) == 4
    with pytest.raises(OnrError, match="whole numbers"):
        onr.audit(Noise(), x, y.double(), p=2, eps=0.5)
    with pytest.raises(OnrError, match="cannot be written"):
        onr.audit(Noise(), x, y, p=2, eps=0.5, norms="2:2,inf:1", out="/proc/none")
    with pytest.raises(OnrError, match="fails on inputs"):
        onr.audit(nn.Linear(7, 3), x, y, p=2, eps=0.5)


@given(count=st.integers(1, 60), data=st.data())
def test_wilson_holds_the_share_and_narrows(count: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, count))
    low, high = wilson(hits, count)
    assert 0 <= low <= hits / count <= high <= 1
    wide = wilson(10 * hits, 10 * count)
    assert wide[1] - wide[0] < high - low
    other = wilson(count - hits, count)
    np.testing.assert_allclose(other, (1 - high, 1 - low), atol=1e-12)


def test_the_interval_of_a_median_covers_it() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        _, low, high = quantile(rng.exponential(size=25), 0.5)
        hits += low <= np.log(2) <= high
    assert hits >= 0.93 * 400
    assert all(np.isnan(quantile(np.full(3, np.nan), 0.5)))


def test_the_pictures_are_those_of_the_least_robust_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "WORST", 4)
    found = run()
    order = np.lexsort((found.columns["first-order radius"], found.columns["radius found"]))
    correct = order[found.columns["predicted"][order] == found.columns["label"][order]]
    np.testing.assert_array_equal(found.pictures["place"], correct[:4])
    np.testing.assert_allclose(found.pictures["image"], X[correct[:4]], atol=1 / 255)
    assert np.abs(found.pictures["perturbation"]).max() == 1
