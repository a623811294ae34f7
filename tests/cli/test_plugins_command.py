"""``onr plugins new`` writes distributions that work, and ``onr plugins check`` finds faults."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from onr.cli.main import main
from onr.hookspecs import Entry
from onr.registry import KINDS, registry
from onr.templates.distribution import TEMPLATES


def plugins(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["plugins", *arguments])


# Every template: made, built as wheels, unpacked, tested, found

BUILD = """
import contextlib, io, os, sys, zipfile
from setuptools import build_meta

target, *folders = sys.argv[1:]
for folder in folders:
    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()):
        wheel = build_meta.build_wheel(target)
    zipfile.ZipFile(os.path.join(target, wheel)).extractall(target)
"""
"""What pip does without isolation, for many in one process."""


def run(*command: str | Path, cwd: Path) -> None:
    """Run Python with the installed plugins, and without those of pytest, which take long."""
    path = os.pathsep.join([str(cwd / "installed"), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        | {"ONR_STRICT_PLUGINS": "1", "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=cwd,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_template_is_made_installed_tested_and_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {kind: f"my_{kind}" for kind in TEMPLATES}
    for kind, name in names.items():
        result = plugins("new", name, "--kind", kind, "--into", str(tmp_path))
        assert result.exit_code == 0, result.output
        folder = tmp_path / f"onr-my-{kind}"
        assert f"written to {folder}" in result.output
        written = {str(it.relative_to(folder)) for it in folder.rglob("*") if it.is_file()}
        assert {"README.md", "pyproject.toml", f"{name}/__init__.py", f"tests/test_{name}.py"} < (
            written
        )
        assert len(written) == 5
        assert "$" not in "".join((folder / it).read_text() for it in written)
    ruff, wide = ("-m", "ruff"), ("--isolated", "--line-length=100", tmp_path)
    run(*ruff, "check", "--select=E,F,B,UP,SIM", *wide, cwd=tmp_path)
    run(*ruff, "format", "--check", *wide, cwd=tmp_path)
    folders = sorted(tmp_path.glob("onr-*"))
    (tmp_path / "installed").mkdir()
    run("-c", BUILD, tmp_path / "installed", *folders, cwd=tmp_path)
    tests = [folder / "tests" for folder in folders]
    options = ("-q", "-W", "error", "-p", "no:cacheprovider", "--import-mode=importlib")
    run("-m", "pytest", *options, *tests, cwd=tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "installed")
    registry.cache_clear()
    try:
        found = {it["name"]: it for it in json.loads(plugins("--json").stdout)}
    finally:
        registry.cache_clear()
    for kind, name in names.items():
        assert found[name]["distribution"] == f"onr-my-{kind}"
        offers = {(offer["kind"], offer["name"]) for offer in found[name]["offers"]}
        assert (kind, f"my-{kind}") in offers


def test_there_is_a_template_for_each_kind_and_each_is_package_data() -> None:
    assert set(TEMPLATES) == KINDS.keys() - {"grid", "measurement"}
    folders = {it.name for it in files("onr.templates").iterdir() if it.is_dir()}
    assert folders - {"__pycache__"} == {*TEMPLATES, "common"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("my norm", "no name of a Python package"),
        ("My_norm", "no name of a Python package"),
        ("class", "no name of a Python package"),
        ("_", "no name of a Python package"),
        ("../up", "no name of a Python package"),
        ("1norm", "no name of a Python package"),
        ("numpy", "package called numpy is there already"),
        ("onr_paper", "plugin called onr_paper is installed already"),
    ],
)
def test_a_name_that_cannot_be_used(name: str, reason: str, tmp_path: Path) -> None:
    result = plugins("new", name, "--kind", "norm", "--into", str(tmp_path))
    assert result.exit_code == 2
    assert reason in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_folder_is_overwritten(tmp_path: Path) -> None:
    arguments = ("new", "mine", "--kind", "loss", "--into", str(tmp_path))
    assert plugins(*arguments).exit_code == 0
    before = {it: it.read_bytes() for it in tmp_path.rglob("*") if it.is_file()}
    result = plugins(*arguments)
    assert result.exit_code == 2
    assert "is there already" in result.stderr
    assert {it: it.read_bytes() for it in tmp_path.rglob("*") if it.is_file()} == before


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = plugins("new", "mine", "--kind", "norm", "--into", str(tmp_path / "file" / "there"))
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


# Checks of what is installed


def spoilt(**names: str) -> dict[str, Any]:
    """Hooks that offer parts of ``spoilt_parts`` by their kinds."""

    def offer(name: str) -> Any:
        return lambda: [Entry(name, f"spoilt_parts:{name}", "a part")]

    return {KINDS[kind]: offer(name) for kind, name in names.items()}


def test_a_plugin_is_checked_part_by_part(install: Any) -> None:
    install("mixed", **spoilt(norm="wrong_dual", loss="good_loss"))
    result = plugins("check", "mixed")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "norm mixed:wrong_dual"
    broken = lines.index("  BROKEN  <v, z> = ||z||_* (Lemma 1)")
    assert lines[broken + 1].startswith("          at z = [")
    assert "loss mixed:good_loss" in lines
    assert "  held    the gradient is the derivative" in lines
    assert lines[-1].endswith(" broken, 0 not checked")
    result = plugins("check", "mixed", "--kind", "loss", "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert {(row["kind"], row["part"], row["outcome"]) for row in rows} == {
        ("loss", "mixed:good_loss", "held")
    }
    assert plugins("check", "good_loss").exit_code == 0


def test_an_attack_that_ignores_its_restarts_is_found(install: Any) -> None:
    install("mixed", **spoilt(attack="IgnoresRestarts"))
    result = plugins("check", "mixed:IgnoresRestarts")
    assert result.exit_code == 1
    assert "BROKEN  restarts is not ignored" in result.stdout
    assert "held    steps is not ignored" in result.stdout
    assert "restarts = 1 and restarts = 3: the same result" in result.stdout


def test_what_cannot_be_tried_is_not_broken() -> None:
    result = plugins("check", "onr_paper:lp")
    assert result.exit_code == 0
    assert "not checked: norm 'onr_paper:lp' needs an argument" in result.stdout
    assert plugins("check", "lp:3").exit_code == 0


def test_a_model_of_ones_own_is_checked_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def net(input_shape, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
    )
    name = f"{tmp_path / 'net.py'}:net"
    assert plugins("check", name).exit_code == 2
    result = plugins("check", name, "--kind", "model")
    assert result.exit_code == 0, result.output
    assert "held    a logit for each class" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nothing",), "nothing that is installed is called 'nothing'"),
        (("pga", "--kind", "norm"), "no norm that is installed is called 'pga'"),
        (("paper",), "a part of several kinds: add --kind, preset, grid"),
        (("onr_numpy", "--kind", "norm"), "plugin onr_numpy offers no norm"),
        (("twice",), "offered more than once: write one:twice or two:twice"),
        (("broken",), "plugin broken was set aside: RuntimeError: no licence found"),
    ],
)
def test_a_name_that_stands_for_nothing(
    arguments: tuple[str, ...], told: str, install: Any
) -> None:
    def raises() -> list[Entry]:
        raise RuntimeError("no licence found")

    for name in ("one", "two"):
        install(name, onr_norms=lambda: [Entry("twice", "onr.norms:l2", "a norm")])
    install("broken", onr_norms=raises)
    result = plugins("check", *arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_list_is_what_it_was() -> None:
    assert "onr_paper (onr" in plugins().stdout
    assert json.loads(plugins("--json").stdout)
