"""The command ``onr measure``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.status import Status
from rich.table import Table

from onr.arrays import to_numpy
from onr.cli.options import as_radii, as_radius, show, warn
from onr.cli.progress import progress
from onr.cli.subjects import announce, opened, subject_options
from onr.feasible import doubt
from onr.files import require_writable, write_atomic
from onr.measurements.accuracy import accuracy
from onr.measurements.alignment import alignment
from onr.measurements.fingerprint import fingerprint
from onr.measurements.linearity import linearity
from onr.measurements.norms import norms
from onr.measurements.spectrum import spectrum
from onr.parts import StoredParts
from onr.plots import Curve, accuracy_figure, chosen, legend, line, panels, svg
from onr.records import columns_as_rows, csv_table
from onr.text import norm as norm_named
from onr.training.factories import versions
from onr.typing import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["measure"]

PRINTED_RANKS = 10
"""The largest rank that the printed table shows; the CSV has all."""
DIGITS = 6
"""Significant digits in a table. Measurements use float32, so that more digits would be noise."""

TIMED = 5
"""The pass after which the pace of the passes is said."""

Function = Callable[..., list[Row]]
"""Called with a network, inputs, labels, and the ``seed`` of the attack's starts."""
Progress = Callable[[int, int], None]
"""Called with the passes that are done and all, each counted once for each image."""

OF_A_MODEL = subject_options("100")
OUT = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False, writable=True),
    help="A folder for the table (CSV) and the picture (SVG).",
)
ATTACK_NORM = click.option("--p", default="2", show_default=True, help="The norm of the attack.")
RADII = click.option(
    "--eps",
    required=True,
    callback=as_radii,
    help="Radii of the attack, such as 0.25,0.5 or 8/255.",
)


@click.group()
def measure() -> None:
    """Measure a model around the images of a data set.

    RUN is the folder of a run. MODEL is a model as for onr train: FILE.py:ATTRIBUTE,
    MODULE:ATTRIBUTE, torchvision:NAME. Models compute in float32, and runs of float64 in float64.

    Accuracy is that under multitargeted, as in onr evaluate, which offers other attacks. The other
    measurements use the attack of the paper: ten steps on the cross-entropy from a random start.
    eps is in pixels in [0, 1].

    With --out, the same command goes on from the images that are finished if it was interrupted or
    killed.
    """


@measure.command(name="accuracy")
@OF_A_MODEL
@ATTACK_NORM
@RADII
@OUT
def accuracy_command(p: str, eps: dict[float, str], **options: Any) -> None:
    """The accuracy on clean images, and under multitargeted at each radius.

    This is an upper bound on the accuracy under the best attack. onr evaluate takes other attacks.
    """
    norm = norm_named(p)

    def figure(rows: Sequence[Row]) -> Figure:
        points = sorted((row["eps"], row["mean"]) for row in rows)
        radii, shares = ([point[axis] for point in points] for axis in (0, 1))
        return accuracy_figure([Curve("accuracy", radii, shares, rows[0]["images"])], p=norm.name)

    correct: dict[float, list[np.ndarray]] = {}

    def found(values: Mapping[str, np.ndarray]) -> str:
        for radius in (0.0, *eps):
            correct.setdefault(radius, []).append(values[repr(radius)])
        shares = (np.concatenate(each).mean() for each in correct.values())
        pairs = zip(shares, ("0", *eps.values()), strict=True)
        return "accuracy " + ", ".join(f"{share:.1%} at {text}" for share, text in pairs)

    for told in filter(None, (doubt(norm, radius) for radius in eps)):
        warn(told)
    measured = partial(accuracy, p=norm, eps=list(eps))
    _measure("accuracy", measured, figure, found, p=p, eps=eps, **options)
    click.echo("the attack: multitargeted; a stronger one can only find less")


