"""``onr evaluate``: which labels the attack knows, where it leads, and what the record says."""

from __future__ import annotations

import csv
import importlib
import json
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from onr.cli.main import main
from onr.errors import OnrError
from onr.hookspecs import Entry
from onr.measurements.accuracy import accuracy
from onr.measurements.predictions import logits
from onr.measurements.target_classes import target_classes
from onr.norms import LpNorm
from onr.registry import registry
from onr.training import evaluation
from onr.training.config import TrainConfig
from onr.training.evaluation import EvaluationConfig, evaluate
from onr.training.factories import make_dataset
from onr.training.runs import Run
from onr.training.subject import Subject, open_run
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
    pga = ("--p", "2", "--attack", "pga")
    _, true = evaluated(run, *pga)
    _, predicted = evaluated(run, *pga, "--labels", "predicted")
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


@pytest.mark.parametrize(
    ("attack", "loss"), [("pga", "targeted-cross-entropy"), ("multitargeted", None)]
)
@pytest.mark.parametrize("labels", ["true", "predicted"])
@pytest.mark.parametrize("target", ["next", "random", "least-likely", "7"])
def test_a_targeted_attack(
    target: str, labels: str, attack: str, loss: str | None, run: Path
) -> None:
    given = ("--target", target, "--labels", labels, "--attack", attack, "--steps", "5")
    record, table = evaluated(run, *given)
    assert (record["target"], record["loss"]) == (target, loss)
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
        (
            ("--attack", "pga", "--loss", "targeted-cross-entropy"),
            "leads to a target: say which with --target",
        ),
        (("--loss", "margin"), "attack multitargeted takes no loss: leave it out"),
        (
            ("--attack", "pga", "--target", "0", "--loss", "cross-entropy"),
            "loss cross-entropy leads to no target",
        ),
        (
            ("--attack", "pga", "--target", "0", "--loss", "margin"),
            "loss margin leads to no target",
        ),
        (("--attack", "pga", "--target", "0", "--loss", "lq:2"), "loss lq:2 leads to no target"),
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
        (("--attack-option", "beta=3"), "takes no option 'beta': it takes targets, passes"),
        (("--attack-option", "steps=3"), "attack multitargeted takes no option 'steps'"),
        (("--attack-option", "targeted=true"), "attack multitargeted takes no option 'targeted'"),
        (("--attack-option", "passes=2"), "passes = 2: expected at least 3"),
        (("--attack-option", "alpha"), "expected NAME=VALUE"),
        (
            ("--attack", "pga", "--attack-option", "keep=first"),
            "keep = 'first': expected best, or last",
        ),
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
    ("attack", "loss", "steps", "restarts"),
    [
        ("pga", "cross-entropy", 20, 1),
        ("fgm", "cross-entropy", None, None),
        ("noise", "cross-entropy", None, 1),
        ("multitargeted", None, 40, None),
    ],
)
def test_the_record_says_how(
    attack: str, loss: str | None, steps: int | None, restarts: int | None, run: Path
) -> None:
    record, table = evaluated(run, "--attack", attack)
    found = tuple(record[name] for name in ("attack", "loss", "steps", "restarts"))
    assert found == (attack, loss, steps, restarts)
    assert record["attack_options"] == {}
    for eps in (0.5, 1.0):
        assert np.all(table[f"perturbation at {eps}"] <= eps * (1 + 1e-6))


def test_noise_is_weaker_than_one_step_and_one_step_than_twenty(run: Path) -> None:
    accuracy = [
        evaluated(run, "--attack", attack)[0]["accuracy"][1]
        for attack in ("noise", "fgm", "pga", "multitargeted")
    ]
    assert accuracy[0] > accuracy[1] >= accuracy[2] >= accuracy[3]


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
    found = evaluate(open_run(run), config, lambda done, total, record: None, out=run)
    assert found.record["target"] == "next"
    assert len(found.record["targeted_success"]) == 2


def test_predictions_are_the_largest_logits(run: Path) -> None:
    subject = open_run(run)
    x, _ = subject.batch(COUNT)
    _, table = evaluated(run, "--steps", "1")
    assert np.array_equal(logits(subject.network, x).argmax(axis=1), table["predicted"])


# Many radii


def test_radii_are_attacked_from_small_to_large_and_told_as_given(run: Path) -> None:
    record, table = evaluated(run, "--eps", "1,1/4,0.5", "--p", "2")
    assert record["eps"] == [0.0, 1.0, 0.25, 0.5]
    assert record["eps_written"] == ["0", "1", "1/4", "0.5"]
    ordered, written = evaluated(run, "--eps", "0.25,0.5,1", "--p", "2")
    pairs = dict(zip(ordered["eps"], ordered["accuracy"], strict=True))
    assert record["accuracy"] == [pairs[eps] for eps in record["eps"]]
    assert all(np.array_equal(table[name], written[name]) for name in written)
    shown = onr("evaluate", run, *SMALL, "--eps", "1/4,1", "--p", "2").stdout
    assert "1/4 = 0.25" in shown


