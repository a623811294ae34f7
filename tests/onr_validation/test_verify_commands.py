"""``verify-theorem``, ``verify-lemmas``, ``verify-table1``: exit codes, JSON, one-line errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner, Result

import onr.jacobians.exact_norms
from onr import __version__
from onr.cli.main import main
from onr.norms import LpNorm
from onr_validation.theorem.draws import COUNTEREXAMPLES

CELLS = [(p, q) for p in ("1", "2", "inf") for q in ("1", "2", "inf")]
EXACT = ("--arithmetic", "exact")
FEW = ("--trials", "2", "--iterations", "2", "--layers", "4")
MLP = ("--model-option", "width=5")

SETTINGS = {
    "backend",
    "arithmetic",
    "rationals",
    "layers",
    "run",
    "trials",
    "iterations",
    "alpha",
    "raw_gradient",
    "fraction",
    "seed",
}
CELL = {
    "p",
    "q",
    "alpha",
    "arithmetic",
    "proven",
    "holds",
    "verdict",
    "draws",
    "generic",
    "degenerate",
    "degenerate_parted",
    "failures",
    "deviation",
    "deviation_degenerate",
    "bound",
    "cell_radius",
}
HARD = {("2", "1"), ("inf", "1"), ("inf", "2")}
LAW = {
    "name",
    "statement",
    "arithmetic",
    "expected",
    "cases",
    "failures",
    "deviation",
    "example",
    "holds",
    "verdict",
}


def onr_command(*arguments: str | Path) -> Result:
    # Tables wide enough for their texts to stay on one line.
    return CliRunner(env={"COLUMNS": "250"}).invoke(main, [str(x) for x in arguments])


def ends(code: int, *arguments: str | Path) -> str:
    """Run a command that must end with this code, and without a word on stderr."""
    result = onr_command(*arguments)
    assert result.exit_code == code, (result.exit_code, result.output)
    assert result.stderr.strip() == ""
    return result.stdout


def refuses(*arguments: str | Path) -> str:
    """Run a command that must fail; returns its one line, without ``Error:``.

    Above it may stand the usage, where click finds the fault.
    """
    result = onr_command(*arguments)
    assert result.exit_code == 2, (result.exit_code, result.output)
    assert "Traceback" not in result.output
    assert result.stdout == ""
    *usage, line = [line for line in result.stderr.splitlines() if line.strip()]
    assert all(other.startswith(("Usage: ", "Try ")) for other in usage), result.stderr
    assert line.startswith("Error: ")
    assert not line.startswith("Error: unexpected")
    return line.removeprefix("Error: ")


def parsed(text: str) -> Any:
    """JSON as its standard has it: no NaN, no Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def theorem(*arguments: str | Path, code: int = 0) -> Any:
    found = parsed(ends(code, "verify-theorem", *arguments, "--json"))
    assert found["onr"] == __version__
    return found


def pairs(cells: list[dict[str, Any]], alpha: float | str) -> list[tuple[str, str]]:
    """The p and q of the cells with this step size."""
    return [(cell["p"], cell["q"]) for cell in cells if cell["alpha"] == alpha]


def plain(text: str) -> str:
    """A table's words: without rules, and lines joined."""
    return " ".join("".join(c if c.isascii() else " " for c in text).split())


# The theorem


def test_one_cell_exactly() -> None:
    options = ("--p", "inf", "--q", "2", *EXACT, *FEW)
    text = plain(ends(0, "verify-theorem", *options))
    assert "holds exactly" in text
    assert "exact arithmetic" in text
    assert "First draw, p = inf, q = 2" in text
    found = theorem(*options)
    assert found.keys() == {
        "onr",
        "settings",
        "served",
        "cells",
        "planted",
        "counterexamples",
        "wall",
    }
    assert found["settings"].keys() == SETTINGS
    assert found["settings"]["arithmetic"] == "exact"
    assert found["settings"]["rationals"] in ("flint", "fractions")
    assert (found["settings"]["trials"], found["settings"]["layers"]) == (2, "4")
    assert found["settings"]["alpha"] == ["inf", 2]
    assert [cell["alpha"] for cell in found["cells"]] == ["inf", 2]
    for cell in found["cells"]:
        assert cell.keys() == CELL
        assert (cell["p"], cell["q"], cell["arithmetic"]) == ("inf", "2", "exact")
        assert cell["proven"]
        assert cell["holds"]
        assert cell["deviation"] == {"min": 0, "median": 0, "max": 0}
    assert found["planted"] == found["counterexamples"] == found["wall"] == []


