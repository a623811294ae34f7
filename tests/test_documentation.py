"""The Python blocks of README and docs run, one after the other within a page."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from torch.distributed.run import parse_args

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    torch.manual_seed(0)
    found = Sybil([PythonCodeBlockParser(), SkipParser()]).parse(page)
    blocks = page.read_text().count("\n```python\n")
    examples = list(found.examples())
    assert len(examples) >= blocks
    for example in examples:
        example.evaluate()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_torchrun_takes_the_commands_of_a_page(page: Path) -> None:
    """It abbreviates its own options, and would take ``--p`` for one of them."""
    for line in page.read_text().splitlines():
        words = line.split()
        if line.startswith("    torchrun "):
            assert parse_args(words[1:]).training_script_args == words[words.index("onr") + 1 :]


def test_a_block_that_fails_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nassert 1 == 2\n```\n")
    (example,) = Sybil([PythonCodeBlockParser()]).parse(page).examples()
    with pytest.raises(AssertionError):
        example.evaluate()
