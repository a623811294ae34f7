"""A training survives: kill -9 at any moment, a full disk, a folder it may not write to, a rival.

The trainings here are the command line in processes of their own, forked from one that has the
imports behind it.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onr.data import Split
from onr.registry import load
from onr.training.runs import Run
from onr.training.sanity import at_chance, class_distance

RUN_FILES = {
    "best.safetensors",
    "checkpoint.safetensors",
    "config.json",
    "lock",
    "metrics.jsonl",
}

NURSERY = """
import json, os, sys
import onr.cli.train
from onr.cli.main import main
from onr.training.config import TrainConfig
from onr.training.loop import Training

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

OFTEN = "import onr.training.loop; onr.training.loop.SAVE_SECONDS = 0.0\n"
COUNT = """
import os, signal, sys

calls, before, last, early = 0, 0, {last}, {early}

def count(frame, event, argument):
    global calls
    calls += 1
    if calls - (0 if early else before) == last and (early or before):
        os.kill(os.getpid(), signal.SIGKILL)

import onr.training.loop

take_step = onr.training.loop.Training._take_step
finish = onr.training.loop.Training.finish

def first(training, epoch, step):
    global before
    before = before or calls
    if early and last:
        os.kill(os.getpid(), signal.SIGKILL)
    take_step(training, epoch, step)

def last_words(*arguments):
    finish(*arguments)
    sys.setprofile(None)
    print(f"calls: {{before}} {{calls}}")

onr.training.loop.Training._take_step = first
onr.training.loop.Training.finish = last_words
sys.setprofile(count)
"""
"""SIGKILL at call number ``last`` of any function, in Python or in C; counts them otherwise."""

FULL = """
import os
from pathlib import Path
from onr.training.loop import Training

take_step = Training._take_step

def full(training, epoch, step):
    if epoch == 1:
        os.symlink("/dev/full", {folder!r} + f"/.{name}.{{os.getpid()}}")
        Training._take_step = take_step
    take_step(training, epoch, step)

Training._take_step = full
"""
"""A file of the second epoch is written to a full device."""

AT_STEP = """
import os, signal, time
from onr.training.loop import Training

def before(training, epoch, step, take_step=Training._take_step):
    if (epoch, step) == ({epoch}, {step}):
        {do}
    take_step(training, epoch, step)

Training._take_step = before
"""

BREAK = """
from onr.training.loop import Training

def after(training, epoch, step, take_step=Training._take_step):
    take_step(training, epoch, step)
    if (epoch, step) == ({epoch}, {step}):
        state = training.learner.state()
        state["model.2.weight"][0] = float("nan")
        training.learner.load_state(state)

Training._take_step = after
"""

LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))"
"""No file may become larger."""

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


EPOCHS, STEPS = 10, 4
TRAIN = (
    "train",
    "--train-images",
    "100",
    "--batch-size",
    "30",
    "--epochs",
    str(EPOCHS),
    "--backend",
)
SMALL = ("--model-option", "width=8", "--out")


def files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


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


