"""The recipes of the documentation run, and the page shows them as they are."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "docs" / "recipes"
LIGHT = ("plain_loop", "accumulate_bfloat16", "warm_start")
FRAMEWORKS = {
    "with_lightning": ("lightning",),
    "with_transformers": ("transformers", "accelerate"),
}
ELSEWHERE = {"with_ddp", "cifar10_loop"}
"""``tests/onr_torch/test_regularizers.py`` runs the first; the second takes too long for a test."""


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a recipe as a script, in a folder of its own."""
    before = os.environ.copy()
    monkeypatch.chdir(folder)
    try:
        runpy.run_path(str(RECIPES / f"{name}.py"), run_name="__main__")
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.parametrize("name", LIGHT)
def test_a_recipe_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(name, tmp_path, monkeypatch)


@pytest.mark.filterwarnings("ignore")  # those of the frameworks
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_recipe_for_a_framework_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in FRAMEWORKS[name]:
        pytest.importorskip(package, reason=f"{package} is not installed", exc_type=ImportError)
    run(name, tmp_path, monkeypatch)


def test_the_page_shows_every_recipe() -> None:
    page = (ROOT / "docs" / "own-loop.md").read_text()
    assert {path.stem for path in RECIPES.glob("*.py")} == {*LIGHT, *FRAMEWORKS, *ELSEWHERE}
    for path in RECIPES.glob("*.py"):
        assert f"recipes/{path.name}" in page
        assert path.stem == "cifar10_loop" or f"```py\n{path.read_text()}```\n" in page