@measure.command(name="norms")
@OF_A_MODEL
@click.option("--p", default="2", show_default=True, help="The norm of the inputs.")
@click.option("--q", default="2", show_default=True, help="The norm of the logits.")
@OUT
def norms_command(p: str, q: str, **options: Any) -> None:
    """The (p, q) operator norm of the logits' Jacobian: exact, a bracket, or a lower bound.

    Exact for p = 1, q = inf and (2, 2), and for q = 1 up to 16 logits. Beyond 64 logits it takes a
    backward pass for each logit, for (2, 2) a forward pass as well; the command says how long after
    the first few. The rows are means over the images of the lower bound, the upper bound and their
    quotient; least is the smallest quotient. --out also writes norms-images.csv, a row for each
    image.
    """
    domain, codomain = norm_named(p), norm_named(q)

    def function(
        f: Any, x: Any, y: Any, *, seed: int, parts: StoredParts, on_progress: Progress
    ) -> list[Row]:
        return norms(f, x, y, p=domain, q=codomain, on_progress=on_progress, parts=parts)

    each = ("kind", "lower", "upper")
    _measure("norms", function, paced=True, each=each, p=p, q=q, **options)


@measure.command(name="spectrum")
@OF_A_MODEL
@ATTACK_NORM
@click.option(
    "--eps",
    required=True,
    callback=as_radius,
    help="The radius of the attack, such as 0.5 or 8/255.",
)
@OUT
def spectrum_command(p: str, eps: float, **options: Any) -> None:
    """The singular values of the features, and how attacks align with their vectors (Fig. 2)."""
    norm = norm_named(p)

    def figure(rows: Sequence[Row]) -> Figure:
        return _figure(rows, ("singular value", "cosine"), "rank", "of", "rank")

    _measure("spectrum", partial(spectrum, p=norm, eps=eps), figure, p=p, radius=eps, **options)


@measure.command(name="alignment")
@OF_A_MODEL
@ATTACK_NORM
@RADII
@OUT
def alignment_command(p: str, eps: dict[float, str], **options: Any) -> None:
    """How the attack aligns with the dominant singular vector of the logits (Fig. 8)."""
    norm = norm_named(p)

    def figure(rows: Sequence[Row]) -> Figure:
        return _figure(rows, ("cosine", "correlation"), "eps", "direction", f"eps, p = {p}")

    _measure(
        "alignment", partial(alignment, p=norm, eps=list(eps)), figure, p=p, eps=eps, **options
    )


@measure.command(name="linearity")
@OF_A_MODEL
@ATTACK_NORM
@RADII
@OUT
def linearity_command(p: str, eps: dict[float, str], **options: Any) -> None:
    """How far the features deviate from linear, and their largest singular value (Fig. 4)."""
    norm = norm_named(p)

    def figure(rows: Sequence[Row]) -> Figure:
        quantities = ("deviation", "relative deviation", "sigma_1")
        return _figure(rows, quantities, "distance", "direction", "||z||, 2-norm")

    _measure(
        "linearity", partial(linearity, p=norm, eps=list(eps)), figure, p=p, eps=eps, **options
    )


