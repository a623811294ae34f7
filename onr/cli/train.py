"""``onr train``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from onr.errors import OnrError
from onr.options import number
from onr.runs import Run
from onr.training import TrainConfig, Training

DEFAULTS = TrainConfig()
METHOD_OPTIONS = ("p", "q", "loss", "eps", "steps", "alpha", "lam", "form")


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{value!r}: expected NAME=VALUE")
        pairs[name.replace("-", "_")] = text
    return pairs


def _number(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    try:
        return None if value is None else number(value)
    except OnrError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.option("--backend", default=DEFAULTS.backend, show_default=True)
@click.option("--device", default=DEFAULTS.device, show_default=True, help="cpu, cuda, cuda:1.")
@click.option("--dtype", default=DEFAULTS.dtype, show_default=True, help="float32 or float64.")
@click.option(
    "--dataset",
    default=DEFAULTS.dataset,
    show_default=True,
    help="digits, cifar10, svhn, npz:STEM, folder:PATH, or a plugin's.",
)
@click.option("--data-dir", default=DEFAULTS.data_dir, show_default=True, help="Where files are.")
@click.option("--download", is_flag=True, help="Fetch a missing data set into --data-dir.")
@click.option("--train-images", type=int, help="Train on the first so many images.")
@click.option("--augment", help="none, crop or crop-flip; by default what suits the data set.")
@click.option("--model", default=DEFAULTS.model, show_default=True)
@click.option(
    "--model-option",
    "model_options",
    multiple=True,
    callback=_pairs,
    metavar="NAME=VALUE",
    help="An option of the model, as width=16.",
)
@click.option("--method", default=DEFAULTS.method, show_default=True)
@click.option("--p", help="Method: the norm of the inputs.")
@click.option("--q", help="Method: the norm of the logits.")
@click.option("--loss", help="Method: what the attack ascends, as cross-entropy or lq:1.")
@click.option("--eps", help="Method: radius, pixels in [0, 1], as 0.5 or 8/255.")
@click.option("--steps", help="Method: iterations of the attack or of the norm.")
@click.option("--alpha", help="Method: step size, or inf for the power-method limit.")
@click.option("--lam", help="Method: weight of the robust term.")
@click.option("--form", help="Method: difference or jacobian (dd-snr, dd-onr).")
@click.option(
    "--method-option",
    "method_options",
    multiple=True,
    callback=_pairs,
    metavar="NAME=VALUE",
    help="Any other option of a plugin's method.",
)
@click.option("--epochs", type=int, default=DEFAULTS.epochs, show_default=True)
@click.option("--batch-size", type=int, default=DEFAULTS.batch_size, show_default=True)
@click.option("--optimizer", default=DEFAULTS.optimizer, show_default=True, help="adam or sgd.")
@click.option(
    "--lr",
    default=str(DEFAULTS.lr),
    show_default=True,
    callback=_number,
    help="Peak of a one-cycle schedule.",
)
@click.option("--seed", type=int, default=DEFAULTS.seed, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder.")
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    help="Continue the run in this folder; all other options come from it.",
)
@click.pass_context
def train(ctx: click.Context, /, out: Path | None, resume: Path | None, **options: Any) -> None:
    """Train a classifier and keep the run in a folder.

    The folder holds config.json (resolved options, versions, plugins), metrics.jsonl (a line an
    epoch) and checkpoint.safetensors. A run that was stopped goes on from its last whole epoch with
    --resume and ends with the same weights.
    """
    if resume is not None:
        given = [
            name
            for name in ("out", *options)
            if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        ]
        if given:
            raise click.UsageError(f"--resume takes all options from the run: leave out {given}")
        run = Run.open(resume)
        training = Training(TrainConfig.read(run.config))
        training.resume(run)
    else:
        method_options = options.pop("method_options")
        for name in METHOD_OPTIONS:
            text = options.pop(name)
            if text is not None:
                method_options[name] = text
        config = TrainConfig(method_options=method_options, **options)
        kind, colon, place = config.dataset.rpartition(":")
        if kind.rpartition(":")[2] in ("npz", "folder"):
            place = str(Path(place).absolute())
        config = dataclasses.replace(
            config,
            data_dir=str(Path(config.data_dir).absolute()),
            dataset=f"{kind}{colon}{place}",
        )
        name = f"{config.dataset.partition(':')[0]}-{config.model}-{config.method}-{config.seed}"
        training = Training(config)
        run = Run.create(out or Path("runs") / name, config.record(training.method))
    _finish(training, run)


def _finish(training: Training, run: Run) -> None:
    config = training.config
    console = Console(stderr=True)
    left = config.epochs - len(training.records)
    settings = "".join(f", {name} {value}" for name, value in training.method.settings.items())
    click.echo(
        f"{config.method} on {config.dataset}{settings}: {len(training.fit)} images, "
        f"{left} of {config.epochs} epochs to go, in {run.path}"
    )
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("", total=left * training.steps, epoch="", note="")

            def on_step(epoch: int, step: int) -> None:
                note = ""
                if training.records:
                    note = f"validation {training.records[-1].get('validation_accuracy', 0):.1%}"
                progress.update(task, advance=1, epoch=f"{epoch + 1}/{config.epochs}", note=note)

            def on_epoch(record: dict[str, Any]) -> None:
                progress.console.print(
                    f"epoch {record['epoch']:>3}  cost {record['cost']:.4f}  "
                    f"validation {record['validation_accuracy']:.1%}  {record['seconds']:.1f} s",
                    highlight=False,
                )

            training.finish(run, on_step, on_epoch)
    except KeyboardInterrupt:
        raise OnrError(
            f"interrupted after {len(run.records())} of {config.epochs} epochs: continue with "
            f"onr train --resume {run.path}"
        ) from None
    last = training.records[-1]
    accuracy = last.get("validation_accuracy")
    measured = "" if accuracy is None else f", validation accuracy {accuracy:.1%}"
    click.echo(f"done{measured}; next: onr evaluate {run.path}")
