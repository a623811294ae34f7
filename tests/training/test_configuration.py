"""Which settings a run ends up with, and what they mean: rates, events, the best epoch."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from onr.cli.main import main
from onr.errors import ImageError, OnrError
from onr.numerals import number
from onr.registry import bare, load
from onr.sweeps.grids import expanded
from onr.training.config import TrainConfig
from onr.training.factories import make_method, run_record
from onr.training.layered_config import configuration, preset, read_configuration
from onr.training.loop import Training
from onr.training.optimizers import Optimizer
from onr.training.runs import Run
from onr.training.schedules import SCHEDULES, schedule
from onr_paper.presets import METHODS, NETWORKS

FIELDS = {field.name: field for field in dataclasses.fields(TrainConfig)}
SMALL = {"backend": "numpy", "train_images": 60, "batch_size": 30, "epochs": 3}


def onr(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def trained(*arguments: str | Path) -> Run:
    """The run of a command that works."""
    out = Path(arguments[-1])
    result = onr("train", *arguments[:-1], "--out", out)
    assert result.exit_code == 0, result.stderr
    return Run.open(out)


def toml(settings: dict[str, Any]) -> str:
    def value(of: Any) -> str:
        if isinstance(of, dict):
            return "{ " + ", ".join(f"{k} = {value(v)}" for k, v in of.items()) + " }"
        return json.dumps(of)

    return "".join(f"{k} = {value(v)}\n" for k, v in settings.items() if v is not None)


# Layers

NAMES = st.sampled_from(["one", "two"])
OPTION = st.dictionaries(st.sampled_from(["p", "lam", "a-b"]), st.sampled_from(["1", "2", 3, 0.5]))
LAYER = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from(["standard", "at", "dd-snr"]),
        "method_options": OPTION,
        "model": st.sampled_from(["mlp", "cnn7"]),
        "model-options": OPTION,
        "epochs": st.integers(1, 9),
        "batch-size": st.integers(1, 9),
        "nesterov": st.just(False),
        "lr": st.sampled_from([0.1, 1]),
    },
)


@given(layers=st.lists(LAYER, max_size=4))
def test_later_layers_lie_on_top(layers: list[dict[str, Any]]) -> None:
    found = configuration(*layers)
    expected = dataclasses.asdict(TrainConfig())
    for layer in layers:
        for name, value in layer.items():
            name = name.replace("-", "_")
            if name in ("method", "model") and value != bare(expected[name]):
                expected[f"{name}_options"] = {}
            if not name.endswith("_options"):
                expected[name] = value
        for name in ("method_options", "model-options"):
            for option, value in layer.get(name, {}).items():
                options = expected[name.replace("-", "_")]
                options[option.replace("-", "_")] = str(value)
    assert dataclasses.asdict(found) == expected


@pytest.mark.parametrize("owner", ["method", "model"])
def test_options_of_another_are_dropped(owner: str) -> None:
    mine = {owner: "cnn7" if owner == "model" else "at", f"{owner}_options": {"width": 8}}
    other = {owner: "mlp" if owner == "model" else "dd-snr"}
    options = f"{owner}_options"
    assert getattr(configuration(mine, {}), options) == {"width": "8"}
    assert getattr(configuration(mine, {owner: mine[owner]}), options) == {"width": "8"}
    assert getattr(configuration(mine, other), options) == {}
    assert getattr(configuration(mine, other, {owner: mine[owner]}), options) == {}
    default = {owner: getattr(TrainConfig(), owner)}
    assert getattr(configuration({options: {"width": 8}}, default), options) == {"width": "8"}


@given(
    value=st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False), st.text(max_size=5))
)
def test_an_option_may_be_a_number(value: float | str) -> None:
    found = configuration({"method_options": {"eps": value}}).method_options["eps"]
    assert (found if isinstance(value, str) else number(found)) == value


@pytest.mark.parametrize("value", [True, None, [1], {"a": 1}])
@pytest.mark.parametrize("table", ["method_options", "model_options"])
def test_an_option_that_is_no_text_and_no_number(table: str, value: Any) -> None:
    with pytest.raises(OnrError, match=r"option eps = .*: expected a text or a number"):
        configuration({table: {"eps": value}})
    with pytest.raises(OnrError, match=f"{table} = .*: expected a table of options"):
        configuration({table: [value]})


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("name", ["eps", "Epochs", "batchsize", "", "train"])
def test_an_unknown_setting(name: str, layer: int) -> None:
    layers: list[dict[str, Any]] = [{}, {}, {}]
    layers[layer] = {name: 1}
    with pytest.raises(
        OnrError, match=f"unknown setting {name!r}: expected augment, average, backend, "
    ):
        configuration(*layers)


def test_a_setting_given_twice() -> None:
    layer = {"method-options": {"eps": 0.1}, "method_options": {"steps": 3}}
    with pytest.raises(OnrError, match="method-options and method_options are one setting"):
        configuration(layer)
    with pytest.raises(OnrError, match=r"method_options\.eps is given twice"):
        expanded({"grid": {"method-options": {"eps": 0.1}, "method_options": {"eps": 0.2}}})


WRONG: dict[str, list[Any]] = {
    "str": [1, None, True, ["a"], {}],
    "str | None": [1, False, ["a"], {}],
    "int": ["1", 1.0, None, True, [1]],
    "int | None": ["1", 1.5, True, [1]],
    "float": ["0.1", None, True, [0.1]],
    "float | None": ["0.1", True, [0.1]],
    "bool": ["true", 1, 0.0, None, []],
    "dict[str, str]": ["a", 1, None, True, ["a"]],
}


def test_every_kind_of_field_has_wrong_values() -> None:
    assert WRONG.keys() == {str(field.type) for field in FIELDS.values()}


@pytest.mark.parametrize("name", FIELDS)
def test_a_value_of_a_wrong_kind_is_refused(name: str, tmp_path: Path) -> None:
    for value in WRONG[str(FIELDS[name].type)]:
        with pytest.raises(OnrError, match=f"{name} = .*: expected "):
            TrainConfig(**{name: value})
        with pytest.raises(OnrError, match=f"{name} = .*: expected "):
            configuration({name: value})
    if value is not None:  # which TOML does not have
        (tmp_path / "file.toml").write_text(toml({name: value}))
        result = onr("train", "--config", tmp_path / "file.toml", "--out", tmp_path / "run")
        assert result.exit_code == 2
        assert result.stderr.startswith(f"Error: {name} = ")
        assert result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", -1),
        ("lr", 0.0),
        ("lr", -1),
        ("lr", math.nan),
        ("lr", math.inf),
        ("lr", 10**400),
        ("lr", 1e300),
        ("weight_decay", 1e300),
        ("average", 0),
        ("average", 1),
        ("average", math.nan),
        ("seed", -1),
        ("seed", 2**63),
        ("seed", 2**70),
        ("dtype", "float16"),
        ("augment", "blur"),
        ("optimizer", "lion"),
        ("schedule", "linear"),
        ("momentum", 1.0),
        ("weight_decay", -0.1),
        ("nesterov", True),
    ],
)
def test_a_value_out_of_range_is_refused(name: str, value: Any) -> None:
    with pytest.raises(
        OnrError, match=name if name == "nesterov" or value == 10**400 else re.escape(str(value))
    ):
        configuration({name: value})


# Files


def test_a_file_and_a_record_give_the_same_run(tmp_path: Path) -> None:
    first = trained(
        *("--backend", "numpy", "--method", "at", "--eps", "1/10", "--p", "inf", "--steps", "2"),
        *("--train-images", "60", "--batch-size", "30", "--epochs", "2", "--optimizer", "sgd"),
        *("--nesterov", "--weight-decay", "1e-5", "--lr", "0.05", "--model-option", "width=8"),
        *("--schedule", "steps:0.5", tmp_path / "first"),
    )
    (tmp_path / "file.toml").write_text(toml(first.config["train"]))
    for name in ("file.toml", "first/config.json"):
        again = trained("--config", tmp_path / name, tmp_path / f"again-{Path(name).stem}")
        assert again.config == first.config
        a, b = first.load().tensors, again.load().tensors
        assert a.keys() == b.keys()
        for key in a.keys() - {"training.seconds"}:
            np.testing.assert_array_equal(a[key], b[key])


def test_the_command_line_lies_on_top_of_file_and_preset(tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_text(
        toml(SMALL | {"dataset": "digits", "model": "mlp", "method_options": {"steps": 2}})
    )
    run = trained(
        *("--preset", "paper:cifar10-wrn-at-l2", "--config", file, "--epochs", "1"),
        *("--eps", "0.25", "--no-nesterov", tmp_path / "run"),
    )
    config = TrainConfig.read(run.config)
    assert (config.epochs, config.batch_size, config.dataset) == (1, 30, "digits")
    assert (config.optimizer, config.nesterov, config.weight_decay) == ("sgd", False, 5e-4)
    assert (config.model, config.model_options) == ("mlp", {})
    assert config.method_options == {"p": "2", "eps": "0.25", "steps": "2"}


def test_flags_count_only_where_they_are_given(tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_text(toml(SMALL | {"optimizer": "sgd", "nesterov": True, "epochs": 1}))
    for number_, (flags, expected) in enumerate(
        {(): True, ("--nesterov",): True, ("--no-nesterov",): False}.items()
    ):
        run = trained("--config", file, *flags, tmp_path / f"run-{number_}")
        assert TrainConfig.read(run.config).nesterov is expected
        assert TrainConfig.read(run.config).tensorboard is False


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.toml", None),
        ("a.toml", b"epochs ="),
        ("a.toml", b"epochs = 1\nepochs = 2\n"),
        ("a.toml", b"\xff\xfe"),
        ("a.json", b"{"),
        ("a.json", b"{}"),
        ("a.json", b"[]"),
        ("a.json", b"3"),
        ("a.json", b'{"train": []}'),
        ("a.json", b'{"train": null}'),
        ("a.json", b'{"train": "epochs"}'),
    ],
)
def test_a_file_that_cannot_be_read(name: str, content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(OnrError, match=rf"{name} cannot be read \(.*expected a TOML file"):
        read_configuration(tmp_path / name)
    result = onr("train", "--config", tmp_path / name, "--out", tmp_path / "run")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


# Presets

PAPER = {
    "standard": ("standard", None),
    "at-l2": ("at", 1.75),
    "at-linf": ("at", 8 / 255),
    "dd-snr": ("dd-snr", 1.75),
    "dd-onr": ("dd-onr", 8 / 255),
    "global-snr": ("global-snr", None),
}
"""The method, and eps for pixels in [-1, 1]."""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_preset_of_the_paper(network: str, method: str) -> None:
    config = configuration(preset(f"paper:{network}-{method}"))
    name, eps = PAPER[method]
    assert bare(config.method) == name
    assert bare(config.dataset) == network.partition("-")[0]
    assert bare(config.model) == ("wrn-28-10" if "wrn" in network else "cnn7")
    settings = make_method(config).settings
    assert settings.get("eps") == (eps if eps is None else eps / 2)
    if eps is not None:
        assert settings["p"] == ("inf" if eps < 1 else "2")
        assert settings["steps"] == 10
    assert run_record(config, make_method(config))["served"]["method"]["plugin"] == "onr_paper"
    load("model", config.model)


def test_presets_that_are_none() -> None:
    with pytest.raises(
        OnrError, match="no preset paper:mnist-at: expected one of cifar10-standard"
    ):
        preset("paper:mnist-at")
    with pytest.raises(OnrError, match="unknown preset 'paper2"):
        preset("paper2:cifar10-at-l2")


# Rates

PROGRESS = st.floats(0, 1)


@given(progress=PROGRESS, other=PROGRESS)
def test_rates_are_fractions_of_their_peak(progress: float, other: float) -> None:
    for name in (*SCHEDULES, "steps:0.3,0.5"):
        assert 0 <= schedule(name)(progress) <= 1
    low, high = sorted((progress, other))
    one_cycle, cosine = schedule("one-cycle"), schedule("cosine")
    assert cosine(low) >= cosine(high)
    if high < 0.3:
        assert one_cycle(low) <= one_cycle(high)
    if low >= 0.3:
        assert one_cycle(low) >= one_cycle(high)
    assert schedule("constant")(progress) == 1


def test_the_ends_of_the_rates() -> None:
    assert [schedule("one-cycle")(t) for t in (0, 0.15, 0.3, 1)] == pytest.approx([0, 0.5, 1, 0])
    assert [schedule("cosine")(t) for t in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])


@given(
    points=st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4, unique=True), progress=PROGRESS
)
def test_steps_are_tenths(points: list[float], progress: float) -> None:
    rate = schedule("steps:" + ",".join(map(repr, sorted(points))))
    assert rate(progress) == pytest.approx(10.0 ** -len([t for t in points if t <= progress]))
    assert rate(points[0]) < rate(math.nextafter(points[0], 0))


@pytest.mark.parametrize(
    "spec",
    [
        *("", "one_cycle", "cosine:2", "steps", "steps:", "steps:0", "steps:1", "steps:0.5,0.5"),
        *("steps:0.7,0.2", "steps:a", "steps:nan", "steps:0.5,"),
    ],
)
def test_schedules_that_are_none(spec: str) -> None:
    with pytest.raises(OnrError):
        schedule(spec)


@pytest.mark.parametrize("name", ["one-cycle", "cosine", "steps:0.5"])
def test_the_learner_is_given_the_rate_at_each_steps_middle(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(TrainConfig(**SMALL, schedule=name, lr=2))
    rates, step = [], training.learner.step

    def watched(examples: np.ndarray, /, *, lr: float, rng: np.random.Generator) -> Any:
        rates.append(lr)
        return step(examples, lr=lr / 1000, rng=rng)

    monkeypatch.setattr(training.learner, "step", watched)
    for number_ in range(6):
        training._take_step(*divmod(number_, 2))
    assert rates == [2 * schedule(name)((k + 0.5) / 6) for k in range(6)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name": "lion"}, "unknown optimizer 'lion'"),
        ({"momentum": -0.1}, "momentum = -0.1"),
        ({"momentum": 1.0}, "momentum = 1.0"),
        ({"momentum": math.nan}, "momentum = nan"),
        ({"nesterov": True}, "expected sgd with a momentum"),
        ({"name": "sgd", "nesterov": True, "momentum": 0.0}, "expected sgd with a momentum"),
        ({"weight_decay": -1e-9}, "weight_decay = -1e-09"),
        ({"weight_decay": math.inf}, "weight_decay = inf"),
        ({"weight_decay": math.nan}, "weight_decay = nan"),
    ],
)
def test_optimizers_that_are_none(options: dict[str, Any], told: str) -> None:
    with pytest.raises(OnrError, match=told):
        Optimizer(**options)


# Events


def events(folder: Path) -> dict[int, dict[str, float]]:
    """Numbers by name by epoch."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    (file,) = folder.iterdir()
    found: dict[int, dict[str, float]] = {}
    for raw in RawEventFileLoader(str(file)).Load():
        event = Event.FromString(raw)
        if event.summary.value:
            assert event.step not in found
            found[event.step] = {v.tag: v.simple_value for v in event.summary.value}
    return found


