"""Two processes under torchrun, started once for all the tests that look at what they leave."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = """
import os, runpy, sys
from pathlib import Path
import numpy as np
import torch
from torch import distributed
from tests.onr_torch.test_distributed import CASES, COMMAND, PARTLY, stepped, normalized_steps
from tests.onr_torch.test_distributed import partly_used_steps
from tests.onr_torch.test_regularizers import USAGES, found_by

folder = Path(sys.argv[1])
destroy, distributed.destroy_process_group = distributed.destroy_process_group, lambda: None
runpy.run_path("docs/recipes/with_ddp.py")
rank = distributed.get_rank()
for name in USAGES:
    torch.save(found_by(name, rank), folder / f"{name}-{rank}.pt")
for case in CASES:
    np.savez(folder / f"{case}-{rank}.npz", **stepped(case))
np.savez(folder / f"normalized-{rank}.npz", **normalized_steps())
for method in PARTLY:
    np.savez(folder / f"partly {method}-{rank}.npz", **partly_used_steps(method))
if rank != 0:
    def refuse(*arguments):
        raise AssertionError("only the first process writes")
    import onr.training.runs
    onr.training.runs.write_atomic = refuse
for arguments in (["train", "--resume", folder / "resumed"], [*COMMAND, "--out", folder / "run"]):
    sys.argv[1:] = map(str, arguments)
    try:
        runpy.run_module("onr", run_name="__main__")
    except SystemExit as done:
        assert not done.code
    if rank == 0:
        print("end of a command", flush=True)
destroy()
"""


@pytest.fixture(scope="session")
def pair(once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """What two processes left and, in ``printed``, what they said."""
    return once("pair", two_processes)


def two_processes(folder: Path) -> None:
    """Run the script under torchrun on a port that is free."""
    from tests.onr_torch.test_distributed import stopped

    (folder / "script.py").write_text(SCRIPT)
    stopped(folder / "resumed")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, folder / "script.py", folder],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    (folder / "printed").write_text(done.stdout)
