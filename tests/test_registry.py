"""Plugins: how names resolve, and that a broken plugin harms nobody but itself."""

from __future__ import annotations

import importlib
import inspect
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import onr
from onr import hookspecs
from onr.cli.main import main
from onr.errors import OnrError, UnknownNameError
from onr.hookspecs import PROJECT, Entry
from onr.registry import BUILTIN, KINDS, Plugin, Registry, load, norm_spec
from onr.text import loss_of, norm
from onr.training.runs import Run
from onr_validation.reproduction.results import Reproduction
from onr_validation.reproduction.worker import measure

Install = Callable[..., None]
HALF = Entry("half", "onr.norms:l2", "a norm of a plugin")
SECOND_TWO = Entry("2", "onr.norms:linf", "not the Euclidean norm")


def offer(*entries: Any) -> Callable[[], list[Any]]:
    """A hook implementation that offers these."""

    def hook() -> list[Any]:
        return list(entries)

    return hook


def plugin(found: Registry, name: str) -> Plugin:
    """The one plugin of that name."""
    (it,) = [plugin for plugin in found.plugins if plugin.name == name]
    return it


# Names


@pytest.mark.parametrize(
    ("kind", "spec", "target", "argument"),
    [
        ("norm", "2", "onr.norms:l2", None),
        ("norm", "inf", "onr.norms:linf", None),
        ("norm", "lp:1.5", "onr.text:lp", "1.5"),
        ("norm", "onr_paper:2", "onr.norms:l2", None),
        ("norm", "onr_paper:lp:1.5", "onr.text:lp", "1.5"),
        ("loss", "lq:inf", "onr.text:logit_distance", "inf"),
        ("loss", "lq:onr_paper:2", "onr.text:logit_distance", "onr_paper:2"),
        ("dataset", "npz:some:stem", "onr_paper.array_files:npz", "some:stem"),
        ("backend", "onr_numpy:numpy", "onr_numpy.backend:NumpyBackend", None),
        ("command", "train", "onr.cli.train:train", None),
    ],
)
def test_a_name_resolves_to_its_entry(
    kind: str, spec: str, target: str, argument: str | None
) -> None:
    found = Registry().resolve(kind, spec)
    assert (found.entry.target, found.argument) == (target, argument)
    assert found.spec == spec


def test_the_argument_is_given_to_the_target() -> None:
    assert Registry().resolve("norm", "lp:1.5").load()().name == "1.5"


@pytest.mark.parametrize("kind", ["norm", "loss", "attack", "model", "dataset", "method"])
def test_an_unknown_name_lists_what_is_there(kind: str) -> None:
    known = Registry()
    with pytest.raises(UnknownNameError) as caught:
        known.resolve(kind, "nothing")
    assert f"unknown {kind} 'nothing'" in str(caught.value)
    for _, entry in known.offers(kind):
        assert entry.name in str(caught.value)


def test_an_unknown_name_of_a_known_plugin_is_unknown() -> None:
    with pytest.raises(UnknownNameError, match="unknown norm 'onr_numpy:2'"):
        Registry().resolve("norm", "onr_numpy:2")


@pytest.mark.parametrize(
    ("written", "registered", "name"),
    [
        ("2", "2", "2"),
        ("2.0", "2", "2"),
        ("1", "1", "1"),
        ("1e0", "1", "1"),
        ("inf", "inf", "inf"),
        ("Infinity", "inf", "inf"),
        ("1.5", "lp:1.5", "1.5"),
        ("3", "lp:3", "3"),
    ],
)
def test_a_bare_number_is_an_lp_norm(written: str, registered: str, name: str) -> None:
    assert norm_spec(written) == f"onr_paper:{registered}"
    assert norm(written).name == name


@pytest.mark.parametrize("written", ["nan", "two", "lp:nan", "lp:two"])
def test_what_is_no_number_is_no_norm(written: str) -> None:
    with pytest.raises(OnrError, match=r"(unknown norm|no number).*expected"):
        norm(written)


def test_an_exponent_may_be_a_fraction() -> None:
    assert norm("3/2").name == "1.5"


@pytest.mark.parametrize("written", ["0.5", "0", "-1", "-inf", "1/2", "lp:0.5"])
def test_a_number_below_one_is_no_norm(written: str) -> None:
    with pytest.raises(OnrError, match=r"expected a number >= 1"):
        norm(written)


def test_the_exponent_may_be_any_number_from_one() -> None:
    assert norm("1.0000001").p == pytest.approx(1.0000001)
    assert norm("inf").p == math.inf


