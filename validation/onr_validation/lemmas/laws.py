"""A law is a statement of the paper, with the number of cases checked and their outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import click
import numpy as np
from numpy.typing import ArrayLike
from rich.table import Table

from onr.cli.options import show
from onr.exact.surds import FASTEST, exact_array, float_array
from onr.version import __version__

__all__ = ["Arithmetic", "Law", "arithmetic_option", "json_record", "print_laws"]

ROUNDING = 1e-9
"""How far two equal sides may differ in float64, relative to the larger side, but at least 1."""


@dataclass(frozen=True)
class Arithmetic:
    """The numbers of a check: floats, compared up to rounding, or exact numbers, by ``==``.

    Example:
        >>> Arithmetic(exact=True).name
        'exact'
        >>> Arithmetic(exact=False).array(np.array([0.5]))
        array([0.5])

    """

    exact: bool

    @property
    def name(self) -> str:
        """The name of the arithmetic: ``exact`` or ``float``."""
        return "exact" if self.exact else "float"

    def array(self, x: np.ndarray) -> np.ndarray:
        """Convert an array of floats to the numbers of this arithmetic."""
        return exact_array(np.asarray(x, dtype=float), FASTEST) if self.exact else np.asarray(x)


@dataclass
class Law:
    """A statement of the paper and the outcome of its cases. Each row of a checked array is a case.

    Example:
        >>> law = Law("Lemma 3", "max(a, b) = max(b, a)", "float")
        >>> law.equal([1.0, 2.0], [1.0, 2.0])
        >>> law.cases, law.failures, law.verdict
        (2, 0, 'holds')

    """

    name: str
    """Where the statement stands in the paper."""
    statement: str
    arithmetic: str
    expected: bool = True
    """Whether the statement should hold; a law that lacks a needed hypothesis should fail."""
    cases: int = 0
    failures: int = 0
    deviation: float = 0.0
    """The largest difference between two sides, relative to the larger side where it is above 1."""
    example: str = ""
    """The first case that failed, in words."""

    @property
    def holds(self) -> bool:
        """Whether at least one case was checked and the outcome is the expected one."""
        return self.cases > 0 and (self.failures == 0) is self.expected

    @property
    def verdict(self) -> str:
        """The outcome in words."""
        if not self.holds:
            return f"FAILS in {self.failures} cases: {self.example}" if self.expected else "HOLDS"
        if not self.expected:
            return f"fails in {self.failures}, as it should"
        return "holds exactly" if self.arithmetic == "exact" else "holds"

    def equal(self, left: ArrayLike, right: ArrayLike) -> None:
        """Count the rows as cases. A row fails if its entries in ``left`` and ``right`` differ."""
        exact = self.arithmetic == "exact"
        kind = object if exact else float
        left, right = np.asarray(left, dtype=kind), np.asarray(right, dtype=kind)
        differ = left != right
        one, other = (float_array(x) if exact else x for x in (left, right))
        size = np.maximum(np.maximum(np.abs(one), np.abs(other)), 1.0)
        gap = np.abs(one - other) / size
        if exact:
            gap = np.where(differ, gap, 0.0)  # equal exact numbers may round to different floats
        else:
            differ = ~(gap <= ROUNDING)
        self.deviation = max(self.deviation, float(gap.max(initial=0)))
        self._count(~differ, lambda i: f"{_shown(left[i])} is not {_shown(right[i])}")

    def at_most(self, left: np.ndarray, right: np.ndarray) -> None:
        """Count the rows as cases. A row fails if ``left`` exceeds ``right`` in any entry."""
        slack = 0 if self.arithmetic == "exact" else ROUNDING * np.maximum(np.abs(right), 1.0)
        self._count(left <= right + slack, lambda i: f"{_shown(left[i])} > {_shown(right[i])}")

    def fail(self, reason: str) -> None:
        """Count a case that failed for a reason in words."""
        self._count(np.zeros(1, dtype=bool), lambda _: reason)

    def _count(self, held: np.ndarray, shown: Callable[[int], str]) -> None:
        held = np.all(np.asarray(held, dtype=bool).reshape(len(held), -1), axis=1)
        if not held.all() and not self.example:
            self.example = shown(int(np.argmin(held)))
        self.cases += len(held)
        self.failures += int(np.sum(~held))


def _shown(value: Any) -> str:
    return ", ".join(f"{float(entry):.4g}" for entry in np.ravel(value))


def json_record(laws: Iterable[Law], settings: dict[str, Any]) -> dict[str, Any]:
    """The object that ``--json`` prints.

    Example:
        >>> record = json_record([Law("Lemma 3", "a = a", "float")], {"trials": 0})
        >>> record["laws"][0]["holds"]  # no case was checked
        False

    """
    return {
        "onr": __version__,
        "settings": settings,
        "laws": [{**asdict(law), "holds": law.holds, "verdict": law.verdict} for law in laws],
    }


def print_laws(laws: Iterable[Law], title: str) -> None:
    """Print the laws as a table; laws without the expected outcome are red."""
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
    show(table)


def arithmetic_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option ``--arithmetic`` to a command: ``float``, ``exact`` or ``both`` (default)."""
    return click.option(
        "--arithmetic",
        type=click.Choice(["float", "exact", "both"]),
        default="both",
        show_default=True,
        help="float64 to rounding, or exact numbers by equality.",
    )(command)
