"""``multitargeted``: who leaves, where it goes, what it may spend, and how it goes on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onr.architectures import Affine, Architecture, Normalize, initial_parameters
from onr.attacks.multitargeted import MultiTargeted
from onr.errors import ImageError, NotAvailableError, OnrError
from onr.measurements.attack_outcomes import attack_outcomes
from onr.measurements.predictions import classes_of
from onr.norms import LpNorm
from onr.text import norm
from onr_numpy.network import DenseNetwork
from onr_paper.models import mlp

SHAPE = (1, 3, 3)
RADII = {"1": 0.6, "2": 0.2, "inf": 0.06, "3": 0.15}


class Watched:
    """A network that counts the passes of each image, which its first pixel names."""

    def __init__(self, network: Any, change: Any = lambda logits, x: logits) -> None:
        self.network, self.change, self.calls = network, change, 0
        self.input_shape = network.input_shape
        self.sizes: list[int] = []

    def __call__(self, x: np.ndarray, /) -> np.ndarray:
        self.sizes.append(len(x))
        return self.change(self.network(x), x)

    def linearize(self, x: np.ndarray, /, *, jvp: bool = True) -> Any:
        assert not jvp
        self.sizes.append(len(x))
        here = self.network.linearize(x)
        return _Changed(self, here, self.change(here.value, x))


class _Changed:
    def __init__(self, watched: Watched, here: Any, value: np.ndarray) -> None:
        self.watched, self.here, self.value, self.calls = watched, here, value, 0

    def vjp(self, u: np.ndarray, /) -> np.ndarray:
        self.calls += 1
        if self.calls > 1:  # the first is one pass with the forward pass
            self.watched.sizes.append(len(u))
        return self.here.vjp(np.where(np.isinf(self.value), 0, u))


def dense(seed: int = 0, classes: int = 5) -> DenseNetwork:
    architecture = mlp(SHAPE, classes, normalize=Normalize((0.5,), (0.2,)), width=12)
    parameters = initial_parameters(architecture, seed)
    return DenseNetwork(architecture, {n: v.astype(np.float64) for n, v in parameters.items()})


def inputs(count: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, *SHAPE))


def labelled(network: Any, x: np.ndarray, wrong: int = 0) -> np.ndarray:
    """The predicted classes, and others for the first images."""
    y: np.ndarray = network(x).argmax(axis=1)
    y[:wrong] = (y[:wrong] + 1) % network(x).shape[1]
    return y


def attacked(network: Any, x: np.ndarray, y: np.ndarray, **options: Any) -> np.ndarray:
    given: dict[str, Any] = {"p": LpNorm(2), "eps": 0.5, **options}
    found: np.ndarray = MultiTargeted(**given)(network, x, y, rng=np.random.default_rng(0))
    return found


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10**6),
    p=st.sampled_from([1.5, 2.0, 2.0, math.inf, math.inf]),
    factor=st.sampled_from([0.95, 1.05]),
)
def test_of_a_linear_network_it_breaks_just_what_can_be_broken(
    seed: int, p: float, factor: float
) -> None:
    rng = np.random.default_rng(seed)
    architecture = Architecture((6,), (Affine(4),))
    weights = {n: rng.normal(size=v.shape) for n, v in initial_parameters(architecture, 0).items()}
    network, x = DenseNetwork(architecture, weights), rng.random((1, 6))
    (matrix,) = (value for value in weights.values() if value.ndim == 2)
    z = network(x)[0]
    label = int(z.argmax())
    rows = np.delete(matrix - matrix[label], label, axis=0)
    radius = float((np.delete(z[label] - z, label) / LpNorm(p).dual(rows)).min())
    if radius < 1e-3:
        return
    moved = attacked(network, x, np.array([label]), p=p, eps=factor * radius, bounds=None)
    assert (network(moved).argmax(axis=1)[0] != label) == (factor > 1)


def gain(slope: np.ndarray, room: np.ndarray, eps: float, p: float) -> float:
    """The largest ``<slope, delta>`` over ``||delta||_p <= eps`` and ``0 <= delta <= room``."""
    if p == 1:  # the entry of largest slope goes to its bound first, then the next
        order = slope.argsort()[::-1]
        used = np.clip(eps - room[order].cumsum() + room[order], 0, room[order])
        return float(slope[order] @ used)
    low, high = 0.0, 1e6
    for _ in range(60):
        scale = (low + high) / 2
        delta = np.minimum(room, scale * slope ** (1 / (p - 1)))
        low, high = (low, scale) if float((delta**p).sum()) > eps**p else (scale, high)
    return float(slope @ np.minimum(room, low * slope ** (1 / (p - 1))))


@settings(max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    p=st.sampled_from([1.0, 1.0, 1.5, 3.0]),
    factor=st.sampled_from([0.97, 1.03]),
)
def test_of_a_linear_network_it_breaks_just_what_can_be_broken_in_the_box(
    seed: int, p: float, factor: float
) -> None:
    rng = np.random.default_rng(seed)
    architecture = Architecture((30,), (Affine(3),))
    weights = {n: rng.normal(size=v.shape) for n, v in initial_parameters(architecture, 0).items()}
    network, x = DenseNetwork(architecture, weights), rng.random((1, 30))
    (matrix,) = (value for value in weights.values() if value.ndim == 2)
    z = network(x)[0]
    label = int(z.argmax())

    def breakable(eps: float) -> bool:
        slopes = np.delete(matrix - matrix[label], label, axis=0)
        rooms = np.where(slopes > 0, 1 - x, x)
        gaps = np.delete(z[label] - z, label)
        gains = [gain(np.abs(s), r, eps, p) for s, r in zip(slopes, rooms, strict=True)]
        return bool((np.array(gains) > gaps).any())

    low, high = 0.0, 30.0
    if not breakable(high):
        return
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if breakable(middle) else (middle, high)
    moved = attacked(network, x, np.array([label]), p=LpNorm(p), eps=factor * high)
    assert (LpNorm(p)(moved - x) <= factor * high * (1 + 1e-9)).all()
    assert (network(moved).argmax(axis=1)[0] != label) == (factor > 1 and high > 0)


@pytest.mark.parametrize("p", RADII)
def test_the_broken_leave_and_the_wrong_never_come(p: str) -> None:
    network, x = Watched(dense()), inputs()
    y = labelled(network, x, wrong=3)
    network.sizes.clear()
    moved = attacked(network, x, y, p=norm(p), eps=RADII[p])
    assert network.sizes[0] == 24
    assert network.sizes[1] == 21
    assert min(network.sizes) < 15
    np.testing.assert_array_equal(moved[:3], x[:3])
    broken = network(moved).argmax(axis=1) != y
    assert 6 < broken.sum() < 24


def test_the_result_of_an_example_does_not_depend_on_who_leaves() -> None:
    network, x = dense(), inputs()
    y = labelled(network, x)
    options: dict[str, Any] = {"eps": 0.3, "restarts": 3}
    found = attacked(network, x, y, **options)
    others = y.copy()
    others[1::2] = (others[1::2] + 1) % 5  # wrong from the start
    again = attacked(network, x, others, **options)
    np.testing.assert_allclose(again[::2], found[::2], atol=1e-12)
    assert (found[::2] != x[::2]).any(axis=(1, 2, 3)).all()


def test_classes_and_restarts_add_strength() -> None:
    left = []
    for targets, restarts in ((0, 1), (4, 1), (4, 4)):
        robust = 0
        for seed in range(6):
            network, x = dense(seed), inputs(40, seed)
            y = labelled(network, x)
            options = {"eps": 0.25, "steps": 3, "targets": targets, "restarts": restarts}
            robust += int((network(attacked(network, x, y, **options)).argmax(axis=1) == y).sum())
        left.append(robust)
    assert left[0] > left[1] >= left[2]


@pytest.mark.parametrize("passes", [3, 10, 40, 200])
@pytest.mark.parametrize("restarts", [None, 1])
def test_no_example_exceeds_its_passes(passes: int, restarts: int | None) -> None:
    network, x = Watched(dense()), inputs(1)
    y = labelled(network, x)
    network.sizes.clear()
    attacked(network, x, y, eps=1e-4, steps=8, passes=passes, restarts=restarts)
    assert sum(network.sizes) <= passes
    # A round is a start (9 passes), 4 classes to order, and 3 ascents (27).
    assert sum(network.sizes) > (min(passes, 41) if restarts else passes) - 10


def test_a_masked_class_is_no_target() -> None:
    def masked(logits: np.ndarray, x: np.ndarray) -> np.ndarray:
        logits = logits.copy()
        logits[:, 4] = -np.inf
        return logits

    network, x = dense(), inputs()
    y = masked(network(x), x).argmax(axis=1)
    found = attacked(Watched(network, masked), x, y, eps=0.2, targets=4)
    assert np.isfinite(found).all()
    assert (masked(network(found), x).argmax(axis=1) != y).any()


def test_nan_is_named_by_the_image_although_others_have_left() -> None:
    def broken(logits: np.ndarray, x: np.ndarray) -> np.ndarray:
        near = np.abs(x - clean[17]).max(axis=(1, 2, 3)) < 0.4
        inside = np.abs(x - clean[17]).max(axis=(1, 2, 3)) > 1e-3
        return np.where((near & inside)[:, None], np.nan, logits)

    network, clean = dense(), inputs()
    y = labelled(network, clean, wrong=10)
    with pytest.raises(ImageError, match=r"^image 17: .*nan"):
        attacked(Watched(network, broken), clean, y, eps=0.3)


@pytest.mark.parametrize("p", RADII)
def test_targets_are_led_to_alone(p: str) -> None:
    network, x = dense(), inputs(60)
    goal = np.random.default_rng(1).integers(0, 5, 60)
    options: dict[str, Any] = {"p": norm(p), "eps": 5 * RADII[p], "targeted": True}
    found = attacked(network, x, goal, **options)
    there, before = network(found).argmax(axis=1) == goal, network(x).argmax(axis=1) == goal
    assert there[before].all()
    np.testing.assert_array_equal(found[before], x[before])
    assert there.sum() > before.sum() + 10


def test_a_norm_without_a_sampler_starts_from_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*arguments: Any) -> Any:
        raise NotAvailableError("no sampler")

    network, x = dense(), inputs()
    y = labelled(network, x)
    monkeypatch.setattr(LpNorm, "sample_ball", none)
    found = attacked(network, x, y, restarts=3)
    assert (network(found).argmax(axis=1) != y).mean() > 0.3


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"restarts": 0}, {"targets": -1}, {"passes": 2}, {"eps": -1.0}]
)
def test_arguments_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(OnrError, match="expected"):
        MultiTargeted(**{"p": 2, "eps": 0.1, **options})


# Many radii


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), p=st.sampled_from(["1", "2", "inf"]))
def test_what_is_broken_at_one_radius_is_kept_at_all_larger_ones(seed: int, p: str) -> None:
    network, x = dense(seed), inputs(12, seed)
    y = labelled(network, x, wrong=1)
    radii = [RADII[p] * k / 6 for k in (1, 2, 4, 6)]
    attacks = [MultiTargeted(p=norm(p), eps=eps, steps=4) for eps in radii]
    clean = classes_of(network, x, y)
    given: dict[str, Any] = {"clean": clean, "norm": norm(p), "seeds": [(0, k) for k in range(4)]}
    broken, size = clean != y, np.zeros(12)
    assert broken[0]
    for eps, found in zip(radii, attack_outcomes(network, attacks, x, y, **given), strict=True):
        now = found.predicted != y
        assert now[broken].all()
        np.testing.assert_array_equal(found.size[broken], size[broken])
        assert (found.size <= eps * (1 + 1e-6)).all()
        broken, size = now, found.size


def test_a_curve_is_as_strong_as_its_radii_one_by_one_and_cheaper() -> None:
    one_by_one, together, spent = 0, 0, [0, 0]
    radii = [0.3 * k / 8 for k in range(1, 9)]
    for seed in range(2):
        network, x = Watched(dense(seed)), inputs(60, seed)
        y = labelled(network, x)
        attacks = [MultiTargeted(p=LpNorm(2), eps=eps) for eps in radii]
        clean, seeds = classes_of(network, x, y), [(0, k) for k in range(8)]
        network.sizes.clear()
        for attack in attacks:
            moved = attack(network, x, y, rng=np.random.default_rng(0))
            one_by_one += int((network(moved).argmax(axis=1) == y).sum())
        spent[0] += sum(network.sizes)
        network.sizes.clear()
        given: dict[str, Any] = {"clean": clean, "norm": LpNorm(2), "seeds": seeds}
        for found in attack_outcomes(network, attacks, x, y, **given):
            together += int((found.predicted == y).sum())
        spent[1] += sum(network.sizes)
    assert together <= 1.02 * one_by_one
    assert spent[1] < spent[0] / 3