@pytest.mark.parametrize(
    ("kind", "spec"), [("norm", "lp"), ("dataset", "npz"), ("dataset", "folder")]
)
def test_a_name_without_its_argument_says_so(kind: str, spec: str) -> None:
    arguments = ["--dataset", spec] if kind == "dataset" else ["--method", "at", "--p", spec]
    result = CliRunner().invoke(main, ["train", "--backend", "numpy", *arguments])
    assert result.exit_code == 2
    assert spec in result.stderr
    assert "unexpected" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--method", "at:2"],
        ["--model", "mlp:2"],
        ["--backend", "numpy:2"],
        ["--method", "at", "--loss", "margin:2"],
        ["--method", "at", "--p", "2:3"],
        ["--dataset", "digits:2"],
    ],
)
def test_a_name_with_an_argument_that_it_does_not_take_says_so(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, ["train", "--backend", "numpy", *arguments])
    assert result.exit_code == 2
    assert arguments[-1] in result.stderr
    assert "unexpected" not in result.stderr


# The project's own plugins


def test_every_kind_is_a_documented_hook() -> None:
    specs = {
        name: function
        for name, function in inspect.getmembers(hookspecs, inspect.isfunction)
        if hasattr(function, f"{PROJECT}_spec")
    }
    assert specs.keys() == set(KINDS.values())
    for name, function in specs.items():
        assert inspect.getdoc(function), name
        assert f"``{name}``" in (hookspecs.__doc__ or ""), name


def test_every_builtin_works_and_every_target_loads() -> None:
    found = Registry()
    assert [plugin.name for plugin in found.plugins][: len(BUILTIN)] == list(BUILTIN)
    for name in BUILTIN:
        assert plugin(found, name).problem is None
        for kind, entry in plugin(found, name).entries:
            assert found.resolve(kind, f"{name}:{entry.name}").entry is entry
            module, _, attribute = entry.target.partition(":")
            assert callable(getattr(importlib.import_module(module), attribute)), entry
            assert entry.summary.strip(), entry


def test_the_builtins_offer_each_name_once() -> None:
    found = Registry()
    for kind in KINDS:
        names = [entry.name for owner, entry in found.offers(kind) if owner.name in BUILTIN]
        assert len(names) == len(set(names)), kind


# Third parties


def test_a_third_party_is_found(install: Install) -> None:
    install("other", onr_norms=offer(HALF))
    found = Registry()
    assert plugin(found, "other").problem is None
    for spec in ("half", "other:half"):
        assert found.resolve("norm", spec).plugin.name == "other"


