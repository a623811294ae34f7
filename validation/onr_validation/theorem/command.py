"""The command ``onr verify-theorem``."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from onr.cli.options import show
from onr.errors import OnrError
from onr.exact.surds import FASTEST, NotExactError
from onr.files import write_atomic
from onr.norms import LpNorm
from onr.numerals import number, written
from onr.plots import svg
from onr.protocols import Norm
from onr.registry import bare, canonical, load, norm_spec, served
from onr.text import norm as norm_named
from onr.training.runs import Run
from onr.version import __version__
from onr_validation.theorem.curve import CurvePoint, curve_figure, curve_point
from onr_validation.theorem.draws import (
    COUNTEREXAMPLES,
    REPAIRED,
    Draw,
    check_counterexample,
    check_draws,
    planted_draws,
    random_draws,
    run_draws,
)
from onr_validation.theorem.propagation import PROVEN
from onr_validation.theorem.reports import PairReport, json_number
from onr_validation.theorem.wall import wall_failures

__all__ = ["verify_theorem"]

NUMPY = "onr_numpy:numpy"
FLOAT_DEFAULTS = {"trials": 100, "iterations": 20, "layers": "24,24"}
EXACT_DEFAULTS = {"trials": 10, "iterations": 4, "layers": "12,12"}
CASE_ITERATIONS = 20
"""The number of iterations of a counterexample, independent of ``--iterations``."""
ALPHAS = (math.inf, 2.0)
"""The step sizes by default; 2 is the least for which the theorem holds."""
PLANTED = 50
"""How many planted draws ``--all`` adds for each pair (p, q) in exact arithmetic."""


@click.command(name="verify-theorem")
@click.option("--p", default="2", show_default=True, help="Norm of the inputs: 1, 2, inf, 1.5, ...")
@click.option("--q", default="2", show_default=True, help="Norm of the logits.")
@click.option(
    "--all", "every", is_flag=True, help="All nine (p, q) of Table 1, and the counterexamples."
)
@click.option(
    "--arithmetic",
    type=click.Choice(["float", "exact"]),
    default="float",
    show_default=True,
    help="float64 to a bound, or exact numbers by equality.",
)
@click.option(
    "--layers", help="Layers, as 24,24 (the default in float), 12,12 (in exact) or c4,m2,16."
)
@click.option(
    "--run", "path", type=click.Path(path_type=Path), help="A trained run, at its test images."
)
@click.option("--trials", type=click.IntRange(1), help="Draws for each (p, q): 100; exact 10.")
@click.option("--iterations", type=click.IntRange(1), help="Steps of both sequences: 20; exact 4.")
@click.option(
    "--alpha", help="Step size of Eq. 108, in units of eps: inf and 2 where the theorem speaks."
)
@click.option(
    "--raw-gradient",
    is_flag=True,
    help="Step along the gradient itself, which repairs p outside {1, 2, inf}.",
)
@click.option(
    "--fraction",
    default="0.5",
    show_default=True,
    help="eps over the radius of the ReLU cell; several, as 0.5,1,2,4, for a curve.",
)
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the curve: an SVG file.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--backend", default=NUMPY, help=f"numpy or torch.  [default: {bare(NUMPY)}]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def verify_theorem(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    """Check Theorem 1: adversarial training is operator-norm regularisation.

    Draws ReLU networks (3 x 4 x 4 inputs, 5 logits) and inputs, takes eps = half the radius of
    the input's ReLU cell, and runs projected gradient ascent on ||f(x*) - f(x)||_q (Eq. 108)
    beside the power method for ||J||_{p,q} (Eq. 12) from one start. The theorem says that
    x_k = x + eps v_k.

    In float64 the deviation must stay below a bound, computed for every step, on what the
    cancellation in f(x_k) - f(x) can do. In exact arithmetic (rationals, and a square root if p or
    q is 2) the deviation must be zero. A draw is counted apart, with the step, if an entry of J^T u
    is zero or tied and the theorem needs that it is not, or if float64 cannot decide the draw.

    Independent code judges each draw as well: J v and J^T u, the radius of the cell and the pattern
    at x_k, the norms, the duality maps and the projections. At the finite step size 2 eps, x_k must
    be x + eps v_k for p in {1, inf}, and within the gap's bound for p = 2.

    The exit code is 0 if no identity is broken, three draws of four are generic and the two
    sequences agree in these (and, with --all, if the counterexamples deviate), and 1 otherwise.
    """
    settings = _settings(ctx, options)
    if len(settings.fractions) > 1:
        p, q = norm_named(options["p"]), norm_named(options["q"])
        ctx.exit(0 if _curve(settings, p, q, options["plot"], as_json) else 1)
    if options["plot"]:
        raise OnrError("--plot draws a curve: give several fractions, as --fraction 0.5,1,2,4")
    pairs = [(p, q) for p in PROVEN for q in PROVEN]
    if not options["every"]:
        pairs = [(options["p"], options["q"])]

    wall = wall_failures(load("backend", settings.backend)())
    reports, planted = [], []
    # All norms are resolved before the first draw, so that a wrong name fails at once.
    norms = [(norm_named(p), norm_named(q)) for p, q in pairs]
    for p, q in track(norms, description="checking", console=Console(stderr=True), transient=True):
        reports += [
            settings.report(settings.draws(alpha), p, q, alpha=alpha)
            for alpha in settings.step_sizes(p, q)
        ]
        alpha = settings.alphas[0]
        rational = alpha == math.inf or p.name != "2"
        if options["every"] and settings.exact and settings.path is None and rational:
            degenerate = planted_draws(trials=PLANTED, seed=settings.seed)
            report = settings.report(degenerate, p, q, alpha=alpha)
            planted.append(replace(report, least_generic=0.0))
    cases: list[_Case] = []
    if options["every"]:
        for case in (*COUNTEREXAMPLES, REPAIRED):
            irrational = settings.exact and case.p not in (1, 2, math.inf)
            check = check_counterexample(
                case, iterations=CASE_ITERATIONS, exact=settings.exact and not irrational
            )
            report = PairReport(check.p, check.q, case.alpha, (check,))
            cases.append(_Case(case.title, report, case.shown_by(check)))

    if as_json:
        click.echo(
            json.dumps(
                {
                    "onr": __version__,
                    "settings": settings.record(),
                    "served": settings.served(pairs),
                    "cells": [report.summary() for report in reports],
                    "planted": [report.summary() for report in planted],
                    "counterexamples": [
                        {"title": case.title, "shown": case.shown, **case.report.summary()}
                        for case in cases
                    ],
                    "wall": wall,
                },
                indent=2,
            )
        )
    else:
        console = Console()
        if not options["every"]:
            _print_steps(reports[0])
        _print_pairs(console, reports, settings.title())
        if planted:
            title = f"{PLANTED} networks a pair with weights in {{-1, 0, 1}}: zeros and ties abound"
            _print_pairs(console, planted, title)
        if cases:
            _print_counterexamples(cases)
        for failure in wall:
            console.print(failure, style="bold red", highlight=False)
    held = all(report.holds for report in reports) and not any(r.failures for r in planted)
    ctx.exit(0 if held and not wall and all(case.shown for case in cases) else 1)


@dataclass(frozen=True)
class _Case:
    """A counterexample and whether it shows what it is for."""

    title: str
    report: PairReport
    shown: bool


@dataclass(frozen=True)
class _Settings:
    """The options of the command, checked and with defaults filled in."""

    backend: str
    exact: bool
    layers: str
    path: Path | None
    trials: int
    iterations: int
    alphas: tuple[float, ...]
    raw_gradient: bool
    fractions: tuple[float, ...]
    seed: int

    def step_sizes(self, p: Norm, q: Norm) -> tuple[float, ...]:
        """The step sizes for one pair: by default a finite one only where the theorem speaks."""
        speaks = {p.name, q.name} <= set(PROVEN) and self.fractions[0] < 1
        # p = 2 at a finite step size needs balls in exact arithmetic, which are those of flint.
        if len(self.alphas) > 1 and (
            not speaks or (self.exact and p.name == "2" and FASTEST is Fraction)
        ):
            return self.alphas[:1]
        return self.alphas

    def draws(self, alpha: float) -> Iterable[Draw]:
        """The draws of one pair (p, q); every pair gets the same ones.

        By default a fifth of them are repeated at the finite step size.
        """
        trials = self.trials
        if alpha != self.alphas[0]:
            trials = math.ceil(trials / 5)
        if self.path is not None:
            return run_draws(Run.open(self.path), trials=trials, seed=self.seed)
        return random_draws(self.layers, trials=trials, seed=self.seed, short=self.exact)

    def report(
        self,
        draws: Iterable[Draw],
        p: Norm,
        q: Norm,
        *,
        alpha: float,
        fraction: float | None = None,
    ) -> PairReport:
        """Check all draws for one pair (p, q).

        Raises:
            OnrError: a norm leaves the exact numbers.

        """
        try:
            checks = tuple(
                check_draws(
                    load("backend", self.backend)(),
                    draws,
                    p=p,
                    q=q,
                    alpha=alpha,
                    iterations=self.iterations,
                    fraction=fraction or self.fractions[0],
                    raw_gradient=self.raw_gradient,
                    exact=self.exact,
                )
            )
        except (NotExactError, TypeError) as error:
            # A rational of python-flint and a float do not mix: its TypeError says so.
            if isinstance(error, TypeError) and "fmpq" not in str(error):
                raise
            raise OnrError(
                f"exact arithmetic has no numbers for p = {p.name}, q = {q.name} ({error}): leave "
                "out --arithmetic exact"
            ) from error
        return PairReport(p.name, q.name, alpha, checks)

    def title(self, *norms: Norm) -> str:
        """The settings in words. A curve gives its two norms and leaves out eps, which varies."""
        network = f"layers {self.layers}" if self.path is None else f"{self.path}"
        words = [
            *(f"{name} = {norm.name}" for name, norm in zip("pq", norms, strict=False)),
            f"Theorem 1 on {self.trials} draws a pair, {network}, {self.iterations} iterations",
            "alpha " + " and ".join(f"{written(alpha)} eps" for alpha in self.alphas),
            *(["raw gradient"] if self.raw_gradient else []),
            *([] if norms else [f"eps {written(self.fractions[0])} of the cell's radius"]),
            "exact arithmetic" if self.exact else f"float64, {bare(self.backend)}",
        ]
        return ", ".join(words)

    def record(self) -> dict[str, Any]:
        """The settings as JSON."""
        return {
            "backend": bare(self.backend),
            "arithmetic": "exact" if self.exact else "float",
            "rationals": FASTEST.__module__.partition(".")[0] if self.exact else None,
            "layers": self.layers if self.path is None else None,
            "run": None if self.path is None else str(self.path),
            "trials": self.trials,
            "iterations": self.iterations,
            "alpha": [json_number(alpha) for alpha in self.alphas],
            "raw_gradient": self.raw_gradient,
            "fraction": list(self.fractions),
            "seed": self.seed,
        }

    def served(self, pairs: list[tuple[str, str]]) -> dict[str, dict[str, str]]:
        """The plugin that served each name, as JSON."""
        names = {"backend": self.backend}
        for p, q in pairs:
            names |= {f"norm/{name}": norm_spec(name) for name in (p, q)}
        return served(names)


def _settings(ctx: click.Context, options: dict[str, Any]) -> _Settings:
    exact = options["arithmetic"] == "exact"
    alphas: tuple[float, ...] = ALPHAS
    if options["alpha"] is not None:
        alphas = (number(options["alpha"]),)
        if not alphas[0] > 0:
            raise OnrError(f"alpha = {alphas[0]:g}: expected a positive number, or inf")
    if options["raw_gradient"]:
        if options["alpha"] is not None and alphas[0] < math.inf:
            raise OnrError("the raw gradient has Eq. 12 as its limit: leave out --alpha")
        alphas = (math.inf,)
    fractions = tuple(number(text) for text in options["fraction"].split(","))
    if not all(0 < fraction < math.inf for fraction in fractions):
        raise OnrError(f"fraction {options['fraction']!r}: expected positive numbers, as 0.5,1,2")
    if exact and (len(fractions) > 1 or fractions[0] >= 1):
        raise OnrError(
            "exact arithmetic stays inside the cell, where the theorem speaks: give one "
            "--fraction below 1"
        )
    given = {
        name
        for name in ("p", "q", "layers", "backend")
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    if options["every"] and (given & {"p", "q"} or len(fractions) > 1):
        raise OnrError("--all checks every p and q at one radius: leave out --p, --q and curves")
    if options["path"] is not None and "layers" in given:
        raise OnrError("--run brings its own network: leave out --layers")
    if exact and canonical("backend", options["backend"]) != NUMPY:
        raise OnrError(f"exact arithmetic is NumPy's: leave out --backend {options['backend']}")
    if exact and not options["every"]:
        for name in ("p", "q"):
            norm = norm_named(options[name])
            if isinstance(norm, LpNorm) and norm.name not in PROVEN:
                raise OnrError(
                    f"exact arithmetic: the powers of {name} = {norm.name} are irrational; "
                    "expected 1, 2 or inf"
                )
    defaults: dict[str, Any] = EXACT_DEFAULTS if exact else FLOAT_DEFAULTS
    chosen = {
        name: default if options[name] is None else options[name]
        for name, default in defaults.items()
    }
    return _Settings(
        backend=options["backend"],
        exact=exact,
        path=options["path"],
        alphas=alphas if len(fractions) == 1 else alphas[:1],
        raw_gradient=options["raw_gradient"],
        fractions=fractions,
        seed=options["seed"],
        **chosen,
    )


def _curve(settings: _Settings, p: Norm, q: Norm, plot: Path | None, as_json: bool) -> bool:
    """Show how the sequences part as eps leaves the cell; return whether all proven points hold."""
    (alpha,) = settings.alphas
    reports = [
        settings.report(settings.draws(alpha), p, q, alpha=alpha, fraction=fraction)
        for fraction in track(
            settings.fractions, "checking", console=Console(stderr=True), transient=True
        )
    ]
    points = [
        curve_point(fraction, report)
        for fraction, report in zip(settings.fractions, reports, strict=True)
    ]
    if plot is not None:
        write_atomic(plot, svg(curve_figure(points, p.name, q.name)))
    if as_json:
        content = {"p": p.name, "q": q.name, "points": [point.summary() for point in points]}
        click.echo(json.dumps({"onr": __version__, **settings.record(), **content}, indent=2))
    else:
        _print_curve(points, settings.title(p, q))
        if plot is not None:
            click.echo(f"written to {plot}")
    broken = any(any(check.broken) for report in reports for check in report.checks)
    return not broken and not any(report.proven and report.failures for report in reports)


def _print_curve(points: list[CurvePoint], title: str) -> None:
    table = Table(title=title)
    for name in ("eps / radius", "same pattern", "deviation", "quartiles", "gain", "quartiles"):
        table.add_column(name, justify="right")
    for point in points:
        columns = []
        for low, median, high in (point.deviation, point.gain):
            columns += [f"{median:.3g}", f"{low:.3g} to {high:.3g}"]
        table.add_row(written(point.fraction), f"{point.inside:.0%}", *columns)
    show(table)


def _amount(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}"


def _vector(values: np.ndarray, count: int = 2) -> str:
    shown = " ".join(f"{value:+.3f}" for value in values.ravel()[:count])
    return shown + (" ..." if values.size > count else "")


def _print_steps(report: PairReport) -> None:
    """Print both sequences of the first draw side by side."""
    check = report.checks[0]
    table = Table(
        title=f"First draw, p = {report.p}, q = {report.q}, eps {check.eps[0]:.3g} of "
        f"{check.radius[0]:.3g}; Eq. 12 above, Eq. 108 below"
    )
    names = ["k", "u_k", "v_k", "||J v||_q", "deviation", "bound"]
    if check.cause[0]:
        names.append("degenerate")
    for name in names:
        left = "_k" in name or name == "degenerate"
        table.add_column(name, justify="left" if left else "right", no_wrap=name != "degenerate")
    for step in check.steps:
        a, b = step.norm_step, step.ascent_step
        assert b.delta is not None  # noqa: S101 - the ascent records it
        bound = "" if math.isnan(step.bound[0]) else _amount(step.bound[0])
        table.add_row(
            str(a.k),
            f"{_vector(a.u[0])}\n{_vector(b.u[0])}",
            f"{_vector(a.v[0])}\n{_vector(b.delta[0])}",
            f"{a.value[0]:.6f}\n{b.value[0]:.6f}",
            _amount(step.deviation[0]),
            bound,
            *([step.degenerate[0]] if check.cause[0] else []),
        )
    show(table)


def _print_pairs(console: Console, reports: list[PairReport], title: str) -> None:
    table = Table(title=title)
    for name in ("p", "q", "alpha", "generic", "max deviation", "max bound", "verdict"):
        table.add_column(name, justify="left" if name == "verdict" else "right")
    for report in reports:
        summary = report.summary()
        deviation, bound = summary["deviation"], summary["bound"]
        table.add_row(
            report.p,
            report.q,
            written(report.alpha),
            f"{summary['generic']}/{summary['draws']}",
            "" if deviation is None else _amount(deviation["max"]),
            _amount(bound["max"]) if isinstance(bound, dict) else "",
            report.verdict,
            style=None if report.holds else "bold red",
        )
    show(table)
    causes = Counter(
        cause.partition(": ")[2] for report in reports for cause in report.causes if cause
    )
    for cause, count in causes.most_common():
        console.print(f"degenerate: {count} draws in which {cause}", highlight=False)


def _print_counterexamples(cases: list[_Case]) -> None:
    table = Table(title="Where the hypotheses fail, and the step that repairs p = 3")
    for name in ("p", "q", "case", "detected", "deviation", "||J v||, Eq. 12 / 108"):
        table.add_column(name)
    for case in cases:
        check = case.report.checks[0]
        last = check.steps[-1]
        detected = check.cause[0] or case.report.verdict
        if not case.shown:
            detected = f"NOT SHOWN: {detected}"
        values = f"{last.norm_step.value[0]:.4g} / {last.ascent_step.value[0]:.4g}"
        table.add_row(
            check.p,
            check.q,
            case.title,
            detected,
            f"{check.deviation[0]:.2g}",
            values,
            style=None if case.shown else "bold red",
        )
    show(table)
