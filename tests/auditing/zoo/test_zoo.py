"""Models that hide their gradients are flagged, honest ones are not, and the docs say so.

A few are audited here, and all of them by ``python -m auditing.zoo``, whose results are stored.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from auditing.zoo.members import EXCEPTIONS, MEMBERS, audited
from auditing.zoo.tables import PAGE, checks, flagged, page, stored

from onr.auditing.checks import black_box

HIDING = ["half-units", "noise-backward", "purifier"]
HONEST = ["at", "larger"]


@pytest.mark.parametrize("name", [*HIDING, *HONEST])
def test_an_audit_tells_hidden_gradients_from_honest_ones(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(black_box, "QUERIES", 100)  # a tenth
    found = audited(MEMBERS[name], tmp_path, images=60)
    assert bool(found.raised) == MEMBERS[name].hides, [str(flag) for flag in found.flags]


def test_what_does_not_hold_in_the_table_is_a_named_exception() -> None:
    audits = stored()["audits"]
    assert set(audits["inf"]) == set(MEMBERS)
    wrong = {(name, p) for p in audits for name in audits[p] if not flagged(name, audits[p][name])}
    assert wrong == set(EXCEPTIONS)


def test_the_table_is_of_the_checks_that_there_are() -> None:
    for found in stored()["audits"].values():
        for told in found.values():
            assert {*told["raised"], *told["undecided"]} <= set(checks())


def test_the_page_is_that_of_the_checks_and_of_what_was_measured() -> None:
    assert PAGE.read_text() == page(), "python -m auditing.zoo --page writes it"
