"""Runs on disk: nothing half written, no damage unnoticed, and a stopped run ends as one would."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onr.errors import OnrError
from onr.files import write_atomic
from onr.training.checkpoints import Checkpoint
from onr.training.config import TrainConfig
from onr.training.factories import run_record
from onr.training.loop import Training, lengthened, resumed
from onr.training.runs import Run

TENSORS = {
    "model.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "model.count": np.array(3),
    "optimizer.moment": np.linspace(0, 1, 5),
}
METHODS: dict[str, dict[str, str]] = {
    "standard": {},
    "at": {"p": "inf", "eps": "0.1", "steps": "2"},
    "dd-snr": {"steps": "2"},
}
EPOCHS = 3


def full_disk(*arguments: Any, **more: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupted(*arguments: Any, **more: Any) -> None:
    raise KeyboardInterrupt


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


# Writing


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "file"
    for content in (b"one", b"two"):
        write_atomic(file, content)
        assert file.read_bytes() == content
    assert names(file.parent) == ["file"]


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize(
    ("failure", "raised"), [(full_disk, OnrError), (interrupted, KeyboardInterrupt)]
)
def test_what_was_there_survives_a_failed_write(
    call: str,
    failure: Any,
    raised: type[BaseException],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "file"
    write_atomic(file, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(call, failure)
        with pytest.raises(raised) as caught:
            write_atomic(file, b"new and longer")
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == ["file"], "nothing is left beside it"
    if raised is OnrError:
        assert str(file) in str(caught.value)
        assert "No space left" in str(caught.value)


def test_no_file_appears_where_the_first_write_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OnrError, match="No space left"):
        write_atomic(tmp_path / "file", b"new")
    assert names(tmp_path) == []


@pytest.mark.parametrize("below", ["x", "x/y/z"])
def test_a_folder_that_cannot_be_made(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here already")
    target = tmp_path / "file" / below
    with pytest.raises(OnrError) as caught:
        write_atomic(target, b"new")
    assert str(target) in str(caught.value)
    with pytest.raises(OnrError, match="cannot be written"):
        Run.create(target, {})
    assert (tmp_path / "file").read_text() == "here already"


# A run's folder


def test_a_run_takes_an_empty_folder_or_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "new" / "folder"):
        Run.create(folder, {"some": "thing"})
        assert Run.open(folder).config == {"some": "thing"}


def test_a_run_does_not_take_what_is_not_its_own(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"first": True})
    with pytest.raises(OnrError, match=r"holds a run already.*--resume"):
        Run.create(run.path, {})
    assert Run.open(run.path).config == {"first": True}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "other", tmp_path / "file"):
        with pytest.raises(OnrError, match="is no empty folder"):
            Run.create(path, {})


def test_a_name_too_long_for_the_disk(tmp_path: Path) -> None:
    with pytest.raises(OnrError, match="name too long"):
        Run.create(tmp_path / ("x" * 300), {})


def test_no_run_to_open(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(OnrError, match="holds no run"):
            Run.open(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"3", b'"text"', b"\xff\xfe{}"])
def test_a_damaged_configuration(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(OnrError, match=r"config\.json cannot be read"):
        Run.open(tmp_path)


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"train": None},
        {"train": []},
        {"train": 3},
        {"train": {"no_such_option": 1}},
        {"train": {"epochs": "three"}},
        {"train": {"epochs": None}},
        {"train": {"lr": "fast"}},
        {"train": {"epochs": 0}},
        {"train": {"dataset": 5}},
        {"train": {"model_options": 5, "backend": "numpy"}},
        {"train": {"method_options": {"steps": 5}, "backend": "numpy"}},
    ],
)
def test_a_configuration_of_something_else(stored: dict[str, Any]) -> None:
    with pytest.raises(OnrError):
        Training(TrainConfig.read(stored))


def test_the_configuration_is_read_as_it_was_written(tmp_path: Path) -> None:
    config = TrainConfig(backend="numpy", method="at", method_options={"p": "1", "eps": "2"})
    training = Training(config)
    Run.create(tmp_path / "run", run_record(config, training.method))
    assert TrainConfig.read(Run.open(tmp_path / "run").config) == config


@pytest.mark.parametrize("content", ["{", '{"epoch": 1}\n{"epo', "\x00", "5\n", '["epoch"]\n'])
def test_a_damaged_record(content: str, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {})
    (run.path / "metrics.jsonl").write_text(content)
    with pytest.raises(OnrError, match=r"metrics\.jsonl is damaged"):
        run.records()


def test_records(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {})
    assert run.records() == []
    records = [{"epoch": 1, "cost": 0.5}, {"epoch": 2, "cost": 0.25}]
    run.save(Checkpoint(TENSORS, 6, records))
    assert run.records() == records


# Checkpoints


@pytest.fixture
def saved(tmp_path: Path) -> Run:
    run = Run.create(tmp_path / "run", {})
    run.save(Checkpoint(TENSORS, 6, [{"epoch": 1}, {"epoch": 2}]))
    return run


def same(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> bool:
    """Bit for bit, with names, types and shapes."""
    return a.keys() == b.keys() and all(
        (a[k].dtype, a[k].shape, a[k].tobytes()) == (b[k].dtype, b[k].shape, b[k].tobytes())
        for k in a
    )


def test_a_checkpoint_round_trip(saved: Run) -> None:
    found = saved.load()
    assert same(found.tensors, TENSORS)
    assert (found.step, found.records) == (6, [{"epoch": 1}, {"epoch": 2}])


def test_a_checkpoint_keeps_what_is_not_contiguous(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {})
    tensors = {"transposed": np.arange(6.0).reshape(2, 3).T, "strided": np.arange(9)[::2]}
    run.save(Checkpoint(tensors, 0, []))
    assert same(run.load().tensors, tensors)


def test_no_checkpoint_yet(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {})
    with pytest.raises(OnrError, match=r"no checkpoint yet.*onr train --resume"):
        run.load()


def test_a_checkpoint_that_is_none(saved: Run) -> None:
    file = saved.path / "checkpoint.safetensors"
    for content in (b"", b"no checkpoint", b"\x80\x04\x95.", b"\xff" * 100, bytes(100)):
        file.write_bytes(content)
        with pytest.raises(OnrError, match=r"checkpoint\.safetensors is damaged"):
            saved.load()
    file.unlink()
    file.mkdir()
    with pytest.raises(OnrError, match=r"checkpoint\.safetensors is damaged"):
        saved.load()


def test_a_checkpoint_cut_short(saved: Run) -> None:
    file = saved.path / "checkpoint.safetensors"
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(OnrError, match=r"checkpoint\.safetensors is damaged"):
            saved.load()


def test_one_damaged_byte_of_the_tensors_is_noticed(saved: Run) -> None:
    file = saved.path / "checkpoint.safetensors"
    whole = file.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    assert len(whole) - start == sum(value.nbytes for value in TENSORS.values())
    for position in range(start, len(whole)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(whole)
            damaged[position] ^= flip
            file.write_bytes(damaged)
            with pytest.raises(OnrError, match=r"checkpoint\.safetensors is damaged"):
                saved.load()


def test_one_damaged_byte_of_the_header_is_noticed_or_harmless(saved: Run) -> None:
    file = saved.path / "checkpoint.safetensors"
    whole = file.read_bytes()
    before = saved.load()
    for position in range(8 + int.from_bytes(whole[:8], "little")):
        for byte in b'0123456789BFIU[]{},:" ':
            damaged = bytearray(whole)
            damaged[position] = byte
            file.write_bytes(damaged)
            try:
                found = saved.load()
            except OnrError:
                continue
            assert same(found.tensors, before.tensors), damaged[: position + 1]
            assert (found.step, found.records) == (before.step, before.records)


def test_a_checkpoint_without_its_digest(saved: Run) -> None:
    from safetensors.numpy import save_file

    save_file(TENSORS, saved.path / "checkpoint.safetensors")
    with pytest.raises(OnrError, match=r"checkpoint\.safetensors is damaged"):
        saved.load()


# Stopping and going on


def configuration(backend: str, method: str, **more: Any) -> TrainConfig:
    """Three epochs of three steps; the last batch is smaller."""
    small = {"train_images": 100, "batch_size": 40, "epochs": EPOCHS, "augment": "crop-flip"}
    small["average"] = 0.9 if method == "at" else None
    return TrainConfig(
        backend=backend, method=method, method_options=METHODS[method], **(small | more)
    )


def start(path: Path, config: TrainConfig, stop: tuple[int, int] | None = None) -> Run:
    """Train; ``stop`` is the epoch and the step in it after which to be interrupted."""

    def on_step(epoch: int, step: int) -> None:
        if (epoch, step) == stop:
            raise KeyboardInterrupt

    training = Training(config)
    run = Run.create(path, run_record(config, training.method))
    if stop is None:
        training.finish(run)
    else:
        with pytest.raises(KeyboardInterrupt):
            training.finish(run, on_step)
    return run


def go_on(path: Path) -> None:
    """Resume from the folder alone."""
    run = Run.open(path)
    training = Training(TrainConfig.read(run.config))
    training.resume(run)
    training.finish(run)


@pytest.fixture(
    scope="module",
    params=[(backend, method) for backend in ("numpy", "torch") for method in METHODS],
    ids="-".join,
)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An uninterrupted run of every backend and method."""
    return start(tmp_path_factory.mktemp("whole") / "run", configuration(*request.param))


