"""A small form of the fuzz harness: every module once, and a seeded handful of combinations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fuzz import reference, trial
from fuzz.cases import Case
from fuzz.kinds import VALUES, Kind, drawn
from fuzz.layers import ROW
from fuzz.trial import CASES, VERBS, Trial, outcome
from onr.errors import OnrError

SLOW = {"compile-eager", "compile-aot_eager", "export"}
"""Modules that take seconds to build; ``make fuzz`` has them."""
EACH = [name for name in CASES if name not in SLOW]


def command(name: str, kind: Kind, verb: str, seed: int) -> str:
    return f"make fuzz ARGS='--case {name} --kind {kind} --verb {verb} --seed {seed}'"


@pytest.mark.parametrize("name", EACH)
def test_every_module_is_answered_right_or_refused(name: str) -> None:
    failed = []
    for verb in ("jvp", "vjp", "attack-pga-inf"):
        told = outcome(CASES[name], Kind(), verb)
        if told.startswith("WRONG"):
            failed.append(f"{told}: {command(name, Kind(), verb, 0)}")
    assert not failed


HANDFUL = 80


def test_a_handful_of_combinations_is_answered_right_or_refused() -> None:
    rng, failed = np.random.default_rng(0), []
    for _ in range(HANDFUL):
        name, verb = (list(o)[int(rng.integers(len(o)))] for o in (EACH, VERBS))
        kind = drawn(Kind(), rng).of_verb(verb)
        told = outcome(CASES[name], kind, verb)
        if told.startswith("WRONG"):
            failed.append(f"{told}: {command(name, kind, verb, 0)}")
    assert not failed


# The harness itself.


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in EACH if CASES[name].smooth])
def test_the_truth_is_that_of_central_differences(name: str) -> None:
    case = CASES[name]
    if case.draws or case.expected == "refused":
        pytest.skip("no Jacobian is promised")
    of = Trial(case, Kind(), "jvp", 0)
    if not of.known:
        pytest.skip("not finite")
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
        if self.fault == "two lines":
            raise OnrError("no\nderivative")
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
        ("two lines", "WRONG: an error of 2 lines"),
        ("generator", "WRONG: changed torch's generator"),
    ],
)
def test_a_fault_is_seen(fault: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    linearize = trial.onr.linearize
    monkeypatch.setattr(trial.onr, "linearize", lambda m, x: Lying(linearize(m, x), fault))
    case = Case("layer", lambda: nn.Linear(6, 3), ROW)
    assert outcome(case, Kind(), "jvp").startswith(told)