def test_the_defaults_of_exact_arithmetic() -> None:
    found = theorem("--p", "inf", "--q", "1", *EXACT)
    assert found["settings"]["layers"] == "12,12"
    assert (found["settings"]["trials"], found["settings"]["iterations"]) == (10, 4)
    assert found["cells"][0]["draws"] == 10
    given = theorem("--p", "inf", "--q", "1", *EXACT, "--trials", "1", "--layers", "3")
    assert given["cells"][0]["draws"] == 1


@pytest.fixture(scope="module")
def every_cell_exactly() -> dict[str, Any]:
    result = onr_command("verify-theorem", "--all", *EXACT, *FEW, "--json")
    assert result.exit_code in (0, 1), result.output
    return {"code": result.exit_code, "found": json.loads(result.stdout), "text": result.stdout}


def test_all_cells_exactly(every_cell_exactly: dict[str, Any]) -> None:
    found = every_cell_exactly["found"]
    assert pairs(found["cells"], "inf") == pairs(found["planted"], "inf") == CELLS
    in_balls = [cell["arithmetic"] == "balls" for cell in found["cells"]]
    assert pairs(found["cells"], 2) in (CELLS, [pair for pair in CELLS if pair[0] != "2"])
    for cell, ball in zip(found["cells"], in_balls, strict=True):
        assert ball == (cell["p"] == "2" and cell["alpha"] == 2)
    for cell in (*found["cells"], *found["planted"]):
        assert cell.keys() == CELL
        assert cell["holds"]
        assert cell["failures"] == []
        balls = cell["arithmetic"] == "balls"
        assert balls or cell["deviation"] is None or cell["deviation"]["max"] == 0
    for cell in found["planted"]:
        assert cell["draws"] == 50
        assert cell["degenerate_parted"] > 0
    titles = [case["title"] for case in found["counterexamples"]]
    assert titles[:-1] == [case.title for case in COUNTEREXAMPLES]
    for case in found["counterexamples"]:
        assert case.keys() == CELL | {"title", "shown"}
        assert case["shown"]
        irrational = case["p"] == "3"
        assert case["arithmetic"] == ("float" if irrational else "exact")


def test_all_cells_exactly_is_a_success(every_cell_exactly: dict[str, Any]) -> None:
    assert every_cell_exactly["code"] == 0


def test_all_cells_exactly_as_standard_json(every_cell_exactly: dict[str, Any]) -> None:
    parsed(every_cell_exactly["text"])


def test_all_cells_in_floats_as_standard_json() -> None:
    found = theorem("--all", "--trials", "20", "--iterations", "5", "--layers", "6")
    assert pairs(found["cells"], "inf") == pairs(found["cells"], 2) == CELLS
    assert all(cell["holds"] for cell in found["cells"])
    assert found["planted"] == []
    assert len(found["counterexamples"]) == len(COUNTEREXAMPLES) + 1
    # What the counterexamples are for: all deviate but the repaired one.
    *cases, repaired = found["counterexamples"]
    assert not any(case["holds"] for case in cases)
    assert repaired["holds"]


def test_all_cells_as_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onr_validation.theorem.command.PLANTED", 5)
    text = plain(onr_command("verify-theorem", "--all", *EXACT, *FEW).stdout)
    assert text.count("holds exactly") >= 18
    assert "5 networks a pair with weights in {-1, 0, 1}" in text
    assert "degenerate:" in text
    assert "Where the hypotheses fail" in text
    assert "VIOLATED" not in text


@pytest.mark.parametrize("alpha", ["2", "inf"])
def test_finite_steps_exactly(alpha: str) -> None:
    (cell,) = theorem("--p", "1", "--q", "1", "--alpha", alpha, *EXACT, *FEW)["cells"]
    assert cell["proven"]
    assert cell["holds"]


def test_too_short_a_step_is_told() -> None:
    options = ("--p", "inf", "--q", "1", "--alpha", "1.9", *EXACT, "--layers", "6")
    (cell,) = theorem(*options, code=1)["cells"]
    assert not cell["proven"]
    assert not cell["holds"]
    assert "alpha >= 2 eps" in cell["verdict"]


def test_the_gap_for_p_2_is_certified() -> None:
    pytest.importorskip("flint")
    options = ("--p", "2", "--q", "1", "--alpha", "4", *EXACT, *FEW)
    (cell,) = theorem(*options)["cells"]
    assert cell["arithmetic"] == "balls"
    assert cell["proven"]
    assert cell["holds"]
    assert cell["deviation"]["max"] <= cell["bound"]["max"]
    assert "certified" in plain(ends(0, "verify-theorem", *options))


