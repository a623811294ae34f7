"""The command ``onr evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.table import Table

from onr.cli.options import as_radii, pairs, show, shown_radius, warn
from onr.cli.progress import progress
from onr.cli.subjects import announce, opened, subject_options
from onr.errors import OnrError
from onr.files import require_writable, write_atomic
from onr.numerals import hundredths
from onr.plots import accuracy_figure, svg
from onr.registry import bare
from onr.training.evaluation import EvaluationConfig, UnfinishedError
from onr.training.evaluation import evaluate as evaluated
from onr.training.subject import require_model

DEFAULTS = EvaluationConfig()


@click.command()
@subject_options("1,000 at most")
@click.option(
    "--eps", callback=as_radii, help="Radii, pixels in [0, 1], such as 0.25,0.5 or 8/255."
)
@click.option("--p", help="Norm of the ball; by default the norm of training, or 2.")
@click.option(
    "--attack",
    default=DEFAULTS.attack,
    help=(
        "multitargeted, pga, fgm, noise, autoattack, torchattacks:NAME, foolbox:NAME, or a "
        f"plugin's.  [default: {bare(DEFAULTS.attack)}]"
    ),
)
@click.option("--loss", help="The loss that pga ascends; by default cross-entropy.")
@click.option("--steps", type=click.IntRange(1), help="Iterations; by default the attack's own.")
@click.option(
    "--restarts", type=click.IntRange(1), help="Random starts; by default the attack's own."
)
@click.option(
    "--attack-option",
    "attack_options",
    multiple=True,
    callback=pairs,
    metavar="NAME=VALUE",
    help="Any other option of the attack, such as passes=100, or alpha=inf for pga.",
)
@click.option(
    "--labels",
    type=click.Choice(["true", "predicted"]),
    default=DEFAULTS.labels,
    show_default=True,
    help="The labels that the attack is given.",
)
@click.option(
    "--target",
    help="Attack towards a class: next, random, least-likely or the number of a class.",
)
@click.option(
    "--spectrum",
    type=click.IntRange(1),
    default=DEFAULTS.spectrum,
    show_default=True,
    help="The number of images at which sigma_1 is computed.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=DEFAULTS.seed,
    show_default=True,
    help="The seed of the attack's random starts.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False, writable=True),
    help=(
        "The folder for the evaluation; required for a MODEL.  [default: RUN, replacing its last "
        "evaluation]"
    ),
)
@click.option("--plot/--no-plot", default=True, show_default=True, help="Write evaluation.svg.")
def evaluate(out: Path | None, plot: bool, **options: Any) -> None:
    """Measure the accuracy of a model, clean and under attack, and its sigma_1.

    RUN is the folder of a run. MODEL is a model as onr train takes it: FILE.py:ATTRIBUTE,
    MODULE:ATTRIBUTE, torchvision:NAME.

    An example counts as robust if the perturbed image that the attack returns is still classified
    correctly. multitargeted, the usual attack, goes from the smallest radius to the largest, and an
    image that is broken at one counts as broken at all larger ones; pga takes the same steps on
    every image at every radius. The command writes evaluation.json, evaluation.csv (one row for
    each example) and evaluation.svg. If it is interrupted or killed, the same command goes on from
    the images that are finished.
    """
    files: tuple[str, ...] = ()
    if plot:
        import matplotlib  # noqa: F401 - report a missing extra before the work, not after

        files = ("evaluation.svg",)
    folder = out
    if folder is None:
        folder = Path(options["subject"])
        if not folder.is_dir() and not options["best"]:
            require_model(options["subject"])
            raise OnrError("a model that is no run has no folder for the evaluation: give --out")
    radii = options.pop("eps")
    options["eps"] = None if radii is None else tuple(radii.values())
    subject = opened(options)
    require_writable(folder, *files)
    failure: UnfinishedError | None = None
    with progress("attacking") as (update, _):
        began = False

        def on_progress(done: int, total: int, record: dict[str, Any] | None) -> None:
            nonlocal began
            update(done, total, _so_far(record) if record else "", kept=not began)
            began = True

        try:
            config = EvaluationConfig(**options)
            found = evaluated(subject, config, on_progress, out=folder, on_warning=warn)
        except UnfinishedError as error:
            found, failure = error.evaluation, error
    record = found.record
    where = announce(subject, record["images"], record["part"])
    trained = "" if subject.run is None else f"{found.name}, "
    table = Table(title=f"{bare(record['attack'])} on {trained}{where}")
    columns = {
        f"eps (p = {record['p']})": _radii(record),
        "accuracy": [f"{hundredths(value)}%" for value in record["accuracy"]],
        "standard error": [f"{value:.1%}" for value in record["standard_error"]],
    }
    if record["target"] is not None:
        success = record["targeted_success"]
        columns["on target"] = ["-" if value is None else f"{value:.1%}" for value in success]
    for name in columns:
        table.add_column(name, justify="right")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    show(table)
    sigma = record["sigma_1"]
    click.echo(
        f"sigma_1 of the logits' Jacobian: mean {sigma['mean']:.3g} over {sigma['images']} images"
    )
    asked = subject.config.epochs
    if subject.epochs is not None and subject.epochs < asked and not subject.best:
        click.echo(f"the run is not finished: {subject.epochs} of {asked} epochs")
    if failure is not None:
        raise failure
    written = "evaluation.json, evaluation.csv"
    if plot:
        figure = accuracy_figure([found.curve], p=record["p"], trained=found.trained_eps)
        write_atomic(folder / "evaluation.svg", svg(figure))
        written += ", evaluation.svg"
    click.echo(f"written to {folder}: {written}")


def _radii(record: dict[str, Any]) -> list[str]:
    """The radii of a record as they were written, with their numbers."""
    pairs = zip(record["eps"], record["eps_written"], strict=True)
    return [shown_radius(eps, text) if eps else "clean" for eps, text in pairs]


def _so_far(record: dict[str, Any]) -> str:
    """The accuracies of the images that are finished."""
    pairs = zip(record["eps_written"], record["accuracy"], strict=True)
    return "accuracy " + ", ".join(f"{value:.1%} at {text}" for text, value in pairs)
