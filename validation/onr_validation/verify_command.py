"""``onr verify-theorem``."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from onr import __version__
from onr.errors import OnrError
from onr.options import number
from onr.registry import load, norm_spec, served
from onr.registry import norm as norm_named
from onr_validation.draws import COUNTEREXAMPLES, check_counterexample, check_draws
from onr_validation.propagation import PROVEN
from onr_validation.theorem import MEASURED_TOLERANCE, CellCheck

__all__ = ["CellReport", "verify_theorem"]


@dataclass(frozen=True)
class CellReport:
    """What all draws of one (p, q) say together."""

    p: str
    q: str
    alpha: float
    checks: tuple[CellCheck, ...]

    def _all(self, name: str) -> np.ndarray:
        return np.concatenate([getattr(check, name) for check in self.checks])

    @property
    def generic(self) -> np.ndarray:
        """Which draws satisfy the hypotheses."""
        return np.array([not cause for check in self.checks for cause in check.cause])

    @property
    def failures(self) -> list[str]:
        """What contradicts the theorem, one line a draw."""
        return [reason for check in self.checks for reason in check.failure if reason]

    @property
    def holds(self) -> bool:
        """Whether every generic draw agrees, and there is one."""
        return bool(self.generic.any()) and not self.failures

    @property
    def verdict(self) -> str:
        """The result in words."""
        check = self.checks[0]
        if not self.generic.any():
            return f"nothing to judge: no draw is generic ({self.checks[0].cause[0]})"
        if check.proven:
            if self.holds:
                return "holds"
            return f"VIOLATED in {len(self.failures)} draws ({self.failures[0]})"
        same = "the sequences agree here" if self.holds else "the sequences differ"
        if self.p in PROVEN and self.q in PROVEN:
            needs = "alpha = inf" if self.p == "2" else "alpha >= 2 eps"
            return f"the theorem does not speak here, it needs {needs} for p = {self.p}: {same}"
        return f"the theorem does not speak here, it is stated for 1, 2, inf: {same}"

    def summary(self) -> dict[str, Any]:
        """For JSON; deviations over generic draws."""
        generic = self.generic
        deviation = self._all("deviation")
        bound, radius = self._all("bound")[generic], self._all("radius")
        proven = self.checks[0].proven
        causes = [cause for check in self.checks for cause in check.cause if cause]
        return {
            "p": self.p,
            "q": self.q,
            "alpha": _json_number(self.alpha),
            "proven": proven,
            "holds": self.holds,
            "verdict": self.verdict,
            "draws": len(generic),
            "generic": int(generic.sum()),
            "degenerate": causes,
            "failures": self.failures,
            "deviation": _spread(deviation[generic]),
            "deviation_degenerate": _spread(deviation[~generic]),
            "bound": _spread(bound) if proven else MEASURED_TOLERANCE,
            "cell_radius": _spread(radius),
        }


def _json_number(value: float) -> float | str:
    return value if math.isfinite(value) else "inf"


def _spread(values: np.ndarray) -> dict[str, float] | None:
    if len(values) == 0:
        return None
    return {
        "min": float(values.min()),
        "median": float(np.median(values)),
        "max": float(values.max()),
    }


@click.command(name="verify-theorem")
@click.option("--p", default="2", show_default=True, help="Norm of the inputs: 1, 2, inf, 1.5, ...")
@click.option("--q", default="2", show_default=True, help="Norm of the logits.")
@click.option("--all", "every", is_flag=True, help="All nine cells of Table 1, and where it fails.")
@click.option("--layers", default="24,24", show_default=True, help="As 24,24 or c4,m2,16.")
@click.option("--trials", type=int, default=100, show_default=True, help="Draws for each cell.")
@click.option("--iterations", type=int, default=20, show_default=True)
@click.option(
    "--alpha", default="inf", show_default=True, help="Step size of Eq. 108, in units of eps."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--backend", default="numpy", show_default=True, help="numpy or torch.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def verify_theorem(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    """Check Theorem 1 in float64: adversarial training is operator-norm regularisation.

    Draws ReLU networks (3 x 4 x 4 inputs, 5 logits) and inputs, takes eps = half the radius of
    the input's ReLU cell, and runs projected gradient ascent on ||f(x*) - f(x)||_q (Eq. 108)
    beside the power method for ||J||_{p,q} (Eq. 12) from one start. The theorem says that
    x_k = x + eps v_k; in float64 the deviation must stay below a bound, computed for every step,
    on what the cancellation in f(x_k) - f(x) can do. Draws in which an entry of J^T u is zero or
    tied where the theorem needs it not to be, or an entry of J v where float64 cannot decide its
    sign or its rank, are counted apart.

    Exit code 0 where the two sequences agree in every generic draw (and, with --all, where the
    counterexamples deviate), 1 where they do not.
    """
    if options["trials"] < 1 or options["iterations"] < 1 or options["seed"] < 0:
        raise OnrError("trials and iterations must be at least 1, and seed at least 0")
    alpha = number(options["alpha"])
    if not alpha > 0:
        raise OnrError(f"alpha = {alpha:g}: expected a positive number, or inf")
    backend = load("backend", options["backend"])()
    if options["every"]:
        for name in ("p", "q"):
            if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
                raise OnrError(f"--all checks every p and q: leave out --{name}")
    pairs = [(p, q) for p in PROVEN for q in PROVEN]
    if not options["every"]:
        pairs = [(options["p"], options["q"])]

    reports = []
    # Names are resolved before the first draw, so that a wrong one fails at once.
    norms = [(norm_named(p), norm_named(q)) for p, q in pairs]
    for p, q in track(norms, description="checking", console=Console(stderr=True), transient=True):
        checks = check_draws(
            backend,
            options["layers"],
            p=p,
            q=q,
            alpha=alpha,
            trials=options["trials"],
            iterations=options["iterations"],
            seed=options["seed"],
        )
        reports.append(CellReport(p.name, q.name, alpha, tuple(checks)))
    counterexamples = []
    if options["every"]:
        for case in COUNTEREXAMPLES:
            check = check_counterexample(case, iterations=options["iterations"])
            report = CellReport(check.p, check.q, math.inf, (check,))
            counterexamples.append((case.title, report))

    if as_json:
        names = {"backend": options["backend"]}
        for p, q in pairs:
            names |= {f"norm/{name}": norm_spec(name) for name in (p, q)}
        click.echo(
            json.dumps(
                {
                    "onr": __version__,
                    "settings": {k: v for k, v in options.items() if k not in ("p", "q", "every")},
                    "served": served(names),
                    "cells": [report.summary() for report in reports],
                    "counterexamples": [
                        {"title": title, **report.summary()} for title, report in counterexamples
                    ],
                },
                indent=2,
            )
        )
    else:
        console = Console()
        if not options["every"]:
            _print_steps(console, reports[0])
        _print_cells(console, reports, options)
        if counterexamples:
            _print_counterexamples(console, counterexamples)
    found = all(not report.holds for _, report in counterexamples)
    ctx.exit(0 if found and all(report.holds for report in reports) else 1)


def _vector(values: np.ndarray, count: int = 2) -> str:
    shown = " ".join(f"{value:+.3f}" for value in values.ravel()[:count])
    return shown + (" ..." if values.size > count else "")


def _print_steps(console: Console, report: CellReport) -> None:
    """Both sequences of the first draw, side by side."""
    check = report.checks[0]
    table = Table(
        title=f"First draw, p = {report.p}, q = {report.q}, eps {check.eps[0]:.3g} of "
        f"{check.radius[0]:.3g}; Eq. 12 above, Eq. 108 below"
    )
    for name in ("k", "u_k", "v_k", "||J v||_q", "deviation", "bound"):
        table.add_column(name, justify="left" if "_k" in name else "right", no_wrap=True)
    for step in check.steps:
        a, b = step.norm_step, step.ascent_step
        assert b.delta is not None  # noqa: S101 - the ascent records it
        bound = "" if math.isnan(step.bound[0]) else f"{step.bound[0]:.1e}"
        table.add_row(
            str(a.k),
            f"{_vector(a.u[0])}\n{_vector(b.u[0])}",
            f"{_vector(a.v[0])}\n{_vector(b.delta[0])}",
            f"{a.value[0]:.6f}\n{b.value[0]:.6f}",
            f"{step.deviation[0]:.1e}",
            bound,
        )
    console.print(table)


def _print_cells(console: Console, reports: list[CellReport], options: dict[str, Any]) -> None:
    table = Table(
        title=f"Theorem 1 on {options['trials']} draws a cell, layers {options['layers']}, "
        f"{options['iterations']} iterations, alpha {options['alpha']} eps, {options['backend']}"
    )
    for name in ("p", "q", "generic", "max deviation", "max bound", "verdict"):
        table.add_column(name, justify="left" if name == "verdict" else "right")
    for report in reports:
        summary = report.summary()
        deviation, bound = summary["deviation"], summary["bound"]
        table.add_row(
            report.p,
            report.q,
            f"{summary['generic']}/{summary['draws']}",
            "" if deviation is None else f"{deviation['max']:.1e}",
            f"{bound['max']:.1e}" if isinstance(bound, dict) else "",
            report.verdict,
            style=None if report.holds else "bold red",
        )
    console.print(table)
    for report in reports:
        for cause in report.summary()["degenerate"][:3]:
            console.print(f"p = {report.p}, q = {report.q}: a degenerate draw, {cause}")


def _print_counterexamples(console: Console, counterexamples: list[tuple[str, CellReport]]) -> None:
    table = Table(title="Where the hypotheses fail (these should deviate)")
    for name in ("p", "q", "case", "detected", "deviation", "||J v||, Eq. 12 / 108"):
        table.add_column(name)
    for title, report in counterexamples:
        check = report.checks[0]
        last = check.steps[-1]
        detected = check.cause[0] or "the theorem does not speak here"
        values = f"{last.norm_step.value[0]:.4g} / {last.ascent_step.value[0]:.4g}"
        table.add_row(report.p, report.q, title, detected, f"{check.deviation[0]:.2g}", values)
    console.print(table)