@pytest.fixture(scope="module")
def whole(onr: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nothing befell."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert onr(*TRAIN, "numpy", *SMALL, run).code == 0
    return run


# Kill -9


@pytest.mark.parametrize(
    ("backend", "method", "kills"),
    [
        ("numpy", "at --steps 2", 20),
        ("torch", "dd-snr-warm --augment crop --epochs 4", 4),
    ],
)
def test_a_training_killed_again_and_again_ends_as_one_that_never_was(
    backend: str, method: str, kills: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    onr = request.getfixturevalue("onr" if backend == "numpy" else "onr_torch")
    command = (*TRAIN, backend, "--method", *method.split(), *SMALL)
    whole, often, killed = tmp_path / "whole", tmp_path / "often", tmp_path / "killed"
    assert onr(*command, whole).code == 0
    counted = onr(*command, often, first=OFTEN + COUNT.format(last=0, early=True))
    assert counted.code == 0, counted.err
    same_run(often, whole)

    before, calls = (int(word) for word in counted.out.split("calls:")[1].split()[:2])
    rng = np.random.default_rng(0)
    stood = [0]
    for number in range(kills):
        # Half of them kill before the first step, the others after it: these take together fewer
        # calls than the training, so that every one of them kills.
        early = number % 2 == 0
        moment = int(rng.integers(1, before if early else 2 * (calls - before) // kills))
        again: tuple[str | Path, ...] = (*command, killed)
        if (killed / "config.json").exists():
            again = ("train", "--resume", killed)
        ended = onr(*again, first=OFTEN + COUNT.format(last=moment, early=early))
        assert ended.code == -signal.SIGKILL, ended.err
        if (killed / "checkpoint.safetensors").exists():
            stood.append(Run.open(killed).load().step)
    assert stood == sorted(stood), "no checkpoint is lost"
    assert any(step % STEPS for step in stood), "of the middle of an epoch too"
    assert onr("train", "--resume", killed).code == 0
    same_run(killed, whole)
    assert files(killed) == files(whole)


HALF = """
import os, signal
from onr.training import checkpoints, runs

write = runs.write_atomic

def half(path, content):
    if path.name == {name!r} and (path.exists() or path.name == "config.json"):
        path.parent.mkdir(exist_ok=True)
        path.with_name(f".{{path.name}}.{{os.getpid()}}").write_bytes(content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, content)

runs.write_atomic = checkpoints.write_atomic = half
"""


@pytest.mark.parametrize("name", sorted(RUN_FILES - {"lock"}))
def test_what_a_kill_left_half_written_is_cleared_away(
    name: str, onr: Nursery, whole: Path, tmp_path: Path
) -> None:
    killed = tmp_path / "run"
    command = (*TRAIN, "numpy", *SMALL, killed)
    assert onr(*command, first=HALF.format(name=name)).code == -signal.SIGKILL
    assert any(file.startswith(f".{name}.") for file in files(killed))
    again = command if name == "config.json" else ("train", "--resume", killed)
    ended = onr(*again)
    assert ended.code == 0, ended.err
    same_run(killed, whole)
    assert files(killed) - {file for file in files(killed) if ".config." in file} == RUN_FILES


def test_a_run_killed_in_an_epoch_goes_on_from_there(
    onr: Nursery, whole: Path, tmp_path: Path
) -> None:
    killed = tmp_path / "run"
    stop = AT_STEP.format(epoch=1, step=2, do="os.kill(os.getpid(), signal.SIGKILL)")
    ended = onr(*TRAIN, "numpy", *SMALL, killed, first=OFTEN + stop)
    assert ended.code == -signal.SIGKILL
    stands = Run.open(killed).load()
    assert (stands.step, len(stands.records)) == (STEPS + 2, 1)
    assert len(stands.tensors["training.costs"]) == 2
    steps = AT_STEP.format(epoch="epoch", step="step", do="print('step', epoch, step)")
    resumed = onr("train", "--resume", killed, first=steps)
    taken = [line for line in resumed.out.splitlines() if line.startswith("step")]
    assert taken[0] == "step 1 2"
    assert len(taken) == (EPOCHS - 1) * STEPS - 2
    same_run(killed, whole)


# No place


@pytest.mark.parametrize("name", ["best.safetensors", "checkpoint.safetensors", "metrics.jsonl"])
def test_a_full_disk_keeps_the_last_good_checkpoint(
    name: str, onr: Nursery, whole: Path, tmp_path: Path
) -> None:
    assert {1, 2} <= {record["epoch"] for record in Run.open(whole).load(best=True).records}
    run = tmp_path / "run"
    ended = onr(*TRAIN, "numpy", *SMALL, run, first=FULL.format(folder=str(run), name=name))
    assert f"{run / name} cannot be written: No space left on device" in ended.error
    kept = Run.open(run)
    saved = 1 + (name == "metrics.jsonl")
    assert (kept.load().step, len(kept.records())) == (saved * STEPS, 1)
    assert files(run) == RUN_FILES
    assert onr("train", "--resume", run).code == 0
    same_run(run, whole)


def test_a_disk_that_fills_up_keeps_the_last_good_checkpoint(
    onr: Nursery, whole: Path, tmp_path: Path
) -> None:
    size = (whole / "best.safetensors").stat().st_size  # less than a checkpoint's
    assert (whole / "config.json").stat().st_size < size
    run, limit = tmp_path / "run", LIMIT.format(size)
    ended = onr(*TRAIN, "numpy", *SMALL, run, first=AT_STEP.format(epoch=1, step=0, do=limit))
    assert f"{run}/checkpoint.safetensors cannot be written: File too large" in ended.error
    assert (Run.open(run).load().step, len(Run.open(run).records())) == (STEPS, 1)
    assert files(run) == RUN_FILES
    assert onr("train", "--resume", run).code == 0
    same_run(run, whole)


def test_a_disk_that_is_full_from_the_start(onr: Nursery, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = (*TRAIN, "numpy", *SMALL, run)
    ended = onr(*command, first=LIMIT.format(1000))
    assert "config.json cannot be written: File too large" in ended.error
    assert onr(*command).code == 0, "the same command, once there is place"
    same_run(run, whole)


def test_a_folder_that_may_not_be_written_to(onr: Nursery, whole: Path, tmp_path: Path) -> None:
    above, run = tmp_path / "above", tmp_path / "run"
    above.mkdir()
    above.chmod(0o555)
    for folder in (above, above / "run"):
        ended = onr(*TRAIN, "numpy", *SMALL, folder, first=POWERLESS)
        assert "cannot be written: Permission denied" in ended.error
    assert files(above) == set()

    protect = AT_STEP.format(epoch=1, step=0, do=f"os.chmod({str(run)!r}, 0o555)")
    for again in ((*TRAIN, "numpy", *SMALL, run), ("train", "--resume", run)):
        ended = onr(*again, first=POWERLESS + protect)
        assert f"{run}/" in ended.error
        assert "Permission denied" in ended.error
        assert len(Run.open(run).load().records) == 1
    (run / "lock").chmod(0o444)
    assert (
        "cannot be written to: Permission denied"
        in onr("train", "--resume", run, first=POWERLESS).error
    )
    (run / "lock").chmod(0o644)
    run.chmod(0o755)
    assert onr("train", "--resume", run).code == 0
    same_run(run, whole)


@pytest.mark.parametrize("below", ["file", "file/run"])
def test_a_file_where_a_folder_should_be(below: str, onr: Nursery, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    ended = onr(*TRAIN, "numpy", *SMALL, tmp_path / below)
    assert str(tmp_path / below) in ended.error
    assert (tmp_path / "file").read_text() == "mine"


# Two at once


def test_a_second_process_is_refused_and_the_first_goes_on(
    onr: Nursery, onr_torch: Nursery, whole: Path, tmp_path: Path
) -> None:
    run, here, go = (tmp_path / name for name in ("run", "here", "go"))
    wait = (
        f"open({str(here)!r}, 'w')\n        while not os.path.exists({str(go)!r}): time.sleep(0.01)"
    )
    onr.start(*TRAIN, "numpy", *SMALL, run, first=AT_STEP.format(epoch=1, step=2, do=wait))
    try:
        while not here.exists():
            time.sleep(0.01)
        for again in (("--out", run), ("--resume", run)):
            second = onr_torch("train", *again)
            assert second.error == (
                f"Error: {run} is being trained by another process: wait for it, or stop it"
            )
            assert (second.out, second.err.count("\n")) == ("", 1)
    finally:
        go.touch()
    assert onr.end().code == 0
    same_run(run, whole)


# Signs that it does not work


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("method", ["standard", "dd-snr", "global-snr"])
def test_a_rate_that_is_absurd_is_said(
    backend: str, method: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    onr = request.getfixturevalue("onr" if backend == "numpy" else "onr_torch")
    wild = ("--optimizer", "sgd", "--lr", "1e6", "--schedule", "constant", "--method", method)
    ended = onr(*TRAIN, backend, *wild, *SMALL, tmp_path / "run")
    assert "training diverged in epoch 1" in ended.error
    assert "try a smaller lr" in ended.error
    assert files(tmp_path / "run") == {"config.json", "lock"}


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("step", [0, STEPS - 1], ids=["cost", "weights alone"])
def test_a_network_that_breaks_keeps_the_last_good_checkpoint(
    backend: str, step: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """After the last step of an epoch only the weights show it."""
    onr = request.getfixturevalue("onr" if backend == "numpy" else "onr_torch")
    command = (*TRAIN, backend, "--method", "at", "--steps", "2", *SMALL)
    run, whole = tmp_path / "run", tmp_path / "whole"
    for often in ("", OFTEN):
        shutil.rmtree(run, ignore_errors=True)
        ended = onr(*command, run, first=often + BREAK.format(epoch=1, step=step))
        assert "training diverged in epoch 2" in ended.error
        assert len(Run.open(run).records()) == 1
        assert Run.open(run).load().step == STEPS + step * bool(often)
    assert onr(*command, whole).code == 0
    assert onr("train", "--resume", run).code == 0
    same_run(run, whole)


def test_chance_is_recorded_and_said(onr: Nursery, tmp_path: Path) -> None:
    ended = onr(*TRAIN, "numpy", "--lr", "1e-9", *SMALL, tmp_path / "run")
    assert ended.code == 0
    records = Run.open(tmp_path / "run").records()
    assert ["warning" in record for record in records] == [False] * 2 + [True] * (EPOCHS - 2)
    assert records[-1]["warning"].startswith("validation accuracy is at chance")
    assert ended.err.count("warning: validation accuracy is at chance") == EPOCHS - 2
    assert onr(*TRAIN, "numpy", "--lr", "0.03", *SMALL, tmp_path / "learned").code == 0
    assert "warning" not in Run.open(tmp_path / "learned").records()[-1]


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=60), share=st.floats(0, 1))
def test_chance_is_the_most_frequent_class(labels: list[int], share: float) -> None:
    most = max(labels.count(label) for label in labels) / len(labels)
    assert at_chance(most, np.array(labels))
    assert at_chance(share * most, np.array(labels))
    if most < 1:
        assert not at_chance(
            most + 2 * np.sqrt(most * (1 - most) / len(labels)) + 1e-9, np.array(labels)
        )


@pytest.mark.parametrize(
    ("options", "absurd"),
    [
        ("at --p inf --eps 8", True),
        ("at --p inf --eps 8/255", False),
        ("at --p 2 --eps 0.5", False),
        ("dd-onr --p 2 --eps 127.5", True),
        ("dd-onr --p 1 --eps 12", True),
        ("dd-onr --p 1 --eps 2", False),
        ("global-snr", False),
        ("standard", False),
    ],
)
def test_an_absurd_radius_is_said_and_a_sane_one_is_not(
    options: str, absurd: bool, onr: Nursery, tmp_path: Path
) -> None:
    ended = onr(*TRAIN, "numpy", "--method", *options.split(), *SMALL, tmp_path / "run")
    assert ended.code == 0
    warned = [line for line in ended.err.splitlines() if line.startswith("warning: eps = ")]
    assert len(warned) == absurd
    assert all("perhaps divide it by 255" in line for line in warned)


@given(data=st.data(), p=st.sampled_from(["1", "2", "inf"]))
def test_the_distance_of_classes_is_that_of_the_closest_pairs(data: st.DataObject, p: str) -> None:
    count = data.draw(st.integers(1, 8))
    values = data.draw(st.lists(st.floats(0, 1), min_size=4 * count, max_size=4 * count))
    images = np.array(values).reshape(count, 1, 2, 2)
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)))
    norm = load("norm", p)()
    nearest = [
        min(
            [norm((x - z)[None])[0] for z, c in zip(images, labels, strict=True) if c != y],
            default=np.inf,
        )
        for x, y in zip(images, labels, strict=True)
    ]
    np.testing.assert_allclose(class_distance(Split(images, labels), norm), np.median(nearest))