@pytest.mark.parametrize("attack", ["multitargeted", "pga"])
def test_the_smallest_radius_is_that_of_the_first_wrong_prediction(attack: str, run: Path) -> None:
    radii = (0.05, 0.1, 0.5, 1.0)
    eps = ",".join(map(str, radii))
    record, table = evaluated(run, "--eps", eps, "--p", "2", "--attack", attack)
    right = np.stack(
        [table["label"] == table["predicted"]] + [table[f"correct at {eps}"] == 1 for eps in radii]
    )
    expected = [
        next((eps for eps, here in zip((0.0, *radii), each, strict=True) if not here), np.inf)
        for each in right.T
    ]
    assert table["smallest radius"].tolist() == expected
    assert record["smallest_radius"] == [None if r == np.inf else r for r in expected]
    if attack == "multitargeted":
        assert (np.diff(right.astype(int), axis=0) <= 0).all()
        sizes = np.stack([table[f"perturbation at {eps}"] for eps in radii])
        kept = ~right[1:-1]
        assert (sizes[1:][kept] == sizes[:-1][kept]).all()  # what broke an image is kept
    assert len(set(expected)) > 3


# An evaluation that does not end


MEASURING = importlib.import_module("onr.measurements.predictions")
FOLDER_FILES = {"evaluation.json", "evaluation.csv"}
THREE = ("--images", "20", "--spectrum", "2", "--no-plot", "--steps", "2", "--eps", "0.5,1,2")


@pytest.fixture(params=["multitargeted", "pga"])
def batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """An evaluation of four batches of five images, under either kind of attack."""
    monkeypatch.setattr(MEASURING, "BATCH", 5)
    return (*THREE, "--attack", request.param)


def stopping(monkeypatch: pytest.MonkeyPatch, after: int, failure: BaseException) -> list[int]:
    """Let the batch after so many fail at its last radius; count the batches that are begun."""
    count: list[int] = []
    real = evaluation.attack_outcomes

    def outcomes(*arguments: Any, **more: Any) -> Any:
        count.append(len(count))
        found = real(*arguments, **more)
        yield next(found)
        yield next(found)
        if len(count) == after + 1:
            raise failure
        yield from found

    monkeypatch.setattr(evaluation, "attack_outcomes", outcomes)
    return count


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("evaluation*") if file.is_file()}


def parts(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("evaluation.json.partial-*/*"))


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_interrupted_evaluation_goes_on_where_it_stopped(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
    batches: tuple[str, ...],
) -> None:
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    assert onr("evaluate", whole, *batches).exit_code == 0
    with monkeypatch.context() as patch:
        stopping(patch, after, KeyboardInterrupt())
        stopped = onr("evaluate", run, *batches)
    assert stopped.exit_code == 2
    done = 5 * after
    told = f"interrupted with {done} of 20 images finished: the same command goes on from there"
    assert stopped.stderr.splitlines()[-1] == f"Error: {told if after else 'interrupted'}"
    table = [row for row in stopped.stdout.splitlines() if "%" in row]
    assert len(table) == (4 if after else 0)
    assert not contents(run)
    assert len(parts(run)) == after
    with monkeypatch.context() as patch:
        count = stopping(patch, 99, KeyboardInterrupt())
        assert onr("evaluate", run, *batches).exit_code == 0
    assert len(count) == 4 - after
    assert contents(run) == contents(whole)
    assert not parts(run)


KILLED = """
import importlib, os, random, signal, sys
import numpy as np
from onr.cli.main import main

importlib.import_module("onr.measurements.predictions").BATCH = 1
whole, killed, *options = sys.argv[1:]
main(["evaluate", whole, *options], standalone_mode=False)  # imports what the processes share
real, rng, codes = np.savez, random.Random(0), []

def process(allowed):
    def savez(*arguments, **more):
        if next(allowed, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*arguments, **more)
    np.savez = savez
    main(["evaluate", killed, *options])

for batches in [rng.randrange(3) for _ in range(20)] + [99]:
    child = os.fork()
    if not child:
        process(iter(range(batches)))
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(codes)
"""


def test_a_process_that_is_killed_twenty_times_ends_with_the_same_table(
    run: Path, tmp_path: Path
) -> None:
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    arguments = [sys.executable, "-c", KILLED, str(whole), str(run), *THREE, "--images", "25"]
    shown = subprocess.run(arguments, capture_output=True, check=True, text=True).stdout
    assert shown.splitlines()[-1] == str([-9] * 20 + [0])
    assert contents(run) == contents(whole)
    assert not parts(run)


