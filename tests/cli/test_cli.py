"""The command line: what works leaves whole files, what does not says why in one line."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from onr.cli.main import main
from onr.registry import registry
from onr.training.checkpoints import Checkpoint
from onr.training.runs import Run
from onr_numpy.learner import NumpyLearner

SMALL = ("--train-images", "60", "--batch-size", "30", "--epochs", "1")
RUN_FILES = {
    "best.safetensors",
    "checkpoint.safetensors",
    "config.json",
    "lock",
    "metrics.jsonl",
}


def onr(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def works(*arguments: str | Path) -> Result:
    """Run a command that must work."""
    result = onr(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def fails(*arguments: str | Path, above: bool = False) -> str:
    """Run a command that must fail; returns its one line, without ``Error:``.

    Above the line may stand the usage, where click finds the fault, or the epochs that were done.
    """
    result = onr(*arguments)
    assert result.exit_code == 2, (result.exit_code, result.output)
    assert "Traceback" not in result.output
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("Error:")]
    assert errors == lines[-1:], result.stderr
    if not above:
        assert lines == errors, result.stderr
    assert not errors[0].startswith("Error: unexpected")
    return errors[0].removeprefix("Error: ")


def strict(text: str) -> Any:
    """JSON as its standard has it: no NaN, no Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run in NumPy, to copy from."""
    out = tmp_path_factory.mktemp("finished") / "run"
    works("train", "--backend", "numpy", *SMALL, "--out", out)
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A finished run of one's own."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def save_npz(stem: Path, size: int = 8, **arrays: np.ndarray) -> str:
    """Both parts alike, 20 images unless given; returns the data set's name."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, size, size, 3)).astype(np.uint8)
    made: dict[str, np.ndarray] = {"images": images, "labels": np.arange(20) % 3}
    for part in ("train", "test"):
        np.savez(f"{stem}-{part}.npz", **(made | arrays))
    return f"npz:{stem}"


# Training that cannot be

OPTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown norm": (("--method", "at", "--p", "3-4"), "unknown norm '3-4'"),
    "unknown norm q": (("--method", "dd-onr", "--q", "big"), "unknown norm 'big'"),
    "p below 1": (("--method", "at", "--p", "0.5"), "expected a number >= 1"),
    "q below 1": (("--method", "dd-onr", "--q", "0"), "expected a number >= 1"),
    "p not a number": (("--method", "at", "--p", "nan"), "unknown norm 'nan'"),
    "unknown loss": (("--method", "at", "--loss", "hinge"), "unknown loss 'hinge'"),
    "loss in no norm": (("--method", "at", "--loss", "lq:0.5"), "expected a number >= 1"),
    "loss too cold": (("--method", "at", "--loss", "cross-entropy:-1"), "temperature"),
    "unknown model": (("--model", "resnet"), "unknown model 'resnet'"),
    "unknown data set": (("--dataset", "mnist"), "unknown dataset 'mnist'"),
    "unknown method": (("--method", "magic"), "unknown method 'magic'"),
    "unknown backend": (("--backend", "jax"), "unknown backend 'jax'"),
    "unknown optimizer": (("--optimizer", "lion"), "unknown optimizer 'lion'"),
    "unknown type": (("--dtype", "float16"), "expected one of float32, float64"),
    "unknown augmentation": (("--augment", "blur"), "expected one of none, crop"),
    "unknown form": (("--method", "dd-snr", "--form", "sum"), "difference or jacobian"),
    "negative radius": (("--method", "at", "--eps", "-1"), "eps = -1"),
    "no radius": (("--method", "dd-snr", "--eps", "0"), "eps = 0"),
    "infinite radius": (("--method", "at", "--eps", "inf"), "eps = inf"),
    "radius in words": (("--method", "at", "--eps", "abc"), "'abc' is no number"),
    "radius over zero": (("--method", "at", "--eps", "8/0"), "'8/0' is no number"),
    "radius of an unusual norm": (("--method", "at", "--p", "1.5"), "give eps"),
    "weight not a number": (("--method", "dd-snr", "--lam", "nan"), "'nan' is no number"),
    "negative weight": (("--method", "dd-snr", "--lam", "-1"), "lam = -1"),
    "negative weight of at": (("--method", "at", "--lam", "-1"), "lam = -1"),
    "infinite weight": (("--method", "at", "--loss", "lq:1", "--lam", "inf"), "lam = inf"),
    "no steps": (("--method", "at", "--steps", "0"), "steps = 0"),
    "half a step": (("--method", "dd-snr", "--steps", "0.5"), "no whole number"),
    "no step size": (("--method", "at", "--alpha", "0"), "alpha = 0"),
    "a number too large": (("--method", "at", "--eps", "1e999"), "1e999"),
    "unknown option": (("--method", "at", "--method-option", "power=3"), "no option 'power'"),
    "one step in steps": (
        ("--method", "at", "--method-option", "attack=fgm", "--steps", "7"),
        "attack fgm takes no steps",
    ),
    "option of another": (("--method", "dd-snr", "--p", "2"), "no option 'p'"),
    "standard with a radius": (("--eps", "1"), "method standard takes no option 'eps'"),
    "unknown model option": (("--model-option", "height=3"), "no option 'height'"),
    "no width": (("--model-option", "width=0"), "width = 0"),
    "width in words": (("--model-option", "width=wide"), "no whole number"),
    "no epochs": (("--epochs", "0"), "epochs = 0"),
    "no batch": (("--batch-size", "0"), "batch_size = 0"),
    "no images": (("--train-images", "0"), "0 images asked for"),
    "too many images": (("--train-images", "5000"), "5000 images asked for: expected 1 to"),
    "no learning rate": (("--lr", "0"), "lr = 0"),
    "infinite learning rate": (("--lr", "inf"), "lr = inf"),
    "learning rate too large": (("--lr", "1e999"), "1e999"),
    "negative seed": (("--seed", "-1"), "seed = -1"),
    "small images": (("--model", "cnn7"), "32 x 32"),
    "a device for numpy": (("--device", "cuda"), "backend numpy runs on the CPU"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_what_cannot_be_trained(case: str, tmp_path: Path) -> None:
    arguments, reason = OPTIONS[case]
    out = tmp_path / "run"
    error = fails("train", "--backend", "numpy", *SMALL, *arguments, "--out", out, above=True)
    assert reason in error
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--epochs", "many"),
        ("--lr", "fast"),
        ("--model-option", "width"),
        ("--method-option", "=3"),
        ("--no-such-option",),
        ("digits",),
    ],
)
def test_what_click_refuses(arguments: tuple[str, ...], tmp_path: Path) -> None:
    fails("train", *arguments, "--out", tmp_path / "run", above=True)
    assert files(tmp_path) == set()


