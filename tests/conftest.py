"""One thread for every test, thirty inputs for a law, and benchmarks where they are asked for."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest
from hypothesis import settings

# The arrays are small, and threads that share a core are slower.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

# Laws that do not say otherwise are tried on thirty inputs, however long one takes.
settings.register_profile("suite", max_examples=30, deadline=None)
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


BENCHMARKS = Path(__file__).parent / "benchmarks"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect benchmarks if and only if ``--benchmark-only`` asks for them."""
    if collection_path.is_dir():
        return True if collection_path == BENCHMARKS and not _asked(config) else None
    return True if (BENCHMARKS in collection_path.parents) != _asked(config) else None


def _asked(config: pytest.Config) -> bool:
    return bool(config.getoption("benchmark_only"))
