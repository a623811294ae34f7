"""The command ``onr train``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from onr.cli.options import as_number, model_option, pairs, warn
from onr.errors import OnrError
from onr.registry import bare
from onr.training.config import TrainConfig
from onr.training.factories import run_record
from onr.training.layered_config import absolute, configuration, preset, read_configuration
from onr.training.loop import Training, lengthened, resumed
from onr.training.runs import Run

DEFAULTS = TrainConfig()
METHOD_OPTIONS = ("attack", "p", "q", "loss", "eps", "steps", "alpha", "lam", "form")
"""The options of methods that have a flag of their own."""


def _setting(name: str, help: str | None = None, **more: Any) -> Callable[[Any], Any]:
    """A click option for a field of the configuration; its help shows the default of the field."""
    value = getattr(DEFAULTS, name.replace("-", "_"))
    kind = {bool: bool, int: int}.get(type(value), str)
    more = {"type": kind} | more
    flag = f"--{name}"
    if isinstance(value, bool):
        flag += f"/--no-{name}"
        more = {"default": None} | more
    elif isinstance(value, float):
        more = {"callback": as_number} | more
    if value is not None and not isinstance(value, bool):
        shown = bare(value) if isinstance(value, str) else value
        help = f"{help + ' ' if help else ''}[default: {shown}]"
    return click.option(flag, help=help, **more)


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="A TOML file of settings, or the config.json of a run; command-line options override it.",
)
@click.option("--preset", "preset_name", help="Settings of a plugin, such as paper:cifar10-at-l2.")
@_setting("backend", "torch or numpy, or a plugin's.")
@_setting("device", "cpu, cuda, cuda:1.")
@_setting("dtype", "float32, float64, or bfloat16: products in bfloat16, weights in float32.")
@_setting("dataset", "digits, cifar10, svhn, npz:STEM, stored:NAME, folder:PATH, or a plugin's.")
@_setting("data-dir", "The folder of data files.")
@_setting("download", "Fetch a missing data set, or published weights.")
@_setting("train-images", "The number of images to train on, from the first.", type=int)
@_setting("augment", "none, crop or crop-flip; by default the data set's own.")
@_setting(
    "model",
    "mlp, cnn7, wrn-28-10, torchvision:, timm: or hf:NAME, MODULE:ATTRIBUTE, FILE.py:ATTRIBUTE.",
)
@model_option
@_setting("weights", "Initial weights: a run's folder, .safetensors, or a state dict.")
@_setting("method", "The training method; onr plugins lists all of them.")
@click.option(
    "--attack",
    help=(
        "Method: the attack of at, as for onr evaluate: pga, fgm, torchattacks:NAME, foolbox:NAME, "
        "or a plugin's. [default: pga]"
    ),
)
@click.option("--p", help="Method: the norm of the inputs.")
@click.option("--q", help="Method: the norm of the logits.")
@click.option(
    "--loss",
    help=(
        "Method: the loss that is paid under attack, and that the attack ascends unless it has its "
        "own: cross-entropy, margin, lq:1, or a plugin's."
    ),
)
@click.option("--eps", help="Method: radius, pixels in [0, 1], such as 0.5 or 8/255.")
@click.option("--steps", help="Method: iterations of the attack or of the norm.")
@click.option("--alpha", help="Method: step size, or inf for the power-method limit.")
@click.option("--lam", help="Method: weight of the robust term.")
@click.option("--form", help="Method: difference or jacobian (dd-snr, dd-onr).")
@click.option(
    "--method-option",
    "method_options",
    multiple=True,
    callback=pairs,
    metavar="NAME=VALUE",
    help="Any other option of the method, or of its attack.",
)
@_setting("epochs")
@_setting("batch-size")
@_setting("optimizer", "adam, adamw or sgd.")
@_setting("momentum", "The momentum of sgd.")
@_setting("nesterov", "Use Nesterov momentum, with sgd.")
@_setting(
    "weight-decay", "Added to the gradient; with adamw, the weights shrink by lr times it instead."
)
@_setting("lr", "The peak learning rate.")
@_setting(
    "schedule", "one-cycle, cosine, constant, or steps:0.5,0.75: divide by 10 at these fractions."
)
@_setting(
    "average",
    "Keep an exponential average of the weights too, with this decay, such as 0.999.",
    callback=as_number,
)
@_setting("seed")
@_setting("tensorboard", "Also write TensorBoard events into the run's folder.")
@click.option("--out", type=click.Path(path_type=Path), help="The folder of the run.")
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    help=(
        "Continue the run in this folder; it provides all other options. With --epochs it goes on "
        "to that number, if its schedule is constant."
    ),
)
@click.pass_context
def train(
    ctx: click.Context,
    /,
    config: Path | None,
    preset_name: str | None,
    out: Path | None,
    resume: Path | None,
    **options: Any,
) -> None:
    """Train a classifier and keep the run in a folder.

    The folder holds config.json (resolved options, versions, plugins), metrics.jsonl (one line for
    each epoch), checkpoint.safetensors and best.safetensors. A run that was stopped at any moment
    continues with --resume and ends with the same weights; with --epochs too, a run of a constant
    schedule is lengthened. Under torchrun, the processes share every batch.
    """
    given = {
        name: value
        for name, value in options.items()
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    if resume is not None:
        others = {"out": out, "config": config, "preset": preset_name}
        epochs = given.pop("epochs", None)
        named = [name for name, value in others.items() if value is not None] + list(given)
        if named:
            raise click.UsageError(
                f"--resume takes all options but --epochs from the run: leave out {named}"
            )
        run = Run.open(resume)
        settings = TrainConfig.read(run.config)
        if epochs is not None:
            settings = lengthened(settings, epochs)
    else:
        texts = {name: given.pop(name) for name in METHOD_OPTIONS if name in given}
        given["method_options"] = given.get("method_options", {}) | texts
        layers = [] if preset_name is None else [preset(preset_name)]
        if config is not None:
            layers.append(read_configuration(config))
        written = configuration(*layers, given)
        names = (bare(n) for n in (written.dataset, written.model, written.method))
        name = "-".join([*names, str(written.seed)])
        settings = absolute(written)
    training = Training(settings)
    if resume is None:
        folder = out or Path("runs") / re.sub(r"[^A-Za-z0-9.]+", "-", name)
        record = run_record(settings, training.method)
        first = training.backend.rank == 0
        run = Run.create(folder, record) if first else Run(folder, record)
    with resumed(training, run):
        _finish(training, run)


def _finish(training: Training, run: Run) -> None:
    config, first = training.config, training.backend.rank == 0
    console = Console(stderr=True)
    left = config.epochs - len(training.records)
    if first:
        settings = "".join(f", {name} {value}" for name, value in training.method.settings.items())
        click.echo(
            f"{bare(config.method)} on {bare(config.dataset)}{settings}: "
            f"{len(training.fit)} images, {left} of {config.epochs} epochs to go, in {run.path}"
        )
        for warning in training.warnings():
            warn(warning)
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    try:
        with Progress(*columns, console=console, transient=True, disable=not first) as progress:
            total = config.epochs * training.steps
            task = progress.add_task("", total=total, completed=training.step, epoch="", note="")

            def on_step(epoch: int, step: int) -> None:
                note = ""
                if training.records:
                    note = f"validation {training.records[-1]['validation_accuracy']:.1%}"
                progress.update(task, advance=1, epoch=f"{epoch + 1}/{config.epochs}", note=note)

            def on_epoch(record: dict[str, Any]) -> None:
                if not first:
                    return
                averaged = ""
                if config.average is not None:
                    averaged = f"  averaged {_accuracies(record, 'averaged_')}"
                progress.console.print(
                    f"epoch {record['epoch']:>3}  cost {record['cost']:.4f}  validation "
                    f"{_accuracies(record)}{averaged}  {record['seconds']:.1f} s",
                    highlight=False,
                )
                if "warning" in record:
                    progress.console.print(f"warning: {record['warning']}", highlight=False)

            training.finish(run, on_step, on_epoch)
    except KeyboardInterrupt:
        raise OnrError(
            f"interrupted after {len(training.records)} of {config.epochs} epochs: continue with "
            f"onr train --resume {quote(str(run.path))}"
        ) from None
    if first:
        accuracy = training.records[-1]["validation_accuracy"]
        averaged = " [--averaged]" * (config.average is not None)
        click.echo(
            f"done, validation accuracy {accuracy:.1%}; next: onr evaluate "
            f"{quote(str(run.path))}{averaged}"
        )


def _accuracies(record: dict[str, Any], prefix: str = "") -> str:
    """The validation accuracies of the weights with this prefix, in words."""
    robust = record.get(f"{prefix}validation_robust_accuracy")
    attacked = "" if robust is None else f"  under attack {robust:.1%}"
    return f"{record[f'{prefix}validation_accuracy']:.1%}{attacked}"
