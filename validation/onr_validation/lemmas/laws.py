"""A statement of the paper, the cases it was checked on, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import click
import numpy as np
from numpy.typing import ArrayLike
from rich.console import Console
from rich.table import Table

from onr import __version__
from onr.exact.surds import FASTEST, exact_array, float_array

__all__ = ["Arithmetic", "Law", "arithmetic_option", "json_record", "print_laws"]

ROUNDING = 1e-9
"""What float64 may leave between two sides that are equal, relative to the larger."""


@dataclass(frozen=True)
class Arithmetic:
    """Floats compared to rounding, or exact numbers compared as they are."""

    exact: bool

    @property
    def name(self) -> str:
        """``exact`` or ``float``."""
        return "exact" if self.exact else "float"

    def array(self, x: np.ndarray) -> np.ndarray:
        """Floats as this arithmetic's numbers."""
        return exact_array(np.asarray(x, dtype=float), FASTEST) if self.exact else np.asarray(x)


@dataclass
class Law:
    """One statement, and how its cases went; cases are rows."""

    name: str
    """Where the paper has it."""
    statement: str
    arithmetic: str
    expected: bool = True
    """Whether it should hold: a statement that needs a hypothesis is also shown without it."""
    cases: int = 0
    failures: int = 0
    deviation: float = 0.0
    """The largest difference of two sides that should be equal, relative where they are above 1."""
    example: str = ""
    """The first failure."""

    @property
    def holds(self) -> bool:
        """Whether it was checked, and came out as it should."""
        return self.cases > 0 and (self.failures == 0) is self.expected

    @property
    def verdict(self) -> str:
        """The result in words."""
        if not self.holds:
            return f"FAILS in {self.failures} cases: {self.example}" if self.expected else "HOLDS"
        if not self.expected:
            return f"fails in {self.failures}, as it should"
        return "holds exactly" if self.arithmetic == "exact" else "holds"

    def equal(self, left: ArrayLike, right: ArrayLike) -> None:
        """Count rows in which the two sides are equal."""
        exact = self.arithmetic == "exact"
        kind = object if exact else float
        left, right = np.asarray(left, dtype=kind), np.asarray(right, dtype=kind)
        differ = left != right
        one, other = (float_array(x) if exact else x for x in (left, right))
        size = np.maximum(np.maximum(np.abs(one), np.abs(other)), 1.0)
        gap = np.abs(one - other) / size
        if exact:
            gap = np.where(differ, gap, 0.0)  # equal numbers may have different floats
        else:
            differ = ~(gap <= ROUNDING)
        self.deviation = max(self.deviation, float(gap.max(initial=0)))
        self._count(~differ, lambda i: f"{_shown(left[i])} is not {_shown(right[i])}")

    def at_most(self, left: np.ndarray, right: np.ndarray) -> None:
        """Count rows in which the left side is not above the right."""
        slack = 0 if self.arithmetic == "exact" else ROUNDING * np.maximum(np.abs(right), 1.0)
        self._count(left <= right + slack, lambda i: f"{_shown(left[i])} > {_shown(right[i])}")

    def _count(self, held: np.ndarray, shown: Callable[[int], str]) -> None:
        held = np.all(np.asarray(held, dtype=bool).reshape(len(held), -1), axis=1)
        if not held.all() and not self.example:
            self.example = shown(int(np.argmin(held)))
        self.cases += len(held)
        self.failures += int(np.sum(~held))


def _shown(value: Any) -> str:
    return ", ".join(f"{float(entry):.4g}" for entry in np.ravel(value))


def json_record(laws: Iterable[Law], settings: dict[str, Any]) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "onr": __version__,
        "settings": settings,
        "laws": [{**asdict(law), "holds": law.holds, "verdict": law.verdict} for law in laws],
    }


def print_laws(laws: Iterable[Law], title: str) -> None:
    """A table, failures in red."""
    table = Table(title=title)
    for name in ("where", "statement", "arithmetic", "cases", "deviation", "verdict"):
        table.add_column(name, justify="right" if name in ("cases", "deviation") else "left")
    for law in laws:
        table.add_row(
            law.name,
            law.statement,
            law.arithmetic,
            str(law.cases),
            f"{law.deviation:.0e}" if law.deviation else "0",
            law.verdict,
            style=None if law.holds else "bold red",
        )
    Console().print(table)


def arithmetic_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--arithmetic``, with both as its default."""
    return click.option(
        "--arithmetic",
        type=click.Choice(["float", "exact", "both"]),
        default="both",
        show_default=True,
        help="float64 to rounding, or exact numbers by equality.",
    )(command)
