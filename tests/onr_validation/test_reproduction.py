"""Reproductions: models trained once, measurements made once, verdicts from numbers alone."""

from __future__ import annotations

import csv
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from distributed import Client, LocalCluster
from matplotlib.figure import Figure

from onr.cli.main import main
from onr.errors import OnrError
from onr.experiments import Claim, Experiment, Measurement
from onr.hookspecs import Entry, hookimpl
from onr.measurements.batches import Inputs
from onr.numerals import number
from onr.plots import average, png, svg
from onr.protocols import BackendNetwork
from onr.registry import load, registry
from onr.sweeps.sweep import train_point
from onr.training.config import TrainConfig
from onr.training.config_hash import config_hash
from onr.training.factories import make_method
from onr.training.layered_config import configuration, preset
from onr.training.runs import Run
from onr.typing import Array, Row
from onr_paper.presets import METHODS
from onr_validation.experiments.fig6 import USUAL
from onr_validation.reproduction import fingerprint
from onr_validation.reproduction.fingerprint import key
from onr_validation.reproduction.results import Reproduction
from onr_validation.reproduction.scales import CPU, PAPER, SCALES, TINY, Scale, scale_named
from onr_validation.reproduction.worker import measure

Once = Callable[[str, Callable[[Path], None]], Path]
NAMES = [entry.name for plugin, entry in registry().offers("experiment")]


