"""The commands find mistakes by their own verdicts, and the documentation lists which."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from mutations import MUTATIONS, Mutation

from onr.cli.main import main

ROOT = Path(__file__).parents[2]


def exit_code(command: str) -> int:
    result = CliRunner().invoke(main, command.split())
    assert "Error" not in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code


@pytest.mark.parametrize("command", sorted({mutation.command for mutation in MUTATIONS}))
def test_the_command_holds_without_a_mistake(command: str) -> None:
    assert exit_code(command) == 0


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_command_finds_the_mistake(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation.make(monkeypatch)
    assert exit_code(mutation.command) == 1


def test_the_documentation_lists_the_mistakes() -> None:
    text = (ROOT / "docs" / "theorem.md").read_text().partition("## What the commands find")[2]
    rows = re.findall(r"^\| ([^|]+) \| `onr ([^|]+)` \|$", text.partition("\n## ")[0], re.MULTILINE)
    assert rows == [
        (mutation.name, mutation.command.split(" --trials")[0]) for mutation in MUTATIONS
    ]
