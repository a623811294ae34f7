"""Sweeps: a point is trained once, whoever dies; what is wrong is said before anything starts."""

from __future__ import annotations

import csv
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from click.testing import CliRunner, Result
from distributed import Client, LocalCluster

from onr.cli.main import main
from onr.errors import OnrError
from onr.registry import bare
from onr.sweeps import sweep as sweeps
from onr.sweeps.cluster import connected
from onr.sweeps.grids import expanded, read_grid
from onr.sweeps.sweep import Sweep, train_point
from onr.training.config import TrainConfig
from onr.training.config_hash import LEFT_OUT, config_hash
from onr.training.factories import make_method, run_record
from onr.training.loop import Training
from onr.training.runs import Run

SMALL: dict[str, Any] = {
    "backend": "numpy",
    "train_images": 60,
    "batch_size": 30,
    "epochs": 3,
    "model_options": {"width": "8"},
}
CONFIG = TrainConfig(**SMALL)
GRID = """
backend = "numpy"
train_images = 60
batch_size = 30
epochs = 3
model_options.width = 8

[grid]
lr = [0.003, 0.01]
seed = [0, 1]
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sweeps, "POLL", 0.02)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """The client of a cluster in this process, with one worker of one thread."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def here(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command train in this process."""
    from contextlib import nullcontext

    import onr.cli.sweep

    monkeypatch.setattr(onr.cli.sweep, "connected", lambda *a, **more: nullcontext(client))


def onr(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["sweep", *map(str, arguments)])


