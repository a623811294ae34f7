"""The ``onr`` command: a group whose commands are found by hooks and imported on use."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from onr.errors import OnrError, UnknownNameError, missing_extra
from onr.registry import registry
from onr.version import __version__

DEBUG = "ONR_DEBUG"
"""The environment variable that shows the traceback of an unexpected error."""


class Failure(click.ClickException):
    """An error that prints one line on standard error and exits with code 2."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class LazyGroup(click.Group):
    """A group of the commands in the registry. Listing the commands imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The sorted names of the commands."""
        return sorted({entry.name for _, entry in registry().offers("command")})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; ``None`` if no plugin offers the name."""
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
        """Write names and summaries, which the entries contain."""
        with formatter.section("Commands"):
            formatter.write_dl(
                sorted({(entry.name, entry.summary) for _, entry in registry().offers("command")})
            )

    def make_context(self, *arguments: Any, **more: Any) -> click.Context:
        """Parse the arguments; ``--help`` lists the commands here, which a strict registry refuses.

        A registry is strict if ``ONR_STRICT_PLUGINS`` is set; it refuses broken plugins.
        """
        context: click.Context = _guarded(
            lambda: super(LazyGroup, self).make_context(*arguments, **more)
        )
        return context

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and turn every error into one line."""
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
    except BrokenPipeError:  # of a reader as head, which click leaves in silence
        raise
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

    Check Theorem 1 of Roth, Kilcher and Hofmann (2020), train classifiers with either side of the
    theorem, and measure classifiers.
    """
