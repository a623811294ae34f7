"""The command ``onr sweep``."""

from __future__ import annotations

import collections
import re
import tomllib
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from onr.errors import OnrError
from onr.sweeps.cluster import connected, usable_cores
from onr.sweeps.grids import expanded, read_grid
from onr.sweeps.sweep import Sweep
from onr.training.config import TrainConfig

__all__ = ["sweep", "train_points"]


def _settings(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[tuple[str, ...], Any]:
    settings = {}
    for value in values:
        path, equals, text = value.partition("=")
        if not equals or not all(path.split(".")):
            raise click.BadParameter(f"{value!r}: expected SETTING=VALUE")
        settings[tuple(path.replace("-", "_").split("."))] = _value(text)
    return settings


def _value(text: str) -> Any:
    """Read a value as in a grid file, or else as text: ``npz:data/mine`` needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


@click.command()
@click.argument("grids", nargs=-1, required=True, metavar="GRID...")
@click.option("--out", type=click.Path(path_type=Path), help="The sweep's folder.")
@click.option(
    "--set",
    "fixed",
    multiple=True,
    callback=_settings,
    metavar="SETTING=VALUE",
    help="Replace a setting of the grids, such as epochs=5 or method_options.steps=[1,10].",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes on this machine.  [default: one for each core; one in all with a GPU]",
)
@click.option("--scheduler", help="Train on this dask cluster instead, such as tcp://host:8786.")
@click.option("--dashboard", is_flag=True, help="Serve dask's dashboard at 127.0.0.1:8787.")
@click.option("--dry-run", is_flag=True, help="List the points and their state; train nothing.")
def sweep(
    grids: tuple[str, ...],
    out: Path | None,
    fixed: dict[tuple[str, ...], Any],
    workers: int | None,
    scheduler: str | None,
    dashboard: bool,
    dry_run: bool,
) -> None:
    """Train every point of a grid, each in a folder of its own.

    A GRID is a TOML file, or a grid of a plugin such as paper:table3-dd-snr. It has settings as for
    onr train --config and, in [grid], the settings that vary, with lists of values. The points of
    several grids are trained in one sweep.

    The same command continues a sweep that was stopped: finished points are kept, and others go on
    from their checkpoint. sweep.csv and sweep.json have one row for each point.
    """
    if scheduler is not None and (workers is not None or dashboard):
        raise click.UsageError("a --scheduler has its own: leave out --workers, --dashboard")
    points: dict[str, TrainConfig] = {}
    for grid in grids:
        try:
            points |= expanded(read_grid(grid), fixed)
        except OnrError as error:
            raise OnrError(f"grid {grid}: {error}") from error
    names = [Path(grid).stem if grid.endswith(".toml") else grid for grid in grids]
    folder = out or Path("sweeps") / re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(names))
    found = Sweep(points, folder)
    if dry_run:
        _list(found, folder)
        return
    left = found.unfinished()
    click.echo(f"{len(points)} points, {len(left)} to train, in {folder}")
    if left:
        gpu = any(points[name].device != "cpu" for name in left)
        usual = 1 if gpu else min(usable_cores(), len(left))
        train_points(found, workers=workers or usual, scheduler=scheduler, dashboard=dashboard)
    else:
        found.write()
    if found.failed:
        names = [f"{name} ({found.label(name)})" for name in found.failed]
        raise OnrError(
            f"{len(names)} of {len(points)} points failed, {folder / 'sweep.csv'} says why: "
            f"{'; '.join(names)}"
        )
    click.echo(f"done, see {folder / 'sweep.csv'}")


def _list(found: Sweep, folder: Path) -> None:
    rows = found.rows()
    for row in rows:
        done = f"{row['epochs_done']}/{found.points[row['point']].epochs}"
        click.echo(f"{row['point']}  {row['status']:<11}  {done:>7}  {found.label(row['point'])}")
    counts = collections.Counter(row["status"] for row in rows)
    states = ", ".join(f"{count} {status}" for status, count in counts.items())
    click.echo(f"{len(rows)} points: {states}; in {folder}")


def train_points(
    found: Sweep, *, workers: int, scheduler: str | None = None, dashboard: bool = False
) -> None:
    """Train the unfinished points of a sweep, and show the progress.

    Raises:
        OnrError: the sweep was interrupted.

    """
    columns = (
        TextColumn("{task.fields[points]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeRemainingColumn(),
    )
    total = sum(config.epochs for config in found.points.values())

    def done() -> dict[str, Any]:
        finished = len(found.points) - len(found.unfinished())
        epochs = sum(len(found.records(name)) for name in found.points)
        return {"completed": epochs, "points": f"{finished}/{len(found.points)} points"}

    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("", total=total, **done())

            def on_point(name: str, status: str) -> None:
                progress.console.print(
                    f"{name}  {found.label(name)}: {_outcome(found, name, status)}",
                    highlight=False,
                    markup=False,
                    soft_wrap=True,
                )

            with connected(scheduler, workers=workers, dashboard=dashboard) as client:
                if dashboard:
                    progress.console.print(f"dashboard: {client.dashboard_link}")
                found.run(client, on_point, lambda: progress.update(task, **done()))
    except KeyboardInterrupt:
        left = len(found.unfinished())
        raise OnrError(
            f"interrupted with {len(found.points) - left} of {len(found.points)} points finished: "
            "the same command continues"
        ) from None


def _outcome(found: Sweep, name: str, status: str) -> str:
    if status == "busy":
        return "another process trains it, waiting"
    if status == "failed":
        return f"failed, {found.failed[name]}"
    last = found.records(name)[-1]
    robust = last.get("validation_robust_accuracy")
    attacked = "" if robust is None else f", under attack {robust:.1%}"
    return f"validation {last['validation_accuracy']:.1%}{attacked}"