def refused(*arguments: str | Path) -> str:
    """The one line that a sweep was refused with, before it wrote anything."""
    before = set(Path().rglob("*"))
    result = onr(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "unexpected" not in result.stderr
    (line,) = result.stderr.splitlines()
    assert set(Path().rglob("*")) == before
    return line


def grid(text: str) -> Path:
    file = Path("grid.toml")
    file.write_text(text)
    return file


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file, with the time it was written; the lock has nothing to say."""
    return {
        str(file): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "lock"
    }


def tensors(path: Path) -> dict[str, bytes]:
    """A checkpoint's, but for how long its epoch took."""
    loaded = Run.open(path).load().tensors
    return {k: np.asarray(v).tobytes() for k, v in loaded.items() if k != "training.seconds"}


def alone(config: TrainConfig, path: Path) -> dict[str, bytes]:
    """The tensors of an uninterrupted training, without sweeps."""
    training = Training(config)
    training.finish(Run.create(path, run_record(config, training.method)))
    return tensors(path)


# Points and their names


def test_the_points_are_the_product_in_order() -> None:
    place = replace(CONFIG, data_dir=str(Path("data").absolute()))
    product = itertools.product([0.003, 0.01], [0, 1])
    configs = [replace(place, lr=lr, seed=seed) for lr, seed in product]
    assert list(expanded(tomllib.loads(GRID)).items()) == [(config_hash(c), c) for c in configs]


def test_the_order_of_keys_does_not_matter() -> None:
    usual = expanded({"grid": {"lr": [0.1, 0.2], "method": "at", "method_options": OPTIONS}})
    rng = random.Random(0)  # noqa: S311 - no secret
    for _ in range(10):
        keys = rng.sample(list(OPTIONS), len(OPTIONS))
        options = {key: rng.sample(OPTIONS[key], len(OPTIONS[key])) for key in keys}
        table = [("method_options", options), ("method", "at"), ("lr", [0.2, 0.1])]
        rng.shuffle(table)
        assert expanded({"grid": dict(table)}) == usual
    assert len(usual) == 2 * 3 * 2


OPTIONS: dict[str, list[Any]] = {"eps": [0.5, "8/255", 1], "p": ["2", "inf"], "steps": [2]}

OTHER = {
    "backend": "numpy",
    "dtype": "float64",
    "dataset": "cifar10",
    "train_images": 5,
    "augment": "crop",
    "model": "cnn7",
    "model_options": {"width": "5"},
    "weights": "a.safetensors",
    "method": "at",
    "method_options": {"eps": "1"},
    "epochs": 3,
    "batch_size": 3,
    "average": 0.999,
    "optimizer": "adam",
    "momentum": 0.5,
    "nesterov": True,
    "weight_decay": 0.1,
    "lr": 0.1,
    "schedule": "cosine",
    "seed": 1,
}
SAME = {"data_dir": "elsewhere", "device": "cuda", "download": True, "tensorboard": True}


def test_another_value_is_another_hash_and_another_place_is_not() -> None:
    assert OTHER.keys() | SAME.keys() == {field.name for field in fields(TrainConfig)}
    assert SAME.keys() == set(LEFT_OUT)
    base = TrainConfig(optimizer="sgd")
    usual = config_hash(base)
    others = {config_hash(replace(base, **{k: v})) for k, v in OTHER.items()}
    assert len(others - {usual}) == len(OTHER)
    for name, value in SAME.items():
        assert config_hash(replace(base, **{name: value})) == usual


def test_a_number_has_one_hash() -> None:
    assert config_hash(TrainConfig(lr=1)) == config_hash(TrainConfig(lr=1.0))


def test_a_hash_stays() -> None:
    # Folders of sweeps that are under way are named by it.
    assert config_hash(TrainConfig()) == "44136fa355b3"
    assert config_hash(TrainConfig(method="at", epochs=3)) == "bad5c794e75d"


def test_grids_are_united_and_presets_lie_below() -> None:
    found = expanded(
        {
            "epochs": 7,
            "preset": "paper:cifar10-dd-snr",
            "grid": [
                {"method-options": {"lam": [1, 2]}},
                {"method_options": {"lam": [2, 3]}},
                {"preset": ["paper:cifar10-at-l2", "paper:svhn-at-l2"], "batch-size": 64},
            ],
        }
    ).values()
    assert {c.epochs for c in found} == {7}
    named = [(bare(c.dataset), bare(c.method), c.method_options, c.batch_size) for c in found]
    assert [(d, m, options.get("lam"), size) for d, m, options, size in named] == [
        ("cifar10", "dd-snr", "1", 128),
        ("cifar10", "dd-snr", "2", 128),
        ("cifar10", "dd-snr", "3", 128),
        ("cifar10", "at", None, 64),
        ("svhn", "at", None, 64),
    ]
    assert {c.model_options["width"] for c in found} == {"128"}


def test_what_is_fixed_takes_the_place_of_an_axis() -> None:
    base = tomllib.loads(GRID)
    found = expanded(base, {("seed",): 5, ("model-options", "width"): [4, 6]}).values()
    assert [(c.lr, c.seed, c.model_options["width"]) for c in found] == [
        (0.003, 5, "4"),
        (0.003, 5, "6"),
        (0.01, 5, "4"),
        (0.01, 5, "6"),
    ]


# Formulas


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("=2*eps/steps", "0.175"),
        ("= 2 * eps / steps", "0.175"),
        ("=eps", "0.875"),
        ("=1/steps/2", "0.05"),
        ("=1/3", repr(1 / 3)),
        ("=eps*8", "7"),
    ],
)
def test_a_formula_is_computed(formula: str, value: str) -> None:
    options = {"eps": "7/8", "steps": 10, "alpha": formula}
    (config,) = expanded({"grid": {"method": "at", "method_options": options}}).values()
    assert config.method_options == {"eps": "7/8", "steps": "10", "alpha": value}


@pytest.mark.parametrize(
    "formula", ["=", "=2*", "=2**eps", "=lam", "=p", "=1/0", "=2+2", "=alpha", "=eps steps", "=/2"]
)
def test_a_formula_that_cannot_be_computed(formula: str) -> None:
    options = {"eps": "7/8", "steps": 10, "p": "inf", "alpha": formula}
    with pytest.raises(OnrError, match=r"cannot be computed: .*\(eps, steps, p\)"):
        expanded({"grid": {"method": "at", "method_options": options}})


# Table 3

TABLE3 = {
    "at-l2": ("eps 14", "steps 11", "alpha 5"),
    "at-linf": ("eps 18", "steps 11", "alpha 5"),
    "global-snr": ("lam 14", "steps 2"),
    "dd-snr": ("lam 14", "steps 11"),
}


@pytest.fixture(scope="module")
def table3() -> dict[str, dict[str, TrainConfig]]:
    return {name: expanded(read_grid(f"paper:table3-{name}")) for name in TABLE3}