def test_unknown_commands() -> None:
    assert "No such command 'attack'" in fails("attack", above=True)
    assert "No such command" in fails("onr_paper:train", above=True)


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    device = "cuda:99" if torch.cuda.is_available() else "cuda"
    for name in (device, "no-such-device"):
        error = fails("train", *SMALL, "--device", name, "--out", tmp_path / "run")
        assert f"device '{name}' cannot be used" in error
    assert files(tmp_path) == set()


@pytest.mark.parametrize("width", ["1", "128"])
def test_numpy_does_not_train_convolutions(
    width: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def toeplitz(*arguments: object) -> None:
        raise MemoryError("a matrix was built before the network was refused")

    monkeypatch.setattr("onr_numpy.network.toeplitz", toeplitz)
    model = ("--model", "cnn7", "--model-option", f"width={width}", "--epochs", "1")
    dataset = save_npz(tmp_path / "set", size=32)
    out = tmp_path / "run"
    error = fails("train", "--backend", "numpy", "--dataset", dataset, *model, "--out", out)
    assert "use --backend torch" in error


# Data that cannot be read


def _nothing(root: Path) -> str:
    return f"npz:{root / 'set'}"


def _no_test_part(root: Path) -> str:
    name = save_npz(root / "set")
    (root / "set-test.npz").unlink()
    return name


def _damaged(root: Path) -> str:
    name = save_npz(root / "set")
    file = root / "set-train.npz"
    content = bytearray(file.read_bytes())
    content[400:420] = bytes(20)
    file.write_bytes(content)
    return name


def _damaged_compressed(root: Path) -> str:
    name = save_npz(root / "set")
    for part in ("train", "test"):
        file = root / f"set-{part}.npz"
        with np.load(file) as arrays:
            images, labels = arrays["images"] // 64, arrays["labels"]
        np.savez_compressed(file, images=images, labels=labels)
        content = bytearray(file.read_bytes())
        content[300:320] = b"\xff" * 20
        file.write_bytes(content)
    return name


def _cut_short(root: Path) -> str:
    name = save_npz(root / "set")
    file = root / "set-train.npz"
    file.write_bytes(file.read_bytes()[:1000])
    return name


def _pickled(root: Path) -> str:
    return save_npz(root / "set", labels=np.array([Trap(root / "was-unpickled")], dtype=object))


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.evidence,))


