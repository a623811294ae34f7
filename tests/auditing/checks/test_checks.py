"""Each check is raised by a model made for it, and stays down on an honest one."""

from __future__ import annotations

import re
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from auditing.zoo.digits import digits
from auditing.zoo.hiding import DetachedBranch, NoisyInput, OneHot, QuantisedInput, Saturated
from torch import nn

import onr
from onr.architectures import Affine, Architecture, ReLU
from onr.attacks.multitargeted import MultiTargeted
from onr.auditing import images
from onr.auditing.block import Block
from onr.auditing.checks import black_box, planted, unbounded
from onr.auditing.chunked_network import ChunkedNetwork
from onr.auditing.protocols import Evidence, Flag
from onr.auditing.record import Audit
from onr.auditing.threat import Threat
from onr.norms import LpNorm
from onr.registry import load, registry
from onr_numpy.backend import NumpyBackend
from onr_torch.network import TorchNetwork

EPS = 0.1
NAMES = [entry.name for _, entry in registry().offers("check")]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack of the audit with an eighth of its steps, Square with a tenth of its queries."""
    for module in (images, unbounded, planted):
        monkeypatch.setattr(module, "MultiTargeted", partial(MultiTargeted, steps=5))
    monkeypatch.setattr(black_box, "QUERIES", 100)


def audited(model: Any, *checks: str, count: int = 30, **given: Any) -> Audit:
    """The audit of a model of digits, or of other images, with these checks."""
    _, x, y = digits()
    x = given.pop("x", x[:count])
    y = given.pop("y", y[: len(x)])
    return onr.audit(model, x, y, **{"p": "inf", "eps": EPS, "checks": checks} | given)


def flag(model: Any, check: str, **given: Any) -> Flag:
    """The flag of one check alone."""
    (found,) = audited(model, check, **given).flags
    return found


@cache
def honest() -> dict[str, Flag]:
    """All flags of the honest model."""
    model, _, _ = digits()
    return {found.name: found for found in audited(model, *NAMES, count=40).flags}


class Around(nn.Module):
    """The honest model, and what a function makes of it and its input."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.inside, self.function = digits()[0], function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.inside, x)


class OfMean(nn.Module):
    """Two logits whose difference is a function of how far the mean pixel is from 0.5, over eps.

    The label is 0, and the image is misclassified where the function is positive.
    """

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        margin = self.function((x.flatten(1).mean(1) - 0.5) / EPS)
        return torch.stack([torch.zeros_like(margin), margin], dim=1)


GREY = {"x": torch.full((60, 1, 4, 4), 0.5), "y": torch.zeros(60, dtype=torch.int64)}