def test_table_3_has_the_points_of_the_table(table3: dict[str, dict[str, TrainConfig]]) -> None:
    united: set[str] = set()
    for name, axes in TABLE3.items():
        shipped = read_grid(f"paper:table3-{name}")
        counts = {option: len(v) for option, v in shipped["grid"]["method_options"].items()}
        assert [f"{option} {count}" for option, count in counts.items()] == list(axes)
        points = table3[name]
        assert len(points) == np.prod(list(counts.values()))
        united |= points.keys()
    assert len(united) == 770 + 990 + 28 + 154


def test_the_steps_of_table_3_follow_the_radius(table3: dict[str, dict[str, TrainConfig]]) -> None:
    for name, largest in (("at-l2", 2.0), ("at-linf", 9 / 255)):
        methods = [make_method(config).settings for config in table3[name].values()]
        assert max(float(s["eps"]) for s in methods) == pytest.approx(largest)
        ratios = {float(s["alpha"]) / float(s["eps"]) * float(s["steps"]) for s in methods}
        assert sorted({round(ratio, 9) for ratio in ratios}) == [1, 2, 3, 4, 5]


# Bad grids

BAD = {
    "no grid": ("epochs = 3\n", "expected a table [grid]"),
    "an empty union": ("grid = []\n", "expected a table [grid]"),
    "a grid in words": ("grid = 'lr'\n", "expected a table [grid]"),
    "no TOML": ("[grid\n", "cannot be read"),
    "unknown setting": ("[grid]\nwidth = [1]\n", "unknown setting 'width'"),
    "unknown shared setting": ("width = 1\n[grid]\n", "unknown setting 'width'"),
    "unknown table": ("[grid]\nmodle.width = [1]\n", "unknown setting 'modle'"),
    "no table": ("[grid]\nlr.x = [1]\n", "lr = {'x': 1}: expected a number"),
    "no options": ("[grid]\nmodel_options = [3]\n", "expected a table of options"),
    "unknown option": ("[grid]\nmethod_options.eps = [1]\n", "takes no option 'eps'"),
    "unknown model option": ("[grid]\nmodel_options.hight = [1]\n", "takes no option 'hight'"),
    "model option in words": ("[grid]\nmodel_options.width = ['x']\n", "no whole number"),
    "no values": ("[grid]\nlr = []\n", "lr = []: expected at least one value"),
    "one bad value": ("[grid]\nlr = [0.1, -1]\n", "lr = -1: expected a positive number"),
    "a value of another type": ("[grid]\nepochs = [1.5]\n", "epochs = 1.5"),
    "a date": ("[grid]\nseed = [2020-01-01]\n", "expected a whole number"),
    "unknown method": ("[grid]\nmethod = ['magic']\n", "unknown method 'magic'"),
    "unknown model": ("[grid]\nmodel = ['magic']\n", "unknown model 'magic'"),
    "unknown data set": ("[grid]\ndataset = ['magic']\n", "unknown dataset 'magic'"),
    "unknown backend": ("[grid]\nbackend = ['magic']\n", "unknown backend 'magic'"),
    "unknown preset": ("preset = 'paper:magic'\n[grid]\n", "no preset paper:magic"),
    "a preset by number": ("[grid]\npreset = [3]\n", "preset = 3: expected a name"),
    "a bad radius": ("method = 'at'\n[grid]\nmethod_options.eps = [1, 0]\n", "eps = 0"),
    "places": ("[grid]\ndevice = ['cpu', 'cuda']\n", "device: expected one value"),
}


@pytest.mark.parametrize(("text", "reason"), BAD.values(), ids=BAD)
def test_a_bad_grid_is_refused_before_anything_starts(text: str, reason: str) -> None:
    line = refused(grid(text))
    assert line.startswith("Error: grid grid.toml: ")
    assert reason in line


def test_no_grid_of_that_name() -> None:
    assert "unknown grid 'table3': expected one of frontier, paper" in refused("table3")
    assert "no grid paper:table4: expected one of table3-at-l2" in refused("paper:table4")
    assert "No such file" in refused("nowhere.toml")


def test_bad_options_of_the_command() -> None:
    for options in (("--set", "lr"), ("--set", "a..b=1"), ("--workers", "0")):
        assert onr(grid(GRID), *options).exit_code == 2
    assert "unknown setting 'width'" in refused(grid(GRID), "--set", "width=3")
    assert "no table" in refused(grid("[grid]\nlr = 1\n"), "--set", "lr.x=3")
    result = onr(grid(GRID), "--scheduler", "tcp://127.0.0.1:1", "--workers", "2")
    assert (result.exit_code, "leave out --workers" in result.stderr) == (2, True)
    assert not Path("sweeps").exists()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = onr(grid(GRID))
    assert (result.exit_code, "pip install 'onr[sweep]'" in result.stderr) == (2, True)
    assert not Path("sweeps").exists()
    assert onr(grid(GRID), "--dry-run").exit_code == 0


