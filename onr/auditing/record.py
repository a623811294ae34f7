"""An audit as a person reads it, and as files: what was measured, with its text and its page."""

from __future__ import annotations

import html
import importlib
import io
import json
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onr.auditing.pages.audit_page import audit_page
from onr.auditing.results import Results
from onr.auditing.summary import summary
from onr.auditing.wording import counted, title
from onr.errors import OnrError, missing_extra
from onr.files import write_atomic
from onr.parts import StoredParts
from onr.records import csv_table

__all__ = ["PAGE", "PICTURES", "RECORD", "TABLES", "Audit", "json_bytes", "page_or_warning"]

RECORD, PAGE, PICTURES = "audit.json", "audit.html", "pictures.npz"
TABLES = {"csv": "images.csv", "parquet": "images.parquet"}


@dataclass(frozen=True, repr=False)
class Audit(Results):
    """What an audit found, as text, as a page and as files.

    Example:
        >>> columns = {"label": np.array([0.0, 1.0]), "predicted": np.array([0.0, 0.0])}
        >>> columns |= {"robust at 0.5": np.array([1.0, 0.0]), "failure": np.array(["", ""])}
        >>> audit = Audit({"radii": {"0.5": 0.5}}, columns)
        >>> [(row["eps"], row["accuracy"]) for row in audit.curve]
        [('0', 0.5), ('0.5', 0.5)]

    """

    parts: tuple[StoredParts, ...] = field(default=(), compare=False)
    """The blocks that were kept on disk, which :meth:`save` removes."""

    def __str__(self) -> str:
        """The summary."""
        return self.summary()

    def __repr__(self) -> str:
        """One line: a table of images is too long to print."""
        return (
            f"<audit of {title(self.record)}: {counted(len(self.measured), 'image')}, "
            f"{counted(len(self.raised), 'flag')} raised>"
        )

    def _repr_html_(self) -> str:
        """The summary, as a notebook shows it."""
        return f"<pre>{html.escape(self.summary())}</pre>"

    def summary(self) -> str:
        """What was found, as text of one screen; flags that are raised, with what to do next."""
        return summary(self)

    def to_dict(self) -> dict[str, Any]:
        """All but the table and the pictures, as JSON has it."""
        return {
            **self.record,
            "curve": self.curve,
            "aggregates": self.aggregates(),
            "flags": [vars(flag) for flag in self.flags],
            "failures": [
                {"image": int(self.columns["image"][place]), "what": str(what)}
                for place, what in enumerate(self.columns["failure"])
                if what
            ],
        }

    def to_pandas(self) -> Any:
        """The table as a ``pandas.DataFrame``, a row for each image.

        Raises:
            OnrError: pandas is not installed.

        """
        try:
            pandas = importlib.import_module("pandas")
        except ModuleNotFoundError as error:
            raise OnrError(
                "a table of pandas needs pandas, which is not installed: pip install pandas"
            ) from error
        return pandas.DataFrame(self.columns)

    def save(self, folder: str | Path, /, *, table: str = "csv") -> list[Path]:
        """Write the audit into a folder, and remove the blocks that were kept for a restart.

        The files are ``audit.json``; ``images.csv`` or ``images.parquet``, a row for each image;
        ``pictures.npz``, the ten worst images; and the page ``audit.html``, which needs no other
        file. Without jinja2 there is no page, and a warning says so.
        :func:`onr.auditing.saved.open_audit` reads the folder.

        Args:
            folder: where to write; it is made if necessary, and an audit in it is replaced.
            table: ``csv`` or ``parquet``.

        Returns:
            The files that were written.

        Raises:
            OnrError: the folder cannot be written to, or pyarrow is needed and not installed.

        """
        folder = Path(folder)
        if table not in TABLES:
            raise OnrError(f"table = {table!r}: expected csv or parquet")
        files = {TABLES[table]: csv_table(self.rows) if table == "csv" else _parquet(self.columns)}
        worst = self.worst
        if worst:
            content = io.BytesIO()
            arrays: dict[str, Any] = {name: worst[name] for name in sorted(worst)}
            np.savez_compressed(content, **arrays)
            files[PICTURES] = content.getvalue()
        files |= page_or_warning(PAGE, lambda: audit_page(self))
        stored = {"table": TABLES[table], "columns": {
            name: "text" if each.dtype.kind in "US" else "number"
            for name, each in self.columns.items()
        }}  # fmt: skip
        files[RECORD] = json_bytes(self.to_dict() | stored)
        for name, each in files.items():
            write_atomic(folder / name, each)
        for name in {*TABLES.values(), PICTURES, PAGE} - set(files):
            (folder / name).unlink(missing_ok=True)  # left by an earlier audit
        for part in self.parts:
            part.remove()
        return [folder / name for name in files]


def page_or_warning(name: str, page: Callable[[], bytes]) -> dict[str, bytes]:
    """The content of a page by its file name; without jinja2 nothing, and a warning.

    Example:
        >>> page_or_warning("a.html", lambda: b"<!doctype html>")
        {'a.html': b'<!doctype html>'}

    """
    try:
        return {name: page()}
    except ModuleNotFoundError as error:
        warnings.warn(f"{name} is not written: {missing_extra(error) or error}", stacklevel=3)
        return {}


def json_bytes(content: Any) -> bytes:
    """JSON that every parser reads: NaN becomes ``null``, and infinity the text ``inf``.

    Example:
        >>> json_bytes({"low": -math.inf, "mean": math.nan, "high": 1.5}).decode().split()
        ['{', '"low":', '"-inf",', '"mean":', 'null,', '"high":', '1.5', '}']

    """
    return (json.dumps(_strict(content), indent=2, allow_nan=False) + "\n").encode()


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _strict(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else f"{value:g}"
    return value


def _parquet(columns: Mapping[str, np.ndarray]) -> bytes:
    try:
        pyarrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error
    content = io.BytesIO()
    parquet.write_table(pyarrow.table({k: pyarrow.array(v) for k, v in columns.items()}), content)
    return content.getvalue()