@pytest.mark.parametrize(
    "changed", [("--seed", "1"), ("--steps", "3"), ("--eps", "0.5,1"), ("--images", "19")]
)
def test_another_evaluation_does_not_go_on(
    run: Path, monkeypatch: pytest.MonkeyPatch, changed: tuple[str, str], batches: tuple[str, ...]
) -> None:
    with monkeypatch.context() as patch:
        stopping(patch, 2, KeyboardInterrupt())
        onr("evaluate", run, *batches)
    kept = parts(run)
    with monkeypatch.context() as patch:
        count = stopping(patch, 99, KeyboardInterrupt())
        assert onr("evaluate", run, *batches, *changed).exit_code == 0
    assert len(count) == 4
    assert contents(run).keys() == FOLDER_FILES
    assert parts(run) == kept  # nor does it lose what the other has done


def test_another_model_does_not_go_on(
    run: Path, monkeypatch: pytest.MonkeyPatch, batches: tuple[str, ...]
) -> None:
    with monkeypatch.context() as patch:
        stopping(patch, 2, KeyboardInterrupt())
        onr("evaluate", run, *batches)
    with monkeypatch.context() as patch:
        count = stopping(patch, 99, KeyboardInterrupt())
        assert onr("evaluate", run, *batches, "--best").exit_code == 0
    same = Run.open(run).load().step == Run.open(run).load(best=True).step
    assert len(count) == (2 if same else 4)


def test_other_images_of_the_same_labels_do_not_go_on() -> None:
    subject = Subject(TrainConfig(backend="numpy"))
    x, y = subject.batch(12)
    changed = x.copy()
    changed[11] = 1 - changed[11]  # beyond the images whose logits tell models apart
    kept: dict[tuple[int, int, str], dict[str, np.ndarray]] = {}

    class Kept:
        def get(self, first: int, count: int, digest: str) -> dict[str, np.ndarray] | None:
            return kept.get((first, count, digest))

        def put(self, first: int, count: int, digest: str, values: dict[str, np.ndarray]) -> None:
            kept[first, count, digest] = values

    for images, found in ((x, 1), (x, 1), (changed, 2)):
        accuracy(subject.network, images, y, p=LpNorm(2), eps=[0.5], parts=Kept())
        assert len(kept) == found


def test_a_damaged_part_counts_as_none(
    run: Path, monkeypatch: pytest.MonkeyPatch, batches: tuple[str, ...]
) -> None:
    with monkeypatch.context() as patch:
        stopping(patch, 3, KeyboardInterrupt())
        onr("evaluate", run, *batches)
    one, two, _ = run.glob("evaluation.json.partial-*/*")
    one.write_bytes(b"")
    two.write_bytes(two.read_bytes()[:100])
    with monkeypatch.context() as patch:
        count = stopping(patch, 99, KeyboardInterrupt())
        assert onr("evaluate", run, *batches).exit_code == 0
    assert len(count) == 3
    assert contents(run).keys() == FOLDER_FILES


def test_batches_of_other_settings_are_told_and_stay(run: Path) -> None:
    other = run / "evaluation.json.partial-0123456789ab"
    other.mkdir()
    (other / "00000000-5-0123456789ab.npz").write_bytes(bytes(2001))
    result = onr("evaluate", run, *THREE)
    assert f"finished batches of other settings are kept in {other} (3 kB): " in result.stderr
    assert len(parts(run)) == 1


def test_a_folder_that_cannot_be_written_to_is_told_before_the_work(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    count = stopping(monkeypatch, 99, KeyboardInterrupt())
    result = onr("evaluate", run, *THREE, "--out", file / "folder")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr.splitlines()[-1]
    assert not count


def test_a_folder_that_goes_away_in_between_still_shows_the_table(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    real = evaluation.attack_outcomes

    def outcomes(*arguments: Any, **more: Any) -> Any:
        shutil.rmtree(out)
        out.write_text("")
        return real(*arguments, **more)

    monkeypatch.setattr(evaluation, "attack_outcomes", outcomes)
    result = onr("evaluate", run, *THREE, "--out", out)
    assert result.exit_code == 2
    assert len([row for row in result.stdout.splitlines() if "%" in row]) == 4
    assert "cannot be written" in result.stderr.splitlines()[-1]


def test_progress_says_how_long_and_what_is_known(
    run: Path, monkeypatch: pytest.MonkeyPatch, batches: tuple[str, ...]
) -> None:
    monkeypatch.setattr("onr.cli.progress.EVERY", 0.0)
    lines = onr("evaluate", run, *batches).stderr.splitlines()
    found = [line for line in lines if line.startswith("attacking: ")]
    assert [line.split()[1] for line in found] == ["0", "5", "10", "15"]
    assert re.fullmatch(
        r"attacking: 5 of 20 images, 0:00:0\d left; accuracy .*% at 0, .*% at 0.5, .*% at 2",
        found[1],
    )


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