def test_p_3_differs_and_the_raw_gradient_repairs_it() -> None:
    options = ("--p", "3", "--q", "2", "--trials", "5")
    (cell,) = theorem(*options, code=1)["cells"]
    assert not cell["proven"]
    assert not cell["holds"]
    (cell,) = theorem(*options, "--raw-gradient")["cells"]
    assert not cell["proven"]
    assert cell["holds"]
    assert cell["deviation"]["max"] < 1e-6
    text = plain(ends(0, "verify-theorem", *options, "--raw-gradient"))
    assert "raw gradient" in text
    assert "agree here" in text
    assert "VIOLATED" not in text
    ends(1, "verify-theorem", *options)


@pytest.mark.parametrize("p", ["1", "2", "inf"])
def test_the_raw_gradient_agrees_in_the_limit_exactly(p: str) -> None:
    # The limit of the projection knows the direction alone.
    (cell,) = theorem("--p", p, "--q", "1", "--raw-gradient", *EXACT, *FEW)["cells"]
    assert cell["holds"]


@pytest.mark.parametrize("p", ["1", "2", "3"])
def test_the_raw_gradient_needs_the_limit(p: str) -> None:
    # Its length is not 1, so that no step size is far enough.
    for arithmetic in ((), EXACT):
        options = ("--p", p, "--alpha", "4", "--raw-gradient", *arithmetic, *FEW)
        assert "leave out --alpha" in refuses("verify-theorem", *options)