# Training


@pytest.mark.usefixtures("here")
def test_a_sweep_trains_every_point_and_a_second_one_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = grid(GRID)
    result = onr(file)
    assert result.exit_code == 0, result.output
    out = Path("sweeps/grid")
    points = expanded(tomllib.loads(GRID))
    assert {folder.name for folder in out.iterdir() if folder.is_dir()} == points.keys()
    with (out / "sweep.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    listed = json.loads((out / "sweep.json").read_text())["points"]
    for row, entry, (name, config) in zip(rows, listed, points.items(), strict=True):
        assert row == {k: "" if v is None else str(v) for k, v in entry.items()}
        assert (entry["point"], entry["status"], entry["epochs_done"]) == (name, "finished", 3)
        assert {"lr": entry["lr"], "seed": entry["seed"]} == {"lr": config.lr, "seed": config.seed}
        assert "epochs" not in entry
        run = Run.open(out / name)
        assert TrainConfig.read(run.config) == config
        assert entry["validation_accuracy"] == run.records()[-1]["validation_accuracy"]
        assert tensors(run.path) == alone(config, tmp_path / "alone" / name)
    before = contents(out)

    def refuse(*arguments: Any, **more: Any) -> None:
        raise AssertionError("there is nothing to train")

    monkeypatch.setattr("onr.cli.sweep.connected", refuse)
    result = onr(file)
    assert (result.exit_code, "4 points, 0 to train" in result.stdout) == (0, True)
    assert contents(out) == before


@pytest.mark.usefixtures("here")
def test_a_grid_that_grew_trains_what_is_new() -> None:
    assert onr(grid(GRID), "--set", "seed=0").exit_code == 0
    out = Path("sweeps/grid")
    before = {k: v for k, v in contents(out).items() if Path(k).parent != out}
    assert onr(grid(GRID)).exit_code == 0
    after = contents(out)
    assert before.items() <= after.items()
    assert len(list(out.glob("*/config.json"))) == 4


def test_a_point_that_another_finished_is_left_alone(tmp_path: Path) -> None:
    assert train_point(asdict(CONFIG), str(tmp_path)) == {"status": "finished"}
    before = contents(tmp_path)
    assert train_point(asdict(replace(CONFIG, device="cuda")), str(tmp_path)) == {
        "status": "finished"
    }
    assert contents(tmp_path) == before


def test_an_unfinished_point_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = config_hash(CONFIG)
    steps: list[tuple[int, int]] = []
    take_step = Training._take_step

    def take(self: Training, epoch: int, step: int) -> None:
        if len(steps) == 3:
            steps.clear()
            raise KeyboardInterrupt
        steps.append((epoch, step))
        take_step(self, epoch, step)

    monkeypatch.setattr(Training, "_take_step", take)
    with pytest.raises(KeyboardInterrupt):
        train_point(asdict(CONFIG), str(tmp_path))
    assert len(Run.open(tmp_path / name).records()) == 1
    monkeypatch.setattr(Training, "_take_step", lambda *a: (steps.append(a[1:]), take_step(*a)))
    assert train_point(asdict(CONFIG), str(tmp_path)) == {"status": "finished"}
    assert steps == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert tensors(tmp_path / name) == alone(CONFIG, tmp_path / "alone")


@pytest.mark.parametrize("left", ["", "{", '{"epoch": 1}\n'])
def test_a_record_that_was_lost_is_written_again(left: str, tmp_path: Path) -> None:
    train_point(asdict(CONFIG), str(tmp_path))
    metrics = tmp_path / config_hash(CONFIG) / "metrics.jsonl"
    whole, before = metrics.read_text(), tensors(metrics.parent)
    metrics.write_text(left)
    assert train_point(asdict(CONFIG), str(tmp_path)) == {"status": "finished"}
    assert metrics.read_text() == whole
    assert tensors(metrics.parent) == before


def test_what_a_worker_cannot_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def message(config: TrainConfig, out: Path = tmp_path) -> str:
        outcome = train_point(asdict(config), str(out))
        assert outcome["status"] == "failed"
        return outcome["message"]

    assert "expected a folder that all workers share" in message(CONFIG, tmp_path / "nowhere")
    assert "not there" in message(replace(CONFIG, dataset=f"npz:{tmp_path / 'not there'}"))
    other = replace(CONFIG, seed=1)
    train_point(asdict(other), str(tmp_path))
    (tmp_path / config_hash(other)).rename(tmp_path / config_hash(replace(CONFIG, epochs=9)))
    assert "holds another run" in message(replace(CONFIG, epochs=9))
    monkeypatch.setattr(Training, "finish", lambda *a: 1 / 0)
    assert message(CONFIG) == "unexpected ZeroDivisionError: division by zero"
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert "pip install 'onr[digits]'" in message(replace(CONFIG, seed=7))


@pytest.mark.usefixtures("here")
def test_a_point_that_fails_stops_no_other() -> None:
    file = grid(GRID.replace("lr = [0.003, 0.01]", "lr = [1e30, 0.003]\noptimizer = 'sgd'"))
    for _ in range(2):
        with np.errstate(all="ignore"):
            result = onr(file, "--set", "seed=0")
        assert result.exit_code == 2
        out, points = Path("sweeps/grid"), list(expanded(tomllib.loads(file.read_text())))
        line = result.stderr.splitlines()[-1]
        assert line.startswith("Error: 1 of 2 points failed, sweeps/grid/sweep.csv says why: ")
        (good, bad) = json.loads((out / "sweep.json").read_text())["points"][::-1]
        assert line.endswith(f": {bad['point']} (lr 1e+30)")
        assert bad["point"] == points[0]
        assert (good["status"], good["message"]) == ("finished", None)
        assert (bad["status"], bad["epochs_done"]) == ("failed", 0)
        assert "training diverged in epoch 1" in bad["message"]


def test_a_point_in_other_hands_is_waited_for(client: Client, tmp_path: Path) -> None:
    points = {config_hash(c): c for c in (CONFIG, replace(CONFIG, seed=1))}
    taken, other = points
    (tmp_path / taken).mkdir()
    seen: list[tuple[str, str]] = []
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with Run(tmp_path / taken, {}).locked():
            held.set()
            release.wait(30)

    def on_point(name: str, status: str) -> None:
        seen.append((name, status))

    def on_poll() -> None:
        if (other, "finished") in seen and not release.is_set():
            assert train_point(asdict(CONFIG), str(tmp_path)) == {"status": "busy"}
            assert not (tmp_path / taken / "config.json").exists()
            release.set()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    Sweep(points, tmp_path).run(client, on_point, on_poll)
    thread.join()
    assert seen == [(taken, "busy"), (other, "finished"), (taken, "finished")]
    assert tensors(tmp_path / taken) == alone(CONFIG, tmp_path / "alone")


def test_a_sweep_that_is_interrupted_lets_go_of_its_points(client: Client, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=2000)
    name = config_hash(config)
    found = Sweep({name: config}, tmp_path)

    def on_poll() -> None:
        if len(found.records(name)) > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found.run(client, on_poll=on_poll)
    for _ in range(300):
        try:
            with Run(tmp_path / name, {}).locked():
                break
        except OnrError:
            time.sleep(0.1)
    else:
        raise AssertionError("it is still being trained")
    epochs = len(found.records(name))
    assert 1 < epochs < 2000
    (row,) = json.loads((tmp_path / "sweep.json").read_text())["points"]
    assert row["status"] == "unfinished"
    assert found.failed == {}


# Without training


def test_a_dry_run_lists_the_points_and_writes_nothing(tmp_path: Path) -> None:
    file = grid(GRID)
    points = expanded(tomllib.loads(GRID))
    result = onr(file, "--dry-run", "--out", "out")
    assert result.exit_code == 0
    assert "4 points: 4 not started; in out" in result.stdout
    assert not Path("out").exists()
    Path("out").mkdir()
    first, second, *_ = points
    train_point(asdict(points[first]), "out")
    train_point(asdict(points[second]), "out")
    metrics = Path("out") / second / "metrics.jsonl"
    metrics.write_text(metrics.read_text().splitlines(keepends=True)[0])
    before = contents(tmp_path)
    result = onr(file, "--dry-run", "--out", "out")
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == list(points)
    assert lines[0].split() == [first, "finished", "3/3", "lr", "0.003,", "seed", "0"]
    assert lines[1].split() == [second, "unfinished", "1/3", "lr", "0.003,", "seed", "1"]
    assert lines[-1] == "4 points: 1 finished, 1 unfinished, 2 not started; in out"
    assert contents(tmp_path) == before


# Other processes

LONG = {"epochs": 24, "train_images": 200, "batch_size": 2, "dataset": "stored:noise"}
"""Two seconds, most of it between checkpoints; scikit-learn need not be imported."""


@pytest.fixture
def _noise(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        images = rng.integers(0, 256, (250, 8, 8), dtype=np.uint8)
        np.savez(tmp_path / f"noise-{part}.npz", images=images, labels=np.arange(250) % 10)


def test_no_scheduler_answers() -> None:
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "300ms"}):
        result = onr(grid(GRID), "--scheduler", "tcp://127.0.0.1:1")
    assert result.exit_code == 2
    assert "no scheduler answers at tcp://127.0.0.1:1" in result.stderr
    assert "unexpected" not in result.stderr


