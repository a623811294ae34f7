"""Audits that were saved in a folder."""

from __future__ import annotations

import csv
import importlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from onr.auditing.protocols import Flag
from onr.auditing.record import PICTURES, RECORD, TABLES, Audit
from onr.errors import OnrError, missing_extra

__all__ = ["open_audit"]

KINDS: dict[str, type] = {"p": str, "eps": str, "radii": dict}
"""What every record has."""
DERIVED = ("curve", "aggregates", "flags", "failures", "table", "columns")
"""What ``audit.json`` has beside the record; it is computed again, or names the table."""


def open_audit(folder: str | Path, /) -> Audit:
    """Read an audit that was saved.

    Args:
        folder: the folder of ``audit.json`` and the table of images.

    Raises:
        OnrError: the folder has no audit, or its files cannot be read.

    Example:
        >>> columns = {"label": np.zeros(2), "predicted": np.zeros(2)}
        >>> columns |= {"failure": np.array(["", ""]), "robust at 0.5": np.array([1.0, 0.0])}
        >>> _ = Audit({"p": "2", "eps": "0.5", "radii": {"0.5": 0.5}}, columns).save(tmp_path)
        >>> open_audit(tmp_path).columns["robust at 0.5"]
        array([1., 0.])

    """
    folder = Path(folder)
    if not (folder / RECORD).is_file():
        raise OnrError(f"{folder} has no {RECORD}: expected the folder of an audit")
    try:
        content = json.loads((folder / RECORD).read_bytes())
        table, kinds = content["table"], content["columns"]
        if table not in TABLES.values():
            raise ValueError(f"the table {table!r} is unknown")
        read = _parquet if table == TABLES["parquet"] else _csv
        columns = {
            name: np.array(values, dtype=np.float64 if kinds[name] == "number" else np.str_)
            for name, values in read((folder / table).read_bytes()).items()
        }
        rows = len(columns["label"])
        if rows != content.get("images", rows):
            raise ValueError(f"{table} has {rows} of {content['images']} rows")
        for name, kind in KINDS.items():
            if not isinstance(content[name], kind):
                raise TypeError(f"{name} = {content[name]!r}")
        flags = tuple(_flag(each) for each in content["flags"])
        pictures = _pictures(folder / PICTURES)
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error
    except Exception as error:  # a damaged file raises whatever its reader meets
        raise OnrError(
            f"the audit in {folder} cannot be read ({type(error).__name__}: {error}): audit the "
            "model again"
        ) from error
    record = {name: value for name, value in content.items() if name not in DERIVED}
    return Audit(record, columns, flags, pictures)


def _csv(content: bytes) -> dict[str, list[str]]:
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    return dict(zip(rows[0], map(list, zip(*rows[1:], strict=True)), strict=True))


def _parquet(content: bytes) -> dict[str, list[Any]]:
    parquet = importlib.import_module("pyarrow.parquet")
    found: dict[str, list[Any]] = parquet.read_table(io.BytesIO(content)).to_pydict()
    return found


def _flag(stored: dict[str, Any]) -> Flag:
    """A flag as it was; JSON has an infinite number as text."""
    value = stored["value"]
    numbers = {
        "value": None if value is None else float(value),
        "threshold": float(stored["threshold"]),
    }
    return Flag(**(stored | numbers))


def _pictures(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as file:
        return dict(file)
