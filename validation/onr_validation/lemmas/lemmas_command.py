"""The command ``onr verify-lemmas``."""

from __future__ import annotations

import json

import click

from onr_validation.lemmas.laws import Arithmetic, arithmetic_option, json_record, print_laws
from onr_validation.lemmas.lemmas import check_lemmas

__all__ = ["verify_lemmas"]


@click.command(name="verify-lemmas")
@arithmetic_option
@click.option("--trials", type=click.IntRange(2), default=50, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def verify_lemmas(
    ctx: click.Context, /, arithmetic: str, trials: int, seed: int, as_json: bool
) -> None:
    """Check Lemmas 1, 2 and 3, Eqs. 28 and 29, and the equality of section 7.1.

    The vectors have planted zeros and ties. A statement that needs a hypothesis which the paper
    does not state is also checked without the hypothesis, and should then fail.

    The exit code is 0 if every statement came out as it should, and 1 if one did not.
    """
    chosen = ("float", "exact") if arithmetic == "both" else (arithmetic,)
    laws = [
        law
        for name in chosen
        for law in check_lemmas(Arithmetic(name == "exact"), trials=trials, seed=seed)
    ]
    settings = {"arithmetic": arithmetic, "trials": trials, "seed": seed}
    if as_json:
        click.echo(json.dumps(json_record(laws, settings), indent=2))
    else:
        print_laws(laws, f"The lemmas on {trials} draws")
    ctx.exit(0 if all(law.holds for law in laws) else 1)
