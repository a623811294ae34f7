"""The Python blocks of README and docs run, one after the other within a page; links lead on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from torch.distributed.run import parse_args

from onr.registry import BUILTIN, registry

ROOT = Path(__file__).parents[1]
DOCS = sorted(
    page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.relative_to(ROOT).parts
)
PAGES = [ROOT / "README.md", *DOCS]
FENCE = re.compile(r"^(`{3,}).*?^\1$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


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


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    found: set[str] = set()
    for line in re.findall(r"^#{1,6} (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line).strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


@pytest.mark.parametrize(
    "page",
    [*PAGES, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for path, anchor in LINK.findall(FENCE.sub("", page.read_text())):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_every_command_has_its_place_in_the_reference() -> None:
    known = {entry.name for plugin, entry in registry().offers("command") if plugin.name in BUILTIN}
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    assert set(re.findall(r"^```\{command\} (.+)$", page, re.MULTILINE)) == known


def test_a_link_that_leads_nowhere_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b`, c\n\n[good](page.md#a-b-c) [bad](page.md#d) [gone](gone.md)\n")
    assert anchors(page) == {"a-b-c"}
    assert LINK.findall(page.read_text())[1:] == [("page.md", "d"), ("gone.md", "")]


def test_a_block_that_fails_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nassert 1 == 2\n```\n")
    (example,) = Sybil([PythonCodeBlockParser()]).parse(page).examples()
    with pytest.raises(AssertionError):
        example.evaluate()
