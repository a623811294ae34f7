"""What the command line prints reads well in any terminal, pipe and folder."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.table import Table

from onr.cli.main import LazyGroup, main
from onr.cli.options import show


@pytest.mark.parametrize("width", [10, 40, 200])
def test_a_table_shows_every_number_in_a_narrow_terminal(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    table = Table(title="of a model with a long name")
    for index in range(8):
        table.add_column(f"quantity {index}", no_wrap=index == 7)
    table.add_row(*(f"{index}.661e-06" for index in range(7)), "+1.000 -1.000 ...")
    show(table)
    printed = capsys.readouterr().out
    assert "…" not in printed
    for index in range(7):
        assert f"{index}.661e-06" in printed
    assert "+1.000 -1.000 ..." in printed


def test_a_reader_that_has_enough_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """``onr plugins | head -1``: click ends such a command in silence."""

    def closed(*arguments: Any) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(LazyGroup.__mro__[1], "invoke", closed)
    result = CliRunner().invoke(main, ["plugins"])
    assert isinstance(result.exception, BrokenPipeError | SystemExit)
    assert "Error" not in result.output


def test_the_next_command_can_be_copied(tmp_path: Path) -> None:
    out = tmp_path / "my runs" / "a"
    settings = ["--backend", "numpy", "--train-images", "40", "--epochs", "1"]
    result = CliRunner().invoke(main, ["train", *settings, "--out", str(out)])
    words = shlex.split(result.stdout.splitlines()[-1])
    assert words[-3:] == ["onr", "evaluate", str(out)]
