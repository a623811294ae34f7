"""Options that several commands share, the parsing of their values, and warnings."""

from __future__ import annotations

import math

import click
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from onr.errors import OnrError
from onr.numerals import number

__all__ = [
    "as_number",
    "as_radii",
    "as_radius",
    "model_option",
    "pairs",
    "show",
    "shown_radius",
    "warn",
]


WIDEST = 10_000
"""More columns than any table has."""


def pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Parse repeated ``NAME=VALUE`` options; hyphens in names become underscores."""
    found = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{value!r}: expected NAME=VALUE")
        found[name.replace("-", "_")] = text
    return found


model_option = click.option(
    "--model-option",
    "model_options",
    multiple=True,
    callback=pairs,
    metavar="NAME=VALUE",
    help="An option of the model, such as width=16.",
)


def as_number(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Parse a number as users write it, including ``8/255`` and ``inf``."""
    try:
        return None if value is None else number(value)
    except OnrError as error:
        raise click.BadParameter(str(error)) from error


def as_radius(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Read one positive number, such as ``0.5`` or ``8/255``."""
    (radius, *others) = as_radii(ctx, param, value) or {math.nan: ""}
    if others:
        raise click.BadParameter(f"{value!r}: expected one number, as 0.5 or 8/255")
    return radius


def as_radii(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> dict[float, str] | None:
    """Parse positive numbers such as ``0.25,0.5`` or ``4/255``; each number, once, with its text.

    The order is the order given.
    """
    if value is None:
        return None
    found: dict[float, str] = {}
    try:
        for text in value.split(","):
            found.setdefault(number(text), text.strip())
    except OnrError as error:
        raise click.BadParameter(str(error)) from error
    if not all(0 < radius < math.inf for radius in found):
        raise click.BadParameter(f"{value!r}: expected positive numbers, as 0.25,0.5 or 4/255")
    return found


def shown_radius(eps: float, text: str) -> str:
    """A radius as it was written, with its number beside it where that says more.

    Example:
        >>> shown_radius(8 / 255, "8/255"), shown_radius(0.5, "0.5"), shown_radius(1 / 3, "1/3")
        ('8/255 = 0.03137', '0.5', '1/3 = 0.3333')

    """
    number = f"{eps:.4g}"
    return number if text == number or len(text) > 12 else f"{text} = {number}"


def show(table: Table) -> None:
    """Print a table, wider than the terminal if a word or a number would not fit otherwise.

    Example:
        >>> table = Table("quantity", "mean")
        >>> table.add_row("deviation", "7.661e-06")
        >>> show(table)  # doctest: +ELLIPSIS
        ┏━━━...
        ...7.661e-06...

    """
    console = Console()
    for column in table.columns:
        if column.no_wrap:
            lines = "\n".join([str(column.header), *map(str, column.cells)]).splitlines()
            column.min_width = max(map(cell_len, lines))
    least = Measurement.get(console, console.options.update(max_width=WIDEST), table).minimum
    Console(width=max(console.width, least)).print(table)


def warn(text: str) -> None:
    """Say on standard error what is doubtful."""
    click.echo(f"warning: {text}", err=True)