@pytest.mark.usefixtures("_noise")
def test_a_killed_worker_costs_no_point(tmp_path: Path) -> None:
    """SIGKILL of the process that holds a point's lock, in the middle of it."""
    settings: dict[str, Any] = {**LONG, "epochs": 12, "data_dir": str(tmp_path)}
    configs = [replace(CONFIG, seed=seed, **settings) for seed in range(2)]
    points = {config_hash(config): config for config in configs}
    found = Sweep(points, tmp_path / "sweep")
    victims: dict[str, int] = {}
    seen = dict.fromkeys(points, 0)
    finished: list[str] = []

    def on_poll() -> None:
        for name in points:
            epochs = len(found.records(name))
            assert epochs >= seen[name], "it started anew"
            seen[name] = epochs
            if not victims and 1 < epochs < 9:
                lock = str(tmp_path / "sweep" / name / "lock")
                for child in psutil.Process().children(recursive=True):
                    if any(file.path == lock for file in child.open_files()):
                        child.kill()
                        victims[name] = epochs

    def on_point(name: str, status: str) -> None:
        assert status == "finished" or (name in victims and status == "busy")
        finished.extend([name] * (status == "finished"))

    with connected(None, workers=2) as client:
        found.run(client, on_point, on_poll)
    assert len(victims) == 1
    assert sorted(finished) == sorted(points)
    for name in points:
        assert [r["epoch"] for r in found.records(name)] == list(range(1, 13))
    (killed,) = victims
    assert tensors(found.out / killed) == alone(points[killed], tmp_path / "alone")