def _empty_folder(root: Path) -> str:
    return f"folder:{root}"


def _folder_of_two_sizes(root: Path) -> str:
    for part in ("train", "test"):
        (root / part / "cat").mkdir(parents=True)
        for size in (8, 9):
            Image.new("RGB", (size, 8)).save(root / part / "cat" / f"{size}.png")
    return f"folder:{root}"


def _cifar10(root: Path) -> str:
    return "cifar10"


def _svhn(root: Path) -> str:
    return "svhn"


UINT8 = np.zeros((20, 8, 8), np.uint8)
DATA: dict[str, tuple[Callable[[Path], str], str]] = {
    "no npz": (_nothing, "no file"),
    "no test part": (_no_test_part, "set-test.npz"),
    "damaged": (_damaged, "set-train.npz cannot be read"),
    "damaged, compressed": (_damaged_compressed, "set-test.npz cannot be read"),
    "cut short": (_cut_short, "set-train.npz cannot be read"),
    "pickled": (_pickled, "not pickled"),
    "flat images": (lambda root: save_npz(root / "set", images=UINT8[:, 0]), "shape"),
    "fewer labels": (
        lambda root: save_npz(root / "set", labels=np.arange(19)),
        "labels have shape",
    ),
    "labels that are fractions": (
        lambda root: save_npz(root / "set", labels=np.linspace(0, 1, 20)),
        "expected integers",
    ),
    "negative labels": (
        lambda root: save_npz(root / "set", labels=np.arange(20) - 1),
        "labels run from -1",
    ),
    "pixels to 255 as integers": (
        lambda root: save_npz(root / "set", images=UINT8.astype(int) + 255),
        "pixels run from 255",
    ),
    "normalised pixels": (
        lambda root: save_npz(root / "set", images=UINT8 - 0.5),
        "pixels run from -0.5",
    ),
    "one image": (
        lambda root: save_npz(root / "set", images=UINT8[:1], labels=np.zeros(1, int)),
        "",
    ),
    "no folder": (_empty_folder, "train"),
    "two sizes": (_folder_of_two_sizes, "all must have one size"),
    "cifar10 not there": (_cifar10, "--download"),
    "svhn not there": (_svhn, "--download"),
}


@pytest.mark.parametrize("case", DATA)
def test_data_that_cannot_be_read(case: str, tmp_path: Path) -> None:
    prepare, reason = DATA[case]
    out = tmp_path / "run"
    where = ("--dataset", prepare(tmp_path), "--data-dir", tmp_path)
    error = fails("train", "--backend", "numpy", "--epochs", "1", *where, "--out", out)
    assert reason in error
    assert "diverged" not in error
    assert not out.exists()
    assert not (tmp_path / "was-unpickled").exists()


def test_a_data_folder_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    where = ("--dataset", "cifar10", "--data-dir", file, "--download")
    assert str(file) in fails("train", *where, "--out", tmp_path / "run")


# The run's folder


