"""Attacks at the ends of the range: masked classes, flat logits, NaN, wrong labels, far radii."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from onr.attacks.fast_gradient import FastGradient
from onr.attacks.noise import Noise
from onr.attacks.projected_gradient import ProjectedGradientAscent
from onr.errors import ImageError, OnrError
from onr.losses import CrossEntropy, LogitDistance, Margin
from onr.measurements.accuracy import accuracy
from onr.measurements.attack_outcomes import attack_outcome
from onr.measurements.predictions import logits
from onr.norms import LpNorm
from onr.text import norm
from onr_torch.library_attacks.library_attack import Classifier, LibraryAttack
from onr_torch.network import TorchNetwork

SHAPE = (3, 4, 4)
P = ("1", "1.5", "2", "inf")
RADII = {"1": 4.0, "1.5": 1.0, "2": 0.5, "inf": 0.1}


class Of(nn.Module):
    """A linear classifier whose logits a function changes; the function may look at the images."""

    def __init__(self, change: Any, classes: int = 6, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.linear = nn.Linear(math.prod(SHAPE), classes).to(dtype)
        self.change = change

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        changed: torch.Tensor = self.change(self.linear(x.flatten(1)), x)
        return changed


def network(change: Any = lambda z, x: z, **more: Any) -> TorchNetwork:
    return TorchNetwork(Of(change, **more).eval(), SHAPE)


def images(count: int = 12, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1)).to(dtype)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def mask(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return z.index_fill(1, torch.tensor([3, 5]), -math.inf)


def cut(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return z[:, [0, 1, 2, 4]]


def attacks(loss: Any, p: str, eps: float) -> dict[str, Any]:
    ball = {"p": norm(p), "loss": loss, "eps": eps}
    made = {
        "pga": ProjectedGradientAscent(**ball, steps=6, restarts=2),
        "last": ProjectedGradientAscent(**ball, steps=6, keep="last"),
        "limit": ProjectedGradientAscent(**ball, steps=3, alpha=math.inf),
        "noise": Noise(**ball, restarts=4),
    }
    return made if loss.uses_clean else made | {"fgm": FastGradient(**ball)}


@pytest.mark.parametrize("p", P)
@pytest.mark.parametrize("loss", [CrossEntropy(), CrossEntropy(3), Margin(), LogitDistance(2)])
def test_a_masked_network_is_attacked_as_the_cut_one(loss: Any, p: str) -> None:
    x, masked, small = images(), network(mask), network(cut)
    y = small(x).argmax(1)
    for name, attack in attacks(loss, p, RADII[p]).items():
        found = attack(masked, x, torch.tensor([0, 1, 2, 4])[y], rng=rng())
        torch.testing.assert_close(found, attack(small, x, y, rng=rng()), msg=name)


def test_a_masked_network_is_broken_as_the_cut_one() -> None:
    x = images(40)
    y = network(cut)(x).argmax(1)
    attack = ProjectedGradientAscent(p=math.inf, loss=CrossEntropy(), eps=0.2)
    found = attack(network(mask), x, torch.tensor([0, 1, 2, 4])[y], rng=rng())
    assert not bool((network(cut)(found).argmax(1) == y).any())


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e-7, 1e-12, 1e-30])
@pytest.mark.parametrize("loss", [CrossEntropy(), Margin()])
def test_flat_logits_hide_no_direction(loss: Any, scale: float) -> None:
    x = images(40)
    flat = network(lambda z, x: z * scale)
    y = flat(x).argmax(1)
    attack = ProjectedGradientAscent(p=math.inf, loss=loss, eps=0.2, steps=10)
    found = attack(flat, x, y, rng=rng())
    assert not bool((network()(found).argmax(1) == y).any())


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_the_scale_of_the_logits_does_not_matter_to_the_margin(scale: float) -> None:
    x = images(dtype=torch.float64)
    plain = network(dtype=torch.float64)
    scaled = network(lambda z, x: z * scale, dtype=torch.float64)
    y = plain(x).argmax(1)
    for name, attack in attacks(Margin(), "2", 0.5).items():
        found = attack(scaled, x, y, rng=rng())
        torch.testing.assert_close(found, attack(plain, x, y, rng=rng()), msg=name)


def test_of_equal_iterates_the_last_is_kept() -> None:
    class Steps:
        """Logits that are constant, and a gradient that is not: every iterate is equal."""

        input_shape, output_shape = (4,), (2,)

        def __init__(self) -> None:
            self.asked: list[np.ndarray] = []

        def __call__(self, x: np.ndarray, /) -> np.ndarray:
            self.asked.append(x)
            return np.ones((len(x), 2))

        def linearize(self, x: np.ndarray, /, *, jvp: bool = True) -> Any:
            self.value = self(x)
            return self

        def vjp(self, u: np.ndarray, /) -> np.ndarray:
            return np.tile([1.0, -2.0, 3.0, -4.0], (len(u), 1))

    x, y, flat = np.full((3, 4), 0.5), np.zeros(3, int), Steps()
    for restarts in (1, 3):
        ball = {"p": norm("2"), "loss": CrossEntropy(), "eps": 0.1}
        attack = ProjectedGradientAscent(**ball, steps=4, restarts=restarts)
        found = attack(flat, x, y, rng=rng())
        assert np.array_equal(found, flat.asked[-1])
        assert np.array_equal(Noise(**ball, restarts=3)(flat, x, y, rng=rng()), flat.asked[-1])


# NaN


def nan_always(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    bad = torch.zeros_like(z)
    bad[2 % len(z), 1] = math.nan
    return z + bad


def nan_away(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """NaN at every input that is not exactly one of the images."""
    known = (x.detach()[:, None] == images(12)[None]).flatten(2).all(dim=2).any(dim=1)
    return z.masked_fill(~known[:, None], math.nan)


@pytest.mark.parametrize("change", [nan_always, nan_away])
@pytest.mark.parametrize("loss", [CrossEntropy(), Margin(), LogitDistance(1)])
@pytest.mark.parametrize("on_device", [False, True])
def test_no_attack_counts_nan(
    change: Any, loss: Any, on_device: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if on_device:  # where losses do not look at their values
        monkeypatch.setattr("onr.losses.on_cpu", lambda x: False)
    x, y = images(), torch.zeros(12, dtype=torch.int64)
    for name, attack in attacks(loss, "2", 0.5).items():
        if name == "fgm" and change is nan_away:
            continue  # it asks for nothing but the image itself
        with pytest.raises(ImageError, match=r"^image \d+: .*nan"):
            attack(network(change), x, y, rng=rng())


@pytest.mark.parametrize("p", P)
def test_a_gradient_that_is_nan_is_no_direction(p: str) -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, z: torch.Tensor) -> torch.Tensor:
            return z.clone()

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return g * torch.where(torch.arange(len(g))[:, None] == 4, math.nan, 1.0)

    x, y = images(), torch.zeros(12, dtype=torch.int64)
    broken = network(lambda z, x: Broken.apply(z))
    for name, attack in attacks(CrossEntropy(), p, RADII[p]).items():
        if name != "noise":
            with pytest.raises(ImageError, match=r"^image 4: .*nan"):
                attack(broken, x, y, rng=rng())


def test_the_error_counts_images_over_all_batches() -> None:
    def from_260_on(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x[:, 0, 0, :1] > 0.5, math.nan, z)

    x, y = torch.zeros(300, *SHAPE), np.zeros(300, int)
    x[260] = 1
    module = network(from_260_on)
    for measure in (
        lambda: logits(module, x),
        lambda: accuracy(module, x, y, p=norm("2"), eps=[0.1]),
        lambda: attack_outcome(
            module, attacks(Margin(), "2", 0.1)["pga"], x, torch.tensor(y), norm=norm("2"), seed=()
        ),
        # This one looks at neither labels nor logits; the prediction is still refused.
        lambda: attack_outcome(
            module,
            Noise(p=norm("2"), loss=Margin(), eps=0.1),
            x,
            torch.tensor(y),
            norm=norm("2"),
            seed=(),
        ),
    ):
        with pytest.raises(ImageError, match=r"^image 260: ") as error:
            measure()
        assert error.value.index == 260


# Labels, outputs, types and radii


@pytest.mark.parametrize("label", [6, -1, 0.5])
@pytest.mark.parametrize("on_device", [False, True])
def test_labels_that_are_no_class(
    label: float, on_device: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if on_device:
        monkeypatch.setattr("onr.losses.on_cpu", lambda x: False)
    x, y = images(), torch.zeros(12, dtype=torch.float64 if label == 0.5 else torch.int64)
    y[7] = label
    told = f"^image 7: label {label} is no class: expected a whole number, 0 to 5$"
    if on_device:
        told = "^image 7: "
    for attack in attacks(CrossEntropy(), "2", 0.5).values():
        with pytest.raises(ImageError, match=told):
            attack(network(), x, y, rng=rng())
    if not on_device:
        with pytest.raises(ImageError, match=told):
            accuracy(network(), x, y, p=norm("2"))


def test_one_output_is_no_classifier() -> None:
    x, y, one = images(), torch.zeros(12, dtype=torch.int64), network(classes=1)
    for loss in (CrossEntropy(), Margin()):
        for attack in attacks(loss, "2", 0.5).values():
            with pytest.raises(OnrError, match=r"two logits or more .* torch.cat\(\[0 \* z, z\]"):
                attack(one, x, y, rng=rng())
    with pytest.raises(OnrError, match="two logits or more"):
        accuracy(one, x, y, p=norm("2"))


@pytest.mark.parametrize("p", P)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_radii_from_subnormal_to_huge(p: str, dtype: torch.dtype) -> None:
    x, module = images(dtype=dtype), network(dtype=dtype)
    y = module(x).argmax(1)
    info = torch.finfo(dtype)
    for eps in (info.smallest_normal / 8, info.tiny * 1e3, info.max / 8):
        for name, attack in attacks(CrossEntropy(), p, eps).items():
            found = attack(module, x, y, rng=rng())
            assert bool(((found >= 0) & (found <= 1)).all()), (name, eps)
    for attack in attacks(CrossEntropy(), p, info.max / 2).values():
        with pytest.raises(OnrError, match=r"^eps = .*: expected at most .* for float"):
            attack(module, x, y, rng=rng())
    far = ProjectedGradientAscent(p=norm(p), loss=CrossEntropy(), eps=0.5, alpha=info.max / 2)
    with pytest.raises(OnrError, match=r"^alpha = "):
        far(module, x, y, rng=rng())
    for wrong in ("8/255", None, -1, math.nan):
        with pytest.raises(OnrError, match="expected a finite number >= 0"):
            FastGradient(p=norm(p), loss=CrossEntropy(), eps=wrong)  # type: ignore[arg-type]


def test_bytes_are_no_images_and_halves_are() -> None:
    y = torch.zeros(12, dtype=torch.int64)
    for attack in attacks(CrossEntropy(), "2", 0.5).values():
        with pytest.raises(OnrError, match="an array of int8: expected floats"):
            attack(network(), (images() * 100).to(torch.int8), y, rng=rng())
    x, module = images(dtype=torch.bfloat16), network(dtype=torch.bfloat16)
    for p in P:
        for attack in attacks(CrossEntropy(), p, RADII[p]).values():
            found = attack(module, x, module(x).argmax(1), rng=rng())
            assert found.dtype == torch.bfloat16
            assert bool((norm(p)(found.float() - x.float()) <= RADII[p] * 1.02 + 0.05).all())
    rows = accuracy(module, x, module(x).argmax(1), p=norm("2"), eps=[0.5])
    assert rows[0]["mean"] == 1


def test_an_input_outside_the_box_is_named() -> None:
    x = images()
    x[5, 1, 2, 3] = 1.5
    with pytest.raises(OnrError, match=r"image 5: a pixel is 1.5, outside \[0, 1\]"):
        FastGradient(p=norm("2"), loss=CrossEntropy(), eps=0.5)(
            network(), x, torch.zeros(12), rng=rng()
        )


# Attacks of other libraries


def descent(model: Classifier, x: torch.Tensor, y: torch.Tensor, seed: int) -> torch.Tensor:
    """One step along the sign of cross-entropy's gradient, as libraries write it."""
    leaf = x.clone().requires_grad_(True)
    nn.functional.cross_entropy(model(leaf), y).backward()
    model(x + 0.05 * leaf.grad.sign())  # type: ignore[union-attr]
    return x + 0.05 * leaf.grad.sign()  # type: ignore[union-attr]


