"""The command ``onr verify-table1``."""

from __future__ import annotations

import json

import click

from onr_validation.lemmas.laws import Arithmetic, arithmetic_option, json_record, print_laws
from onr_validation.lemmas.table1 import check_table

__all__ = ["verify_table1"]


@click.command(name="verify-table1")
@arithmetic_option
@click.option("--trials", type=click.IntRange(2), default=30, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def verify_table1(
    ctx: click.Context, /, arithmetic: str, trials: int, seed: int, as_json: bool
) -> None:
    """Check every entry of Table 1 against brute force.

    The value, both bounds and the maximiser that onr.operator_norm gives are compared with the
    maximum over all vertices of a unit ball, on small matrices with planted zeros and ties. The
    entries that the paper calls NP-hard are exact at this size. For (inf, 2) the bound that larger
    matrices get is checked too.

    The exit code is 0 if every entry came out, and 1 if one did not.
    """
    chosen = ("float", "exact") if arithmetic == "both" else (arithmetic,)
    laws = [
        law
        for name in chosen
        for law in check_table(Arithmetic(name == "exact"), trials=trials, seed=seed)
    ]
    settings = {"arithmetic": arithmetic, "trials": trials, "seed": seed}
    if as_json:
        click.echo(json.dumps(json_record(laws, settings), indent=2))
    else:
        print_laws(laws, f"Table 1 on {trials} matrices of each shape")
    ctx.exit(0 if all(law.holds for law in laws) else 1)