def _measure(
    what: str,
    function: Function,
    figure: Callable[[Sequence[Row]], Figure] | None = None,
    so_far: Callable[[Mapping[str, np.ndarray]], str] = lambda values: "",
    *,
    images: int,
    part: str,
    out: Path | None,
    p: str,
    q: str | None = None,
    eps: Mapping[float, str] = MappingProxyType({}),
    radius: float | None = None,
    paced: bool = False,
    each: Sequence[str] = (),
    **options: Any,
) -> None:
    """Measure, print the table and write it.

    Args:
        what: the name of the measurement.
        function: measures.
        figure: draws the rows.
        so_far: called with the values of each batch; says what is known.
        images: the number of images.
        part: the part of the data set.
        out: the folder for the table and the figure.
        p: a setting of ``function``, by which finished batches are found again.
        q: another.
        eps: another, with the texts of the radii, which the table shows.
        radius: another.
        paced: whether the function takes ``on_progress``.
        each: the values of ``function`` that are written for each image, too.
        options: what opens the model.

    """
    files = [f"{what}.csv"] + [f"{what}.svg"] * (figure is not None)
    files += [f"{what}-images.csv"] * bool(each)
    if out is not None and figure is not None:
        import matplotlib  # noqa: F401 - report a missing extra before the work, not after
    subject = opened(options)
    x, y = subject.inputs(images, part)
    result = None
    key: dict[str, Any] = {"p": p, "q": q, "eps": list(eps), "radius": radius, "part": part}
    if out is not None:
        require_writable(out, *files)
        result = out / files[0]
        model = fingerprint(subject.network, x, to_numpy(y))
        key |= {"seed": subject.config.seed, "versions": versions(), "model": model}
    text = f"measuring {what} of {announce(subject, images, part)}"
    of_images: dict[str, list[Any]] = {}
    with progress(text) as (update, status):

        def on_part(done: int, values: Mapping[str, np.ndarray], kept: bool) -> None:
            for name in each:
                if repr(name) in values:
                    of_images.setdefault(name, []).extend(values[repr(name)].tolist())
            update(done, len(x), so_far(values), kept)

        parts = StoredParts(result, key, on_part)
        more = {"on_progress": _paced(status, text, len(x))} if paced else {}
        rows = function(subject.network, x, y, seed=subject.config.seed, parts=parts, **more)
    rows = [_written(row, {0.0: "0", **eps}) for row in rows]
    columns = [name for name in rows[0] if name not in ("mean", "standard_error", "images")]
    table = Table(title=f"{what} of {announce(subject, images, part)}")
    for name in (*columns, "mean", "standard error"):
        table.add_column(name, justify="left" if isinstance(rows[0].get(name), str) else "right")
    for row in rows:
        if row.get("rank", 0) <= PRINTED_RANKS:
            texts = [_text(row[name]) for name in (*columns, "mean", "standard_error")]
            table.add_row(*texts)
    show(table)
    if out is not None:
        write_atomic(out / files[0], csv_table(rows, digits=DIGITS))
        if figure is not None:
            write_atomic(out / files[1], svg(figure(rows)))
        if each:
            held = subject.part(part, images)
            named = {"example": range(images)} | ({"file": held.files} if held.files else {})
            whole = columns_as_rows(named | {"label": held.labels.tolist()} | of_images)
            write_atomic(out / files[-1], csv_table(whole, digits=DIGITS))
        parts.remove()
        click.echo(f"written to {out}: {', '.join(files)}")
        if told := parts.others():
            warn(told)


def _written(row: Row, texts: Mapping[float, str]) -> Row:
    """The row with the text of its radius, as the user wrote it, beside the number."""
    found: Row = {}
    for name, value in row.items():
        found[name] = value
        if name == "eps":
            found["written"] = texts[value]
    return found


def _paced(status: Status, text: str, images: int) -> Progress:
    """Say the pace after the first passes; show afterwards how much is left."""
    calls, first, began = 0, 0, 0.0

    def on_progress(done: int, total: int) -> None:
        nonlocal calls, first, began
        calls += 1
        if calls == 1:  # the first pass also sets up the next ones
            first, began = done, perf_counter()
            return
        pace = (perf_counter() - began) / (done - first)
        left = f"{timedelta(seconds=round(pace * (total - done)))} left"
        if calls == TIMED:
            each = total // images
            rate = 1 / (pace * each)
            status.console.print(
                f"{each:,} passes an image, about {rate:.2g} images a second: {left}",
                highlight=False,
            )
        status.update(f"{text}: {left}")

    return on_progress


def _figure(
    rows: Sequence[Row], quantities: Sequence[str], x: str, series: str, xlabel: str
) -> Figure:
    """One panel for each quantity, with a line for each series and standard errors shaded."""
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
