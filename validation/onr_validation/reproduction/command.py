"""The command ``onr reproduce``."""

from __future__ import annotations

import contextlib
import json
import queue
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from onr.cli.sweep import train_points
from onr.errors import OnrError, UnknownNameError
from onr.experiments import Claim, Experiment
from onr.hookspecs import Entry
from onr.registry import Plugin, load, registry
from onr.sweeps.cluster import completed, connected, usable_cores
from onr.training.config_hash import config_hash
from onr_validation.reproduction.fingerprint import key
from onr_validation.reproduction.results import Reproduction
from onr_validation.reproduction.scales import SCALES
from onr_validation.reproduction.worker import Group, measure

__all__ = ["reproduce"]

EVERYTHING = ("all", "list")
POLL = 1.0
"""Seconds between two updates of the progress bar."""


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--scale", default="tiny", show_default=True, help=f"How large: {', '.join(SCALES)}.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("data"),
    show_default=True,
    help="Where data sets are.",
)
@click.option("--download", is_flag=True, help="Fetch data sets that are not there.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder of models and results.  [default: reproduction/SCALE]",
)
@click.option("--device", help="Where to compute, as cuda.  [default: the scale's]")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes.  [default: one a core, one for a GPU]",
)
def reproduce(
    names: tuple[str, ...],
    scale: str,
    data_dir: Path,
    download: bool,
    out: Path | None,
    device: str | None,
    workers: int | None,
) -> None:
    """Reproduce figures and tables of the paper: from data to picture and verdict.

    NAME is an experiment such as fig2. The name all stands for every experiment; list shows what
    each experiment is about and what it costs.

    Scale tiny uses bundled digits and takes minutes. Scale cpu trains small networks on CIFAR-10
    and SVHN (cifar10-{train,test}.npz and svhn-{train,test}.npz in --data-dir) and takes hours.
    Scale paper is the paper's own, for a GPU.

    The models that an experiment needs are trained once and shared. The same command continues
    where it was stopped, and computes nothing again that has not changed.
    """
    folder = out or Path("reproduction") / scale
    settings: dict[str, Any] = {"data_dir": str(data_dir.absolute()), "download": download}
    if device is not None:
        settings["device"] = device
    if "list" in names and len(names) > 1:
        raise OnrError("list stands alone: onr reproduce list")
    experiments, failed = _experiments(names, scale)
    found = Reproduction(experiments, scale, folder, settings)
    if "list" in names:
        _list(found, folder)
        return
    failed |= _compute(found, workers)
    claims: list[Claim] = []
    for name in [name for name in found.experiments if name not in failed]:
        try:
            decided = found.write(name)
        except OnrError as error:
            failed[name] = str(error)
            continue
        except Exception as error:  # a plugin's experiment may raise anything
            failed[name] = f"unexpected {type(error).__name__}: {error}"
            continue
        claims += decided
        click.echo(f"{name}: {found.experiments[name].title}, in {folder / name}")
        for claim in decided:
            click.echo(f"  {claim}")
    click.echo(
        f"{sum(claim.held for claim in claims)} of {len(claims)} claims held at scale {scale}; "
        f"next: onr report {folder}"
    )
    if failed:
        raise OnrError("; ".join(f"{name} failed: {why}" for name, why in failed.items()))


def _experiments(
    names: tuple[str, ...], scale: str
) -> tuple[dict[str, Experiment], dict[str, str]]:
    """Load the named experiments; ``all`` and ``list`` stand for every registered one.

    Returns:
        The experiments by name, and the reason for each that ``all`` or ``list`` could not load.

    Raises:
        OnrError: a named experiment is unknown, cannot be loaded, does not know the scale or holds
            a slash in its argument, or no experiment is left.

    """
    offers = registry().offers("experiment")
    given = [name for name in names if name not in EVERYTHING]
    found: dict[str, Experiment] = {}
    failed: dict[str, str] = {}
    for name in given:
        try:
            resolved = registry().resolve("experiment", name)
        except UnknownNameError as error:
            raise OnrError(f"{error}, or all, or list") from error
        rest = f":{resolved.argument}" if resolved.argument else ""
        if "/" in rest or "\\" in rest:
            raise OnrError(f"experiment {name!r}: expected no slash, as it names a folder")
        try:
            experiment = _checked(resolved.load()(), scale)
        except OnrError:
            raise
        except Exception as error:  # a plugin's experiment may raise anything
            raise OnrError(
                f"experiment {name}: unexpected {type(error).__name__}: {error}"
            ) from error
        found[_unique(resolved.plugin, resolved.entry, offers) + rest] = experiment
    if len(given) < len(names):
        for plugin, entry in offers:
            name = _unique(plugin, entry, offers)
            try:
                experiment = _checked(load("experiment", f"{plugin.name}:{entry.name}")(), scale)
            except Exception as error:  # one broken plugin must not stop the others
                failed[name] = str(error) or type(error).__name__
            else:
                found[name] = experiment
    if not found:
        raise OnrError(next(iter(failed.values()), "there are no experiments"))
    return found, failed


