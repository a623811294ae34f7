"""A law, whether it held, and where it broke: what the checks of every kind are made of.

A check is a generator of laws. :func:`require` runs it in a test and stops at the first law that is
broken; :func:`outcomes` runs it to its end, for a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from onr.arrays import to_numpy
from onr.errors import NotAvailableError

__all__ = [
    "BATCH",
    "CLOSE",
    "STEP",
    "TOLERANCE",
    "Law",
    "Laws",
    "at",
    "law",
    "offered",
    "outcomes",
    "require",
]

BATCH = 7
"""How many random examples a law is tried on at once."""
TOLERANCE = 1e-9
STEP = 1e-6
"""The length of a central difference."""
CLOSE = 1e-5
"""How far a central difference may be from the derivative, relative to it."""


@dataclass(frozen=True)
class Law:
    """A law and its outcome.

    Example:
        >>> print(Law("||x|| > 0", broken="x = [0, 0]"))
        ||x|| > 0: broken at x = [0, 0]

    """

    text: str
    broken: str = ""
    """The input at which the law is broken; empty if it held."""
    skipped: str = ""
    """Why the law was not checked; empty if it was."""

    def __str__(self) -> str:
        """The law, and where it is broken or why it was not checked."""
        if self.broken:
            return f"{self.text}: broken at {self.broken}"
        return f"{self.text}: not checked, {self.skipped}" if self.skipped else self.text


Laws: TypeAlias = Iterator[Law]


def law(text: str, holds: Any, /, **inputs: Any) -> Law:
    """A law that was checked.

    Args:
        text: what the law says.
        holds: whether it holds; an array, ``(batch, ...)``, holds where all its entries do.
        inputs: what was put in, by name; of arrays with a row for each example, the row of the
            first example that breaks the law is shown.

    Example:
        >>> x = np.array([[1.0, 2.0], [0.0, 3.0]])
        >>> print(law("no zeros", x != 0, x=x, factor=2))
        no zeros: broken at x = [0, 3], factor = 2 (example 1)

    """
    held = np.asarray(to_numpy(holds) if hasattr(holds, "shape") else holds)
    if held.all():
        return Law(text)
    if held.ndim == 0:
        place, rows = "", None
    else:
        rows = len(held), int(held.reshape(len(held), -1).all(axis=1).argmin())
        place = f" (example {rows[1]})"
    shown = ", ".join(f"{name} = {_shown(value, rows)}" for name, value in inputs.items())
    return Law(text, broken=f"{shown or 'every input'}{place}")


def _shown(value: Any, rows: tuple[int, int] | None) -> str:
    """A value in a few characters; of an array with a row for each example, one row."""
    if not hasattr(value, "shape"):
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    array = to_numpy(value)
    if rows is not None and array.ndim and len(array) == rows[0]:
        array = array[rows[1]]
    if array.dtype.kind not in "iufb":
        return str(array.tolist())[:80]
    few = [f"{entry:.6g}" for entry in array.reshape(-1)[:6].tolist()]
    if array.ndim == 0:
        return few[0]
    shape = "x".join(map(str, array.shape))
    return f"[{', '.join(few)}]" if array.size <= 6 else f"[{', '.join(few)}, ...] ({shape})"


def require(laws: Iterable[Law]) -> None:
    """Check laws one after the other, for a test.

    Raises:
        AssertionError: a law is broken; the message says which, and at which input.

    Example:
        >>> require([Law("1 + 1 = 2")])

    """
    for each in laws:
        if each.broken:
            raise AssertionError(str(each))


def outcomes(laws: Iterable[Law]) -> list[Law]:
    """Check all laws and give each once, broken if it was broken anywhere.

    What the laws themselves raise is the last outcome.

    Example:
        >>> [str(it) for it in outcomes([Law("a"), Law("b", broken="x = 1"), Law("a")])]
        ['a', 'b: broken at x = 1']

    """
    found: dict[str, Law] = {}
    try:
        for each in laws:
            if each.text not in found or (each.broken and not found[each.text].broken):
                found[each.text] = each
    except Exception as error:  # whatever a part raises
        text = "nothing is raised"
        found[text] = Law(text, broken=f"{type(error).__name__}: {error}")
    return list(found.values())


def at(where: str, laws: Laws) -> Laws:
    """The same laws, whose inputs begin with what was the same for all of them.

    Example:
        >>> print(*at("p = 2", iter([Law("a", broken="x = 1")])))
        a: broken at p = 2, x = 1

    """
    for each in laws:
        yield replace(each, broken=f"{where}, {each.broken}") if each.broken else each


def offered(text: str, laws: Callable[[], Laws]) -> Laws:
    """Laws of something that a part need not have: not checked where it is not available."""
    try:
        yield from laws()
    except NotAvailableError as error:
        yield Law(text, skipped=f"not available: {error}")
