"""``onr measure``: the numbers of the library, for runs and for models of one's own."""

from __future__ import annotations

import csv
import importlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from onr.cli.main import main
from onr.jacobians.dense import jacobian
from onr.jacobians.operator_norms import operator_norm
from onr.measurements.accuracy import accuracy as onr_accuracy
from onr.measurements.alignment import alignment
from onr.norms import LpNorm
from onr.parts import StoredParts
from onr.training.config import TrainConfig
from onr.training.runs import Run
from onr.training.subject import Subject, open_run

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width: int = 6):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU())
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.body(x))

net = Net()
for number, parameter in enumerate(net.parameters()):
    torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(number))
wide = nn.Sequential(nn.Flatten(), nn.Linear(192, 80))
torch.nn.init.normal_(wide[1].weight, generator=torch.Generator().manual_seed(3))
colours = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
bent = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.ReLU())
"""


def onr(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def works(*arguments: object) -> str:
    result = onr(*arguments)
    assert result.exit_code == 0, result.output + result.stderr
    return result.stdout


def table(file: Path, **columns: str) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    return [row for row in rows if columns.items() <= row.items()]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("own") / "net.py"
    file.write_text(NET)
    return str(file)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    works("train", "--train-images", "200", "--epochs", "1", "--out", out)
    return out


def test_norms_of_a_module_with_the_weights_that_it_has(net: str, tmp_path: Path):
    p_q = ("--p", "inf", "--q", "1")
    text = works("measure", "norms", f"{net}:net", *p_q, "--images", 7, "--out", tmp_path)
    assert "exact" in text
    assert str(tmp_path) in text
    subject = Subject(TrainConfig(model=f"{net}:net"))
    x, _ = subject.batch(7)
    expected = operator_norm(subject.network.linearize(x), p=np.inf, q=1).value
    for quantity in ("lower", "upper"):
        (row,) = table(tmp_path / "norms.csv", quantity=quantity)
        assert float(row["mean"]) == pytest.approx(float(expected.mean()), rel=1e-5)
        assert float(row["least"]) == pytest.approx(float(expected.min()), rel=1e-5)
        assert row["images"] == "7"
    rows = table(tmp_path / "norms-images.csv", kind="exact")
    assert [row["example"] for row in rows] == [str(index) for index in range(7)]
    for quantity in ("lower", "upper"):
        found = [float(row[quantity]) for row in rows]
        assert found == pytest.approx(expected.tolist(), rel=1e-5)


def test_images_are_named_by_their_files(net: str, tmp_path: Path):
    for number in range(12):
        (tmp_path / "test" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        image = np.full((8, 8, 3), 20 * number, np.uint8)
        Image.fromarray(image).save(tmp_path / "test" / "ab"[number % 2] / f"{number}.png")
    given = ("--dataset", f"folder:{tmp_path}", "--images", 11, "--out", tmp_path / "out")
    works("measure", "norms", f"{net}:colours", *given)
    works("evaluate", f"{net}:colours", *given, "--eps", "0.1", "--steps", 1, "--no-plot")
    x, y = Subject(TrainConfig(model=f"{net}:colours", dataset=f"folder:{tmp_path}")).inputs(11)
    for name in ("norms-images", "evaluation"):
        rows = table(tmp_path / "out" / f"{name}.csv")
        assert len(rows) == 11
        for row, image, label in zip(rows, x[:11], y.tolist(), strict=True):
            number = round(float(image.max()) * 255 / 20)
            assert row["file"] == f"{'ab'[number % 2]}/{number}.png"
            assert row["label"] == str(label) == str(number % 2)


def test_a_class_is_built_with_its_options_and_with_given_weights(net: str, tmp_path: Path):
    works("measure", "norms", f"{net}:Net", "--model-option", "width=3", "--images", 2)
    works("measure", "norms", f"{net}:net", "--images", 5, "--out", tmp_path / "module")
    weights = Subject(TrainConfig(model=f"{net}:net")).network.parameters()
    torch.save({k: torch.from_numpy(value) for k, value in weights.items()}, tmp_path / "net.pt")
    given = ("--weights", tmp_path / "net.pt", "--images", 5, "--out", tmp_path / "class")
    works("measure", "norms", f"{net}:Net", *given)
    same = [(tmp_path / name / "norms.csv").read_text() for name in ("module", "class")]
    assert same[0] == same[1]


def test_many_outputs(net: str, tmp_path: Path):
    """Exact where rows can be streamed, and the pace is said; a lower bound alone elsewhere."""
    for part in ("train", "test"):
        images, labels = np.zeros((4, 8, 8, 3), np.uint8), np.arange(76, 80)
        np.savez(tmp_path / f"many-{part}.npz", images=images, labels=labels)
    arguments = ("--dataset", f"npz:{tmp_path / 'many'}", "--images", 3, "--out", tmp_path)
    result = onr("measure", "norms", f"{net}:wide", *arguments)
    assert result.exit_code == 0
    assert re.search(
        r"160 passes an image, about \S+ images a second: 0:00:0\d left", result.stderr
    )
    (low,) = table(tmp_path / "norms.csv", quantity="lower")
    (high,) = table(tmp_path / "norms.csv", quantity="upper")
    assert low["kind"] == high["kind"] == "exact"
    assert low["mean"] == high["mean"]
    weight = torch.nn.init.normal_(torch.empty(80, 192), generator=torch.Generator().manual_seed(3))
    sigma = torch.linalg.svdvals(weight)[0]
    assert float(low["mean"]) == pytest.approx(float(sigma), rel=1e-5)
    result = onr("measure", "norms", f"{net}:wide", *arguments, "--p", "3", "--q", "3")
    assert "passes" not in result.stderr
    (row,) = table(tmp_path / "norms.csv")
    assert (row["quantity"], row["kind"]) == ("lower", "lower")


def test_a_run_is_measured_with_the_weights_that_it_trained(run: Path, tmp_path: Path):
    works("measure", "spectrum", run, "--eps", "0.5", "--images", 6, "--out", tmp_path)
    config = TrainConfig.read(Run.open(run).config)
    subject = Subject(config, Run.open(run).model()[0])
    x, _ = subject.batch(6)
    S = np.linalg.svd(jacobian(subject.network.features().linearize(x)).numpy(), compute_uv=False)
    rows = table(tmp_path / "spectrum.csv", quantity="singular value", of="clean")
    first = [float(row["mean"]) for row in rows][:10]
    assert first == pytest.approx(S.mean(axis=0)[:10].tolist(), rel=1e-4)
    assert not table(tmp_path / "spectrum.csv", of="random")
    assert (tmp_path / "spectrum.svg").read_text().startswith("<?xml")


def test_curves_over_eps(run: Path, tmp_path: Path):
    few = ("--eps", "0.5,0.25", "--images", 5, "--out", tmp_path)
    for what in ("alignment", "linearity"):
        text = works("measure", what, run, *few)
        assert f"{what}.csv, {what}.svg" in text
        found = {row["eps"] for row in table(tmp_path / f"{what}.csv", direction="adversarial")}
        assert found - {"0"} == {"0.25", "0.5"}
    aligned = table(tmp_path / "alignment.csv", quantity="cosine")
    assert all(0 <= float(row["mean"]) <= 1 for row in aligned)


def test_the_python_of_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "measuring.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    torch.manual_seed(0)
    found: dict[str, Any] = {}
    exec(code, found)  # noqa: S102 - our own
    assert torch.allclose(found["S"][:, :3], found["top"].S, rtol=1e-3)
    assert torch.all((found["cosine"] > 0) & (found["cosine"] <= 1))
    assert torch.all((found["share"] > found["cosine"]) & (found["share"] <= 1 + 1e-5))
    assert torch.all(found["deviation"] < 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("norms", "nothing"), "unknown model 'nothing'"),
        (("norms", "{net}:Missing"), "has no Missing"),
        (("norms", "{net}:net", "--p", "big"), "unknown norm 'big'"),
        (("norms", "{net}:net", "--images", "361"), "has 360 images, 361 are asked for"),
        (("norms", "{run}", "--dataset", "digits"), "leave out --dataset"),
        (
            ("norms", "{run}", "--weights", "w", "--model-option", "a=1"),
            "--weights, --model-option",
        ),
        (("spectrum", "{net}:bent", "--eps", "1"), "not those of an affine layer"),
        (("alignment", "{net}:net", "--eps", "0"), "expected positive numbers"),
        (("spectrum", "{net}:net", "--eps", "0"), "expected positive numbers"),
        (("spectrum", "{net}:net", "--eps", "0.1,0.2"), "expected one number"),
        (("linearity", "{net}:net"), "Missing option '--eps'"),
    ],
)
def test_bad_requests_are_told(arguments: tuple[str, ...], said: str, net: str, run: Path):
    result = onr("measure", *(each.format(net=net, run=run) for each in arguments))
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.stderr.split())


# RUN and MODEL alike


def test_accuracy_of_a_model_is_that_of_python(net: str, tmp_path: Path):
    options = ("--p", "inf", "--eps", "1/255,0.1", "--images", 20, "--out", tmp_path)
    text = works("measure", "accuracy", f"{net}:net", *options)
    assert "accuracy of" in text
    assert "20 test images of digits (1 x 8 x 8)" in " ".join(text.split())
    subject = Subject(TrainConfig(model=f"{net}:net"))
    found = onr_accuracy(subject.network, *subject.inputs(20), p=LpNorm(np.inf), eps=[1 / 255, 0.1])
    rows = table(tmp_path / "accuracy.csv")
    assert [float(row["eps"]) for row in rows] == pytest.approx([0, 1 / 255, 0.1], rel=1e-5)
    assert [float(row["mean"]) for row in rows] == pytest.approx([row["mean"] for row in found])
    assert (tmp_path / "accuracy.svg").exists()


@pytest.mark.parametrize("what", ["accuracy", "alignment", "norms"])
def test_a_measurement_goes_on_where_it_was_stopped(
    what: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "predictions" if what == "accuracy" else what
    monkeypatch.setattr(importlib.import_module(f"onr.measurements.{module}"), "BATCH", 4)
    radii = () if what == "norms" else ("--eps", "1/2,0.25")
    given = ("measure", what, run, *radii, "--images", 12, "--out")
    works(*given, tmp_path / "whole")
    out, put, count = tmp_path / "stopped", StoredParts.put, []

    def stop(parts: StoredParts, first: int, *arguments: Any) -> None:
        put(parts, first, *arguments)
        count.append(first)
        if first == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(StoredParts, "put", stop)
    assert onr(*given, out).exit_code == 2
    (folder,) = out.iterdir()
    assert len(list(folder.iterdir())) == 2
    shutil.copytree(out, tmp_path / "other")
    works(*given, out)
    assert count == [0, 4, 8]
    for file in (tmp_path / "whole").glob("*.csv"):
        assert file.read_bytes() == (out / file.name).read_bytes()
    assert not list(out.glob("*partial*"))
    (kept,) = (tmp_path / "other").glob("*partial*")
    before = [file.read_bytes() for file in kept.iterdir()]
    told = " ".join(onr(*given[:-3], "--images", 4, "--out", tmp_path / "other").stderr.split())
    assert f"finished batches of other settings are kept in {kept} (" in told
    assert [file.read_bytes() for file in kept.iterdir()] == before
    if radii:
        assert {row["written"] for row in table(out / f"{what}.csv")} - {"0"} == {"1/2", "0.25"}


def test_a_model_is_evaluated_as_a_run_is(net: str, run: Path, tmp_path: Path):
    less = ("--eps", "0.1,0.5", "--images", 12, "--steps", 2, "--spectrum", 3)
    for target, out in ((f"{net}:net", tmp_path / "model"), (run, tmp_path / "run")):
        text = works("evaluate", target, *less, "--out", out)
        assert "12 test images of digits (1 x 8 x 8)" in " ".join(text.split())
        assert {file.name for file in out.iterdir()} == {
            "evaluation.json",
            "evaluation.csv",
            "evaluation.svg",
        }
    model, trained = (
        json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("model", "run")
    )
    assert model.keys() == trained.keys()
    assert (model["run"], model["epochs"]) == (None, None)
    assert model["model"].endswith(":net")
    assert trained["run"]["train"]["method"] == "onr_paper:standard"


def test_a_model_may_be_measured_at_the_validation_part(net: str, run: Path):
    for target in (f"{net}:net", run):
        text = works("measure", "norms", target, "--part", "validation", "--images", 3)
        assert "3 validation images of digits" in " ".join(text.split())


def test_what_is_easy_to_get_wrong_is_said(net: str, run: Path, tmp_path: Path):
    def warnings(*arguments: object) -> list[str]:
        result = onr("measure", "norms", *arguments, "--images", 2)
        assert result.exit_code == 0, result.output
        return [line for line in result.stderr.splitlines() if line.startswith("warning: ")]

    assert warnings(run) == []
    dataset, weights = warnings(f"{net}:net")
    assert "no --dataset given: the images are those of digits" in dataset
    assert "unless its code loads others" in weights
    (weights,) = warnings("mlp", "--dataset", "digits")
    assert "RANDOM, as drawn from seed 0" in weights
    assert warnings("mlp", "--dataset", "digits", "--weights", run) == []


def test_a_radius_of_grey_levels_is_doubted(run: Path, tmp_path: Path):
    evaluate = ("evaluate", run, "--steps", 1, "--spectrum", 1, "--no-plot", "--out", tmp_path)
    for command, eps, told in (
        (("measure", "accuracy", run), "8,0.9", ["'8/255'"]),
        (evaluate, "8,0.9", ["'8/255'"]),
        (evaluate, "8/255", []),
    ):
        result = onr(*command, "--eps", eps, "--p", "inf", "--images", 2)
        assert result.exit_code == 0, result.output
        lines = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
        assert [line.rpartition("write ")[2] for line in lines] == told


def test_a_run_is_attacked_from_its_own_seed(tmp_path: Path):
    out = tmp_path / "seeded"
    works("train", "--train-images", "60", "--epochs", "1", "--seed", "7", "--out", out)
    options = ("--p", "2", "--eps", "0.5", "--images", 6, "--out", tmp_path)
    works("measure", "alignment", out, *options)
    subject = open_run(out)
    for seed, same in ((7, True), (0, False)):
        found = alignment(subject.network, *subject.inputs(6), p=LpNorm(2), eps=[0.5], seed=seed)
        (row,) = table(tmp_path / "alignment.csv", quantity="cosine", direction="adversarial")
        assert (float(row["mean"]) == pytest.approx(found[0]["mean"], rel=1e-5)) is same


def test_a_mistyped_run_is_told():
    result = onr("measure", "norms", "runs/typo")
    assert result.exit_code == 2
    assert "runs/typo is no folder of a run, and unknown model" in result.stderr


def test_a_model_needs_a_folder_for_its_evaluation(net: str):
    result = onr("evaluate", f"{net}:net", "--eps", "0.1")
    assert result.exit_code == 2
    assert "give --out" in result.stderr
    result = onr("evaluate", f"{net}:net", "--averaged", "--eps", "0.1", "--out", "here")
    assert result.exit_code == 2
    assert "--averaged chooses weights of a run" in result.stderr
    result = onr("evaluate", f"{net}:net", "--best", "--eps", "0.1")
    assert "--best chooses an epoch of a run" in result.stderr