@pytest.mark.parametrize("method", ["standard", "at"])
def test_events_are_the_records_also_after_a_resumption(method: str, tmp_path: Path) -> None:
    config = TrainConfig(**SMALL, method=method, tensorboard=True)
    training = Training(config)
    run = Run.create(tmp_path / "run", run_record(config, training.method))

    def stop(record: dict[str, Any]) -> None:
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.finish(run, on_epoch=stop)
    for epochs in (2, 3, 3):
        expected = {
            record["epoch"]: {
                name: float(np.float32(value))
                for name, value in record.items()
                if name not in ("epoch", "warning")
            }
            for record in run.records()
        }
        assert len(expected) == epochs
        assert events(run.path / "tensorboard") == expected
        training = Training(config)
        training.resume(run)
        training.finish(run)


# The best epoch


@pytest.mark.parametrize(
    ("robust", "best"),
    [
        ([0.1, 0.2, 0.3], 3),
        ([0.3, 0.2, 0.1], 1),
        ([0.1, 0.3, 0.2], 2),
        ([0.2, 0.2, 0.2], 1),
        ([0.1, 0.2, 0.2], 2),
    ],
)
@pytest.mark.parametrize("score", ["validation_robust_accuracy", "validation_accuracy"])
def test_the_best_is_the_first_of_the_most_robust_epochs(
    score: str, robust: list[float], best: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clean accuracy, which falls here, counts where there is no other; resumptions do not."""
    measured = Training._record

    def planted(training: Training, epoch: int) -> dict[str, Any]:
        falling = {"validation_accuracy": 0.9 - epoch / 10}
        return measured(training, epoch) | falling | {score: robust[epoch - 1]}

    monkeypatch.setattr(Training, "_record", planted)
    config = TrainConfig(**SMALL)
    run = Run.create(tmp_path / "run", run_record(config, make_method(config)))
    weights: list[dict[str, np.ndarray]] = []

    def keep(record: dict[str, Any]) -> None:
        weights.append(run.model()[0])
        raise KeyboardInterrupt

    for _ in robust:
        training = Training(config)
        training.resume(run)
        with pytest.raises(KeyboardInterrupt):
            training.finish(run, on_epoch=keep)
    found, epochs = run.model(best=True)
    assert epochs == best
    assert found.keys() == weights[best - 1].keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, weights[best - 1][name])
    assert set(run.load(best=True).tensors) == {f"model.{name}" for name in found}


# Batches


@pytest.mark.parametrize(
    ("images", "size", "wanted"),
    [
        (60, 30, [30, 30]),
        (61, 30, [30, 31]),
        (62, 30, [30, 30, 2]),
        (1, 30, [1]),
        (31, 30, [31]),
        (3, 1, [1, 1, 1]),
        (5, 2, [2, 3]),
    ],
)
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_last_example_joins_the_batch_before(
    backend: str, images: int, size: int, wanted: list[int], tmp_path: Path
) -> None:
    settings = SMALL | {"train_images": images, "batch_size": size, "epochs": 2}
    training = Training(TrainConfig(**settings | {"backend": backend}))
    seen: list[np.ndarray] = []
    step = training.learner.step

    def watched(examples: np.ndarray, /, **more: Any) -> Any:
        seen.append(examples)
        return step(examples, **more)

    training.learner.step = watched  # type: ignore[method-assign]
    training.finish(Run.create(tmp_path / "run", run_record(training.config, training.method)))
    assert [len(examples) for examples in seen] == 2 * wanted
    for epoch in (seen[: len(wanted)], seen[len(wanted) :]):
        assert sorted(np.concatenate(epoch)) == list(range(images))


@pytest.mark.parametrize("where", ["step", "validation"])
def test_a_logit_that_is_nan_is_a_training_that_diverged(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(TrainConfig(**SMALL))

    def fail(*arguments: Any, **more: Any) -> Any:
        raise ImageError(3, "the network gives logits [nan, nan]: expected numbers")

    if where == "step":
        training.learner.step = fail  # type: ignore[method-assign]
    else:
        monkeypatch.setattr("onr.training.loop.logits", fail)
    run = Run.create(tmp_path / "run", run_record(training.config, training.method))
    with pytest.raises(OnrError, match=r"^training diverged in epoch 1 \(.*: try a smaller lr"):
        training.finish(run)
    assert not (run.path / "checkpoint.safetensors").exists()


def test_an_error_is_one_line() -> None:
    assert str(OnrError("one\n  two\n")) == "one two"
    assert str(OnrError("one  two")) == "one  two"
    again = pickle.loads(pickle.dumps(ImageError(3, "a logit\nis NaN").after(250)))  # noqa: S301
    assert (str(again), again.index) == ("image 253: a logit is NaN", 253)
