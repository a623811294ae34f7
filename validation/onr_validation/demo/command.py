"""The command ``onr demo``: the theorem checked and three methods compared, on one page."""

from __future__ import annotations

import importlib.resources
import math
import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress

from onr.errors import OnrError
from onr.files import write_atomic
from onr.plots import accuracy_figure, svg
from onr.registry import bare
from onr.text import norm as norm_named
from onr.training.config import TrainConfig
from onr.training.evaluation import Evaluation, EvaluationConfig, evaluate
from onr.training.factories import versions
from onr.training.loop import Training, open_or_create, resumed
from onr.training.runs import Run
from onr.training.subject import open_run
from onr.version import __version__
from onr_numpy.backend import NumpyBackend
from onr_validation.theorem.draws import (
    COUNTEREXAMPLES,
    check_counterexample,
    check_draws,
    random_draws,
)
from onr_validation.theorem.propagation import PROVEN
from onr_validation.theorem.reports import PairReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["demo"]

TORCH = "onr_torch:torch"
EPS = "1"
EPOCHS = 60
RADII = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
METHODS: dict[str, dict[str, str]] = {
    "standard": {},
    "at": {"eps": EPS},
    "dd-snr": {"eps": EPS, "lam": "0.3"},
}
"""The methods to train and their options. The lam of dd-snr was chosen on validation images so that
the clean accuracy of dd-snr meets that of at."""
TRIALS = 200
LAYERS = "24,24"
ITERATIONS = 20


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True)
@click.option("--backend", default=TORCH, help=f"torch or numpy.  [default: {bare(TORCH)}]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def demo(out: Path, backend: str, seed: int) -> None:
    """Check the theorem, train three methods on bundled digits, compare them on one page.

    Checks Theorem 1 for p and q in {1, 2, inf}; trains standard, at and dd-snr; attacks each over
    a range of eps; and writes OUT/index.html, which needs no other file. Runs that are finished
    are not repeated.
    """
    import jinja2

    start = time.perf_counter()
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as progress:
        reports = _theorem(progress, seed)
        runs = {name: _trained(progress, name, out / "runs", backend, seed) for name in METHODS}
        found = {name: _measured(progress, name, run, seed) for name, run in runs.items()}

    curves = [evaluation.curve for evaluation in found.values()]
    accuracy = svg(accuracy_figure(curves, p="2", trained=float(EPS))).decode()
    spectrum = svg(_sigma_figure(found)).decode()
    template = importlib.resources.files(__package__).joinpath("demo.html.jinja").read_text()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(template).render(
        pairs=[report.summary() for report in reports],
        cases=_counterexamples(),
        accuracy=_inline(accuracy),
        spectrum=_inline(spectrum),
        radii=[0.0, *RADII],
        rows=[_row(name, evaluation) for name, evaluation in found.items()],
        images=next(iter(found.values())).record["images"],
        version=__version__,
        versions=versions(),
        machine=f"{platform.machine()}, {os.cpu_count()} cores",
        seconds=round(time.perf_counter() - start),
        seed=seed,
        backend=bare(backend),
        settings={"trials": TRIALS, "layers": LAYERS, "iterations": ITERATIONS},
    )
    write_atomic(out / "index.html", page.encode())
    for row in (_row(name, evaluation) for name, evaluation in found.items()):
        shown = "  ".join(f"{value:6.1%}" for value in row["accuracy"])
        click.echo(f"{row['method']:<10} {shown}   sigma_1 {row['sigma']:.2f}")
    click.echo(
        f"Theorem 1: {sum(each.holds for each in reports)} of {len(reports)} pairs (p, q) hold"
    )
    click.echo(f"the page: {out / 'index.html'}")
    if not all(report.holds for report in reports):
        raise OnrError("the theorem's check failed: see the page")


def _theorem(progress: Progress, seed: int) -> list[PairReport]:
    pairs = [(norm_named(p), norm_named(q)) for p in PROVEN for q in PROVEN]
    reports = []
    for p, q in progress.track(pairs, description="checking Theorem 1"):
        checks = check_draws(
            NumpyBackend(),
            random_draws(LAYERS, trials=TRIALS, seed=seed),
            p=p,
            q=q,
            iterations=ITERATIONS,
        )
        reports.append(PairReport(p.name, q.name, math.inf, tuple(checks)))
    return reports


def _counterexamples() -> list[dict[str, Any]]:
    found = []
    for case in COUNTEREXAMPLES:
        check = check_counterexample(case, iterations=ITERATIONS)
        found.append(
            {
                "title": case.title,
                "p": check.p,
                "q": check.q,
                "cause": check.cause[0] or "outside the theorem",
                "deviation": float(check.deviation[0]),
            }
        )
    return found


def _trained(progress: Progress, name: str, folder: Path, backend: str, seed: int) -> Run:
    config = TrainConfig(
        backend=backend,
        method=f"onr_paper:{name}",
        method_options=METHODS[name],
        epochs=EPOCHS,
        seed=seed,
    )
    training = Training(config)
    run = open_or_create(config, training, folder / name)
    with resumed(training, run):
        left = (EPOCHS - len(training.records)) * training.steps
        task = progress.add_task(f"training {name}", total=left or 1)
        training.finish(run, lambda epoch, step: progress.advance(task))
    progress.update(task, completed=left or 1)
    return run


def _measured(progress: Progress, name: str, run: Run, seed: int) -> Evaluation:
    task = progress.add_task(f"attacking {name}", total=None)
    config = EvaluationConfig(eps=RADII, p="2", attack="onr_paper:pga", spectrum=360, seed=seed)
    return evaluate(
        open_run(run.path),
        config,
        lambda done, total, record: progress.update(task, completed=done, total=total),
        out=run.path,
    )


def _row(name: str, evaluation: Evaluation) -> dict[str, Any]:
    settings = evaluation.record["run"]["settings"]
    options = " ".join(f"--{key} {value}" for key, value in METHODS[name].items())
    return {
        "method": name,
        "command": f"onr train --method {name} {options} --epochs {EPOCHS}".replace("  ", " "),
        "settings": ", ".join(f"{key} {value}" for key, value in settings.items()),
        "accuracy": evaluation.record["accuracy"],
        "sigma": float(np.mean(evaluation.sigma)),
    }


def _sigma_figure(found: dict[str, Evaluation]) -> Figure:
    """Draw how the largest singular values are distributed over the test images, by method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    axes = figure.add_subplot()
    axes.boxplot(
        [evaluation.sigma for evaluation in found.values()],
        orientation="horizontal",
        tick_labels=list(found),
        showfliers=False,
        whis=(5, 95),
    )
    axes.invert_yaxis()
    axes.set(xlabel="largest singular value of the logits' Jacobian", xlim=(0, None))
    axes.grid(axis="x", alpha=0.3)
    return figure


def _inline(document: str) -> str:
    """The svg element of a document, without the XML header, for use inside HTML."""
    return document[document.index("<svg") :]