def without_time(run: Run) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in run.records()]


def test_a_resumed_run_ends_as_an_uninterrupted_one(whole: Run, tmp_path: Path) -> None:
    stopped = start(tmp_path / "stopped", TrainConfig.read(whole.config), stop=(1, 2))
    assert len(stopped.load().records) == 1
    go_on(stopped.path)
    assert len(stopped.load().records) == len(whole.load().records) == EPOCHS
    assert same(stopped.load().tensors, whole.load().tensors)
    assert without_time(stopped) == without_time(whole)


def test_a_run_stopped_between_checkpoint_and_record(whole: Run, tmp_path: Path) -> None:
    stopped = start(tmp_path / "stopped", TrainConfig.read(whole.config), stop=(2, 1))
    metrics = stopped.path / "metrics.jsonl"
    first, second = metrics.read_text().splitlines(keepends=True)
    assert json.loads(second)["epoch"] == 2
    metrics.write_text(first)
    go_on(stopped.path)
    assert same(stopped.load().tensors, whole.load().tensors)
    assert [record["epoch"] for record in stopped.records()] == [1, 2, 3]


@pytest.mark.parametrize("stop", [(0, 1), (0, 3)])
def test_a_run_stopped_in_its_first_epoch(stop: tuple[int, int], tmp_path: Path) -> None:
    config = configuration("numpy", "standard")
    whole = start(tmp_path / "whole", config)
    stopped = start(tmp_path / "stopped", config, stop=stop)
    assert stopped.records() == []
    go_on(stopped.path)
    assert same(stopped.load().tensors, whole.load().tensors)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_run_stopped_twice_with_momentum(backend: str, tmp_path: Path) -> None:
    config = configuration(backend, "standard", optimizer="sgd", lr=0.01)
    whole = start(tmp_path / "whole", config)
    stopped = start(tmp_path / "stopped", config, stop=(1, 1))
    for stop in ((1, 3), (2, 2)):
        training = Training(TrainConfig.read(stopped.config))
        training.resume(stopped)

        def on_step(epoch: int, step: int, stop: tuple[int, int] = stop) -> None:
            if (epoch, step) == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            training.finish(stopped, on_step)
    go_on(stopped.path)
    assert same(stopped.load().tensors, whole.load().tensors)


