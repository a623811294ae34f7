"""``onr evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from onr.cli.options import as_radii, pairs
from onr.plots import accuracy_figure, svg
from onr.training.evaluation import EvaluationConfig, evaluate_run
from onr.training.runs import Run, write_atomic

DEFAULTS = EvaluationConfig()


@click.command()
@click.argument("path", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--eps", callback=as_radii, help="Radii, pixels in [0, 1], as 0.25,0.5 or 8/255.")
@click.option("--p", help="Norm of the ball; by default that of training, or 2.")
@click.option(
    "--attack",
    default=DEFAULTS.attack,
    show_default=True,
    help="pga, fgm, noise, autoattack, torchattacks:NAME, foolbox:NAME, or a plugin's.",
)
@click.option("--loss", help="What the attack ascends; by default cross-entropy.")
@click.option("--steps", type=click.IntRange(1), help="By default the attack's own: 20 for pga.")
@click.option("--restarts", type=click.IntRange(1), help="By default the attack's own: 1 for pga.")
@click.option(
    "--attack-option",
    "attack_options",
    multiple=True,
    callback=pairs,
    metavar="NAME=VALUE",
    help="Any other option of the attack, as alpha=inf.",
)
@click.option(
    "--labels",
    type=click.Choice(["true", "predicted"]),
    default=DEFAULTS.labels,
    show_default=True,
    help="Which labels the attack knows.",
)
@click.option(
    "--target",
    help="Lead to a class, by targeted-cross-entropy: next, random, least-likely or its number.",
)
@click.option(
    "--images", type=click.IntRange(1), help="The first so many images; by default 1,000 at most."
)
@click.option(
    "--part",
    type=click.Choice(["test", "validation"]),
    default=DEFAULTS.part,
    show_default=True,
    help="validation: images of the training part that no run trains on, for tuning.",
)
@click.option(
    "--spectrum",
    type=click.IntRange(1),
    default=DEFAULTS.spectrum,
    show_default=True,
    help="Images to find sigma_1 at.",
)
@click.option("--best", is_flag=True, help="The epoch of best validation accuracy, not the last.")
@click.option("--device", help="By default that of training.")
@click.option("--data-dir", help="By default that of training.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=DEFAULTS.seed,
    show_default=True,
    help="Of the attack's starts.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False, writable=True),
    help="Where the evaluation goes; by default the run's folder, over the last one.",
)
@click.option("--plot/--no-plot", default=True, show_default=True)
def evaluate(path: Path, out: Path | None, plot: bool, **options: Any) -> None:
    """Measure the run in the folder RUN: accuracy, clean and under attack, and sigma_1.

    An example counts as robust if the iterate that the attack returns, for pga the evaluated one
    of largest loss, is still classified as its true label. Writes evaluation.json, evaluation.csv
    (a row an example) and evaluation.svg.
    """
    run = Run.open(path)
    out = out or run.path
    if plot:
        import matplotlib  # noqa: F401 - say that the extra is missing before the work, not after
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("attacking", total=None)
        found = evaluate_run(
            run,
            EvaluationConfig(**options),
            lambda done, total: progress.update(task, completed=done, total=total),
            out=out,
        )
    record = found.record
    written = "evaluation.json, evaluation.csv"
    if plot:
        figure = accuracy_figure([found.curve], p=record["p"], trained=found.trained_eps)
        write_atomic(out / "evaluation.svg", svg(figure))
        written += ", evaluation.svg"

    train = record["run"]["train"]
    count = f"{record['images']} {record['part']} images"
    table = Table(title=f"{train['method']} on {train['dataset']}, {count}")
    columns = {
        f"eps ({record['p']}-norm)": [f"{eps:.4g}" if eps else "clean" for eps in record["eps"]],
        "accuracy": [f"{value:.1%}" for value in record["accuracy"]],
        "standard error": [f"{value:.1%}" for value in record["standard_error"]],
    }
    if record["target"] is not None:
        success = record["targeted_success"]
        columns["on target"] = ["-" if value is None else f"{value:.1%}" for value in success]
    for name in columns:
        table.add_column(name, justify="right")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    Console().print(table)
    sigma = record["sigma_1"]
    click.echo(
        f"sigma_1 of the logits' Jacobian: mean {sigma['mean']:.3g} over {sigma['images']} images"
    )
    if record["epochs"] < train["epochs"] and not record["best"]:
        click.echo(f"the run is not finished: {record['epochs']} of {train['epochs']} epochs")
    click.echo(f"written to {out}: {written}")
