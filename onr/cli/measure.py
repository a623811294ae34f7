"""``onr measure``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from onr.cli.options import as_number, as_radii, model_option
from onr.errors import OnrError
from onr.experiments import Row, Subject
from onr.measurements.alignment import alignment
from onr.measurements.linearity import linearity
from onr.measurements.norms import norms
from onr.measurements.spectrum import spectrum
from onr.plots import svg
from onr.training.layers import absolute
from onr.training.loop import TrainConfig
from onr.training.runs import Run, write_atomic
from onr_validation.reproduction.drawing import chosen, legend, line, panels
from onr_validation.reproduction.results import csv_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["measure"]

PRINTED_RANKS = 10
DEFAULTS = TrainConfig()
OPTIONS = (
    click.argument("model"),
    model_option,
    click.option("--weights", help="A run's folder, .safetensors, or a state dict."),
    click.option("--dataset", help=f"As for onr train.  [default: {DEFAULTS.dataset}]"),
    click.option("--data-dir", help=f"Where files are.  [default: {DEFAULTS.data_dir}]"),
    click.option("--device", help=f"cpu, cuda, cuda:1.  [default: {DEFAULTS.device}]"),
    click.option(
        "--images",
        type=click.IntRange(1),
        default=100,
        show_default=True,
        help="The first so many of the test part.",
    ),
    click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False, writable=True),
        help="A folder for the table (CSV) and the picture (SVG).",
    ),
)


ATTACK_NORM = click.option("--p", default="2", show_default=True, help="Norm of the attack.")
RADII = click.option(
    "--eps", "radii", required=True, callback=as_radii, help="Radii, as 0.25,0.5 or 8/255."
)


def _of_a_model(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.group()
def measure() -> None:
    """Measure a model's Jacobian around data, in float32 (runs of float64: in that).

    MODEL is the folder of a run, or a model as onr train takes it: FILE.py:ATTRIBUTE,
    MODULE:ATTRIBUTE, torchvision:NAME. Attacks are those of onr reproduce: ten steps on the
    cross-entropy from a random start; eps is in pixels in [0, 1].
    """


@measure.command(name="norms")
@_of_a_model
@click.option("--p", default="2", show_default=True, help="Norm of the inputs.")
@click.option("--q", default="2", show_default=True, help="Norm of the logits.")
def norms_command(p: str, q: str, **model: Any) -> None:
    """The (p, q) operator norm of the logits' Jacobian: exact, both bounds, or the lower one."""
    _measure("norms", lambda subject, images: norms(subject, p=p, q=q, images=images), **model)


@measure.command(name="spectrum")
@_of_a_model
@ATTACK_NORM
@click.option("--eps", required=True, callback=as_number, help="Its radius, as 0.5 or 8/255.")
def spectrum_command(p: str, eps: float, **model: Any) -> None:
    """The features' singular values, and how an attack aligns with their vectors (Fig. 2)."""

    def found(subject: Subject, images: int) -> list[Row]:
        rows = spectrum(subject, p=p, eps=eps, images=images)
        return [row for row in rows if row["of"] != "random"]  # a model of one's own is not drawn

    def figure(rows: Sequence[Row]) -> Figure:
        return _figure(rows, ("singular value", "cosine"), "rank", "of", "rank")

    _measure("spectrum", found, figure, **model)


@measure.command(name="alignment")
@_of_a_model
@ATTACK_NORM
@RADII
def alignment_command(p: str, radii: tuple[float, ...], **model: Any) -> None:
    """How attacks align with the dominant singular vector of the logits' Jacobian (Fig. 8)."""

    def figure(rows: Sequence[Row]) -> Figure:
        return _figure(rows, ("cosine", "correlation"), "eps", "direction", f"eps, {p}-norm")

    _measure(
        "alignment",
        lambda subject, images: alignment(subject, p=p, radii=radii, images=images),
        figure,
        **model,
    )


@measure.command(name="linearity")
@_of_a_model
@ATTACK_NORM
@RADII
def linearity_command(p: str, radii: tuple[float, ...], **model: Any) -> None:
    """How far the features are linear, and their largest singular value (Fig. 4)."""

    def figure(rows: Sequence[Row]) -> Figure:
        quantities = ("deviation", "relative deviation", "sigma_1")
        return _figure(rows, quantities, "distance", "direction", "||z||, 2-norm")

    _measure(
        "linearity",
        lambda subject, images: linearity(subject, p=p, radii=radii, images=images),
        figure,
        **model,
    )


def _measure(
    what: str,
    function: Callable[[Subject, int], list[Row]],
    figure: Callable[[Sequence[Row]], Figure] | None = None,
    *,
    images: int,
    out: Path | None,
    **model: Any,
) -> None:
    if out is not None and figure is not None:
        import matplotlib  # noqa: F401 - say that the extra is missing before the work, not after
    subject = _subject(**model)
    with Console(stderr=True).status(f"measuring {what} at {images} images"):
        rows = function(subject, images)
    columns = [name for name in rows[0] if name not in ("mean", "standard_error", "images")]
    table = Table(title=f"{what} of {model['model']}, {images} images of {subject.config.dataset}")
    for name in (*columns, "mean", "standard error"):
        table.add_column(name, justify="left" if isinstance(rows[0].get(name), str) else "right")
    for row in rows:
        if row.get("rank", 0) <= PRINTED_RANKS:
            texts = [_text(row[name]) for name in (*columns, "mean", "standard_error")]
            table.add_row(*texts)
    Console().print(table)
    if out is not None:
        written = [f"{what}.csv"]
        write_atomic(out / written[0], csv_table(rows))
        if figure is not None:
            written.append(f"{what}.svg")
            write_atomic(out / written[1], svg(figure(rows)))
        click.echo(f"written to {out}: {', '.join(written)}")


def _subject(
    model: str,
    model_options: dict[str, str],
    weights: str | None,
    dataset: str | None,
    data_dir: str | None,
    device: str | None,
) -> Subject:
    """The model, with the weights of its run or with those that it has."""
    moved: dict[str, Any] = {"data_dir": data_dir, "device": device}
    moved = {name: value for name, value in moved.items() if value is not None}
    own = {"--weights": weights, "--dataset": dataset, "--model-option": model_options}
    given = [flag for flag, value in own.items() if value]
    if not Path(model).is_dir():
        config = TrainConfig(
            model=model,
            model_options=model_options,
            weights=weights,
            dataset=dataset or DEFAULTS.dataset,
            **moved,
        )
        return Subject(absolute(config))
    if given:
        raise OnrError(f"{model} is a run, which has its own: leave out {', '.join(given)}")
    run = Run.open(Path(model))
    parameters, _ = run.model()
    return Subject(replace(TrainConfig.read(run.config), **moved), parameters)


def _figure(
    rows: Sequence[Row], quantities: Sequence[str], x: str, series: str, xlabel: str
) -> Figure:
    """A panel a quantity, a line a series, standard errors shaded."""
    figure, axes = panels(*quantities)
    for axis, quantity in zip(axes, quantities, strict=True):
        mine = chosen(rows, quantity=quantity)
        for index, name in enumerate(dict.fromkeys(row[series] for row in mine)):
            line(axis, chosen(mine, **{series: name}), x, label=name, color=f"C{index}")
        axis.set(xlabel=xlabel, ylabel=quantity)
        axis.set_ylim(bottom=0)
    legend(figure)
    return figure


def _text(value: str | float | None) -> str:
    return value if isinstance(value, str) else "-" if value is None else f"{value:.4g}"