LONG_ENOUGH = 600
"""Seconds after which something hangs, on the slowest machine."""


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.usefixtures("here", "_noise")
def test_ctrl_c_stops_all_processes_and_the_same_command_continues(tmp_path: Path) -> None:
    places = {**LONG, "data_dir": str(tmp_path)}
    settings = "".join(f"{name} = {json.dumps(value)}\n" for name, value in places.items())
    file = grid(f"backend = 'numpy'\n{settings}[grid]\nseed = [0, 1]\n")
    out = tmp_path / "sweeps" / "grid"
    script = "from onr.cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", script, "sweep", file, "--workers", "2"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A runner in the background ignores SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        while not list(out.glob("*/metrics.jsonl")):
            assert process.poll() is None
            time.sleep(0.02)
        workers = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, stderr = process.communicate(timeout=LONG_ENOUGH)
    assert process.returncode == 2
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1].endswith("of 2 points finished: the same command continues")
    rows = json.loads((out / "sweep.json").read_text())["points"]
    assert (
        {"unfinished"}
        <= {row["status"] for row in rows}
        <= {
            "finished",
            "unfinished",
            "not started",
        }
    )
    end = time.monotonic() + LONG_ENOUGH
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < end, "a worker goes on"
        time.sleep(0.05)
    again = onr(file)
    assert again.exit_code == 0, again.stderr
    stopped = next(row["point"] for row in rows if row["status"] == "unfinished")
    config = expanded(tomllib.loads(file.read_text()))[stopped]
    assert tensors(out / stopped) == alone(config, tmp_path / "alone")
