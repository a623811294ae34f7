"""A training survives: kill -9 at any moment, a full disk, a folder it may not write to, a rival.

The trainings here are the command line in processes of their own, forked from one that has the
imports behind it.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onr.runs import Run

KILLS = 20

NURSERY = """
import json, os, sys
import onr.cli.train
from onr.cli.main import main
from onr.training import TrainConfig, Training

# Imports what a training does, and takes no step, which might start threads.
Training(TrainConfig(backend=sys.argv[1], train_images=1))
for line in sys.stdin:
    order = json.loads(line)
    if not (child := os.fork()):
        for number, text in ((1, "out"), (2, "err")):
            os.dup2(os.open(order[text], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        code = 1
        try:
            exec(order["first"], {})
            main(order["arguments"])
        except SystemExit as done:
            code = done.code
        finally:
            sys.setprofile(None)
            for file in (sys.stdout, sys.stderr):
                file.flush()
            os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

OFTEN = "import onr.training; onr.training.SAVE_SECONDS = 0.0\n"
COUNT = """
import os, signal, sys

calls, before, last = 0, 0, {last}

def count(frame, event, argument):
    global calls
    calls += 1
    if calls == last:
        os.kill(os.getpid(), signal.SIGKILL)

import onr.training

take_step = onr.training.Training._take_step
finish = onr.training.Training.finish

def first(training, epoch, step):
    global before
    before = before or calls
    take_step(training, epoch, step)

def last_words(*arguments):
    finish(*arguments)
    sys.setprofile(None)
    print(f"calls: {{before}} {{calls}}")

onr.training.Training._take_step = first
onr.training.Training.finish = last_words
sys.setprofile(count)
"""
"""SIGKILL at call number ``last`` of any function, in Python or in C; counts them otherwise."""

FULL = """
import os
from pathlib import Path
from onr.training import Training

take_step = Training._take_step

def full(training, epoch, step):
    if epoch == 1:
        for name in ("best.safetensors", "checkpoint.safetensors", "metrics.jsonl"):
            os.symlink("/dev/full", {folder!r} + f"/.{{name}}.{{os.getpid()}}")
        Training._take_step = take_step
    take_step(training, epoch, step)

Training._take_step = full
"""
"""The files that are written beside lie on a full device from the second epoch on."""

TOO_LARGE = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"

POWERLESS = """
import ctypes, struct
assert ctypes.CDLL(None).capset(struct.pack("Ii", 0x20080522, 0), bytes(24)) == 0
"""
"""Without capabilities permissions count for root too."""


@dataclasses.dataclass
class Ended:
    """How a command ended."""

    code: int
    """Negative for a signal."""
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of a refusal."""
        assert self.code == 2, (self.code, self.err)
        lines = [line for line in self.err.splitlines() if line.startswith("Error: ")]
        assert lines == self.err.splitlines()[-1:], self.err
        assert "Traceback" not in self.err
        assert not lines[0].startswith("Error: unexpected")
        return lines[0]


class Nursery:
    """Runs ``onr`` in processes that start at once."""

    def __init__(self, folder: Path, backend: str) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", NURSERY, backend],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, *arguments: str | Path, first: str = "") -> int:
        """Start a command after some code; returns the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order: dict[str, Any] = {"arguments": [str(a) for a in arguments], "first": first}
        order |= {name: str(self._folder / name) for name in ("out", "err")}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def end(self) -> Ended:
        """Wait for it."""
        assert self._process.stdout is not None
        code = int(self._process.stdout.readline())
        return Ended(code, *((self._folder / name).read_text() for name in ("out", "err")))

    def __call__(self, *arguments: str | Path, first: str = "") -> Ended:
        """Run a command."""
        self.start(*arguments, first=first)
        return self.end()

    def close(self) -> None:
        """End the mother."""
        self._process.communicate()


@pytest.fixture(scope="module")
def onr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """For the NumPy backend."""
    nursery = Nursery(tmp_path_factory.mktemp("nursery"), "numpy")
    yield nursery
    nursery.close()


@pytest.fixture(scope="module")
def onr_torch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """For the torch backend."""
    nursery = Nursery(tmp_path_factory.mktemp("nursery"), "torch")
    yield nursery
    nursery.close()


TRAIN = ("train", "--train-images", "100", "--batch-size", "30", "--epochs", "10", "--backend")
SMALL = ("--model-option", "width=8", "--out")


def same_run(one: Path, other: Path) -> None:
    """Weights, moments, memory, records and the best epoch, all but the seconds, bit for bit."""
    for best in (False, True):
        a, b = (Run.open(path).load(best=best) for path in (one, other))
        assert bits(a.tensors) == bits(b.tensors)
        assert (a.step, timeless(a.records)) == (b.step, timeless(b.records))
    records = [Run.open(path).records() for path in (one, other)]
    assert timeless(records[0]) == timeless(records[1])


def bits(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {
        name: (value.dtype, value.shape, value.tobytes())
        for name, value in tensors.items()
        if name != "training.seconds"
    }


def timeless(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


# Kill -9


@pytest.mark.parametrize(
    ("backend", "more"),
    [
        ("numpy", ("--method", "at", "--steps", "2")),
        ("numpy", ("--method", "global-snr", "--optimizer", "sgd", "--lr", "0.05")),
        ("torch", ("--method", "dd-snr-warm", "--augment", "crop")),
    ],
    ids=["numpy-at", "numpy-global-snr", "torch-dd-snr-warm"],
)
def test_a_training_killed_twenty_times_ends_as_one_that_never_was(
    backend: str, more: tuple[str, ...], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    onr = request.getfixturevalue("onr" if backend == "numpy" else "onr_torch")
    command = (*TRAIN, backend, *more, *SMALL)
    whole, often, killed = tmp_path / "whole", tmp_path / "often", tmp_path / "killed"
    assert onr(*command, whole).code == 0
    counted = onr(*command, often, first=OFTEN + COUNT.format(last=0))
    assert counted.code == 0, counted.err
    same_run(often, whole)
    before, calls = (int(word) for word in counted.out.split("calls:")[1].split()[:2])
    rng = np.random.default_rng(0)
    stood, in_epochs = [], 0
    import time
    for _ in range(KILLS):
        t=time.time()
        # Together fewer calls than the training takes, so that every one of them kills.
        moment = int(rng.integers(1, before + (calls - before) // KILLS))
        arguments: tuple[str | Path, ...] = ("train", "--resume", killed)
        if not (killed / "config.json").exists():
            arguments = (*command, killed)
        ended = onr(*arguments, first=OFTEN + COUNT.format(last=moment))
        assert ended.code == -signal.SIGKILL, ended.err
        if (killed / "checkpoint.safetensors").exists():
            found = Run.open(killed).load()
            stood.append(found.step)
            in_epochs += found.step % 4 != 0
        print(moment, stood[-1:], time.time()-t)
    print(before, calls, stood, in_epochs, sorted(p.name for p in (killed.iterdir() if killed.exists() else ())))
    assert stood == sorted(stood), "no checkpoint is lost"
    assert onr("train", "--resume", killed).code == 0
    same_run(killed, whole)
