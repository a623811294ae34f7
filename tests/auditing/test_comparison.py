"""Two audits compared: laws of the differences and of their intervals."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audits import failed, made
from hypothesis import given, settings
from hypothesis import strategies as st

from onr.auditing.comparison import Comparison, compare
from onr.auditing.intervals import newcombe, wilson
from onr.auditing.record import Audit
from onr.errors import OnrError

seeds = st.integers(0, 10**6)
counts = st.integers(1, 40)


def rows(audit: Audit, order: np.ndarray) -> Audit:
    """The audit of these images alone, in this order."""
    columns = {name: values[order] for name, values in audit.columns.items()}
    return Audit(audit.record, columns, audit.flags)


@settings(max_examples=30, deadline=None)
@given(counts, seeds)
def test_a_model_does_not_differ_from_itself(count: int, seed: int) -> None:
    audit = made(count, seed=seed)
    found = compare(audit, audit)
    assert found.images == count
    assert (found.flags, found.flags_alike) == ((), 3)
    for moved in found.accuracy:
        assert moved.difference == moved.gained == moved.lost == 0
        assert moved.low <= 0 <= moved.high
        assert not moved.certain
    assert [change.quantity for change in found.changes][:2] == ["norm 2:2", "norm inf:2"]
    for change in found.changes:
        assert change.change == change.same
        assert change.low <= change.same <= change.high
        assert change.a == change.b


@settings(max_examples=30, deadline=None)
@given(counts, seeds, seeds)
def test_b_against_a_mirrors_a_against_b(count: int, one: int, other: int) -> None:
    a, b = made(count, seed=one), made(count, seed=other)
    there, back = compare(a, b), compare(b, a)
    for x, y in zip(there.accuracy, back.accuracy, strict=True):
        assert (x.difference, x.gained, x.lost) == (-y.difference, y.lost, y.gained)
        assert (x.low, x.high) == pytest.approx((-y.high, -y.low))
        assert x.low <= x.difference <= x.high
    for p, q in zip(there.changes, back.changes, strict=True):
        assert (p.a, p.b, p.images, p.certain) == (q.b, q.a, q.images, q.certain)
        assert p.low <= p.change <= p.high
        values = q.change, q.high, q.low
        if p.how == "ratio":
            mirrored = [math.inf if each == 0 else 1 / each for each in values]
        else:
            mirrored = [-each for each in values]
        assert [p.change, p.low, p.high] == pytest.approx(mirrored)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_images_are_matched_by_their_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = made(15, seed=1), made(15, seed=2)
    expected = compare(rows(a, np.arange(5, 15)), rows(b, np.arange(5, 15)))
    found = compare(rows(a, rng.permutation(np.arange(5, 15))), rows(b, rng.permutation(15)))
    assert found.of == (10, 15)
    assert (found.accuracy, found.changes) == (expected.accuracy, expected.changes)


def test_an_image_that_occurs_twice_is_matched_once_each() -> None:
    a, b = made(4, digest=np.array(list("aaab"))), made(4, digest=np.array(list("aabb")))
    a.columns["label"] = b.columns["label"] = np.zeros(4)
    assert compare(a, b).images == 3


def test_known_changes_are_found() -> None:
    a = made(60)
    b = made(60)
    b.columns["norm 2:2"] = a.columns["norm 2:2"] / 2
    b.columns["rho at 8/255"] = a.columns["rho at 8/255"] - 0.25
    b.columns["radius found"] = np.full(60, np.inf)
    b.columns["robust at 8/255"] = (b.columns["predicted"] == b.columns["label"]).astype(float)
    found = compare(a, b)
    changes = {change.quantity: change for change in found.changes}
    assert changes["norm 2:2"].text == "x 0.5 (0.5 to 0.5)"
    assert changes["rho at 8/255"].text == "-0.25 (-0.25 to -0.25)"
    assert changes["radius found"].change == math.inf
    at = {moved.eps: moved for moved in found.accuracy}["8/255"]
    lost = int((b.columns["robust at 8/255"] - a.columns["robust at 8/255"]).sum())
    assert (at.gained, at.lost, at.certain) == (lost, 0, True)
    text = found.summary()
    assert "Smaller in B: norm 2:2 x 0.5 (0.5 to 0.5); rho at 8/255 -0.25" in text
    assert max(map(len, text.splitlines())) <= 100


def test_images_that_one_could_not_measure_are_left_out() -> None:
    found = compare(failed(made(), 0), failed(made(), 4))
    assert found.images == 10
    assert all(moved.images == 10 for moved in found.accuracy)


def test_flags_that_differ_are_shown() -> None:
    a, b = made(), made()
    flags = (replace(b.flags[0], raised=False), b.flags[1])
    found = compare(a, Audit(b.record, b.columns, flags))
    assert [name for name, _, _ in found.flags] == ["ours", "box"]
    assert "  ours: raised in A, ok in B\n  not run in B: box" in found.summary()
    assert "Flags that are raised in one alone: ours." in found.findings


def test_other_threat_models_labels_and_images_are_refused() -> None:
    a = made()
    with pytest.raises(OnrError, match="threat models differ"):
        compare(a, made(p="2"))
    with pytest.raises(OnrError, match="threat models differ"):
        compare(a, made(eps="4/255"))
    with pytest.raises(OnrError, match="share no images"):
        compare(a, made(digest=np.array([f"x{k}" for k in range(12)])))
    with pytest.raises(OnrError, match="share no images"):
        compare(failed(made(1), 0), made(1))
    with pytest.raises(OnrError, match="other labels for 12 of 12"):
        compare(a, made(label=(a.columns["label"] + 1) % 3))


def test_the_same_radius_may_be_written_otherwise() -> None:
    a, b = made(), made(eps="0.25", radii={"0.25": 8 / 255})
    b.record["eps"] = f"{8 / 255!r}"
    b.record["radii"] = {b.record["eps"]: 8 / 255}
    for name in ("robust", "rho"):
        b.columns[f"{name} at {b.record['eps']}"] = b.columns[f"{name} at 8/255"]
    found = compare(a, b)
    assert [moved.eps for moved in found.accuracy] == ["0", "8/255"]
    assert "rho at 8/255" in [change.quantity for change in found.changes]


def test_saved_audits_are_compared(tmp_path: Path) -> None:
    a, b = made(), made(seed=1)
    a.save(tmp_path / "a")
    b.save(tmp_path / "b", table="parquet")
    found = compare(tmp_path / "a", tmp_path / "b")
    assert isinstance(found, Comparison)
    assert found == compare(a, b)
    names = [path.name for path in found.save(tmp_path / "c")]
    assert names == ["comparison.html", "comparison.json"]


@pytest.mark.parametrize(
    ("table", "interval"),
    [
        ((36, 12, 2, 50), (0.0569, 0.3404)),  # Newcombe 1998, Table III
        ((27, 3, 0, 30), (-0.0310, 0.2562)),
        ((27, 0, 0, 30), (-0.1097, 0.1097)),
        ((20, 12, 2, 50), (0.0562, 0.3292)),  # Armitage and Berry's culture media
    ],
)
def test_newcombes_interval_is_the_published_one(
    table: tuple[int, int, int, int], interval: tuple[float, float]
) -> None:
    assert newcombe(*table) == pytest.approx(interval, abs=6e-5)


@given(*[st.integers(0, 30)] * 3, st.integers(1, 30))
def test_newcombes_interval_lies_around_the_difference(
    both: int, second: int, first: int, neither: int
) -> None:
    count = both + second + first + neither
    low, high = newcombe(both, second, first, count)
    assert -1 <= low <= (second - first) / count <= high <= 1
    assert newcombe(both, first, second, count) == pytest.approx((-high, -low))
    if both == second == 0:
        assert high <= wilson(first, count)[1]
