"""The command ``onr plugins``."""

from __future__ import annotations

import json

import click

from onr.registry import registry


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins(as_json: bool) -> None:
    """List every plugin, what it offers, and why one was set aside."""
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
