"""What needs what: the core runs without the optional parts. (import-linter holds the layers.)"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import onr
import onr_numpy
import onr_paper
from onr.cli.main import main

OPTIONAL = ("torch", "torchvision", "matplotlib", "sklearn", "jinja2")
SMALL = ("--train-images", "40", "--epochs", "1")

ABSENT = """
import sys

class Absent:
    def __init__(self, modules):
        self.modules = modules

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.modules:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

absent, *arguments = sys.argv[1:]
sys.meta_path.insert(0, Absent(absent.split(",")))
"""
RUN = (
    ABSENT
    + """
from onr.cli.main import main
main(arguments, prog_name="onr")
"""
)


def python(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a script in a Python of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ONR_STRICT_PLUGINS": ""}
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


def onr_without(*arguments: str | Path, absent: str) -> subprocess.CompletedProcess[str]:
    """Run a command where these modules, with commas between, are not installed."""
    return python(RUN, absent, *arguments)


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    """The one line that a command failed with."""
    assert result.returncode == 2, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.strip()]
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


def sources(package: object) -> list[Path]:
    """The files of an imported package."""
    (folder,) = package.__path__
    found = sorted(Path(folder).rglob("*.py"))
    assert found
    return found


# Without the optional parts

IMPORT_ALL = (
    ABSENT
    + """
import importlib, json, pkgutil

imported = []
for name in arguments:
    package = importlib.import_module(name)
    imported.append(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        importlib.import_module(module.name)
        imported.append(module.name)
print(json.dumps({"imported": imported, "present": sorted(sys.modules)}))
"""
)


def test_the_core_and_the_dense_backend_import_without_the_optional_parts() -> None:
    result = python(IMPORT_ALL, ",".join(OPTIONAL), "onr", "onr_numpy", "onr_paper")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    for package in (onr, onr_numpy, onr_paper):
        names = {name for name in found["imported"] if name.startswith(package.__name__)}
        assert len(names) >= len(sources(package))
    assert set(OPTIONAL).isdisjoint(found["present"])


def test_the_core_does_not_import_torch_where_there_is_one() -> None:
    result = python(IMPORT_ALL, "nothing", "onr", "onr_numpy", "onr_paper")
    assert result.returncode == 0, result.stderr
    assert {"torch", "torchvision"}.isdisjoint(json.loads(result.stdout)["present"])


HELP = """
import json, sys
from onr.cli.main import main

main(["--help"], standalone_mode=False)
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def test_help_is_light() -> None:
    result = python(HELP)
    assert result.returncode == 0, result.stderr
    for command in ("train", "evaluate", "plugins", "verify-theorem"):
        assert f"\n  {command} " in result.stdout
    present = set(json.loads(result.stderr.splitlines()[-1]))
    assert present.isdisjoint({"numpy", "torch", "rich", "scipy", *OPTIONAL})


# Without torch


def test_training_in_torch_names_the_extra(tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = onr_without("train", *SMALL, "--out", out, absent="torch,torchvision")
    assert "pip install 'onr[torch]'" in one_line(result)
    assert not out.exists()


def test_training_and_evaluation_in_numpy_need_no_torch(tmp_path: Path) -> None:
    out = tmp_path / "run"
    absent = "torch,torchvision,matplotlib,jinja2"
    options = ("--backend", "numpy", "--method", "at", "--p", "inf", "--steps", "2")
    result = onr_without("train", *SMALL, *options, "--out", out, absent=absent)
    assert result.returncode == 0, result.stderr
    less = ("--images", "5", "--steps", "2", "--spectrum", "2", "--no-plot")
    result = onr_without("evaluate", out, *less, absent=absent)
    assert result.returncode == 0, result.stderr
    assert (out / "evaluation.json").exists()


def test_the_theorem_needs_no_torch() -> None:
    options = ("--p", "inf", "--q", "1", "--trials", "5")
    result = onr_without("verify-theorem", *options, absent=",".join(OPTIONAL))
    assert result.returncode == 0, result.stderr
    assert "holds" in result.stdout


@pytest.mark.parametrize("dataset", ["cifar10", "svhn", "folder:images"])
def test_a_data_set_of_torchvision_names_the_extra(dataset: str, tmp_path: Path) -> None:
    options = ("--backend", "numpy", "--dataset", dataset, "--data-dir", tmp_path)
    line = one_line(onr_without("train", *options, absent="torch,torchvision"))
    assert "pip install 'onr[torch]'" in line


# Without the others


def test_digits_without_scikit_learn_names_the_extra(tmp_path: Path) -> None:
    options = ("train", "--backend", "numpy", *SMALL, "--out", tmp_path / "run")
    assert "pip install 'onr[digits]'" in one_line(onr_without(*options, absent="sklearn"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small run in NumPy."""
    out = tmp_path_factory.mktemp("run") / "run"
    options = ["train", "--backend", "numpy", *SMALL, "--out", str(out)]
    assert CliRunner().invoke(main, options).exit_code == 0
    return out


def test_a_plot_without_matplotlib_names_the_extra_before_the_work(run: Path) -> None:
    # Without scikit-learn there would be no data set to work on: the plot is missed first.
    result = onr_without("evaluate", run, "--images", "5", absent="matplotlib,sklearn")
    assert "pip install 'onr[plot]'" in one_line(result)
    assert not list(run.glob("evaluation.*"))
