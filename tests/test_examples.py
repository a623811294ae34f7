"""Every example of a docstring and of the documentation runs, and each public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import math
import pkgutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onr
from onr import measure

PACKAGES = ("onr", "onr_numpy", "onr_torch", "onr_paper", "onr_validation")


def modules() -> list[str]:
    """All modules of the project whose source has a prompt."""
    found = []
    for name in PACKAGES:
        package = importlib.import_module(name)
        found.append(name)
        found += [it.name for it in pkgutil.walk_packages(package.__path__, f"{name}.")]
    sources = {name: importlib.util.find_spec(name) for name in found}
    return [
        name
        for name, spec in sources.items()
        if spec is not None and spec.origin and ">>> " in Path(spec.origin).read_text()
    ]


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_run(name: str, tmp_path: Path) -> None:
    known = {"np": np, "math": math, "tmp_path": tmp_path}
    result = doctest.testmod(importlib.import_module(name), extraglobs=known)
    assert result.failed == 0
    assert result.attempted > 0


def public() -> dict[str, Any]:
    """What ``import onr`` offers, by name."""
    offered = {name: getattr(onr, name) for name in onr.__all__ if name != "measure"}
    return offered | {f"measure.{name}": getattr(measure, name) for name in measure.__all__}


@pytest.mark.parametrize("name", public())
def test_a_public_name_has_an_example(name: str) -> None:
    text = inspect.getdoc(public()[name]) or ""
    assert ">>> " in text
    assert text.index(">>> ") > len(text.splitlines()[0])
