"""``onr evaluate``."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from onr.data import Split
from onr.errors import OnrError
from onr.evaluation import attack_accuracy, largest_singular_values, predict
from onr.options import number
from onr.plots import Curve, accuracy_figure, svg
from onr.registry import load, norm_spec, served
from onr.registry import norm as norm_named
from onr.runs import Run, write_atomic
from onr.training import TrainConfig, validation_split, versions


def _radii(ctx: click.Context, param: click.Parameter, value: str | None) -> list[float] | None:
    if value is None:
        return None
    try:
        radii = [number(text) for text in value.split(",")]
    except OnrError as error:
        raise click.BadParameter(str(error)) from error
    if not all(0 < radius < math.inf for radius in radii):
        raise click.BadParameter(
            f"{value!r}: expected positive numbers, as 0.25,0.5 or 4/255,8/255"
        )
    return sorted(radii)


@click.command()
@click.argument("path", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--eps", callback=_radii, help="Radii, pixels in [0, 1], as 0.25,0.5 or 8/255.")
@click.option("--p", help="Norm of the ball; by default that of training, or 2.")
@click.option("--attack", default="pga", show_default=True)
@click.option("--loss", default="cross-entropy", show_default=True, help="What the attack ascends.")
@click.option("--steps", type=int, default=20, show_default=True)
@click.option("--restarts", type=int, default=1, show_default=True)
@click.option("--images", type=int, help="The first so many images; by default 1,000 at most.")
@click.option(
    "--part",
    type=click.Choice(["test", "validation"]),
    default="test",
    show_default=True,
    help="validation: images of the training part that no run trains on, for tuning.",
)
@click.option(
    "--spectrum", type=int, default=200, show_default=True, help="Images to find sigma_1 of."
)
@click.option("--device", help="By default that of training.")
@click.option("--data-dir", help="By default that of training.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the attack's starts.")
@click.option("--plot/--no-plot", default=True, show_default=True)
def evaluate(path: Path, **options: Any) -> None:
    """Measure the run in the folder RUN: accuracy, clean and under attack, and sigma_1.

    Attacks use the true labels, and count an example as robust if the evaluated iterate of largest
    loss is still classified as its label. Writes evaluation.json, evaluation.csv (a row an example)
    and evaluation.svg into the folder.
    """
    run = Run.open(path)
    parameters, epochs = run.load()
    stored = dict(run.config.get("train", {}))
    for name in ("device", "data_dir"):
        if options[name] is not None:
            stored[name] = options[name]
    config = TrainConfig.read({"train": stored})
    settings = run.config.get("settings", {})
    if options["plot"]:
        import matplotlib  # noqa: F401 - say that the extra is missing before the work, not after

    norm = norm_named(options["p"] or str(settings.get("p", "2")))
    trained = float(settings["eps"]) if settings.get("p") == norm.name else None
    radii = options["eps"]
    if radii is None:
        if trained is None and norm.name != "2":
            raise OnrError(f"give --eps: the run was not trained with norm {norm.name}")
        radii = [factor * (trained or 0.5) for factor in (0.25, 0.5, 1.0, 1.5)]

    dataset, backend = config.dataset_object(), config.backend_object()
    part: Split = dataset.test if options["part"] == "test" else validation_split(dataset.train)[1]
    part = part.take(options["images"] or min(1000, len(part)))
    model = {k[len("model.") :]: v for k, v in parameters.items() if k.startswith("model.")}
    network = config.network(backend, dataset, model)
    loss = load("loss", options["loss"])()
    attacks = [
        load("attack", options["attack"])(
            p=norm,
            loss=loss,
            eps=eps,
            steps=options["steps"],
            restarts=options["restarts"],
            bounds=(0.0, 1.0),
        )
        for eps in radii
    ]

    guessed = predict(backend, network, part.images)
    columns: dict[str, np.ndarray] = {"label": part.labels, "predicted": guessed}
    accuracy = [float(np.mean(guessed == part.labels))]
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("attacking", total=len(radii) * len(part))
        for index, (eps, attack) in enumerate(zip(radii, attacks, strict=True)):
            outcome = attack_accuracy(
                backend,
                network,
                attack,
                part,
                norm=norm,
                seed=(options["seed"], index),
                on_batch=lambda done, index=index: progress.update(  # type: ignore[misc]  # a default is how a loop variable is bound
                    task, completed=index * len(part) + done
                ),
            )
            columns[f"correct at {eps:g}"] = outcome.correct.astype(int)
            columns[f"perturbation at {eps:g}"] = outcome.size
            accuracy.append(float(np.mean(outcome.correct)))
        sigma = largest_singular_values(backend, network, part.images[: options["spectrum"]])

    result = {
        "run": run.config,
        "epochs": epochs,
        "part": options["part"],
        "images": len(part),
        "p": norm.name,
        "attack": options["attack"],
        "loss": loss.name,
        "labels": "true",
        "steps": options["steps"],
        "restarts": options["restarts"],
        "seed": options["seed"],
        "eps": [0.0, *radii],
        "accuracy": accuracy,
        "sigma_1": {"images": len(sigma), "mean": float(sigma.mean()), "max": float(sigma.max())},
        "versions": versions(),
        "served": served(
            {
                "norm/p": norm_spec(norm.name),
                "attack": options["attack"],
                "loss": options["loss"],
            }
        ),
    }
    write_atomic(path / "evaluation.json", (json.dumps(result, indent=2) + "\n").encode())
    write_atomic(path / "evaluation.csv", _csv(columns))
    written = "evaluation.json, evaluation.csv"
    if options["plot"]:
        curve = Curve(config.method, [0.0, *radii], accuracy, len(part))
        write_atomic(
            path / "evaluation.svg", svg(accuracy_figure([curve], p=norm.name, trained=trained))
        )
        written += ", evaluation.svg"

    table = Table(
        title=f"{config.method} on {config.dataset}, {len(part)} {options['part']} images"
    )
    table.add_column(f"eps ({norm.name}-norm)", justify="right")
    table.add_column("accuracy", justify="right")
    table.add_column("standard error", justify="right")
    for eps, value in zip([0.0, *radii], accuracy, strict=True):
        error = math.sqrt(value * (1 - value) / len(part))
        table.add_row("clean" if eps == 0 else f"{eps:.4g}", f"{value:.1%}", f"{error:.1%}")
    Console().print(table)
    click.echo(f"sigma_1 of the logits' Jacobian: mean {sigma.mean():.3g} over {len(sigma)} images")
    if epochs < config.epochs:
        click.echo(f"the run is not finished: {epochs} of {config.epochs} epochs")
    click.echo(f"written to {path}: {written}")


def _csv(columns: dict[str, np.ndarray]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["example", *columns])
    for index, row in enumerate(zip(*columns.values(), strict=True)):
        writer.writerow([index, *row])
    return text.getvalue().encode()
