"""How far a long command is, when it will end, and what it has found so far."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import perf_counter
from typing import Protocol

from rich.console import Console
from rich.status import Status

__all__ = ["Update", "progress"]


class Update(Protocol):
    """Shows progress."""

    def __call__(self, done: int, total: int, known: str = "", kept: bool = False) -> None:
        """Say how many images are done, of how many, and what is known of them.

        ``kept`` images were found, not measured: the estimate of the time counts from there.
        """


EVERY = 30.0
"""Seconds between two lines where standard error is no terminal, such as a file."""


@contextmanager
def progress(what: str) -> Iterator[tuple[Update, Status]]:
    """Show on standard error how many images are done, and how long the rest will take.

    A terminal shows one line that changes. A file gets a line now and then.
    """
    console = Console(stderr=True)
    with console.status(what) as status:
        said = perf_counter()
        first = (said, 0)

        def update(done: int, total: int, known: str = "", kept: bool = False) -> None:
            nonlocal first, said
            now = perf_counter()
            if kept:
                first = (now, done)
            text = f"{what}: {done:,} of {total:,} images"
            if done > first[1]:
                left = (now - first[0]) / (done - first[1]) * (total - done)
                text += f", {timedelta(seconds=round(left))} left"
            text += f"; {known}" if known else ""
            status.update(text)
            if not console.is_terminal and now - said >= EVERY and done < total:
                console.print(text, highlight=False, soft_wrap=True)
                said = now

        yield update, status