def onr(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def fails(*arguments: str | Path) -> str:
    result = onr(*arguments)
    assert result.exit_code == 2, (result.exit_code, result.output)
    assert "Traceback" not in result.output
    assert "unexpected" not in result.stderr
    return result.stderr.splitlines()[-1]


# The scales


@pytest.mark.parametrize("scale", SCALES.values(), ids=list(SCALES))
def test_what_verdicts_look_at_is_measured(scale: Scale):
    """Claims are decided at the eps of training: every curve has a point there."""
    assert scale.radius["2"] == scale.eps("at") == scale.eps("dd-snr")
    assert scale.radius["inf"] == scale.eps("at-linf") == scale.eps("dd-onr")
    for p in ("2", "inf"):
        assert scale.radius[p] in scale.radii[p]
        assert scale.radius[p] in scale.distances[p]
        for places in (scale.radii[p], scale.distances[p]):
            assert list(places) == sorted(set(places))
    assert USUAL in scale.alphas
    assert min(scale.alphas) < USUAL < max(scale.alphas)
    for method in ("at", "dd-snr", "global-snr"):
        for option, usual in scale.methods[method][1].items():
            values = scale.sweep.get((method, option), (usual,))
            assert number(usual) in map(number, values), (method, option)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_knows_every_scale(name: str, scale: str):
    experiment: Experiment = load("experiment", name)()
    found = experiment.measurements(scale)
    assert found
    labelled = [(*sorted(m.labels.items()), key(m)) for m in found]
    assert len(labelled) == len(set(labelled))
    for measurement in found:
        if measurement.model is not None:
            make_method(measurement.model)


def test_the_paper_scale_is_that_of_the_presets():
    names = {"at": "at-l2"}
    for network, model in (("cifar10", "cnn7"), ("cifar10-wrn", "wrn-28-10"), ("svhn", "cnn7")):
        for method in ("standard", "at", "at-linf", "dd-snr", "dd-onr", "global-snr"):
            name = names.get(method, method)
            assert name in METHODS
            expected = configuration(preset(f"paper:{network}-{name}"))
            data = network.removesuffix("-wrn")
            found = PAPER.model(method, data=data, network=model)
            assert make_method(found).settings == make_method(expected).settings
            assert replace(found, method_options={}, device="cpu") == replace(
                expected, method_options={}
            )


def test_scales_differ_in_numbers_alone():
    for scale in (CPU, PAPER):
        assert scale.methods.keys() == TINY.methods.keys()
        for name, (method, options) in scale.methods.items():
            assert method == TINY.methods[name][0]
            assert options.keys() == TINY.methods[name][1].keys()
        assert scale.sweep.keys() == TINY.sweep.keys()
    with pytest.raises(OnrError, match="no scale 'huge': expected one of tiny, cpu, paper"):
        scale_named("huge")


# Shared computations, with an experiment of one's own

SMALL = TrainConfig(
    backend="numpy", train_images=60, batch_size=30, epochs=1, model_options={"width": "8"}
)
CALLS: list[int] = []
REAL_ENTRY_POINTS = importlib.metadata.entry_points


def offered(monkeypatch: pytest.MonkeyPatch, **measurements: str) -> None:
    """Make a plugin ``mine`` look installed that offers these measurements, by their targets."""
    module = types.ModuleType("mine_for_tests")
    entries = [Entry(name, target, "a measurement") for name, target in measurements.items()]
    module.onr_measurements = hookimpl(lambda: entries, specname="onr_measurements")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine_for_tests", module)
    point = importlib.metadata.EntryPoint("mine", "mine_for_tests", "onr")
    real = REAL_ENTRY_POINTS

    def entry_points(**wanted: Any) -> Any:
        return [point] if wanted.get("group") == "onr" else real(**wanted)

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    registry.cache_clear()


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The measurements of this file, by name."""
    offered(monkeypatch, weight=f"{__name__}:largest_weight", failing=f"{__name__}:failing")
    yield
    registry.cache_clear()


def largest_weight(
    network: BackendNetwork, x: Inputs, y: Array, *, power: float = 1.0
) -> list[Row]:
    CALLS.append(1)
    assert len(x) == len(y) == 1
    values = network.parameters().values()
    mean = max(float(np.abs(value).max()) for value in values) ** power
    return [{"quantity": "weight", "mean": mean, "standard_error": float("nan"), "images": 1}]


@dataclass(frozen=True)
class Own:
    """What a plugin might offer."""

    title: str = "The largest weight"
    powers: tuple[float, ...] = (1.0, 2.0)

    def measurements(self, scale: str, /) -> Sequence[Measurement]:
        if scale != "mine":
            raise OnrError(f"no scale {scale!r}: expected mine")
        return [
            Measurement(
                "mine:weight",
                SMALL,
                {"images": 1, "power": power},
                {"power": power, "trained": "yes"},
            )
            for power in self.powers
        ] + [Measurement("mine:weight", SMALL, {"images": 1}, {"trained": "no"}, trained=False)]

    def figure(self, table: Sequence[Row], scale: str, /) -> Figure:
        figure = Figure()
        figure.add_subplot().plot([row["mean"] for row in table])
        return figure

    def claims(self, table: Sequence[Row], scale: str, /) -> Sequence[Claim]:
        return [Claim("weights are small", "the largest", table[0]["mean"], at_most=10)]


@pytest.fixture
def out(tmp_path: Path, mine: None) -> Path:
    CALLS.clear()
    return tmp_path / "out"


def own(out: Path, **experiments: Experiment) -> Reproduction:
    return Reproduction(experiments or {"own": Own()}, "mine", out, {"data_dir": "/nowhere"})


def train(found: Reproduction) -> None:
    found.sweep().out.mkdir(parents=True, exist_ok=True)
    for config in found.models.values():
        status = train_point(config.__dict__, str(found.sweep().out))
        assert status == {"status": "finished"}


def table(found: Reproduction, name: str) -> list[Row]:
    """An experiment's rows, with all their digits."""
    return [
        {**m.labels, **row}
        for m in found.measurements[name]
        for row in json.loads((found.out / "measurements" / f"{key(m)}.json").read_text())["rows"]
    ]


def make(found: Reproduction) -> dict[str, str]:
    """Why measurements could not be made, by key."""
    reasons: dict[str, str] = {}
    for group in found.groups():
        reasons |= measure(group, str(found.out))
    return reasons


def test_a_model_and_a_measurement_are_shared(out: Path):
    found = own(out, one=Own(), two=Own(powers=(2.0, 3.0)))
    assert len(found.models) == 1
    assert len(found.missing()) == 4
    assert len(found.missing("one")) == 3
    assert sorted(map(len, found.groups())) == [1, 3]
    train(found)
    assert make(found) == {}
    assert len(CALLS) == 4
    assert not found.missing()
    assert not found.groups()
    weight = Run.open(out / "models" / config_hash(SMALL)).model()[0].values()
    largest = max(float(np.abs(value).max()) for value in weight)
    assert [row["mean"] for row in table(found, "two")[:2]] == pytest.approx(
        [largest**2, largest**3]
    )
    drawn = table(found, "one")[2]
    assert drawn["trained"] == "no"
    assert drawn["mean"] != table(found, "one")[0]["mean"]


def test_what_is_written_follows_from_the_measurements(out: Path):
    found = own(out)
    train(found)
    make(found)
    assert [claim.held for claim in found.write("own")] == [True]
    files = {path.name: path.read_bytes() for path in (out / "own").iterdir()}
    assert files.keys() == {"table.csv", "figure.svg", "figure.png", "result.json"}
    written = list(csv.DictReader((out / "own" / "table.csv").read_text().splitlines()))
    assert [row["power"] for row in written] == ["1", "2", ""]
    expected = [row["mean"] for row in table(found, "own")]
    assert [float(row["mean"]) for row in written] == pytest.approx(expected, rel=1e-5)
    assert written[0]["standard_error"] == ""
    assert files["figure.png"].startswith(b"\x89PNG")
    record = json.loads(files["result.json"])
    assert record["claims"][0]["held"] is True
    assert record["command"] == "onr reproduce own --scale mine"
    assert record["models"].keys() == found.models.keys()
    assert record["seconds"].keys() == {"training", "measuring"}
    assert record["versions"]["numpy"] == np.__version__
    again = own(out)
    again.write("own")
    assert files == {path.name: path.read_bytes() for path in (out / "own").iterdir()}
    assert len(CALLS) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"power": 3.0}},
        {"model": replace(SMALL, seed=1)},
        {"trained": False},
        {"name": "mine:failing"},
        {"reference": True},
    ],
)
@pytest.mark.usefixtures("mine")
def test_what_determines_a_measurement_is_in_its_key(change: dict[str, Any]):
    measurement = Measurement("mine:weight", SMALL, {"power": 2.0})
    assert key(measurement) != key(replace(measurement, **change))