def own_gradient(inside: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        start = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(inside(start).logsumexp(1).sum(), start)
    return inside(x - 0.01 * gradient)


def on_the_grid(inside: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """There is a gradient at clean images alone, which are multiples of 1/16."""
    clean = (x * 16 == (x * 16).round()).flatten(1).all(1)[:, None, None, None]
    return inside(torch.where(clean, x, x.detach()))


RAISED: dict[str, tuple[Any, dict[str, Any]]] = {
    "outputs-vary": (NoisyInput(digits()[0]), {}),
    "probabilities": (Around(lambda inside, x: inside(x).softmax(1)), {}),
    "zero-gradients": (Saturated(digits()[0]), {}),
    "inner-gradients": (Around(own_gradient), {}),
    "black-box": (QuantisedInput(digits()[0]), {}),
    "graph-cut": (DetachedBranch(digits()[0]), {}),
    "loss-still-moves": (OfMean(lambda s: -9 - ((s - 0.3).abs() + 1e-6).log() - 9), GREY),
    "silent-success": (NoisyInput(digits()[0]), {}),
    "noisy-loss": (NoisyInput(digits()[0]), {}),
    "unbounded": (OneHot(digits()[0]), {}),
    # The smaller the steps, the closer an iterate comes to a narrow peak.
    "not-monotone": (OfMean(lambda s: 0.05 - (s - 0.3).abs()), GREY),
    # A hill near the image holds small steps back; one long step leads past it.
    "one-step": (OfMean(lambda s: (10 * s).sin() / 2 - 1 + 20 * (s - 0.9).relu()), GREY),
    "scale": (Around(lambda inside, x: 1000 * inside(x)), {"eps": 0.15, "count": 40}),
    "rho": (OfMean(lambda s: (50 * s).tanh() / 2 - 1), GREY),
    "weaker-than-first-order": (Around(on_the_grid), {}),
    "planted": (QuantisedInput(digits()[0]), {}),
    "chance": (Around(lambda inside, x: inside(x).roll(1, 1)), {"count": 60}),
    "outside-box": (digits()[0], {"x": torch.cat([16 * digits()[1][:1], digits()[1][1:20]])}),
    "refused": (OneHot(digits()[0]), {}),
}


SHARED: dict[type, tuple[str, ...]] = {}
"""The checks that one audit of a model answers together."""
for _name, (_model, _given) in RAISED.items():
    if not isinstance(_model, Around | OfMean) and not _given:
        SHARED[type(_model)] = (*SHARED.get(type(_model), ()), _name)


@cache
def shared(kind: type) -> dict[str, Flag]:
    """The flags of one audit of a model that hides its gradients."""
    return {each.name: each for each in audited(kind(digits()[0]), *SHARED[kind]).flags}


def test_every_check_has_its_model() -> None:
    assert list(RAISED) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_model_made_for_it_raises_the_flag(name: str) -> None:
    model, given = RAISED[name]
    found = shared(type(model))[name] if name in SHARED.get(type(model), ()) else None
    found = found or flag(model, name, **given)
    assert found.raised, found
    assert found.name == name


@pytest.mark.parametrize("name", NAMES)
def test_an_honest_model_does_not(name: str) -> None:
    found = honest()[name]
    assert found.raised is False, found
    assert found.value is not None


@pytest.mark.parametrize("name", NAMES)
def test_a_check_says_what_it_means(name: str) -> None:
    check = load("check", name)()
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", check.name)
    assert check.name == name
    for text in (check.meaning, check.remedy):
        assert 100 < len(text) < 500
        assert text.endswith(".")
    assert check.source
    assert check.summary == next(
        entry.summary for _, entry in registry().offers("check") if entry.name == name
    )


@pytest.mark.parametrize("name", NAMES)
def test_without_an_image_no_check_decides(name: str) -> None:
    nothing = {column: np.empty(0) for column in ("label", "predicted", "first-order radius")}
    nothing |= {"rho at 1": np.empty(0), "robust at 1": np.empty(0), "failure": np.empty(0, "U1")}
    evidence = Evidence(nothing, Threat(LpNorm(2), "1"), classes=2)
    assert load("check", name)().verdict(evidence).raised in (None, False)


# Other backends, norms and inputs


def test_on_a_dense_network_and_flat_inputs() -> None:
    layers = (Affine(12), ReLU(), Affine(3))
    network = NumpyBackend().build(Architecture((6,), layers), seed=1, dtype="float64")
    x = np.random.default_rng(0).random((30, 6))
    found = audited(network, *NAMES, x=x, y=network(x).argmax(1), p=2)
    raised = {each.name: each.raised for each in found.flags}
    assert not found.raised
    assert raised.pop("black-box") is None
    assert raised.pop("inner-gradients") is None
    assert raised.pop("graph-cut") is False
    assert raised.pop("planted") is False


def looked(forward: Any, name: str) -> dict[str, np.ndarray]:
    """The columns of a check that needs none of the audit's, at 20 digits in three channels."""
    _, x, y = digits()
    colours = x[:20].repeat(1, 3, 1, 1)
    network = ChunkedNetwork(TorchNetwork(Around(forward), (3, 8, 8)), 8)
    threat = Threat(LpNorm(2), "0.5")
    block = Block(network, colours, y[:20].numpy(), np.arange(20), threat)
    return dict(load("check", name)().measure(block))


def test_a_channel_without_a_gradient_is_found() -> None:
    def forward(inside: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return inside((x[:, :1] + x[:, 1:2] + x[:, 2:].detach()) / 3)

    medians = [np.median(values) for values in looked(forward, "graph-cut").values()]
    assert medians[0] < 0.05
    assert medians[1] < 0.05
    assert medians[2] == 1


def test_a_channel_that_is_not_looked_at_is_not_cut() -> None:
    found = looked(lambda inside, x: inside(x[:, 1:2]), "graph-cut")
    assert np.median(found["channel 1"]) < 0.05
    assert np.isnan(found["channel 0"]).all()


def test_a_check_is_the_same_twice() -> None:
    def forward(inside: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return inside(x[:, 1:2])

    for name in ("graph-cut", "planted"):
        one, other = looked(forward, name), looked(forward, name)
        assert list(one) == list(other)
        for column in one:
            np.testing.assert_array_equal(one[column], other[column])


def test_few_images_of_a_weak_model_are_not_at_chance() -> None:
    columns = {"label": np.zeros(60), "predicted": np.repeat([0.0, 1.0], [18, 42])}
    evidence = Evidence(columns, Threat(LpNorm(2), "1"), classes=10)
    check = load("check", "chance")()
    assert check.verdict(evidence).raised is False
    few = {name: values[17:22] for name, values in columns.items()}
    assert check.verdict(Evidence(few, evidence.threat, classes=10)).raised is None