def test_batch_statistics_are_resumed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        images = rng.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
        np.savez(tmp_path / f"set-{part}.npz", images=images, labels=np.arange(20) % 3)
    config = configuration(
        "torch",
        "at",
        dataset=f"npz:{tmp_path / 'set'}",
        model="cnn7",
        model_options={"width": "4"},
        train_images=12,
        batch_size=6,
    )
    whole = start(tmp_path / "whole", config)
    stopped = start(tmp_path / "stopped", config, stop=(1, 1))
    go_on(stopped.path)
    assert any(name.endswith("running_mean") for name in whole.load().tensors)
    assert same(stopped.load().tensors, whole.load().tensors)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("stop", [None, (1, 2)])
def test_a_lengthened_run_ends_as_one_of_that_length(
    backend: str, stop: tuple[int, int] | None, tmp_path: Path
) -> None:
    more = {"schedule": "constant", "optimizer": "adamw", "weight_decay": 0.1}
    long = start(tmp_path / "long", configuration(backend, "at", epochs=4, **more))
    short = start(tmp_path / "short", configuration(backend, "at", epochs=2, **more), stop=stop)
    for epochs in (3, 4):
        run = Run.open(short.path)
        training = Training(lengthened(TrainConfig.read(run.config), epochs))
        with resumed(training, run):
            training.finish(run)
    run = Run.open(short.path)
    assert same(run.load().tensors, long.load().tensors)
    assert without_time(run) == without_time(long)
    for averaged in (False, True):
        ours, theirs = (one.load(best=True, averaged=averaged) for one in (run, long))
        assert ours.step == theirs.step
        assert same(ours.tensors, theirs.tensors)
    assert TrainConfig.read(run.config).epochs == 4
    assert [one["from"] for one in run.config["lengthened"]] == [2, 3]
    with pytest.raises(OnrError, match="has taken steps of epoch 4, so give at least 4"):
        Training(lengthened(TrainConfig.read(run.config), 3)).resume(run)


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "steps:0.5"])
def test_a_run_whose_schedule_knows_its_end_is_not_lengthened(schedule: str) -> None:
    config = TrainConfig(schedule=schedule, epochs=3)
    assert lengthened(config, 3) == config
    with pytest.raises(OnrError, match=rf"schedule {schedule} .*--weights and --epochs 2"):
        lengthened(config, 5)