@pytest.mark.usefixtures("mine")
def test_what_does_not_determine_it_is_not():
    measurement = Measurement("mine:weight", SMALL, {"power": 2.0})
    assert key(measurement) == key(replace(measurement, labels={"method": "other"}))
    elsewhere = replace(SMALL, data_dir="/elsewhere", device="cuda", tensorboard=True)
    assert key(measurement) == key(replace(measurement, model=elsewhere))


@pytest.mark.usefixtures("mine")
def test_code_that_changes_measures_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A comment, a docstring or a line break is no change."""
    file = tmp_path / "changing.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    offered(monkeypatch, changing="changing:f")
    hashes = []
    for text in (
        '"""One."""\ndef f(s):\n    return [1]\n',
        '"""Two."""\n\ndef f(s):\n    """Doc."""\n    # why\n    return [\n        1\n    ]\n',
        '"""One."""\ndef f(s):\n    return [2]\n',
    ):
        file.write_text(text)
        monkeypatch.delitem(sys.modules, "changing", raising=False)
        importlib.invalidate_caches()
        fingerprint._code.cache_clear()
        monkeypatch.setattr("linecache.cache", {})
        hashes.append(key(Measurement("mine:changing")))
    fingerprint._code.cache_clear()
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    "statement", ["from .parts import k", "from plugin import parts", "import plugin.parts"]
)
def test_code_that_is_imported_is_in_the_key(
    statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mine: None
):
    package = tmp_path / "plugin"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "measures.py").write_text(f"{statement}\ndef f(s):\n    return []\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    offered(monkeypatch, f="plugin.measures:f")
    keys = []
    for text in ("k = 1\n", "k = 2\n"):
        (package / "parts.py").write_text(text)
        for name in [name for name in sys.modules if name.partition(".")[0] == "plugin"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr("linecache.cache", {})
        fingerprint._code.cache_clear()
        importlib.invalidate_caches()
        keys.append(key(Measurement("mine:f")))
    fingerprint._code.cache_clear()
    assert keys[0] != keys[1]


@pytest.mark.usefixtures("mine")
def test_a_measurement_that_moves_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key has the registered name and the code, and not the module that it lives in."""
    monkeypatch.syspath_prepend(str(tmp_path))
    keys = []
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "__init__.py").touch()
        (tmp_path / place / "measures.py").write_text("def f(network, x, y):\n    return []\n")
        importlib.invalidate_caches()
        offered(monkeypatch, f=f"{place}.measures:f")
        keys.append(key(Measurement("mine:f")))
        for name in (place, f"{place}.measures"):
            monkeypatch.delitem(sys.modules, name)
    assert keys[0] == keys[1]


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"rows": [], "digest": "0"}'])
def test_a_damaged_measurement_is_named(out: Path, damage: bytes):
    found = own(out)
    train(found)
    make(found)
    file = sorted((out / "measurements").iterdir())[0]
    file.write_bytes(damage)
    with pytest.raises(OnrError, match=f"{re.escape(str(file))} is damaged.*delete it"):
        found.write("own")
    assert not (out / "own").exists()
    file.unlink()
    make(found)
    found.write("own")


