"""The ``onr`` command: a group whose commands come through the hooks and load when used."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from onr import __version__
from onr.errors import OnrError, UnknownNameError, missing_extra
from onr.registry import registry

DEBUG = "ONR_DEBUG"


class Failure(click.ClickException):
    """One line on standard error, and exit code 2."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class LazyGroup(click.Group):
    """Commands by name from the registry; listing them imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, as offered."""
        return sorted({entry.name for _, entry in registry().offers("command")})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        try:
            resolved = registry().resolve("command", cmd_name)
        except UnknownNameError as error:
            offered = [entry.name for _, entry in registry().offers("command")]
            if cmd_name in offered:
                raise Failure(str(error)) from error
            return None
        command = _guarded(resolved.load)
        if not isinstance(command, click.Command):
            raise Failure(f"{resolved.entry.target} is no click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Names and summaries, from the entries alone."""
        with formatter.section("Commands"):
            formatter.write_dl(
                sorted({(entry.name, entry.summary) for _, entry in registry().offers("command")})
            )

    def make_context(self, *arguments: Any, **more: Any) -> click.Context:
        """Parse; ``--help`` lists commands here, so a strict registry may raise."""
        context: click.Context = _guarded(
            lambda: super(LazyGroup, self).make_context(*arguments, **more)
        )
        return context

    def invoke(self, ctx: click.Context) -> Any:
        """Run, and turn whatever goes wrong into one line."""
        return _guarded(lambda: super(LazyGroup, self).invoke(ctx))


def _guarded(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except OnrError as error:
        raise Failure(str(error)) from error
    except ModuleNotFoundError as error:
        known = missing_extra(error)
        if known is None:
            raise
        raise Failure(str(known)) from error
    except KeyboardInterrupt:
        raise Failure("interrupted") from None
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        raise Failure(
            f"unexpected {type(error).__name__}: {error} (set {DEBUG}=1 to see where)"
        ) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="onr")
def main() -> None:
    """The operator-norm view of adversarial robustness.

    Check Theorem 1 of Roth, Kilcher and Hofmann (2020), train classifiers with it, measure them.
    """