def test_going_on_with_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    run = start(tmp_path / "run", configuration("numpy", "standard"))
    before = {file.name: file.read_bytes() for file in run.path.iterdir()}
    go_on(run.path)
    assert {file.name: file.read_bytes() for file in run.path.iterdir()} == before


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_checkpoint_of_another_model(backend: str, tmp_path: Path) -> None:
    run = start(tmp_path / "run", configuration(backend, "standard"), stop=(1, 1))
    for option in ({"depth": "3"}, {"width": "32"}):
        training = Training(configuration(backend, "standard", model_options=option))
        with pytest.raises(OnrError, match="does not fit the run"):
            training.resume(run)


@pytest.mark.parametrize("changed", ["images", "labels", "count"])
def test_a_run_does_not_go_on_with_other_data(changed: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"images": rng.integers(0, 256, (40, 3, 3), np.uint8), "labels": np.arange(40) % 3}
    for part in ("train", "test"):
        np.savez(tmp_path / f"mine-{part}.npz", **arrays)
    config = TrainConfig(backend="numpy", dataset=f"npz:{tmp_path / 'mine'}", epochs=1)
    run = start(tmp_path / "run", config)
    Training(config).resume(run)
    other = {
        "images": {"images": 255 - arrays["images"]},
        "labels": {"labels": arrays["labels"][::-1]},
        "count": {name: np.concatenate([each, each]) for name, each in arrays.items()},
    }[changed]
    np.savez(tmp_path / "mine-train.npz", **(arrays | other))
    with pytest.raises(OnrError, match="are not those that the run was trained on"):
        Training(config).resume(run)