def test_a_number_that_was_changed_is_seen(out: Path):
    found = own(out)
    train(found)
    make(found)
    file = sorted((out / "measurements").iterdir())[0]
    record = json.loads(file.read_text())
    record["rows"][0]["mean"] = 0.99
    file.write_text(json.dumps(record))
    with pytest.raises(OnrError, match="is damaged"):
        found.write("own")


def test_a_damaged_model_is_named_and_the_rest_goes_on(out: Path):
    found = own(out)
    train(found)
    folder = out / "models" / config_hash(SMALL)
    (folder / "checkpoint.safetensors").write_bytes(b"nothing")
    reasons = make(found)
    assert reasons.keys() == found.missing().keys()
    assert len(reasons) == 2
    for message in reasons.values():
        assert f"remove {folder} and run the same command again" in message


def failing(network: BackendNetwork, x: Inputs, y: Array, **settings: float) -> list[Row]:
    raise ZeroDivisionError("nothing there")


def test_a_measurement_that_fails_leaves_the_others(out: Path):
    @dataclass(frozen=True)
    class Half(Own):
        def measurements(self, scale: str, /) -> Sequence[Measurement]:
            first, *others = super().measurements(scale)
            return [replace(first, name="mine:failing"), *others]

    found = own(out, half=Half())
    train(found)
    assert list(make(found).values()) == ["unexpected ZeroDivisionError: nothing there"]
    assert len(found.missing()) == 1
    with pytest.raises(OnrError, match="has not been made"):
        found.write("half")


def test_only_models_that_something_is_missing_of_are_trained(out: Path):
    found = own(out)
    assert found.needed().unfinished() == list(found.models)
    train(found)
    make(found)
    assert not found.needed().points


def test_another_data_set_is_refused(out: Path, tmp_path: Path):
    def stored(seed: int) -> Path:
        folder = tmp_path / f"data{seed}"
        folder.mkdir()
        rng = np.random.default_rng(seed)
        for part in ("train", "test"):
            images = rng.integers(0, 256, (20, 4, 4), dtype=np.uint8)
            np.savez(folder / f"mine-{part}.npz", images=images, labels=np.arange(20) % 3)
        return folder

    @dataclass(frozen=True)
    class Stored(Own):
        def measurements(self, scale: str, /) -> Sequence[Measurement]:
            model = replace(SMALL, dataset="stored:mine", train_images=18)
            return [
                Measurement("mine:weight", model, {"images": 1, "power": p}) for p in self.powers
            ]

    folders = [stored(0), stored(1)]

    def found(folder: Path, *powers: float) -> Reproduction:
        settings = {"data_dir": str(folder)}
        return Reproduction({"own": Stored(powers=powers)}, "mine", out, settings)

    first = found(folders[0], 1.0)
    first.check_data()
    train(first)
    make(first)
    with pytest.raises(OnrError, match=r"stored:mine is not the one that .* was begun with"):
        found(folders[1], 1.0, 2.0).check_data()
    moved = folders[0].rename(tmp_path / "moved")
    found(moved, 1.0, 2.0).check_data()  # the same in another place
    (moved / "mine-test.npz").write_bytes(b"nothing")
    with pytest.raises(OnrError, match=r"mine-test.npz cannot be read"):
        found(moved, 1.0, 2.0).check_data()
    (moved / "mine-test.npz").unlink()
    with pytest.raises(OnrError, match=r"no file .*mine-test.npz"):
        found(moved, 1.0, 2.0).check_data()
    complete = found(moved, 1.0)
    complete.check_data()  # nothing is left to compute: no data needed
    complete.write("own")
    shutil.rmtree(out / "models")  # what was measured still says what it was measured on
    with pytest.raises(OnrError, match="is not the one that"):
        found(folders[1], 1.0, 2.0).check_data()
    for damage in (lambda: (out / "data.json").write_text("{"), (out / "data.json").unlink):
        damage()
        with pytest.raises(OnrError, match=r"data.json is damaged or missing.*another --out"):
            found(folders[1], 1.0, 2.0).check_data()


