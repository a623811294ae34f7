"""Tables as lists of rows: statistics of a column, conversion from columns, and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from onr.typing import Row

__all__ = ["columns_as_rows", "csv_table", "statistics"]


def statistics(values: np.ndarray) -> dict[str, float | int]:
    """The mean of the values that are not NaN, its standard error, and their number.

    The mean is NaN if every value is NaN. The standard error is NaN if fewer than two are not NaN.

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
    """Write a table as CSV, with the columns in the order in which they first occur.

    Args:
        rows: the rows of the table; a column that a row lacks stays empty in this row.
        digits: the significant digits of floats; all digits if not given.

    Example:
        >>> csv_table([{"eps": 0.25, "mean": 2 / 3}, {"eps": 0.5}], digits=3).splitlines()
        [b'eps,mean', b'0.25,0.667', b'0.5,']

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
    """The rows of a table that is given by columns of equal length.

    Example:
        >>> columns_as_rows({"eps": [0.25, 0.5], "mean": [0.8, 0.4]})
        [{'eps': 0.25, 'mean': 0.8}, {'eps': 0.5, 'mean': 0.4}]

    """
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
