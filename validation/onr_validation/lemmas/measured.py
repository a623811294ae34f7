"""Table 1, checked (:mod:`onr_validation.lemmas.table1`), as a measurement without a model."""

from __future__ import annotations

from onr.typing import Row
from onr_validation.lemmas.laws import Arithmetic
from onr_validation.lemmas.table1 import ENTRIES, check_table

__all__ = ["table1_cells"]


def table1_cells(*, trials: int) -> list[Row]:
    """Each cell in floats and in exact arithmetic, against brute force."""
    rows = []
    for exact in (False, True):
        laws = check_table(Arithmetic(exact), trials=trials, seed=0)[: len(ENTRIES)]
        for ((p, q), entry), law in zip(ENTRIES.items(), laws, strict=True):
            rows.append(
                {"p": str(p), "q": str(q), "entry": entry, "arithmetic": law.arithmetic}
                | {"cases": law.cases, "failures": law.failures, "deviation": law.deviation}
            )
    return rows
