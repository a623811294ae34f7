"""The directive ``command``: one command of ``onr``, as click knows it."""

from __future__ import annotations

import re
from typing import Any

import click
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from onr.cli.main import main


class Command(SphinxDirective):
    """A section for a command: its usage, what it does, its options, and its subcommands."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the section of the command that the argument names."""
        name = self.arguments[0]
        found = main.get_command(click.Context(main), name)
        if found is None:
            raise self.error(f"onr has no command {name}")
        return [self._section(found, f"onr {name}", None)]

    def _section(
        self, command: click.Command, name: str, parent: click.Context | None
    ) -> nodes.section:
        context = click.Context(command, info_name=name, parent=parent)
        section = nodes.section(ids=[name.replace(" ", "-")], names=[name])
        section += nodes.title("", "", nodes.literal("", context.command_path))
        self.state.document.note_explicit_target(section)
        usage = " ".join(command.collect_usage_pieces(context))
        section += nodes.literal_block("", f"{context.command_path} {usage}", language="text")
        section += [
            nodes.paragraph("", *_marked(" ".join(part.split())))
            for part in (command.help or "").split("\n\n")
        ]
        options = [
            record
            for parameter in command.params  # without --help
            if isinstance(parameter, click.Option)
            and (record := parameter.get_help_record(context))
        ]
        if options:
            section += nodes.definition_list(
                "", *(_item(written, text) for written, text in options), classes=["options"]
            )
        if isinstance(command, click.Group):
            section += [
                self._section(below, each, context)
                for each in command.list_commands(context)
                if (below := command.get_command(context, each)) is not None
            ]
        return section


def _item(written: str, text: str) -> nodes.definition_list_item:
    return nodes.definition_list_item(
        "",
        nodes.term("", "", nodes.literal("", written)),
        nodes.definition("", nodes.paragraph("", *_marked(text))),
    )


def _marked(text: str) -> list[nodes.Node]:
    """Text, in which options such as --eps and files such as audit.html are literals."""
    parts = re.split(r"(--[a-z][a-z-]*|\b[a-z]+\.(?:html|json|csv|svg|toml)\b)", text)
    return [nodes.literal("", p) if k % 2 else nodes.Text(p) for k, p in enumerate(parts) if p]


def setup(app: Any) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("command", Command)
    return {"parallel_read_safe": True}