def library(run: Any, eps: float = 0.1) -> LibraryAttack:
    return LibraryAttack(run, origin="torch", p=LpNorm(math.inf), eps=eps, bounds=(0.0, 1.0))


def test_a_library_attacks_a_masked_network_as_the_cut_one() -> None:
    x = images()
    y = network(cut)(x).argmax(1)
    found = library(descent)(network(mask), x, torch.tensor([0, 1, 2, 4])[y], rng=rng())
    torch.testing.assert_close(found, library(descent)(network(cut), x, y, rng=rng()))
    shown = Classifier(Of(mask), torch.float32)(x)
    assert bool(shown.isfinite().all())


def test_a_library_is_given_no_nan_and_no_wrong_labels() -> None:
    x, y = images(), torch.zeros(12, dtype=torch.int64)
    for change in (nan_always, nan_away):
        with pytest.raises(ImageError, match=r"^image \d+: .* gives .*nan"):
            library(descent)(network(change), x, y, rng=rng())
    y[7] = 6
    with pytest.raises(ImageError, match=r"^image 7: label 6 is no class"):
        library(descent)(network(), x, y, rng=rng())
    with pytest.raises(OnrError, match="two logits or more"):
        library(descent)(network(classes=1), x, 0 * y, rng=rng())


def test_the_image_at_which_a_library_met_nan_is_named() -> None:
    def one(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        near = (x.detach() - images(12)[9]).flatten(1).abs().amax(dim=1)
        return torch.where(((near > 0) & (near < 0.06))[:, None], math.nan, z)

    with pytest.raises(ImageError, match=r"^image 9: the network gives logits of nan under attack"):
        library(descent)(network(one), images(), torch.zeros(12, dtype=torch.int64), rng=rng())