def _checked(experiment: Experiment, scale: str) -> Experiment:
    """Return the experiment if it knows the scale and all its measurements have a key."""
    for measurement in experiment.measurements(scale):
        key(measurement)
    return experiment


def _unique(plugin: Plugin, entry: Entry, offers: list[tuple[Plugin, Entry]]) -> str:
    """The name of an experiment, prefixed by its plugin if two plugins offer the name."""
    twice = sum(other.name == entry.name for _, other in offers) > 1
    return f"{plugin.name}:{entry.name}" if twice else entry.name


def _compute(found: Reproduction, workers: int | None) -> dict[str, str]:
    """Train and measure what is missing; return why experiments are unfinished, by name."""
    if not found.missing():
        return {}
    found.check_data()
    sweep = found.needed()
    devices = {model.device for model in sweep.points.values()}
    workers = workers or (usable_cores() if devices <= {"cpu"} else 1)
    left = sweep.unfinished()
    if left:
        click.echo(f"{len(left)} of {len(found.models)} models to train, in {sweep.out}")
        train_points(sweep, workers=min(workers, len(left)))
    groups = found.groups()
    reasons: dict[str, str] = {}
    ready = []
    for group in groups:
        model = group[0][1].model
        name = "" if model is None else config_hash(model)
        if name in sweep.failed:
            reasons |= {each: f"model {name}: {sweep.failed[name]}" for each, _ in group}
        else:
            ready.append(group)
    if ready:
        reasons |= _measure(found, ready, min(workers, len(ready)))
    return {
        name: "; ".join(sorted({reasons.get(each, "was interrupted") for each in missing}))
        for name in found.experiments
        if (missing := found.missing(name))
    }


def _measure(found: Reproduction, groups: list[Group], workers: int) -> dict[str, str]:
    """Make the measurements; return the reason for each that could not be made, by key."""
    total = sum(map(len, groups))
    click.echo(f"{total} measurements to make, in {found.out / 'measurements'}")
    reasons: dict[str, str] = {}

    def made() -> int:
        missing = found.missing()
        return sum(each not in missing for group in groups for each, _ in group)

    columns = TextColumn("measuring"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    try:
        with (
            Progress(*columns, console=Console(stderr=True), transient=True) as progress,
            connected(None, workers=workers) as client,
        ):
            task = progress.add_task("measuring", total=total)
            done: queue.SimpleQueue[Any] = queue.SimpleQueue()
            pending = {}
            for group in groups:
                future = client.submit(measure, group, str(found.out), pure=False)
                pending[future.key] = group, future
                future.add_done_callback(done.put)
            while pending:
                with contextlib.suppress(queue.Empty):
                    group, future = pending.pop(done.get(timeout=POLL).key)
                    reasons |= _reasons(group, future)
                progress.update(task, completed=made())
    except KeyboardInterrupt:
        raise OnrError(
            f"interrupted with {made()} of {total} measurements made: the same command continues"
        ) from None
    return reasons


def _reasons(group: Group, future: Any) -> dict[str, str]:
    """The reason for each measurement of a group that could not be made, by key."""
    if future.status == "finished":
        returned: dict[str, str] = future.result()
        return returned
    return dict.fromkeys([each for each, _ in group], completed(future)["message"])


def _list(found: Reproduction, folder: Path) -> None:
    table = Table(title=f"scale {found.scale}, in {folder}", title_justify="left")
    for column in ("name", "what it shows", "models", "measurements", "minutes"):
        table.add_column(column, justify="left" if column in ("name", "what it shows") else "right")
    costs = json.loads(resources.files(__package__).joinpath("costs.json").read_text())
    known = costs.get(found.scale, {})
    unfinished = set(found.sweep().unfinished())
    for name, experiment in found.experiments.items():
        measured = found.measurements[name]
        needed = len(set(map(key, measured)))
        models = found.models_of(name).keys()
        table.add_row(
            name,
            experiment.title,
            f"{len(models - unfinished)}/{len(models)}",
            f"{needed - len(found.missing(name))}/{needed}",
            _minutes(known.get(name)),
        )
    Console(width=max(100, Console().width)).print(table)
    click.echo(
        "models: trained / needed, many of them shared; measurements: made / needed; "
        "minutes: to train all of an experiment's models + to measure, from nothing"
        f"{', ' + costs['hardware'] if known else ', not measured at this scale'}"
    )


def _minutes(cost: Mapping[str, float] | None) -> str:
    if cost is None:
        return "?"
    digits = 0 if min(cost.values()) >= 1 else 1
    return f"{cost['training']:.{digits}f} + {cost['measuring']:.{digits}f}"
