"""Tables: rows of texts and numbers, their statistics, and their CSV form."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from onr.typing import Row

__all__ = ["columns_as_rows", "csv_table", "statistics"]


def statistics(values: np.ndarray) -> dict[str, float | int]:
    """The mean, its standard error and the number of values; NaN are left out.

    Both are NaN where no value is known; the standard error also where only one is.

    Example:
        >>> statistics(np.array([1.0, 3.0, np.nan]))
        {'mean': 2.0, 'standard_error': 1.0, 'images': 2}

    """
    known = values[~np.isnan(values)].astype(np.float64)
    count = len(known)
    mean = float(known.mean()) if count else float("nan")
    error = float(known.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")
    return {"mean": mean, "standard_error": error, "images": count}


def csv_table(rows: Iterable[Row], *, digits: int | None = None) -> bytes:
    """A table in CSV; the columns are in the order in which they first occur.

    Args:
        rows: the lines; a column that a row lacks is empty there.
        digits: significant digits of floats; all that tell them apart if not given.

    """
    rows = list(rows)
    columns = dict.fromkeys(column for row in rows for column in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _shown(value, digits) for name, value in row.items()})
    return text.getvalue().encode()


def _shown(value: Any, digits: int | None) -> Any:
    return f"{value:.{digits}g}" if isinstance(value, float) and digits is not None else value


def columns_as_rows(columns: Mapping[str, Sequence[Any] | np.ndarray]) -> list[Row]:
    """The rows of a table that is given by its columns, all of one length."""
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
