"""A small form of the fuzz harness: every module once, and a seeded handful of combinations."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from fuzz import families, hostile, layers, reference, trial
from fuzz.cases import RIGHT, Case
from fuzz.kinds import VALUES, Kind, drawn
from fuzz.layers import ROW
from fuzz.trial import CASES, VERBS, Trial, outcome
from onr.errors import OnrError

SLOW = {"compile-eager", "compile-aot_eager", "export"}
"""Modules that take seconds to build; ``make fuzz`` has them."""
EACH = [name for name in CASES if name not in SLOW]


def require_right(combinations: list[tuple[str, Kind, str]]) -> None:
    """Fail if an outcome is wrong, with the command that repeats it."""
    told = [
        (outcome(CASES[name], kind, verb), name, kind, verb) for name, kind, verb in combinations
    ]
    wrong = [
        f"{said}: make fuzz ARGS='--case {name} --kind {kind} --verb {verb} --seed 0'"
        for said, name, kind, verb in told
        if said.startswith("WRONG")
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("part", [*layers.PARTS, *hostile.PARTS], ids=lambda part: part.__name__)
def test_j_v_of_every_module_is_right_or_refused(part: Callable[[], Iterator[Case]]) -> None:
    names = [case.name for case in part() if case.name not in SLOW]
    require_right([(name, Kind(), "jvp") for name in names])


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_right_or_refused_on_a_handful(verb: str) -> None:
    rng = np.random.default_rng(list(VERBS).index(verb))
    names = [str(name) for name in rng.choice(EACH, 5, replace=False)]
    require_right([(name, drawn(Kind(), rng).of_verb(verb), verb) for name in names])


# The harness itself.

SMOOTH = [
    name
    for name in EACH
    if CASES[name].smooth and CASES[name].expected == RIGHT and not CASES[name].draws
]


@pytest.mark.parametrize("name", SMOOTH[::12])
def test_the_truth_is_that_of_central_differences(name: str) -> None:
    of = Trial(CASES[name], Kind(), "jvp", 0)
    v = of.normal(*of.x.shape)
    v /= v.norm()
    near = reference.differences(of.twin, of.x64, v)
    error = (near - reference.times(of.J, v)).abs().max()
    assert error <= 1e-6 * max(of.J.abs().max(), of.floor)


def test_a_kind_is_its_text() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        kind = drawn(Kind(), rng)
        assert Kind.parse(str(kind)) == kind
    assert Kind.parse("float32/1") == Kind(dtype="float32", batch=1)
    assert len({value for values in VALUES.values() for value in values}) == sum(
        map(len, VALUES.values())
    )


class Lying(nn.Module):
    """A linearisation with a fault, as the product might have one."""

    def __init__(self, at: object, fault: str) -> None:
        super().__init__()
        self.at, self.value, self.fault = at, at.value, fault

    def jvp(self, v: torch.Tensor) -> torch.Tensor:
        image = self.at.jvp(v)
        if self.fault == "raises":
            raise RuntimeError("no derivative")
        if self.fault == "refused":
            raise OnrError("no derivative")
        if self.fault == "generator":
            torch.rand(1)
        if self.fault == "graph":
            return image.requires_grad_()
        return image * {"nan": np.nan, "off": 1 + 1e-8}.get(self.fault, 1.0)

    def vjp(self, u: torch.Tensor) -> torch.Tensor:
        return self.at.vjp(u)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("none", "right"),
        ("nan", "WRONG: J v is not finite"),
        ("off", "WRONG: J v: "),
        ("graph", "WRONG: J v has a graph"),
        ("raises", "WRONG: raised RuntimeError: no derivative"),
        ("refused", "WRONG: refused: no derivative"),
        ("generator", "WRONG: changed torch's generator"),
    ],
)
def test_a_fault_is_seen(fault: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    linearize = trial.onr.linearize
    monkeypatch.setattr(trial.onr, "linearize", lambda m, x: Lying(linearize(m, x), fault))
    case = Case("layer", lambda: nn.Linear(6, 3), ROW)
    assert outcome(case, Kind(), "jvp").startswith(told)


def test_the_table_has_every_family_of_torchvision() -> None:
    def family(name: str) -> str:
        return torchvision.models.get_model_builder(name).__module__

    all_of_them = set(map(family, torchvision.models.list_models(torchvision.models)))
    assert set(map(family, families.TORCHVISION)) == all_of_them


def test_an_architecture_is_measured() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten())
    module.append(nn.Linear(4 * 6 * 6, families.CLASSES)).double()
    found = families.measure(families.used(module, 8), 8)
    assert found["way"] == "replay"
    assert all(found[error] <= bar for error, bar in families.BARS.items())


def test_a_wrong_gradient_of_an_architecture_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = families.trainable_jvp
    monkeypatch.setattr(families, "trainable_jvp", lambda *given: right(*given) * (1 + 1e-4))
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(12, 4), nn.Tanh(), nn.Linear(4, families.CLASSES)
    ).double()
    assert families.measure(module.eval(), 2)["gradient"] > 1e-5