# A trained run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits, two hidden layers of five units, one epoch in NumPy."""
    pytest.importorskip("sklearn")
    out = tmp_path_factory.mktemp("finished") / "run"
    few = ("--train-images", "120", "--batch-size", "30", "--epochs", "1")
    result = onr_command("train", "--backend", "numpy", *MLP, *few, "--out", out)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """One's own copy."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_a_run_exactly(run: Path) -> None:
    options = ("--run", run, "--p", "inf", "--q", "2", *EXACT, "--trials", "2", "--iterations", "2")
    found = theorem(*options)
    assert found["settings"]["run"] == str(run)
    assert found["settings"]["layers"] is None
    assert [(cell["draws"], cell["generic"]) for cell in found["cells"]] == [(2, 2), (1, 1)]
    for cell in found["cells"]:
        assert cell["holds"]
        assert cell["deviation"]["max"] == 0
    text = plain(ends(0, "verify-theorem", *options))
    assert "holds exactly" in text
    assert "run" in text
    # Nothing is written into the run.
    assert {file.name for file in run.iterdir()} == {
        "best.safetensors",
        "checkpoint.safetensors",
        "config.json",
        "lock",
        "metrics.jsonl",
    }


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_run_in_floats(run: Path, backend: str) -> None:
    options = ("--run", run, "--p", "2", "--q", "1", "--trials", "3", "--iterations", "3")
    limit, finite = theorem(*options, "--backend", backend)["cells"]
    assert limit["holds"]
    assert finite["holds"]
    assert "gap to the limit" in finite["verdict"]
    assert (limit["draws"], finite["draws"]) == (3, 1)


def test_all_cells_of_a_run_have_no_planted_draws(run: Path) -> None:
    few = ("--trials", "1", "--iterations", "2")
    result = onr_command("verify-theorem", "--all", "--run", run, *EXACT, *few, "--json")
    found = json.loads(result.stdout)
    assert pairs(found["cells"], "inf") == CELLS
    assert all(cell["holds"] and cell["draws"] == 1 for cell in found["cells"])
    assert found["planted"] == []


def test_a_run_that_cannot_be_checked(run: Path, tmp_path: Path) -> None:
    assert "holds no run" in refuses("verify-theorem", "--run", tmp_path / "nowhere")
    assert "leave out --layers" in refuses("verify-theorem", "--run", run, "--layers", "4")
    many = refuses("verify-theorem", "--run", run, "--trials", "100000")
    assert "100000 images asked for" in many
    (run / "checkpoint.safetensors").unlink()
    assert "checkpoint" in refuses("verify-theorem", "--run", run)


# The curve

SVG = "{http://www.w3.org/2000/svg}"


def drawing(path: Path) -> ElementTree.Element:
    root = ElementTree.fromstring(path.read_text())  # noqa: S314 - our own file
    assert root.tag == f"{SVG}svg"
    assert len(list(root.iter(f"{SVG}path"))) > 10
    return root


def test_a_curve_and_its_plot(tmp_path: Path) -> None:
    plot = tmp_path / "folder" / "curve.svg"
    options = ("--fraction", "0.5,1,4,64", "--trials", "20", "--iterations", "5", "--layers", "8")
    text = ends(0, "verify-theorem", *options, "--p", "inf", "--q", "1", "--plot", plot)
    assert f"written to {plot}" in text.replace("\n", "")
    assert "same pattern" in plain(text)
    drawing(plot)
    again = tmp_path / "again.svg"
    ends(0, "verify-theorem", *options, "--p", "inf", "--q", "1", "--plot", again, "--json")
    assert again.read_bytes() == plot.read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {"folder", "again.svg"}


def test_a_curve_as_json() -> None:
    options = ("--fraction", "0.25,0.5,64", "--trials", "40", "--p", "2", "--q", "2")
    found = theorem(*options)
    assert found.keys() == SETTINGS | {"onr", "p", "q", "points"}
    assert found["fraction"] == [0.25, 0.5, 64]
    for point, fraction in zip(found["points"], found["fraction"], strict=True):
        assert point.keys() == {"fraction", "inside", "deviation", "gain"}
        assert point["fraction"] == fraction
        assert 0 <= point["inside"] <= 1
        for name in ("deviation", "gain"):
            low, median, high = point[name]
            assert 0 <= low <= median <= high
    near, inside, far = found["points"]
    assert near["inside"] == inside["inside"] == 1 > far["inside"]
    assert near["deviation"][2] < 1e-8 < far["deviation"][1]
    np.testing.assert_allclose(inside["gain"], 1, rtol=1e-8)


def test_a_curve_of_a_run(run: Path) -> None:
    found = theorem("--run", run, "--fraction", "0.5,8", "--trials", "5", "--iterations", "3")
    assert found["run"] == str(run)
    assert found["points"][0]["inside"] == 1


def test_a_curve_of_a_dead_network_has_no_gain() -> None:
    # All of its hidden units are off, so that J is zero.
    found = theorem("--fraction", "0.5,2", "--trials", "1", "--layers", "1")
    assert len(found["points"]) == 2


# What cannot be


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((*EXACT, "--p", "3"), "the powers of p = 3 are irrational"),
        ((*EXACT, "--q", "1.5"), "the powers of q = 1.5 are irrational"),
        ((*EXACT, "--p", "lp:3"), "the powers of p = 3 are irrational"),
        ((*EXACT, "--fraction", "1"), "--fraction below 1"),
        ((*EXACT, "--fraction", "1.5"), "--fraction below 1"),
        ((*EXACT, "--fraction", "0.25,0.5"), "one --fraction below 1"),
        ((*EXACT, "--backend", "torch"), "leave out --backend torch"),
        (("--plot", "curve.svg"), "give several fractions"),
        (("--plot", "curve.svg", "--fraction", "0.5"), "give several fractions"),
        (("--fraction", "0"), "expected positive numbers"),
        (("--fraction", "-0.5"), "expected positive numbers"),
        (("--fraction", "inf"), "expected positive numbers"),
        (("--fraction", "nan"), "no number"),
        (("--fraction", "half"), "no number"),
        (("--fraction", "0.5,"), "no number"),
        (("--all", "--fraction", "0.5,1"), "--all checks every p and q at one radius"),
        (("--all", "--q", "1"), "leave out --p, --q"),
        (("--trials", "0"), "0 is not in the range x>=1"),
        (("--trials", "many"), "not a valid integer"),
        (("--iterations", "0"), "0 is not in the range x>=1"),
        (("--arithmetic", "decimal"), "'decimal' is not one of"),
        (("--run", "nowhere"), "nowhere holds no run"),
    ],
)
def test_what_the_theorem_is_not_checked_on(
    arguments: tuple[str, ...], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert reason in refuses("verify-theorem", *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["__call__", "gradient", "duality_map", "project_face"])
def test_a_norm_that_leaves_the_exact_numbers_is_named(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(LpNorm, method)
    monkeypatch.setattr(LpNorm, method, lambda *given, **more: original(*given, **more) * 0.1)
    reason = refuses("verify-theorem", "--p", "2", "--q", "1", *EXACT, *FEW)
    assert "exact arithmetic has no numbers for p = 2, q = 1 (" in reason


def test_a_plot_that_cannot_be_written(tmp_path: Path) -> None:
    options = ("--fraction", "0.5,1", "--trials", "2", "--iterations", "2", "--layers", "4")
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "curve.svg"):
        assert str(path) in refuses("verify-theorem", *options, "--plot", path)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


# It can fail


def test_a_wrong_duality_map_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    original = LpNorm.duality_map
    monkeypatch.setattr(LpNorm, "duality_map", lambda norm, z, ties="average": -original(norm, z))
    text = ends(1, "verify-theorem", "--p", "inf", "--q", "1", *EXACT, *FEW)
    assert "VIOLATED" in text
    text = ends(1, "verify-theorem", "--p", "inf", "--q", "1", *FEW)
    assert "VIOLATED" in text


# The lemmas and the table


@pytest.mark.parametrize("command", ["verify-lemmas", "verify-table1"])
@pytest.mark.parametrize("arithmetic", ["float", "exact", "both"])
def test_the_laws(command: str, arithmetic: str) -> None:
    options = ("--arithmetic", arithmetic, "--trials", "4", "--seed", "1")
    text = plain(ends(0, command, *options))
    assert ("holds exactly" in text) == (arithmetic != "float")
    assert "FAILS" not in text
    assert "HOLDS" not in text
    found = parsed(ends(0, command, *options, "--json"))
    assert found.keys() == {"onr", "settings", "laws"}
    assert found["settings"] == {"arithmetic": arithmetic, "trials": 4, "seed": 1}
    wanted = {"both": {"float", "exact"}}.get(arithmetic, {arithmetic})
    assert {law["arithmetic"] for law in found["laws"]} == wanted
    for law in found["laws"]:
        assert law.keys() == LAW
        assert law["holds"]
        assert law["cases"] >= 2
        assert (law["failures"] == 0) is law["expected"]
    names = [law["name"] for law in found["laws"] if law["arithmetic"] == max(wanted)]
    if command == "verify-table1":
        cells = [f"Table 1, p = {p}, q = {q}" for p, q in CELLS]
        assert names[:10] == [*cells, "(inf, 2) in large"]
        assert len(names) == (10 if max(wanted) == "exact" else 17)
    else:
        said = " ".join(names)
        for name in ("Lemma 1", "Lemma 2", "Lemma 3", "Eqs. 28, 29", "Section 7.1, Eq. 21"):
            assert name in said


@pytest.mark.parametrize("command", ["verify-lemmas", "verify-table1"])
def test_the_laws_by_default_are_in_both_arithmetics(command: str) -> None:
    found = parsed(ends(0, command, "--trials", "2", "--json"))
    assert found["settings"]["arithmetic"] == "both"
    assert {law["arithmetic"] for law in found["laws"]} == {"float", "exact"}


@pytest.mark.parametrize("command", ["verify-lemmas", "verify-table1"])
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--trials", "0"), "0 is not in the range x>=2"),
        (("--trials", "1"), "1 is not in the range x>=2"),
        (("--seed", "-1"), "-1 is not in the range x>=0"),
        (("--arithmetic", "decimal"), "'decimal' is not one of"),
        (("--p", "2"), "No such option"),
    ],
)
def test_what_the_laws_are_not_checked_on(
    command: str, arguments: tuple[str, ...], reason: str
) -> None:
    assert reason in refuses(command, *arguments)


def test_a_broken_lemma_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    original = LpNorm.duality_map
    monkeypatch.setattr(LpNorm, "duality_map", lambda norm, z, ties="average": -original(norm, z))
    text = plain(ends(1, "verify-lemmas", "--trials", "4"))
    assert "FAILS in" in text
    found = parsed(ends(1, "verify-lemmas", "--trials", "4", "--json"))
    broken = {law["name"] for law in found["laws"] if not law["holds"]}
    assert "Lemma 1, Eqs. 16, 34" in broken
    assert all(law["example"] for law in found["laws"] if not law["holds"] and law["expected"])


@pytest.mark.parametrize("arithmetic", ["float", "exact"])
def test_a_broken_cell_is_exit_code_1(arithmetic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = onr.jacobians.exact_norms.best_signs
    monkeypatch.setattr(onr.jacobians.exact_norms, "best_signs", lambda *a: 0 * original(*a) + 1)
    options = ("--arithmetic", arithmetic, "--trials", "4")
    assert "FAILS in" in plain(ends(1, "verify-table1", *options))
    found = parsed(ends(1, "verify-table1", *options, "--json"))
    broken = {law["name"] for law in found["laws"] if not law["holds"]}
    wanted = {f"Table 1, p = {p}, q = {q}" for p, q in CELLS if (p, q) in HARD}
    assert broken == wanted | ({"any p, q"} if arithmetic == "float" else set())
