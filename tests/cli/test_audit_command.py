"""``onr audit``, ``onr compare`` and ``onr explain`` as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from onr.cli.main import main
from onr.registry import registry

AUDIT = ("audit", "mlp", "--dataset", "digits", "--p", "2", "--eps", "1/2", "--images", "6")
FEW = ("--checks", "chance,refused")
Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    def invoke(*arguments: str, code: int = 0, **env: str) -> Result:
        found = CliRunner().invoke(main, arguments, env=env)
        assert found.exit_code == code, found.output
        return found

    return invoke


def test_an_audit_is_printed_written_and_compared(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "first"
    told = run(*AUDIT, *FEW, "--norms", "2:2,inf:1", "--out", str(out))
    assert "Audit of mlp" in told.stdout
    assert max(map(len, told.stdout.splitlines())) < 130
    names = {path.name for path in out.iterdir()}
    assert {"audit.html", "audit.json", "images.csv"} <= names
    record = json.loads((out / "audit.json").read_text())
    assert (record["p"], record["eps"], record["images"]) == ("2", "1/2", 6)
    assert len((out / "images.csv").read_text().splitlines()) == 7
    other = tmp_path / "second"
    run(*AUDIT, *FEW, "--norms", "2:2,inf:1", "--model-option", "width=8", "--out", str(other))
    compared = run("compare", str(out), str(other), "--out", str(tmp_path / "compared"))
    assert "norm 2:2" in compared.stdout or "2, 2" in compared.stdout
    assert (tmp_path / "compared").is_dir()


def test_processes_and_shards_give_one_table(run: Run, tmp_path: Path) -> None:
    few = (*AUDIT, *FEW)
    run(*few, "--out", str(tmp_path / "alone"))
    together = str(tmp_path / "together")
    run(*few, "--out", together, RANK="1", WORLD_SIZE="2")
    run(*few, "--out", together, RANK="0", WORLD_SIZE="2")
    for place in ("1/2", "2/2"):
        told = run(*few, "--out", str(tmp_path / f"shard {place[0]}"), "--shard", place)
        assert f"shard {place} is measured" in told.stdout
    folders = [str(tmp_path / f"shard {place}") for place in "12"]
    merge = [text for folder in folders for text in ("--merge", folder)]
    run(*few, "--out", str(tmp_path / "merged"), *merge)
    tables = [
        (tmp_path / name / "images.csv").read_bytes() for name in ("alone", "together", "merged")
    ]
    assert tables[0] == tables[1] == tables[2]


def test_exit_codes_tell_what_was_raised(run: Run) -> None:
    """An untrained network is at the level of chance, which six images cannot tell."""
    few = (*AUDIT, *FEW, "--images", "100")
    record = json.loads(run(*few, "--json").stdout)
    assert {flag["name"]: flag["raised"] for flag in record["flags"]} == {
        "chance": True,
        "refused": False,
    }
    run(*few, "--fail-on", "refused", code=0)
    run(*few, "--fail-on", "refused,chance", code=3)
    run(*AUDIT, *FEW, "--fail-on", "any", code=4)
    run(*few, "--checks", "onr.auditing:chance", "--fail-on", "chance", code=3)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--fail-on", "mine"), "--fail-on 'mine': expected any, or some of"),
        (("--eps", "0"), "eps = 0: expected a radius above 0"),
        (("--eps", "eight"), "'eight' is no number"),
        (("--norms", "2"), "'2' is no pair of norms: expected P:Q"),
        (("--shard", "3/2"), "expected I/N with I from 1 to N"),
        (("--shard", "1/2"), "give --out"),
        (("--batch-size", "0"), "expected auto, or a whole number"),
        (("--images", "100000"), "images = 100000: expected 1 to"),
        (("--checks", "mine"), "unknown check 'mine'"),
        (("--out", "/proc/none"), "/proc/none"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    run: Run, arguments: tuple[str, ...], told: str
) -> None:
    found = run(*AUDIT, *FEW, *arguments, code=2)
    assert told in found.stderr
    assert "Traceback" not in found.output


def test_every_flag_is_explained(run: Run) -> None:
    listed = run("explain").stdout
    for _, entry in registry().offers("check"):
        assert f"\n{entry.name} " in f"\n{listed}"
        told = run("explain", entry.name).stdout
        assert "Threshold: " in told
        assert "Source: " in told
    assert "no flag 'mine': expected one of" in run("explain", "mine", code=2).stderr
