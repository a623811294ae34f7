"""The result of an audit: a table of images, flags, and what was audited."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onr.auditing.intervals import quantile, wilson
from onr.auditing.protocols import Flag
from onr.errors import OnrError
from onr.files import write_atomic
from onr.parts import StoredParts
from onr.records import columns_as_rows, csv_table
from onr.typing import Row

__all__ = ["RECORD", "TABLE", "Audit"]

RECORD, TABLE = "audit.json", "images.csv"

QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Example:
        >>> columns = {"label": np.array([0.0, 1.0]), "predicted": np.array([0.0, 0.0])}
        >>> columns |= {"robust at 0.5": np.array([1.0, 0.0]), "failure": np.array(["", ""])}
        >>> audit = Audit({"radii": {"0.5": 0.5}}, columns)
        >>> [(row["eps"], row["accuracy"]) for row in audit.curve]
        [('0', 0.5), ('0.5', 0.5)]

    """

    record: dict[str, Any]
    """What was audited and how: model, data, threat model, versions, passes and seconds."""
    columns: dict[str, np.ndarray]
    """The table, a column of shape ``(N,)`` for each quantity (:mod:`onr.auditing.images`)."""
    flags: tuple[Flag, ...] = ()
    pictures: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    """The worst images: ``place`` in the table, and ``image``, ``maximiser``, ``perturbation``."""
    parts: tuple[StoredParts, ...] = field(default=(), repr=False, compare=False)
    """The blocks that were kept on disk, which :meth:`save` removes."""

    @property
    def measured(self) -> np.ndarray:
        """Which images could be measured, ``(N,)``."""
        found: np.ndarray = self.columns["failure"] == ""
        return found

    @property
    def raised(self) -> tuple[Flag, ...]:
        """The flags that are raised."""
        return tuple(flag for flag in self.flags if flag.raised)

    @property
    def curve(self) -> list[Row]:
        """Accuracy against eps with Wilson's intervals at 95 %; clean accuracy at eps 0.

        Under attack it is an upper bound on robust accuracy. Images that could not be measured are
        left out.
        """
        columns, known = self.columns, self.measured
        correct = {"0": columns["predicted"] == columns["label"]}
        correct |= {text: columns[f"robust at {text}"] == 1 for text in self.record["radii"]}
        rows = []
        for text, each in correct.items():
            hits, count = int(each[known].sum()), int(known.sum())
            low, high = wilson(hits, count)
            rows.append(
                {"eps": text, "radius": self.record["radii"].get(text, 0.0)}
                | {"accuracy": hits / count, "low": low, "high": high, "images": count}
            )
        return rows

    def aggregates(self, *names: str, by_class: bool = False) -> list[Row]:
        """Quantiles of columns, 5, 50 and 95 %, with distribution-free intervals at 95 %.

        Args:
            names: the columns; those of norms, radii, singular values, alignment and rho if none is
                given.
            by_class: a row for each label too.

        """
        columns = self.columns
        kinds = ("norm ", "sigma 1", "first-order radius", "radius found", "alignment", "rho ",
                 "margin", "cell radius", "exact radius")  # fmt: skip
        usual = [
            name
            for name, values in columns.items()
            if name.startswith(kinds) and values.dtype.kind == "f" and not name.endswith("upper")
        ]
        labels = columns["label"]
        groups: list[tuple[str, np.ndarray]] = [("all", np.ones(len(labels), bool))]
        if by_class:
            known = np.unique(labels[~np.isnan(labels)])
            groups += [(str(int(label)), labels == label) for label in known]
        rows = []
        for name in names or usual:
            for group, members in groups:
                values = columns[name][members]
                row: Row = {"quantity": name, "class": group}
                row["images"] = int((~np.isnan(values)).sum())
                for q in QUANTILES:
                    at, low, high = quantile(values, q)
                    row |= {f"{q:.0%}": at, f"{q:.0%} low": low, f"{q:.0%} high": high}
                rows.append(row)
        return rows

    @property
    def rows(self) -> list[Row]:
        """The table as a row for each image."""
        return columns_as_rows({name: each.tolist() for name, each in self.columns.items()})

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

    def save(self, folder: str | Path, /) -> tuple[str, ...]:
        """Write ``audit.json`` and ``images.csv``; remove the blocks that were kept for a restart.

        Returns:
            The names of the files.

        Raises:
            OnrError: the folder cannot be written to.

        """
        folder = Path(folder)
        write_atomic(folder / TABLE, csv_table(self.rows))
        content = json.dumps(self.to_dict(), indent=2) + "\n"
        write_atomic(folder / RECORD, content.encode())
        for each in self.parts:
            each.remove()
        return RECORD, TABLE
