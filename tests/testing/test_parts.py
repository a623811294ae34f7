"""The project's own parts keep the laws of their kinds, and a part with a fault is found."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import spoilt_parts

from onr import testing
from onr.errors import NotAvailableError
from onr.hookspecs import Entry
from onr.registry import BUILTIN, KINDS, registry
from onr.testing.installed import laws_of
from onr.testing.laws import Law, law, offered, outcomes, require

KINDS_TRIED = {"method": 14, "model": 16, "dataset": 20, "backend": 33, "check": 15}
"""How many laws each part keeps at least. Norms, losses and attacks have tests of their own."""
LARGE = {"cnn7", "wrn-28-10"}
SLOW = {"cifar10", "svhn", "torchvision", "timm", "hf", "black-box"}
"""What takes seconds: networks for photographs; and what imports a large library to say that it
needs a file, an argument, or a network of torch."""


def own() -> Iterator[tuple[str, str]]:
    """The parts of the project that can be tried in no time."""
    for plugin in registry().plugins:
        for kind, entry in plugin.entries:
            if plugin.name in BUILTIN and kind in KINDS_TRIED and entry.name not in LARGE | SLOW:
                yield kind, f"{plugin.name}:{entry.name}"


@pytest.mark.parametrize(("kind", "spec"), list(own()))
def test_our_own_parts_keep_the_laws(kind: str, spec: str) -> None:
    found = laws_of(kind, spec)
    assert [str(each) for each in found if each.broken] == []
    held = [each for each in found if not each.skipped]
    skipped = [each.skipped for each in found if each.skipped]
    if not any(re.search("needs an argument|is not installed|no file", why) for why in skipped):
        assert len(held) >= KINDS_TRIED[kind]


def faults() -> Iterator[tuple[str, str, str]]:
    for kind, cases in spoilt_parts.FAULTS.items():
        yield from ((kind, name, broken) for name, broken in cases)


def offer(kind: str, name: str) -> dict[str, Callable[[], list[Entry]]]:
    target = getattr(spoilt_parts, name)
    part = str(getattr(target, "name", "")) or name
    return {KINDS[kind]: lambda: [Entry(part, f"spoilt_parts:{name}", "it has a fault")]}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("kind", "name", "broken"), list(faults()))
def test_a_fault_breaks_its_law(kind: str, name: str, broken: str, install: Any) -> None:
    install("spoilt", **offer(kind, name))
    ((_, part),) = registry().offers(kind)[-1:]
    found = {each.text: each for each in laws_of(kind, f"spoilt:{part.name}")}
    assert found[broken].broken, [str(each) for each in found.values() if each.broken]
    assert len([each for each in found.values() if not each.broken]) >= 1


def test_a_fault_is_known_for_each_kind_that_has_laws() -> None:
    checks = {name.removeprefix("check_") for name in testing.__all__ if "check_" in name}
    assert checks - {"network"} <= spoilt_parts.FAULTS.keys() <= KINDS.keys()


def test_a_failure_says_which_law_broke_at_which_input() -> None:
    wrong = spoilt_parts.wrong_dual()
    with pytest.raises(AssertionError) as caught:
        testing.check_norm(wrong, (2,), draws=1)
    told = str(caught.value)
    assert re.search(r": broken at .*\[-?\d.*\].*\(example \d\)$", told)


# The law itself


def test_a_law_shows_the_first_row_that_breaks_it() -> None:
    holds = spoilt_parts.np.array([[True, True], [True, False], [False, True]])
    shown = law("a", holds, x=spoilt_parts.np.arange(6.0).reshape(3, 2), other=0.5, name="p")
    assert str(shown) == "a: broken at x = [2, 3], other = 0.5, name = p (example 1)"
    assert str(law("a", False)) == "a: broken at every input"
    assert str(law("a", True, x=1)) == "a"


def test_outcomes_go_on_after_a_broken_law_and_end_with_what_is_raised() -> None:
    def laws() -> Iterator[Law]:
        yield Law("one", broken="x = 1")
        yield Law("two")
        yield Law("one")
        raise ValueError("three")

    found = [str(each) for each in outcomes(laws())]
    assert found[:2] == ["one: broken at x = 1", "two"]
    assert found[2] == "nothing is raised: broken at ValueError: three"
    with pytest.raises(AssertionError, match="one: broken at x = 1"):
        require(laws())


def test_what_is_not_available_is_not_checked() -> None:
    def laws() -> Iterator[Law]:
        raise NotAvailableError("no cells")
        yield

    (found,) = outcomes(offered("cells", laws))
    assert (found.broken, found.skipped) == ("", "not available: no cells")
