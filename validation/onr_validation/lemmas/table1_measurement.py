"""The check of Table 1 (:mod:`onr_validation.lemmas.table1`) as a measurement without a model."""

from __future__ import annotations

from onr.typing import Row
from onr_validation.lemmas.laws import Arithmetic
from onr_validation.lemmas.table1 import ENTRIES, check_table

__all__ = ["table1_cells"]


def table1_cells(*, trials: int) -> list[Row]:
    """Check each entry of Table 1 against brute force, in floats and in exact arithmetic.

    Args:
        trials: the number of matrices of each shape.

    Returns:
        A row for each arithmetic and entry, with the number of cases and of failures and the
        largest deviation.

    Example:
        >>> rows = table1_cells(trials=2)
        >>> len(rows), sum(row["failures"] for row in rows)
        (18, 0)

    """
    rows = []
    for exact in (False, True):
        laws = check_table(Arithmetic(exact), trials=trials, seed=0)[: len(ENTRIES)]
        for ((p, q), entry), law in zip(ENTRIES.items(), laws, strict=True):
            rows.append(
                {"p": str(p), "q": str(q), "entry": entry, "arithmetic": law.arithmetic}
                | {"cases": law.cases, "failures": law.failures, "deviation": law.deviation}
            )
    return rows
