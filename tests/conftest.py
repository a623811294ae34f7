"""One thread for every test, twenty inputs for a law, and benchmarks where they are asked for."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest
from hypothesis import settings

from onr.hookspecs import PROJECT, hookimpl
from onr.registry import registry

# The arrays are small, and threads that share a core are slower.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

# Laws that do not say otherwise are tried on twenty inputs, however long one takes.
settings.register_profile("suite", max_examples=20, deadline=None)
settings.load_profile("suite")

Once = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Makes a folder of the session once for all processes of the suite."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent

    def made(name: str, make: Callable[[Path], None]) -> Path:
        """The folder ``name``, which ``make`` fills; tried again by the next who asks."""
        folder, done = base / name, base / f"{name}-is-done"
        with filelock.FileLock(base / f"{name}-lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return made


Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Make a module of hooks look installed: ``install(name, onr_norms=function)``."""
    points: list[importlib.metadata.EntryPoint] = []
    real = importlib.metadata.entry_points

    def entry_points(**wanted: Any) -> Any:
        return list(points) if wanted.get("group") == PROJECT else real(**wanted)

    def add(name: str, /, *, module: str = "", **hooks: Callable[..., Any]) -> None:
        if hooks:
            module = f"plugin_{len(points)}_{name}"
            made = types.ModuleType(module)
            for hook, function in hooks.items():
                setattr(made, hook, hookimpl(function))
            monkeypatch.setitem(sys.modules, module, made)
        points.append(importlib.metadata.EntryPoint(name, module, PROJECT))

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    registry.cache_clear()
    yield add
    registry.cache_clear()


BENCHMARKS = Path(__file__).parent / "benchmarks"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect benchmarks if and only if ``--benchmark-only`` asks for them."""
    if collection_path.is_dir():
        return True if collection_path == BENCHMARKS and not _asked(config) else None
    return True if (BENCHMARKS in collection_path.parents) != _asked(config) else None


def _asked(config: pytest.Config) -> bool:
    return bool(config.getoption("benchmark_only"))
