"""``onr evaluate``: which labels the attack knows, where it leads, and what the record says."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from onr.attacks.projected_gradient import ProjectedGradientAscent
from onr.cli.main import main
from onr.errors import OnrError
from onr.hookspecs import Entry
from onr.measurements.accuracy import logits, target_classes
from onr.registry import registry
from onr.training.config import TrainConfig
from onr.training.evaluation import EvaluationConfig, evaluate
from onr.training.factories import make_dataset
from onr.training.runs import Run
from onr.training.subject import open_run
from onr_numpy.network import DenseNetwork

COUNT = 40
SMALL = ("--images", str(COUNT), "--spectrum", "2", "--no-plot", "--eps", "0.5,1")


def onr(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that gets some images wrong."""
    out = tmp_path_factory.mktemp("finished") / "run"
    options = ("--backend", "numpy", "--train-images", "400", "--epochs", "2", "--out", out)
    assert onr("train", *options).exit_code == 0
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def evaluated(run: Path, *arguments: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The record and the columns of the table."""
    result = onr("evaluate", run, *SMALL, *arguments)
    assert result.exit_code == 0, result.output
    with (run / "evaluation.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    table = dict(zip(header, np.array(rows, dtype=float).T, strict=True))
    return json.loads((run / "evaluation.json").read_text()), table


def refused(run: Path, *arguments: str) -> str:
    before = set(run.iterdir())
    result = onr("evaluate", run, *SMALL, *arguments)
    assert result.exit_code == 2, result.output
    assert set(run.iterdir()) == before
    return result.stderr.strip().splitlines()[-1]


# Labels


class Spy:
    """An attack that leaves the input alone and keeps the labels that it was given."""

    labels: list[np.ndarray] = []  # noqa: RUF012 - shared on purpose
    given: list[dict[str, Any]] = []  # noqa: RUF012

    def __init__(self, *, p: Any, loss: Any, eps: float, bounds: Any, alpha: float = 1.0) -> None:
        Spy.given.append({"loss": loss.name, "eps": eps, "bounds": bounds, "alpha": alpha})

    def __call__(self, network: Any, x: Any, y: Any, /, *, rng: Any) -> Any:
        Spy.labels.append(np.asarray(y))
        return x


def required(*, p: Any, eps: float, bounds: Any, steps: int) -> Callable[..., Any]:
    return lambda network, x, y, /, *, rng: x


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> type[Spy]:
    """The registry with two more attacks: this one, and one that needs an option."""
    Spy.labels, Spy.given = [], []
    module = types.ModuleType("spying")
    monkeypatch.setattr(module, "Spy", Spy, raising=False)
    monkeypatch.setattr(module, "required", required, raising=False)
    monkeypatch.setitem(sys.modules, "spying", module)
    known = registry()
    plugin, offers = known.plugins[0], known.offers
    more = [
        (plugin, Entry("spy", "spying:Spy", "")),
        (plugin, Entry("required", "spying:required", "")),
    ]

    def offered(kind: str) -> Any:
        return offers(kind) + (more if kind == "attack" else [])

    monkeypatch.setattr(known, "offers", offered)
    return Spy


def test_attacks_know_the_true_labels_unless_asked(run: Path, spy: type[Spy]) -> None:
    for labels, column in (("true", "label"), ("predicted", "predicted")):
        spy.labels.clear()
        record, table = evaluated(run, "--attack", "spy", "--labels", labels)
        assert (record["labels"], record["target"]) == (labels, None)
        assert "targeted_success" not in record
        assert all(np.array_equal(given, table[column]) for given in spy.labels)
        assert len(spy.labels) == 2
        # Accuracy is that of the true labels all the same.
        clean = float(np.mean(table["label"] == table["predicted"]))
        assert record["accuracy"] == [clean] * 3
        assert 0 < clean < 1
    assert evaluated(run, "--attack", "spy")[0]["labels"] == "true"


def test_predicted_labels_save_images_that_were_wrong_from_the_start(run: Path) -> None:
    _, true = evaluated(run, "--p", "2")
    _, predicted = evaluated(run, "--p", "2", "--labels", "predicted")
    right = true["label"] == true["predicted"]
    assert np.array_equal(predicted["correct at 1.0"][right], true["correct at 1.0"][right])
    assert not true["correct at 1.0"][~right].any()


# Targets

LOGITS = np.array([[0.0, 3, 2, 1], [5, 1, 1, 1], [0, 0, 0, -1], [9, 8, 7, 6]])
LABELS = np.array([0, 3, 3, 3])


@pytest.mark.parametrize(
    ("target", "expected"),
    [("next", [1, 0, 0, 0]), ("least-likely", [3, 1, 0, 2]), ("0", [0] * 4), ("3", [3] * 4)],
)
def test_target_classes(target: str, expected: list[int]) -> None:
    found = target_classes(target, LABELS, LOGITS, rng=np.random.default_rng(0))
    assert found.tolist() == expected


def test_random_targets_are_the_others_alike() -> None:
    labels = np.arange(4).repeat(1000)
    logits = np.zeros((4000, 4))
    found = target_classes("random", labels, logits, rng=np.random.default_rng(0))
    counts = np.zeros((4, 4))
    np.add.at(counts, (labels, found), 1)
    assert not counts.diagonal().any()
    others = counts[~np.eye(4, dtype=bool)]
    assert np.all(abs(others - 1000 / 3) < 75)


@pytest.mark.parametrize("target", ["4", "-1", "1.0", "nearest", "", "²"])
def test_targets_that_are_none(target: str) -> None:
    with pytest.raises(OnrError, match="least-likely or a class, 0 to 3"):
        target_classes(target, LABELS, LOGITS, rng=np.random.default_rng(0))


@pytest.mark.parametrize("labels", ["true", "predicted"])
@pytest.mark.parametrize("target", ["next", "random", "least-likely", "7"])
def test_a_targeted_attack(target: str, labels: str, run: Path) -> None:
    record, table = evaluated(run, "--target", target, "--labels", labels, "--steps", "5")
    assert (record["target"], record["loss"]) == (target, "targeted-cross-entropy")
    known = table["label" if labels == "true" else "predicted"]
    elsewhere = table["target"] != known
    if target == "next":
        assert np.array_equal(table["target"], (known + 1) % 10)
    elif target == "7":
        assert set(table["target"]) == {7}
    assert elsewhere.all() or target == "7"
    reached = [table["predicted"] == table["target"]]
    reached += [table[f"on target at {eps}"] == 1 for eps in (0.5, 1.0)]
    rates = [float(np.mean(found[elsewhere])) for found in reached]
    assert record["targeted_success"] == rates
    # The least likely class is too far for these radii.
    assert rates[0] < rates[2] or target == "least-likely"
    for index, eps in enumerate((0.5, 1.0)):
        assert record["accuracy"][index + 1] == float(np.mean(table[f"correct at {eps}"]))
        both = (table[f"on target at {eps}"] == 1) & (table["target"] != table["label"])
        assert not table[f"correct at {eps}"][both].any()


def test_random_targets_are_repeatable_and_follow_the_seed(run: Path) -> None:
    targets = [
        evaluated(run, "--target", "random", "--steps", "1", "--seed", seed)[1]["target"].tolist()
        for seed in ("0", "0", "1")
    ]
    assert targets[0] == targets[1] != targets[2]


def test_a_rate_of_success_needs_an_example_that_is_elsewhere(run: Path) -> None:
    train = TrainConfig.read(Run.open(run).config)
    label = make_dataset(train).test.labels[0]
    arguments = ("--target", str(label), "--steps", "1", "--images", "1")
    record, _ = evaluated(run, *arguments)
    assert record["targeted_success"] == [None] * 3
    assert " - " in onr("evaluate", run, *SMALL, *arguments).stdout


def test_the_success_is_shown(run: Path) -> None:
    arguments = ("--target", "next", "--steps", "3")
    record, _ = evaluated(run, *arguments)
    shown = onr("evaluate", run, *SMALL, *arguments).stdout
    assert "on target" in shown
    for value in record["targeted_success"]:
        assert f"{value:.1%}" in shown
    assert "on target" not in onr("evaluate", run, *SMALL, "--steps", "1").stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--loss", "targeted-cross-entropy"), "leads to a target: say which with --target"),
        (("--loss", "targeted-cross-entropy:2"), "leads to a target: say which with --target"),
        (("--target", "next", "--loss", "cross-entropy"), "loss cross-entropy leads to no target"),
        (("--target", "next", "--loss", "margin"), "loss margin leads to no target"),
        (("--target", "next", "--loss", "lq:2"), "loss lq:2 leads to no target"),
        (("--target", "10"), "target '10': expected next, random, least-likely or a class, 0 to 9"),
        (("--target", "nearest"), "target 'nearest'"),
        (("--labels", "guessed"), "'guessed' is not one of"),
        (("--attack", "fgm", "--steps", "3"), "attack fgm takes no steps: leave it out"),
        (("--attack", "fgm", "--restarts", "2"), "attack fgm takes no restarts"),
        (("--attack", "noise", "--steps", "3"), "attack noise takes no steps"),
        (("--attack", "fgm", "--loss", "lq:1"), "no direction at the input itself"),
        (("--attack", "autoattack", "--loss", "margin"), "attack autoattack takes no loss"),
        (("--attack", "autoattack", "--target", "next"), "a loss of its own, without a target"),
        (("--attack", "autoattack", "--steps", "3"), "attack autoattack takes no steps"),
        (("--attack", "torchattacks"), "needs an argument: write torchattacks:ARGUMENT"),
        (("--attack-option", "beta=3"), "attack pga takes no option 'beta': it takes alpha, keep"),
        (("--attack-option", "steps=3"), "attack pga takes no option 'steps'"),
        (("--attack-option", "alpha=big"), "attack pga, option alpha: 'big' is no number"),
        (("--attack-option", "alpha"), "expected NAME=VALUE"),
        (("--attack-option", "keep=first"), "keep = 'first': expected best, or last"),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], reason: str, run: Path) -> None:
    assert reason in refused(run, *arguments)


# Options


def test_an_attack_is_given_what_it_takes(run: Path, spy: type[Spy]) -> None:
    record, _ = evaluated(run, "--attack", "spy", "--attack-option", "alpha=1/4")
    assert spy.given == [
        {"loss": "cross-entropy", "eps": eps, "bounds": (0.0, 1.0), "alpha": 0.25}
        for eps in (0.5, 1.0)
    ]
    assert record["attack_options"] == {"alpha": "1/4"}
    assert (record["steps"], record["restarts"], record["loss"]) == (None, None, "cross-entropy")


def test_an_attack_may_need_an_option(run: Path, spy: type[Spy]) -> None:
    assert "has no usual steps: give steps" in refused(run, "--attack", "required")
    record, _ = evaluated(run, "--attack", "required", "--steps", "4")
    assert (record["steps"], record["restarts"], record["loss"]) == (4, None, None)
    assert record["served"].keys() == {"norm/p", "attack"}


@pytest.mark.parametrize(
    ("attack", "steps", "restarts"), [("pga", 20, 1), ("fgm", None, None), ("noise", None, 1)]
)
def test_the_record_says_how(
    attack: str, steps: int | None, restarts: int | None, run: Path
) -> None:
    record, table = evaluated(run, "--attack", attack)
    found = tuple(record[name] for name in ("attack", "loss", "steps", "restarts"))
    assert found == (attack, "cross-entropy", steps, restarts)
    assert record["attack_options"] == {}
    for eps in (0.5, 1.0):
        assert np.all(table[f"perturbation at {eps}"] <= eps * (1 + 1e-6))


def test_noise_is_weaker_than_one_step_and_one_step_than_twenty(run: Path) -> None:
    accuracy = [
        evaluated(run, "--attack", attack)[0]["accuracy"][1] for attack in ("noise", "fgm", "pga")
    ]
    assert accuracy[0] > accuracy[1] >= accuracy[2]


def test_a_librarys_version_is_in_the_record(tmp_path: Path) -> None:
    version = pytest.importorskip("pyautoattack").__version__
    out = tmp_path / "run"
    assert onr("train", "--train-images", "60", "--epochs", "1", "--out", out).exit_code == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyautoattack.AutoAttack._set_version", _one_short_attack)
        arguments = ("--images", "5", "--eps", "3", "--spectrum", "1", "--no-plot")
        result = onr("evaluate", out, "--attack", "autoattack", *arguments)
    assert result.exit_code == 0, result.output
    record = json.loads((out / "evaluation.json").read_text())
    assert record["versions"]["pyautoattack"] == version
    assert (record["attack"], record["loss"], record["steps"]) == ("autoattack", None, None)


def _one_short_attack(attack: Any, version: str) -> None:
    attack.attacks_to_run, attack.apgd.n_iter, attack.apgd.n_restarts = ["apgd-ce"], 2, 1


def test_from_python(run: Path) -> None:
    config = EvaluationConfig(eps=(0.5,), images=COUNT, spectrum=1, attack="fgm", target="next")
    found = evaluate(open_run(run), config, lambda done, total: None, out=run)
    assert found.record["target"] == "next"
    assert len(found.record["targeted_success"]) == 2


def test_predictions_are_the_largest_logits(run: Path) -> None:
    subject = open_run(run)
    x, _ = subject.batch(COUNT)
    _, table = evaluated(run, "--steps", "1")
    assert np.array_equal(logits(subject.network, x).argmax(axis=1), table["predicted"])


# An evaluation that does not end


FOLDER_FILES = {"evaluation.json", "evaluation.csv"}
THREE = ("--images", "20", "--spectrum", "2", "--no-plot", "--steps", "2", "--eps", "0.5,1,2")


def stopping(monkeypatch: pytest.MonkeyPatch, after: int, failure: BaseException) -> list[int]:
    """Let the attack of the radius after so many fail; count the attacks."""
    count: list[int] = []
    real = ProjectedGradientAscent.__call__

    def attack(self: Any, *arguments: Any, **more: Any) -> Any:
        count.append(len(count))
        if len(count) == after + 1:
            raise failure
        return real(self, *arguments, **more)

    monkeypatch.setattr(ProjectedGradientAscent, "__call__", attack)
    return count


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("evaluation*")}


@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_interrupted_evaluation_goes_on_where_it_stopped(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    assert onr("evaluate", whole, *THREE).exit_code == 0
    with monkeypatch.context() as patch:
        stopping(patch, after, KeyboardInterrupt())
        stopped = onr("evaluate", run, *THREE)
    assert stopped.exit_code == 2
    told = f"interrupted with {after} of 3 radii finished: the same command goes on from there"
    assert stopped.stderr.splitlines()[-1] == f"Error: {told}"
    table = [row for row in stopped.stdout.splitlines() if "%" in row]
    assert len(table) == 1 + after
    assert contents(run).keys() == ({"evaluation.partial.json"} if after else set())
    with monkeypatch.context() as patch:
        count = stopping(patch, 99, KeyboardInterrupt())
        assert onr("evaluate", run, *THREE).exit_code == 0
    assert len(count) == 3 - after
    assert contents(run) == contents(whole)


@pytest.mark.parametrize(
    "changed", [("--seed", "1"), ("--steps", "3"), ("--eps", "0.5,1"), ("--images", "19")]
)
def test_another_evaluation_does_not_go_on(
    run: Path, monkeypatch: pytest.MonkeyPatch, changed: tuple[str, str]
) -> None:
    with monkeypatch.context() as patch:
        stopping(patch, 2, KeyboardInterrupt())
        onr("evaluate", run, *THREE)
    with monkeypatch.context() as patch:
        count = stopping(patch, 99, KeyboardInterrupt())
        assert onr("evaluate", run, *THREE, *changed).exit_code == 0
    assert len(count) == (2 if changed[0] == "--eps" else 3)
    assert contents(run).keys() == FOLDER_FILES


def test_another_model_does_not_go_on(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stopping(patch, 2, KeyboardInterrupt())
        onr("evaluate", run, *THREE)
    with monkeypatch.context() as patch:
        count = stopping(patch, 99, KeyboardInterrupt())
        assert onr("evaluate", run, *THREE, "--best").exit_code == 0
    same = Run.open(run).load().step == Run.open(run).load(best=True).step
    assert len(count) == (1 if same else 3)


def test_a_damaged_part_counts_as_none(run: Path) -> None:
    for damaged in (b"", b"{}", b"[]", b'{"key": 1, "outcomes": 2}'):
        (run / "evaluation.partial.json").write_bytes(damaged)
        assert onr("evaluate", run, *THREE).exit_code == 0
        assert contents(run).keys() == FOLDER_FILES


def test_a_folder_that_cannot_be_written_to_still_shows_the_table(
    run: Path, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    result = onr("evaluate", run, *THREE, "--out", file / "folder")
    assert result.exit_code == 2
    assert len([row for row in result.stdout.splitlines() if "%" in row]) == 4
    assert "cannot be written" in result.stderr.splitlines()[-1]


def test_logits_that_are_nan_have_no_accuracy(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = DenseNetwork.__call__

    def spoilt(self: Any, x: Any, /) -> Any:
        found = real(self, x)
        found[7, 3] = np.nan
        return found

    monkeypatch.setattr(DenseNetwork, "__call__", spoilt)
    result = onr("evaluate", run, *THREE)
    assert result.exit_code == 2
    assert "image 7: the network gives logits [" in result.stderr
    assert not contents(run)