def test_a_run_is_not_overwritten(run: Path, tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    error = fails("train", "--backend", "numpy", *SMALL, "--out", run)
    assert f"--resume {run}" in error
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    for out in (tmp_path / "other", tmp_path / "other" / "file"):
        assert "--out" in fails("train", "--backend", "numpy", *SMALL, "--out", out)


@pytest.mark.parametrize("name", ["file/below", "x" * 300])
def test_a_run_that_has_no_place(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = fails("train", "--backend", "numpy", *SMALL, "--out", tmp_path / name)
    assert str(tmp_path / name) in error
    assert files(tmp_path) == {"file"}


def test_nothing_to_resume(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        assert "holds no run" in fails("train", "--resume", path)


@pytest.mark.parametrize(
    "more", [("--average", "0.9"), ("--p", "2"), ("--out", "x"), ("--download",), ("--lr", "1")]
)
def test_a_resumed_run_takes_no_other_options(more: tuple[str, ...], run: Path) -> None:
    error = fails("train", "--resume", run, *more, above=True)
    assert more[0].removeprefix("--") in error


def test_an_attack_that_cannot_attack_the_network_is_refused_before_a_run(tmp_path: Path) -> None:
    pytest.importorskip("torchattacks")
    at = ("--method", "at", "--attack", "torchattacks:PGDL2")
    error = fails("train", "--backend", "numpy", *SMALL, *at, "--out", tmp_path / "run")
    assert "torchattacks attacks networks of the torch backend alone" in error
    assert not (tmp_path / "run").exists()


def test_a_run_is_lengthened_where_its_schedule_allows_it(run: Path, tmp_path: Path) -> None:
    error = fails("train", "--resume", run, "--epochs", "2")
    assert "one-cycle rises over the first 30 % of all epochs" in error
    assert "with --weights and --epochs 1" in error
    longer = tmp_path / "longer"
    works("train", "--backend", "numpy", *SMALL, "--schedule", "constant", "--out", longer)
    assert "2 of 3 epochs to go" in works("train", "--resume", longer, "--epochs", "3").stdout
    assert "taken steps of epoch 3" in fails("train", "--resume", longer, "--epochs", "2")
    record = json.loads((longer / "config.json").read_text())
    (kept,) = record["lengthened"]
    assert (kept["from"], kept["to"], kept["done"]) == (1, 3, 1)
    assert record["train"]["epochs"] == 3
    assert "0 of 3 epochs to go" in works("train", "--resume", longer).stdout


def test_resuming_a_finished_run(run: Path) -> None:
    before = (run / "checkpoint.safetensors").read_bytes()
    assert "0 of 1 epochs to go" in works("train", "--resume", run).stdout
    assert (run / "checkpoint.safetensors").read_bytes() == before


def _no_checkpoint(run: Path) -> None:
    (run / "checkpoint.safetensors").unlink()


def _cut_checkpoint(run: Path) -> None:
    file = run / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def _flipped_checkpoint(run: Path) -> None:
    file = run / "checkpoint.safetensors"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)


PROGRESS = {"training.costs": np.zeros(0), "training.seconds": np.array(0.0)}


def _other_checkpoint(run: Path) -> None:
    tensors = {"model.1.weight": np.zeros((2, 2)), **PROGRESS}
    Run.open(run).save(Checkpoint(tensors, 1, [{"epoch": 1}]))


def _part_of_a_checkpoint(run: Path) -> None:
    tensors = dict(Run.open(run).load().tensors)
    tensors.pop("model.2.weight")
    Run.open(run).save(Checkpoint(tensors, 1, [{"epoch": 1}]))


def _no_config(run: Path) -> None:
    (run / "config.json").unlink()


def _half_a_config(run: Path) -> None:
    file = run / "config.json"
    file.write_text(file.read_text()[:100])


def _config(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def write(run: Path) -> None:
        file = run / "config.json"
        config = json.loads(file.read_text())
        change(config)
        file.write_text(json.dumps(config))

    return write


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "checkpoint cut short": (_cut_checkpoint, "checkpoint.safetensors is damaged"),
    "checkpoint flipped": (_flipped_checkpoint, "checkpoint.safetensors is damaged"),
    "checkpoint of something else": (_other_checkpoint, ""),
    "checkpoint in part": (_part_of_a_checkpoint, ""),
    "config missing": (_no_config, "holds no run"),
    "config cut short": (_half_a_config, "config.json cannot be read"),
    "config without options": (_config(lambda c: c.pop("train")), "config.json"),
    "options that are none": (_config(lambda c: c.update(train=5)), "config.json"),
    "an option of another version": (_config(lambda c: c["train"].update(new=5)), "config.json"),
    "an option of another kind": (_config(lambda c: c["train"].update(dataset=5)), ""),
}


@pytest.mark.parametrize("command", [("evaluate", "--no-plot"), ("train", "--resume")])
@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_run(case: str, command: tuple[str, str], run: Path) -> None:
    damage, reason = DAMAGE[case]
    damage(run)
    assert reason in fails(*command, run)
    assert "evaluation.json" not in files(run)


def test_evaluating_what_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "holds no run" in fails("evaluate", tmp_path)
    for path in (tmp_path / "nowhere", tmp_path / "file"):
        assert f"{path} is no folder of a run, and unknown model" in fails("evaluate", path)


def test_evaluating_before_the_first_epoch(run: Path) -> None:
    _no_checkpoint(run)
    assert f"onr train --resume {run}" in fails("evaluate", run)


def test_evaluating_an_unfinished_run_says_so(run: Path) -> None:
    _config(lambda c: c["train"].update(epochs=7))(run)
    result = works("evaluate", run, "--images", "5", "--steps", "1", "--no-plot")
    assert "the run is not finished: 1 of 7 epochs" in result.stdout


EVALUATE: dict[str, tuple[tuple[str, ...], str]] = {
    "radius in words": (("--eps", "abc"), "'abc' is no number"),
    "no radius": (("--eps", "0"), "expected positive numbers"),
    "negative radius": (("--eps", "0.5,-1"), "expected positive numbers"),
    "infinite radius": (("--eps", "inf"), "expected positive numbers"),
    "empty": (("--eps", ""), "is no number"),
    "a comma too many": (("--eps", "0.5,"), "is no number"),
    "radius too large": (("--eps", "1e999"), "1e999"),
    "no radius known": (("--p", "inf"), "give --eps"),
    "unknown norm": (("--p", "big"), "unknown norm 'big'"),
    "p below 1": (("--p", "0.5"), "expected a number >= 1"),
    "unknown attack": (("--attack", "fgsm"), "unknown attack 'fgsm'"),
    "unknown loss": (("--attack", "pga", "--loss", "hinge"), "unknown loss 'hinge'"),
    "no steps": (("--steps", "0"), "steps"),
    "no restarts": (("--restarts", "0"), "restarts"),
    "no images": (("--images", "0"), "images"),
    "negative images": (("--images", "-1"), "images"),
    "too many images": (("--images", "361"), "has 360 images, 361 are asked for"),
    "no spectrum": (("--spectrum", "0"), "spectrum"),
    "negative spectrum": (("--spectrum", "-1"), "spectrum"),
    "negative seed": (("--seed", "-1"), "seed"),
    "unknown part": (("--part", "train"), "train"),
    "a device for numpy": (("--device", "cuda"), "backend numpy runs on the CPU"),
}


@pytest.mark.parametrize("case", EVALUATE)
def test_what_cannot_be_evaluated(case: str, run: Path) -> None:
    arguments, reason = EVALUATE[case]
    small = () if "images" in case else ("--images", "5")
    steps = () if "steps" in case else ("--steps", "1")
    error = fails("evaluate", run, *small, *steps, *arguments, "--no-plot", above=True)
    assert reason in error
    assert files(run) == RUN_FILES


def test_an_evaluation_that_cannot_be_written(run: Path) -> None:
    (run / "evaluation.json").mkdir()
    error = fails("evaluate", run, "--images", "5", "--steps", "1", "--no-plot")
    assert f"{run / 'evaluation.json'} cannot be written" in error


# Interruption


def interrupt(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Press Ctrl-C in a training step, counted from 1."""
    step, count = NumpyLearner.step, 0

    def counted(*arguments: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        if count == at:
            raise KeyboardInterrupt
        return step(*arguments, **more)

    monkeypatch.setattr(NumpyLearner, "step", counted)


@pytest.mark.parametrize(("at", "done"), [(1, 0), (4, 1)])
def test_interrupted_training_says_how_to_go_on(at: int, done: int, tmp_path: Path) -> None:
    options = ("train", "--backend", "numpy", *SMALL, "--epochs", "2")
    works(*options, "--out", tmp_path / "whole")
    out = tmp_path / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, at)
        error = fails(*options, "--out", out, above=True)
    said, _, command = error.partition(": continue with onr ")
    assert said == f"interrupted after {done} of 2 epochs"
    assert command == f"train --resume {out}"
    assert f"{2 - done} of 2 epochs to go" in works(*command.split(maxsplit=2)).stdout
    ours, theirs = (Run.open(tmp_path / name).load().tensors for name in ("stopped", "whole"))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_an_interrupted_evaluation_leaves_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("onr.cli.evaluate.evaluated", stop)
    assert fails("evaluate", run, "--images", "5", "--no-plot") == "interrupted"
    assert files(run) == RUN_FILES


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_training_that_diverges(backend: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ("--optimizer", "sgd", "--lr", "1e30", "--epochs", "2")
    error = fails("train", "--backend", backend, *SMALL, *options, "--out", out)
    assert "diverged in epoch 1" in error
    assert "checkpoint.safetensors" not in files(out)


def test_weights_that_are_no_numbers_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = NumpyLearner.step

    def last_step_diverges(learner: NumpyLearner, *arguments: Any, **more: Any) -> Any:
        cost = step(learner, *arguments, **more)
        spoil = {n: v * np.nan for n, v in learner.state().items() if n.startswith("model.")}
        learner.load_state(learner.state() | spoil)
        return cost

    monkeypatch.setattr(NumpyLearner, "step", last_step_diverges)
    out = tmp_path / "run"
    one_step = ("--train-images", "60", "--batch-size", "60", "--epochs", "1")
    error = fails("train", "--backend", "numpy", *one_step, "--out", out)
    assert "diverged in epoch 1" in error
    assert "checkpoint.safetensors" not in files(out)


def test_an_unforeseen_fault_is_one_line_too(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*arguments: Any, **more: Any) -> None:
        raise ArithmeticError("of some kind,\non two lines")

    monkeypatch.setattr("onr.cli.evaluate.evaluated", fault)
    result = onr("evaluate", run, "--no-plot")
    line = "Error: unexpected ArithmeticError: of some kind, on two lines (set ONR_DEBUG=1 to see"
    assert result.stderr.strip().startswith(line)
    assert (result.exit_code, len(result.stderr.strip().splitlines())) == (2, 1)
    monkeypatch.setenv("ONR_DEBUG", "1")
    assert isinstance(onr("evaluate", run, "--no-plot").exception, ArithmeticError)


# What works

METHODS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "standard": (("standard",), {}),
    "at": (("at",), {"p": "2", "eps": 0.5, "loss": "cross-entropy", "lam": 1}),
    "at inf": (("at", "--p", "inf"), {"p": "inf", "eps": 8 / 255}),
    "at 1": (("at", "--p", "1", "--alpha", "inf"), {"p": "1", "eps": 12, "alpha": "inf"}),
    "at 1.5": (("at", "--p", "1.5", "--eps", "1/2"), {"p": "1.5", "eps": 0.5}),
    "at lq": (("at", "--p", "inf", "--loss", "lq:1"), {"loss": "lq:1", "lam": 1}),
    "at perturbed alone": (("at", "--lam", "inf"), {"lam": "inf"}),
    "dd-snr": (("dd-snr",), {"p": "2", "q": "2", "power": 2, "form": "difference"}),
    "dd-snr jacobian": (("dd-snr", "--form", "jacobian"), {"form": "jacobian"}),
    "dd-onr": (("dd-onr", "--p", "inf", "--q", "1"), {"p": "inf", "q": "1", "alpha": "inf"}),
    "dd-onr-exact": (("dd-onr-exact", "--p", "inf", "--q", "1"), {"search": "exact"}),
    "dd-snr-warm": (("dd-snr-warm",), {"search": "warm"}),
    "global-snr": (("global-snr",), {"lam": 3e-4, "steps": 2, "kernel": "reshaped"}),
    "interpolate": (("interpolate", "--method-option", "t=0.25"), {"t": 0.25, "p": "2"}),
    "input-gradient": (("input-gradient", "--p", "inf"), {"p": "inf", "lam": 1}),
    "frobenius": (("frobenius",), {"lam": 0.1}),
    "at fgm": (("at", "--method-option", "attack=fgm"), {"attack": "fgm"}),
    "dd-onr step": (
        ("dd-onr", "--p", "inf", "--q", "1", "--alpha", "2", "--form", "jacobian"),
        {"alpha": 2, "form": "jacobian"},
    ),
}


ITERATED = ("at", "dd-snr", "dd-onr", "global-snr", "interpolate")


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("case", METHODS)
def test_every_method_trains_and_is_evaluated(case: str, backend: str, tmp_path: Path) -> None:
    (method, *options), settings = METHODS[case]
    one_step = "attack=fgm" in options
    steps = ("--steps", "2") if method in ITERATED and not one_step else ()
    out = tmp_path / "run"
    more = ("--backend", backend, "--method", method, *options, *steps)
    result = works("train", *SMALL, *more, "--out", out)
    assert f"onr evaluate {out}" in result.stdout
    assert files(out) == RUN_FILES

    config = strict((out / "config.json").read_text())
    assert config["train"]["method"] == method
    assert config["train"]["backend"] == backend
    assert config["settings"].items() >= settings.items()
    assert config["served"]["backend"]["plugin"] == f"onr_{backend}"
    assert config["versions"]["numpy"] == np.__version__
    (record,) = map(strict, (out / "metrics.jsonl").read_text().splitlines())
    assert record["epoch"] == 1
    assert record["cost"] > 0
    assert 0 <= record["validation_accuracy"] <= 1
    assert len(Run.open(out).load().records) == 1

    works("evaluate", out, "--images", "12", "--steps", "2", "--spectrum", "3", "--no-plot")
    assert files(out) == RUN_FILES | {"evaluation.json", "evaluation.csv"}
    consistent(out, images=12)


def consistent(out: Path, images: int) -> dict[str, Any]:
    """What evaluation.json says is what evaluation.csv shows; returns the former."""
    found: dict[str, Any] = strict((out / "evaluation.json").read_text())
    assert found["images"] == images
    with (out / "evaluation.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    example, label, predicted, smallest, *attacked = np.array(rows, dtype=float).T
    assert header[:4] == ["example", "label", "predicted", "smallest radius"]
    assert example.tolist() == list(range(images))
    clean, *radii = found["eps"]
    assert clean == 0
    assert set(smallest) <= {*found["eps"], np.inf}
    assert len(attacked) == 2 * len(radii)
    for eps, moved in zip(radii, attacked[1::2], strict=True):
        assert np.all(moved >= 0)
        assert np.all(moved <= eps * (1 + 1e-5))
    robust = [label == predicted, *attacked[::2]]
    assert [float(np.mean(column)) for column in robust] == found["accuracy"]
    sigma = found["sigma_1"]
    assert 0 < sigma["mean"] <= sigma["max"]
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_weights_are_of_the_type_asked_for(backend: str, dtype: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    works("train", "--backend", backend, *SMALL, "--dtype", dtype, "--out", out)
    tensors = Run.open(out).load().tensors
    assert {str(v.dtype) for k, v in tensors.items() if k.endswith("weight")} == {dtype}


def test_the_backends_agree(tmp_path: Path) -> None:
    costs = []
    for backend in ("numpy", "torch"):
        out = tmp_path / backend
        more = ("--method", "dd-snr", "--dtype", "float64", "--steps", "2", "--out", out)
        works("train", "--backend", backend, *SMALL, *more)
        costs.append(Run.open(out).records()[0]["cost"])
    assert costs[0] == pytest.approx(costs[1], rel=1e-9)


def test_an_evaluation_beside_another(run: Path, tmp_path: Path) -> None:
    few = ("--images", "4", "--steps", "1", "--spectrum", "2")
    works("evaluate", run, *few)
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    out = tmp_path / "new" / "linf"
    works("evaluate", run, *few, "--p", "inf", "--eps", "0.1", "--out", out)
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before
    assert files(out) == {"evaluation.json", "evaluation.csv", "evaluation.svg"}
    assert strict((out / "evaluation.json").read_text())["p"] == "inf"
    assert "config.json" in fails("evaluate", run, *few, "--out", run / "config.json", above=True)


def test_an_evaluation_with_its_plot(run: Path) -> None:
    ball = ("--p", "inf", "--eps", "8/255,4/255")
    arguments = (*ball, "--attack", "pga", "--loss", "margin", "--restarts", "2")
    result = works("evaluate", run, *arguments, "--images", "10", "--steps", "2", "--spectrum", "4")
    found = consistent(run, images=10)
    assert found["p"] == "inf"
    assert found["eps"] == [0, 8 / 255, 4 / 255]
    assert found["eps_written"] == ["0", "8/255", "4/255"]
    assert found["loss"] == "margin"
    assert found["restarts"] == 2
    assert found["sigma_1"]["images"] == 4
    assert found["served"]["norm/p"] == {
        "name": "inf",
        "plugin": "onr_paper",
        "distribution": "onr",
        "version": found["run"]["onr"],
    }
    for line in ("clean", "4/255 = 0.01569", "8/255 = 0.03137", "evaluation.svg"):
        assert line in result.stdout

    roots: list[str] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, attributes: roots.append(name)
    parser.Parse((run / "evaluation.svg").read_bytes(), True)
    assert roots[0] == "svg"


def test_an_evaluation_is_repeatable(run: Path) -> None:
    written = []
    for _ in range(2):
        works("evaluate", run, "--images", "10", "--steps", "2", "--no-plot")
        written.append((run / "evaluation.csv").read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize("radii", ["0.5,0.5", "0.1234567,0.1234568"])
def test_radii_that_look_alike_keep_their_columns(radii: str, run: Path) -> None:
    works("evaluate", run, "--eps", radii, "--images", "5", "--steps", "1", "--no-plot")
    found = strict((run / "evaluation.json").read_text())
    with (run / "evaluation.csv").open(newline="") as file:
        header = next(csv.reader(file))
    assert len(header) == 4 + 2 * (len(found["eps"]) - 1)


def test_validation_images_are_those_that_no_run_trains_on(run: Path) -> None:
    works("evaluate", run, "--part", "validation", "--steps", "1", "--no-plot")
    found = consistent(run, images=143)
    assert found["part"] == "validation"
    (record,) = Run.open(run).records()
    assert found["accuracy"][0] == record["validation_accuracy"]


def test_a_run_on_images_of_ones_own(tmp_path: Path) -> None:
    dataset = save_npz(tmp_path / "set", size=32)
    out = tmp_path / "run"
    cnn = ("--model", "cnn7", "--model-option", "width=4", "--augment", "crop-flip")
    works("train", "--dataset", dataset, *cnn, "--epochs", "1", "--out", out)
    more = ("--images", "4", "--steps", "1", "--spectrum", "2", "--no-plot")
    works("evaluate", out, *more, "--eps", "0.1")
    consistent(out, images=4)


def test_a_run_on_a_data_set_named_by_a_relative_path_is_evaluated_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_npz(tmp_path / "set")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    works("train", "--backend", "numpy", "--dataset", "npz:set", "--epochs", "1", "--out", "run")
    monkeypatch.chdir(tmp_path / "elsewhere")
    works("evaluate", tmp_path / "run", "--images", "4", "--steps", "1", "--no-plot")


def test_the_usual_folder_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    works("train", "--backend", "numpy", *SMALL, "--seed", "3")
    assert files(tmp_path / "runs" / "digits-mlp-standard-3") == RUN_FILES


# The other commands


def test_plugins_as_json_and_as_text() -> None:
    listed = strict(works("plugins", "--json").stdout)
    by_name = {plugin["name"]: plugin for plugin in listed}
    assert {"onr.cli", "onr_numpy", "onr_torch", "onr_paper", "onr_validation"} <= by_name.keys()
    assert by_name["onr_paper"]["problem"] is None
    offers = [(offer["kind"], offer["name"]) for offer in by_name["onr_paper"]["offers"]]
    assert {("norm", "lp"), ("dataset", "digits"), ("method", "dd-onr")} <= set(offers)
    text = works("plugins").stdout
    for plugin in listed:
        assert f"{plugin['name']} ({plugin['distribution']} {plugin['version']})" in text


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_the_theorem_holds(backend: str) -> None:
    few = ("--trials", "5", "--iterations", "5", "--backend", backend)
    result = works("verify-theorem", "--p", "inf", "--q", "1", *few)
    assert "holds" in result.stdout
    found = strict(works("verify-theorem", "--p", "inf", "--q", "1", *few, "--json").stdout)
    assert [(cell["alpha"], cell["draws"]) for cell in found["cells"]] == [("inf", 5), (2, 1)]
    for cell in found["cells"]:
        assert (cell["p"], cell["q"]) == ("inf", "1")
        assert cell["holds"]
        assert cell["failures"] == []
        assert cell["deviation"]["max"] <= cell["bound"]["max"]


def test_the_theorem_does_not_speak_of_three() -> None:
    few = ("--p", "3", "--q", "1", "--trials", "5")
    result = onr("verify-theorem", *few)
    assert result.exit_code == 1
    assert "Error" not in result.output
    result = onr("verify-theorem", *few, "--json")
    assert result.exit_code == 1
    (cell,) = strict(result.stdout)["cells"]
    assert not cell["proven"]
    assert not cell["holds"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--p", "0.5"), "expected a number >= 1"),
        (("--q", "big"), "unknown norm 'big'"),
        (("--backend", "jax"), "unknown backend 'jax'"),
        (("--layers", "wide"), "'wide' is not understood"),
        (("--layers", "24,c4"), "'c4' is not understood"),
        (("--layers", "m9"), "does not fit"),
        (("--layers", ""), "is not understood"),
        (("--alpha", "0"), "alpha = 0"),
        (("--alpha", "abc"), "'abc' is no number"),
        (("--trials", "0"), "0 is not in the range x>=1"),
        (("--iterations", "0"), "0 is not in the range x>=1"),
        (("--seed", "-1"), "-1 is not in the range x>=0"),
        (("--all", "--p", "2"), "leave out --p"),
    ],
)
def test_what_cannot_be_verified(arguments: tuple[str, ...], reason: str) -> None:
    assert reason in fails("verify-theorem", *arguments, above=True)


def test_help() -> None:
    top = works("--help").stdout
    offered = registry().offers("command")
    assert {"train", "evaluate", "plugins", "verify-theorem"} <= {e.name for _, e in offered}
    for _, entry in offered:
        assert entry.name in top
        for flag in ("--help", "-h"):
            assert f"Usage: main {entry.name}" in works(entry.name, flag).stdout


def test_version() -> None:
    from onr import __version__

    assert works("--version").stdout == f"onr, version {__version__}\n"
