"""The commands ``onr plugins``, ``onr plugins new`` and ``onr plugins check``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from onr.registry import KINDS, registry
from onr.templates.distribution import TEMPLATES, new_distribution

BROKEN = 1
"""The exit code of ``onr plugins check`` if a law is broken."""
SHOWN = {"held": "held", "broken": "BROKEN", "not checked": "-"}
"""How the outcomes of laws are shown."""


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def plugins(context: click.Context, as_json: bool) -> None:
    """List every plugin, what it offers, and why one was set aside; begin or check one."""
    if context.invoked_subcommand is not None:
        return
    found = registry().plugins
    if as_json:
        listing = [
            {
                "name": plugin.name,
                "distribution": plugin.distribution,
                "version": plugin.version,
                "problem": plugin.problem,
                "offers": [
                    {"kind": kind, "name": entry.name, "summary": entry.summary}
                    for kind, entry in plugin.entries
                ],
            }
            for plugin in found
        ]
        click.echo(json.dumps(listing, indent=2))
        return
    for plugin in found:
        click.echo(f"{plugin.name} ({plugin.distribution} {plugin.version})")
        if plugin.problem:
            click.echo(f"  set aside: {plugin.problem}")
        for kind, entry in plugin.entries:
            click.echo(f"  {kind:<11} {entry.name:<24} {entry.summary}")


@plugins.command()
@click.argument("name")
@click.option("--kind", required=True, type=click.Choice(TEMPLATES), help="What it offers.")
@click.option(
    "--into",
    default=".",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the folder of the distribution, onr-NAME, is made.",
)
def new(name: str, kind: str, into: Path) -> None:
    """Write a small distribution that works, as a start for a plugin of your own.

    NAME is that of its Python package, such as my_norm. The distribution has a module with an
    example of the kind, tests that run the laws of that kind, and a README; comments say what to
    change.
    """
    folder = new_distribution(name, kind, into)
    click.echo(f"written to {folder}")
    click.echo(f"  pip install --no-deps --editable {folder}")
    click.echo(f"  python -m pytest {folder}")
    click.echo(f"  onr plugins check {name}")


@plugins.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(list(KINDS)), help="The kind of the part, or of parts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(name: str, kind: str | None, as_json: bool) -> None:
    """Run the laws of its kind on anything that is installed, and print a table.

    NAME is a plugin, for all its parts, or a part: pga, my_plugin:my-norm, lp:3. The exit code is 1
    if a law is broken. A part that needs files or a library that is not there is not checked, and
    the table says so. An attack that takes long elsewhere takes long here.
    """
    from onr.testing.installed import laws_of, parts_named  # it needs all that can be tried

    rows: list[dict[str, str]] = []
    for part_kind, spec in parts_named(name, kind):
        if not as_json:
            click.echo(f"{part_kind} {spec}")
        for law in laws_of(part_kind, spec):
            outcome = "broken" if law.broken else "not checked" if law.skipped else "held"
            where = law.broken or law.skipped
            rows.append(
                {"kind": part_kind, "part": spec, "law": law.text, "outcome": outcome, "at": where}
            )
            if not as_json:
                _show(rows[-1])
    counts = {it: sum(row["outcome"] == it for row in rows) for it in SHOWN}
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        click.echo("laws: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    sys.exit(BROKEN if counts["broken"] else 0)


def _show(row: dict[str, str]) -> None:
    """A line for a law, and one for where it broke or why it was not checked."""
    click.echo(f"  {SHOWN[row['outcome']]:<7} {row['law']}")
    if row["at"]:
        click.echo(f"{'':10}{'at' if row['outcome'] == 'broken' else 'not checked:'} {row['at']}")