def test_an_installed_distribution_is_found_with_its_version(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "onr_other-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: onr-other\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[onr]\nother = onr_other_plugin\n")
    (tmp_path / "onr_other_plugin.py").write_text(
        "from onr.hookspecs import Entry, hookimpl\n"
        "@hookimpl\n"
        "def onr_losses():\n"
        "    return [Entry('hinge', 'onr_other_plugin:hinge', 'a loss')]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    other = plugin(Registry(), "other")
    assert (other.distribution, other.version, other.problem) == ("onr-other", "1.2", None)
    assert [(kind, entry.name) for kind, entry in other.entries] == [("loss", "hinge")]


def _raises() -> list[Entry]:
    raise RuntimeError("no licence found")


def _wants_more(wanted: object) -> list[Entry]:
    return []


BROKEN: dict[str, tuple[dict[str, Callable[..., Any]], str]] = {
    "raises in a hook": ({"onr_norms": _raises}, "no licence found"),
    "misspells a hook": ({"onr_nroms": offer(HALF)}, "onr_nroms"),
    "asks for an argument": ({"onr_norms": _wants_more}, "wanted"),
    "returns nothing": ({"onr_norms": lambda: None}, "NoneType"),
    "returns a tuple": ({"onr_norms": offer(("a", "b:c", "d"))}, "expected onr.hookspecs.Entry"),
    "a colon in a name": ({"onr_norms": offer(Entry("a:b", "m:x", "s"))}, "a:b"),
    "an empty name": ({"onr_norms": offer(Entry("", "m:x", "s"))}, "name"),
    "a blank name": ({"onr_norms": offer(Entry("  ", "m:x", "s"))}, "name"),
    "white space in a name": ({"onr_norms": offer(Entry("a b", "m:x", "s"))}, "a b"),
    "a name that is no text": ({"onr_norms": offer(Entry(5, "m:x", "s"))}, ""),
    "a target without attribute": ({"onr_norms": offer(Entry("a", "m.x", "s"))}, "m.x"),
    "a target that is no text": ({"onr_norms": offer(Entry("a", None, "s"))}, ""),
    "a summary that is no text": ({"onr_commands": offer(Entry("a", "m:x", 5))}, ""),
    "one name twice": ({"onr_norms": offer(HALF, HALF)}, "half"),
}


def _harms_nobody(found: Registry, problem: str) -> None:
    broken = plugin(found, "broken")
    assert broken.problem
    assert problem in broken.problem
    assert broken.entries == ()
    assert found.resolve("norm", "2").load()().name == "2"
    assert found.resolve("norm", "half").plugin.name == "working"
    with pytest.raises(UnknownNameError, match="set aside: broken"):
        found.resolve("norm", "nothing")


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_set_aside(case: str, install: Install) -> None:
    hooks, problem = BROKEN[case]
    install("broken", **hooks)
    install("working", onr_norms=offer(HALF))
    _harms_nobody(Registry(), problem)
    for arguments in (["--help"], ["plugins"], ["plugins", "--json"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, (arguments, result.output)
    listed = {it["name"]: it for it in json.loads(result.stdout)}
    assert problem in listed["broken"]["problem"]
    assert listed["working"]["problem"] is None


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (None, "No module named 'plugin_on_disk'"),
        ("import no_such_library", "no_such_library"),
        ("1 / 0", "ZeroDivisionError"),
        ("def", "SyntaxError"),
        ("raise SystemExit('a script, not a plugin')", "SystemExit"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_set_aside(
    source: str | None,
    problem: str,
    install: Install,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if source is not None:
        (tmp_path / "plugin_on_disk.py").write_text(source + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    install("broken", module="plugin_on_disk")
    install("working", onr_norms=offer(HALF))
    _harms_nobody(Registry(), problem)


def test_the_list_says_why_a_plugin_was_set_aside(install: Install) -> None:
    install("broken", onr_norms=_raises)
    result = CliRunner().invoke(main, ["plugins"])
    assert result.exit_code == 0
    assert "broken (unknown unknown)\n  set aside: RuntimeError: no licence found" in result.stdout


def test_two_plugins_of_one_name(install: Install) -> None:
    install("same", onr_norms=offer(HALF))
    install("same", onr_norms=offer(Entry("third", "onr.norms:l2", "another")))
    found = Registry()
    first, second = (it for it in found.plugins if it.name == "same")
    assert first.problem is None
    assert second.problem
    assert "same" in second.problem
    assert found.resolve("norm", "same:half").plugin is first
    with pytest.raises(UnknownNameError):
        found.resolve("norm", "third")


def test_nobody_takes_the_name_of_a_builtin(install: Install) -> None:
    install("onr_paper", onr_norms=offer(SECOND_TWO))
    found = Registry().resolve("norm", "2")
    assert found.plugin.distribution == PROJECT
    assert found.load()().name == "2"


def test_a_name_offered_twice_must_be_qualified(install: Install) -> None:
    install("one", onr_norms=offer(HALF))
    install("two", onr_norms=offer(HALF))
    found = Registry()
    with pytest.raises(UnknownNameError) as caught:
        found.resolve("norm", "half")
    assert "one:half" in str(caught.value)
    assert "two:half" in str(caught.value)
    for name in ("one", "two"):
        assert found.resolve("norm", f"{name}:half").plugin.name == name


def test_the_qualified_forms_keep_the_argument(install: Install) -> None:
    install("other", onr_norms=offer(Entry("lp", "onr.text:lp", "another")))
    with pytest.raises(UnknownNameError, match=r"write onr_paper:lp:3 or other:lp:3"):
        Registry().resolve("norm", "lp:3")


def test_a_third_party_does_not_shadow(install: Install) -> None:
    install("other", onr_norms=offer(SECOND_TWO))
    install("losses", onr_losses=offer(Entry("margin", "onr.losses:CrossEntropy", "another")))
    with pytest.raises(UnknownNameError, match=r"write onr_paper:margin or losses:margin"):
        loss_of("margin")
    assert loss_of("onr_paper:margin").name == "margin"
    assert loss_of("losses:margin").name == "cross-entropy"
    assert norm("2").name == "2"  # a number is an lp norm, whatever is offered under its name
    assert norm("other:2").name == "inf"


def test_a_run_with_a_qualified_name_trains_and_records_who_served_it(
    install: Install, tmp_path: Any
) -> None:
    install("other", onr_norms=offer(SECOND_TWO))
    out = tmp_path / "run"
    arguments = ["--backend", "numpy", "--method", "at", "--p", "onr_paper:2", "--steps", "1"]
    small = ["--epochs", "1", "--train-images", "20", "--out", str(out)]
    result = CliRunner().invoke(main, ["train", *arguments, *small])
    assert result.exit_code == 0, result.stderr
    served = json.loads((out / "config.json").read_text())["served"]
    assert served["norm/p"]["plugin"] == "onr_paper"
    few = ["--images", "4", "--steps", "1", "--spectrum", "2", "--no-plot"]
    for p in ([], ["--p", "onr_paper:2"]):
        result = CliRunner().invoke(main, ["evaluate", str(out), *p, *few])
        assert result.exit_code == 0, result.stderr
        served = json.loads((out / "evaluation.json").read_text())["served"]
        assert served["norm/p"]["plugin"] == "onr_paper"


TAKEN = {
    "norms": ("1", "2", "inf", "lp"),
    "losses": ("cross-entropy", "targeted-cross-entropy", "lq", "margin"),
    "attacks": ("pga", "fgm", "noise"),
    "models": ("mlp", "cnn7", "python"),
    "datasets": ("digits", "npz", "stored"),
    "methods": ("standard", "at", "dd-snr", "dd-onr"),
    "backends": ("numpy", "torch"),
    "presets": ("paper",),
    "grids": ("paper",),
    "measurements": ("accuracy", "norms", "table1"),
}
"""Names of ours that another plugin offers too, with targets that do not exist."""


def test_a_plugin_that_offers_all_of_our_names_disturbs_nothing(
    install: Install, tmp_path: Any
) -> None:
    hooks = {
        f"onr_{kind}": offer(*(Entry(name, "nowhere:nothing", "another") for name in names))
        for kind, names in TAKEN.items()
    }
    install("other", **hooks)

    def works(*arguments: object) -> str:
        result = CliRunner().invoke(main, [str(each) for each in arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    run, few = tmp_path / "run", ("--train-images", "20", "--epochs", "1")
    works("train", "--backend", "onr_numpy:numpy", *few, "--out", run)
    ours = ("--method", "onr_paper:at", "--p", "inf", "--steps", "1")
    works("train", "--backend", "onr_numpy:numpy", *few, *ours, "--out", tmp_path / "robust")
    works("train", "--backend", "onr_numpy:numpy", "--preset", "onr_paper:paper:cifar10-standard",
          *few, "--dataset", "onr_paper:digits", "--model", "onr_paper:mlp",
          "--out", tmp_path / "preset")  # fmt: skip
    less = ("--images", "4", "--spectrum", "2", "--steps", "1", "--no-plot")
    works("evaluate", run, *less)
    works("evaluate", tmp_path / "robust", *less)
    works("evaluate", "onr_paper:mlp", "--eps", "0.1", *less, "--out", tmp_path / "model")
    for what in ("norms", "accuracy", "alignment"):
        more = () if what == "norms" else ("--eps", "0.1")
        works("measure", what, run, "--images", "3", *more)
    works("verify-theorem", "--p", "inf", "--q", "1", "--trials", "3")
    works("verify-lemmas", "--trials", "2")
    works("reproduce", "list", "--out", tmp_path / "reproduction")
    experiments = {"table1": load("experiment", "table1")()}
    found = Reproduction(experiments, "tiny", tmp_path / "reproduction", {})
    assert [measure(group, str(found.out)) for group in found.groups()] == [{}]
    assert all(claim.held for claim in found.write("table1"))
    x = np.full((2, 1, 8, 8), 0.5)
    network = onr.open_run(run).network
    x = x.astype(np.float32)
    assert onr.operator_norm(network, x, p="inf", q=1).kind == "exact"
    assert onr.attack(network, x, [1, 2], p="2", eps=0.1).shape == x.shape
    assert "offered more than once: write" in refused("train", "--method", "at")


def refused(*arguments: str) -> str:
    """The one line that a command fails with."""
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 2
    return str(result.stderr)


def test_training_does_not_depend_on_other_attacks_and_losses(
    install: Install, tmp_path: Any
) -> None:
    install("attacks", onr_attacks=offer(Entry("pga", "nowhere:pga", "another")))
    install("losses", onr_losses=offer(Entry("cross-entropy", "nowhere:loss", "another")))
    qualified = ["--method-option", "loss=onr_paper:cross-entropy", "--steps", "1"]
    arguments = ["--backend", "numpy", "--method", "at", *qualified, "--epochs", "1"]
    out = tmp_path / "run"
    small = ["--train-images", "20", "--out", str(out)]
    result = CliRunner().invoke(main, ["train", *arguments, *small])
    assert result.exit_code == 0, result.stderr
    (record,) = (out / "metrics.jsonl").read_text().splitlines()
    assert "validation_robust_accuracy" in json.loads(record)


def test_adversarial_training_takes_a_plugins_attack_and_loss(
    install: Install, tmp_path: Any
) -> None:
    """Ours under other names, so that the weights must be the same."""
    climb = "onr.attacks.projected_gradient:ProjectedGradientAscent"
    attacks, losses = (
        Entry("climb", climb, "another"),
        Entry("lead", "onr.losses:Margin", "another"),
    )
    install("other", onr_attacks=offer(attacks), onr_losses=offer(losses))
    found = []
    for name, arguments in {
        "theirs": ("--attack", "climb", "--loss", "other:lead", "--method-option", "keep=last"),
        "ours": ("--attack", "onr_paper:pga", "--loss", "margin"),
    }.items():
        small = ("--train-images", "40", "--epochs", "1", "--steps", "2", "--alpha", "0.2")
        given = ("--backend", "numpy", "--method", "at", *small, "--out", str(tmp_path / name))
        result = CliRunner().invoke(main, ["train", *given, *arguments])
        assert result.exit_code == 0, result.stderr
        found.append(Run.open(tmp_path / name))
    theirs, ours = found
    for name, value in ours.model()[0].items():
        np.testing.assert_array_equal(theirs.model()[0][name], value)
    for kind in ("attack", "loss"):
        assert theirs.config["served"][kind]["plugin"] == "other"
        assert ours.config["served"][kind]["plugin"] == "onr_paper"
    settings = {"attack": "pga", "p": "2", "loss": "margin", "eps": 0.5, "steps": 2, "alpha": 0.2}
    assert ours.config["settings"] == settings | {"lam": 1.0}
    assert theirs.config["settings"] == ours.config["settings"] | {
        "attack": "climb",
        "alpha": 0.2,
        "keep": "last",
    }


def test_a_command_offered_twice_must_be_qualified(install: Install) -> None:
    install("other", onr_commands=offer(Entry("train", "onr.cli.plugins:plugins", "another")))
    result = CliRunner().invoke(main, ["train", "--help"])
    assert result.exit_code == 2
    assert "onr.cli:train or other:train" in result.stderr
    assert CliRunner().invoke(main, ["onr.cli:train", "--help"]).exit_code == 0
    assert CliRunner().invoke(main, ["other:train"]).stdout.startswith("onr.cli (onr ")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("no_such_library.part:thing", "no_such_library"),
        ("onr.norms:no_such_norm", "no_such_norm"),
        ("torch_is_not_this:x", "torch_is_not_this"),
    ],
)
def test_a_target_that_cannot_be_imported(target: str, reason: str, install: Install) -> None:
    install("other", onr_norms=offer(Entry("gone", target, "a norm")))
    found = Registry().resolve("norm", "gone")
    with pytest.raises(OnrError, match=reason) as caught:
        found.load()
    assert "plugin other" in str(caught.value)
    assert target in str(caught.value)


def test_a_command_that_is_none(install: Install) -> None:
    install("other", onr_commands=offer(Entry("odd", "onr.norms:l2", "no command")))
    result = CliRunner().invoke(main, ["odd"])
    assert (result.exit_code, result.stderr) == (2, "Error: onr.norms:l2 is no click command\n")


# The environment


def test_strict_raises_what_would_be_set_aside(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("broken", onr_norms=_raises)
    monkeypatch.setenv("ONR_STRICT_PLUGINS", "0")
    assert plugin(Registry(), "broken").problem
    monkeypatch.setenv("ONR_STRICT_PLUGINS", "1")
    with pytest.raises(OnrError, match=r"plugin broken \(unknown unknown\).*no licence found"):
        Registry()


@pytest.mark.parametrize("arguments", [["--help"], [], ["plugins"], ["train", "--help"]])
def test_strict_is_one_line_on_the_command_line(
    arguments: list[str], install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("broken", onr_norms=_raises)
    monkeypatch.setenv("ONR_STRICT_PLUGINS", "1")
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: plugin broken")
    assert result.stderr.count("\n") == 1


def test_disabled_plugins_are_not_imported(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("one", module="no_such_module")
    install("two", onr_norms=_raises)
    install("three", onr_norms=offer(HALF))
    monkeypatch.setenv("ONR_DISABLE_PLUGINS", "one, two")
    monkeypatch.setenv("ONR_STRICT_PLUGINS", "1")
    found = Registry()
    for name in ("one", "two"):
        assert plugin(found, name).problem == "disabled by ONR_DISABLE_PLUGINS"
    assert found.resolve("norm", "half").plugin.name == "three"