@pytest.mark.usefixtures("mine")
def test_measurements_that_are_none_are_refused():
    with pytest.raises(OnrError, match="unknown measurement 'mine:nothing': expected one of"):
        key(Measurement("mine:nothing"))
    with pytest.raises(OnrError, match="takes no argument"):
        key(Measurement("mine:weight:3"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    told = fails("reproduce", "table1", "--out", tmp_path / "file" / "below")
    assert "cannot be written to" in told


def test_a_name_with_a_path_is_refused(tmp_path: Path):
    assert "no slash" in fails("reproduce", "fig5:../../evil", "--out", tmp_path)
    assert "takes no argument" in fails("reproduce", "fig5:3", "--out", tmp_path)
    assert not list(tmp_path.iterdir())


def test_curves_are_averaged_over_seeds():
    rows = [
        {"eps": 1.0, "mean": 0.5, "standard_error": 0.1},
        {"eps": 0.0, "mean": 0.9, "standard_error": 0.2},
        {"eps": 1.0, "mean": 0.3, "standard_error": 0.3},
        {"eps": 2.0, "mean": None, "standard_error": None},
    ]
    places, means, errors = average(rows, "eps")
    np.testing.assert_array_equal(places, [0.0, 1.0])
    np.testing.assert_allclose(means, [0.9, 0.4])
    np.testing.assert_allclose(errors, [0.2, 0.2])


def test_the_experiment_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (hooks,) = [block for block in blocks if "def onr_experiments" in block]
    (code,) = [block for block in blocks if "class Confidence" in block]
    quick = code.replace("TrainConfig(", "TrainConfig(epochs=1, ")
    package = tmp_path / "my_plugin"
    package.mkdir()
    (package / "__init__.py").write_text(hooks)
    (package / "experiments.py").write_text(quick)
    monkeypatch.syspath_prepend(str(tmp_path))
    point = importlib.metadata.EntryPoint("my_plugin", "my_plugin", "onr")
    real = importlib.metadata.entry_points

    def entry_points(**wanted: Any) -> Any:
        return [point] if wanted.get("group") == "onr" else real(**wanted)

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    registry.cache_clear()
    try:
        experiment: Experiment = load("experiment", "my_plugin:confidence")()
        found = Reproduction({"confidence": experiment}, "tiny", tmp_path / "out", {})
        train(found)
        assert make(found) == {}
        claims = found.write("confidence")
        rows = table(found, "confidence")
    finally:
        registry.cache_clear()
        for name in ("my_plugin", "my_plugin.experiments"):
            sys.modules.pop(name, None)
    assert [row["eps"] for row in rows] == [0.5, 1.0]
    assert all(0.1 < row["mean"] < 1 and row["images"] == 200 for row in rows)
    assert claims[0].value == rows[0]["mean"] - rows[1]["mean"]


# The command


SHOWN = ("table1", "norms")
"""What the command line reproduces here at the tiny scale: half a minute of work."""


@pytest.fixture(scope="session")
def tiny(once: Once) -> Path:
    """A reproduction that needs no data, trained and measured in this process."""

    def reproduced(out: Path) -> None:
        with (
            pytest.MonkeyPatch.context() as patch,
            LocalCluster(
                n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            for command in ("onr.cli.sweep", "onr_validation.reproduction.command"):
                patch.setattr(f"{command}.connected", lambda *a, **more: nullcontext(client))
            result = onr("reproduce", *SHOWN, "--out", out)
        assert result.exit_code == 0, result.output + result.stderr
        assert "claims held at scale tiny" in result.output

    return once("tiny", reproduced)


def test_what_is_shown_at_the_tiny_scale(tiny: Path):
    for name in SHOWN:
        _check_result(tiny / name)


def _check_result(folder: Path) -> None:
    table = list(csv.DictReader((folder / "table.csv").read_text().splitlines()))
    assert table
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (folder / "figure.svg").read_text()
    record = json.loads((folder / "result.json").read_text())
    assert bool(record["claims"]) is (folder.name != "fig15")  # digits play both data sets
    for claim in record["claims"]:
        assert claim["value"] is not None, (folder, claim)
        low, high = claim["at_least"], claim["at_most"]
        assert low is not None or high is not None
        within = (low is None or claim["value"] >= low) and (high is None or claim["value"] <= high)
        assert claim["held"] is within


def test_every_experiment_goes_from_models_to_verdicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """At a scale smaller than tiny, where networks learn little, all of the code runs.

    The pictures are drawn once each, and not laid out, which is half of their time.
    """

    def drawn(figure: Figure) -> bytes:
        figure.set_layout_engine("none")
        return svg(figure)

    monkeypatch.setattr("onr_validation.reproduction.results.svg", drawn)
    monkeypatch.setattr("onr_validation.reproduction.results.png", lambda figure: b"")
    wide = {**TINY.networks["wrn-28-10"], "epochs": 1}
    smallest = replace(
        TINY,
        name="smallest",
        training={"epochs": 1, "train_images": 100},
        networks={**TINY.networks, "wrn-28-10": wide},
        seeds=(0,),
        radii={"2": (0.5, 1.0), "inf": (0.05, 0.1)},
        distances={"2": (1.0, 2.0), "inf": (0.1, 0.2)},
        images=10,
        wide_images=6,
        jacobians=3,
        validation_images=20,
        alphas=(0.1, USUAL, 5),
        mixtures=(0.5,),
        frontier={**TINY.frontier, "epochs": 1, "train_images": 100},
        frontier_small={**TINY.frontier, "epochs": 1, "train_images": 100},
        timing={**TINY.timing, "turns": 1},
    )
    monkeypatch.setitem(SCALES, "smallest", smallest)
    experiments = {name: load("experiment", f"onr_validation:{name}")() for name in NAMES}
    found = Reproduction(experiments, "smallest", tmp_path / "out", {})
    found.check_data()
    train(found)
    assert make(found) == {}
    for name in NAMES:
        claims = found.write(name)
        assert len(claims) == len(experiments[name].claims(table(found, name), "smallest"))
        assert json.loads((tmp_path / "out" / name / "result.json").read_text())["claims"] or (
            name == "fig15"
        )


def test_what_the_theory_says_holds_at_the_tiny_scale(tiny: Path):
    """Few images decide little, but these do not hang on the data."""
    assert json.loads((tiny / "table1" / "result.json").read_text())["claims"][0]["held"]
    damped = json.loads((tiny / "norms" / "result.json").read_text())["claims"]
    assert all(claim["held"] for claim in damped)


def test_the_same_command_computes_nothing_again(tiny: Path):
    def times() -> dict[Path, int]:
        kept = [*tiny.glob("models/*/*"), *tiny.glob("measurements/*")]
        return {path: path.stat().st_mtime_ns for path in kept if path.name != "lock"}

    before = times()
    result = onr("reproduce", *SHOWN, "--out", tiny)
    assert result.exit_code == 0
    assert "to train" not in result.output
    assert "to make" not in result.output
    assert times() == before


def test_the_list_says_what_is_there(tiny: Path, tmp_path: Path):
    result = onr("reproduce", "list", "--out", tiny)
    assert result.exit_code == 0
    for name in NAMES:
        assert f"│ {name} " in result.output
    (line,) = [line for line in result.output.splitlines() if "│ norms " in line]
    done, total = re.search(r"(\d+)/(\d+)", line).groups()  # type: ignore[union-attr]
    assert done == total != "0"
    empty = onr("reproduce", "list", "--scale", "paper", "--out", tmp_path / "none")
    assert empty.exit_code == 0
    assert "0/7" in empty.output
    assert not (tmp_path / "none").exists()


def test_a_killed_reproduction_goes_on(tiny: Path, tmp_path: Path):
    """Trained and measured in processes of their own, it ends as in one."""
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "onr", "reproduce", "norms", "--workers", "1", "--out", out]
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    for _ in _until(lambda: any(out.glob("models/*/checkpoint.safetensors"))):
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "norms").exists()
    for model in (tiny / "models").iterdir():  # the models that were not begun, to save the time
        if model.is_dir() and not (out / "models" / model.name).exists():
            shutil.copytree(model, out / "models" / model.name)
    result = onr("reproduce", "norms", "--workers", "1", "--out", out)
    assert result.exit_code == 0, result.output
    assert (out / "norms" / "table.csv").read_bytes() == (tiny / "norms" / "table.csv").read_bytes()


def _until(condition: Any, seconds: float = 600) -> Iterator[None]:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        yield
        time.sleep(0.02)


def test_the_report_needs_no_other_file(tiny: Path, tmp_path: Path):
    page = tmp_path / "page.html"
    result = onr("report", tiny, "--out", page)
    assert result.exit_code == 0, result.stderr
    text = page.read_text()
    for name in SHOWN:
        assert f'id="{name}"' in text
        assert f"onr reproduce {name} --scale tiny" in text
    assert text.count("data:image/svg+xml;base64,") == len(SHOWN)
    assert "http" not in re.sub(r"base64,[^\"]+", "", text)
    claims = [
        claim
        for name in SHOWN
        for claim in json.loads((tiny / name / "result.json").read_text())["claims"]
    ]
    held = sum(claim["held"] for claim in claims)
    assert f"{held} of {len(claims)} held" in " ".join(text.split())
    assert text.count(">Held</b>") == held
    assert text.count(">Did not hold</b>") == len(claims) - held


@pytest.mark.parametrize("name", ["result.json", "figure.svg", "table.csv"])
def test_a_damaged_result_is_named(tiny: Path, tmp_path: Path, name: str):
    folder = tmp_path / "one" / "norms"
    folder.mkdir(parents=True)
    for file in ("result.json", "figure.svg", "table.csv"):
        if file != name:
            (folder / file).write_bytes((tiny / "norms" / file).read_bytes())
    damages = [None]
    if name == "result.json":
        whole = json.loads((tiny / "norms" / name).read_text())
        damages = [{}, {**whole, "versions": None}, {**whole, "hardware": 3}]
    for damage in damages:
        if damage is not None:
            (folder / name).write_text(json.dumps(damage))
        told = fails("report", tmp_path / "one")
        assert f"{folder} is damaged" in told
        assert "run onr reproduce norms again" in told


def test_bad_requests_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert "fig1" in fails("reproduce", "fig1")
    assert "or all, or list" in fails("reproduce", "fig1")
    assert "no scale 'big': expected one of tiny, cpu, paper" in fails(
        "reproduce", "fig6", "--scale", "big"
    )
    assert "list stands alone" in fails("reproduce", "list", "fig2")
    told = fails("reproduce", "fig6", "--scale", "cpu", "--data-dir", tmp_path / "nowhere")
    assert f"no file {tmp_path / 'nowhere' / 'cifar10-test.npz'}" in told
    assert "holds no results: run onr reproduce first" in fails("report", tmp_path)
    assert not (tmp_path / "reproduction" / "cpu" / "models").exists()


def test_pictures_are_the_same_bytes_again():
    def drawn() -> Figure:
        figure = Figure()
        figure.add_subplot().plot([1, 2])
        return figure

    assert svg(drawn()) == svg(drawn())
    assert png(drawn()) == png(drawn())
